"""What a session answers: tables with the texts, the full arrays and the sentences that belong to them.

In: rows. Out: `Asked` and `SteeredResult`; both are a `Result` of `atlas.reader`, so that notebooks, exports and formats know them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import UsageError
from atlas.reader import Result
from ingest.ask.cards import Asking, Cards
from ingest.ask.compare import Overlap
from ingest.ask.sequence import margin
from ingest.ask.steer import Point, Steered
from ingest.ask.text import Active, NextToken, OwnText


class Asked(Result):
    """What fires on a text, or on two."""

    def __init__(
        self,
        table: pa.Table,
        texts: tuple[OwnText, ...],
        active: Active,
        cards: Cards,
        asking: Asking,
        overlap: Overlap | None,
        after: tuple[tuple[NextToken, ...], ...],
        unexplained: Mapping[int, NDArray[np.float64]],
    ) -> None:
        super().__init__(table)
        self.texts = texts
        self.active = active
        """Everything that fires in the asked layers, unfiltered, sinks included."""
        self.cards = cards
        self.asking = asking
        self.overlap = overlap
        """With a second text: how many features both share."""
        self.after = after
        """Most probable next tokens of each text."""
        self._errors = unexplained

    def unexplained(self) -> pa.Table:
        """Return the share of the MLP output that the dictionary leaves unexplained: a row for each text, position and layer, no sinks.

        `unexplained_share` is ||m - m^||^2 / ||m||^2: where it is large, the absence of a feature is no evidence. A cross-layer set has no
        rows.
        """
        text = np.repeat(np.arange(len(self.texts)), [len(each) for each in self.texts])
        position = np.concatenate([np.arange(len(each)) for each in self.texts])
        token = [token for each in self.texts for token in each.tokens]
        counted = np.flatnonzero(position > 0)
        n = len(self._errors)
        layers, shares = list(self._errors), list(self._errors.values())
        return pa.table(
            {
                "text": pa.array(np.repeat(text[counted], n)),
                "position": pa.array(np.repeat(position[counted], n)),
                "token": pa.array([token[at] for at in counted for _ in layers], pa.string()),
                "layer": pa.array(np.tile(layers, len(counted)).astype(np.int64)),
                "unexplained_share": pa.array(np.stack(shares, axis=1)[counted].ravel() if n else np.zeros(0)),
            }
        )

    def _unexplained_sentence(self) -> list[str]:
        table = self.unexplained()
        if not table.num_rows:
            return []
        share = table["unexplained_share"].to_numpy()
        worst = int(share.argmax())
        token, layer = table["token"][worst].as_py(), table["layer"][worst].as_py()
        return [
            f"unexplained by the dictionary: {share.mean():.1%} of what MLPs write, at most {share[worst]:.0%} (layer {layer} at {token!r})"
        ]

    def sentences(self) -> list[str]:
        """Say what was found, a line each."""
        lines = []
        for number, text in enumerate(self.texts):
            own = self.active.select((self.active.text == number) & (self.active.position > 0))
            n_tokens = max(1, len(text) - 1)
            name = "" if len(self.texts) == 1 else f"text {number}: "
            coming = ", ".join(f"{item.token!r} {math.exp(item.logprob):.2f}" for item in self.after[number][:3])
            lines.append(
                f"{name}{len(text):,} tokens, {len(own):,} activations of {len(own.keys()):,} features "
                f"({len(own) / n_tokens:.1f} a token), next {coming}"
            )
        if self.overlap is not None:
            lines.append(self.overlap.sentence())
        return lines + self._unexplained_sentence()


class SteeredResult(Result):
    """A steered prompt: its continuations as rows; the other tables by methods."""

    def __init__(self, steered: Steered, cards: Cards) -> None:
        super().__init__(_continuations(steered))
        self.steered = steered
        self.cards = cards

    def next_tokens(self) -> pa.Table:
        """One row per strength and token that gained or lost most probability as the next one."""
        rows = [
            {
                **_point(point),
                "direction": direction,
                "token": shift.token,
                "token_id": shift.token_id,
                "p_before": math.exp(shift.before),
                "p_after": math.exp(shift.after),
                "logprob_before": shift.before,
                "logprob_after": shift.after,
            }
            for point in self.steered.points
            for direction, shifts in (("gains", point.gains), ("losses", point.losses))
            for shift in shifts
        ]
        numbers = dict.fromkeys(("p_before", "p_after", "logprob_before", "logprob_after"), pa.float64())
        return _table(rows, {**_POINT, "direction": pa.string(), "token": pa.string(), "token_id": pa.int32(), **numbers})

    def features(self) -> pa.Table:
        """One row per strength and later feature that moved most, with its card."""
        rows = [
            {
                **_point(point),
                "name": moved.name,
                "layer": moved.layer,
                "feature": moved.feature,
                "position": moved.position,
                "token": self.steered.prompt.tokens[moved.position],
                "before": moved.before,
                "after": moved.after,
                "change": moved.after - moved.before,
                **_card(self.cards, moved.layer, moved.feature),
            }
            for point in self.steered.points
            for moved in point.moved
        ]
        where = {"name": pa.string(), "layer": pa.int32(), "feature": pa.int32(), "position": pa.int32(), "token": pa.string()}
        numbers = dict.fromkeys(("before", "after", "change"), pa.float64())
        return _table(rows, {**_POINT, **where, **numbers, "label": pa.string(), "promotes": pa.list_(pa.string())})

    def answers(self) -> pa.Table:
        """One row per strength (unsteered first) and answer: log-probability in all and per token; the margin is the first one's."""
        rows = []
        for point in (self.steered.unsteered, *self.steered.points):
            for number, (text, score) in enumerate(zip(self.steered.answer_texts, point.answers, strict=True)):
                before = self.steered.unsteered.answers[number]
                rows.append(
                    {
                        **_point(point),
                        "answer": text,
                        "n_tokens": len(score.token_ids),
                        "logprob": score.total,
                        "change": score.total - before.total,
                        "per_token": score.mean,
                        "logprobs": list(score.logprobs),
                        "margin": margin(point.answers) if number == 0 else None,
                    }
                )
        numbers = dict.fromkeys(("logprob", "change", "per_token"), pa.float64())
        kinds = {"answer": pa.string(), "n_tokens": pa.int32(), **numbers, "logprobs": pa.list_(pa.float64()), "margin": pa.float64()}
        return _table(rows, {**_POINT, **kinds})

    def effects(self) -> pa.Table:
        """One row per strength: KL, top token before and after, values edited."""
        rows = [
            {
                **_point(point),
                "kl": point.kl,
                "top_before": point.top_before.token,
                "p_before": math.exp(point.top_before.logprob),
                "top_after": point.top_after.token,
                "p_after": math.exp(point.top_after.logprob),
                "n_edited": point.n_edited,
            }
            for point in self.steered.points
        ]
        top = {"top_before": pa.string(), "p_before": pa.float64(), "top_after": pa.string(), "p_after": pa.float64()}
        return _table(rows, {**_POINT, "kl": pa.float64(), **top, "n_edited": pa.int32()})


@dataclass(frozen=True)
class Part:
    """A table of a steered result, by the name that --show takes."""

    name: str
    title: str
    table: pa.Table


def parts(result: SteeredResult) -> list[Part]:
    """Return all tables of a steered result; answers only where there are some."""
    found = [
        Part("continuations", "Continuations", result.arrow()),
        Part("effects", "Change of the next token's distribution", result.effects()),
        Part("tokens", "Next tokens that gain and lose most probability", result.next_tokens()),
        Part("features", "Later features that move most (positions of the prompt)", result.features()),
    ]
    if result.steered.answer_texts:
        found.insert(1, Part("answers", "Answers, log-probabilities in nats", result.answers()))
    return found


def chosen_columns(every: Sequence[str], columns: Sequence[str] | None, *, n_texts: int, labelled: bool) -> list[str]:
    """Return the columns to show: those named, every one for `all`, else a choice for people.

    Raises:
        UsageError: a column that there is none of.
    """
    if columns is None:
        left_out = {"layer", "feature", *(() if n_texts > 1 else ("text",)), *(() if labelled else ("label",))}
        scores = [name for name in every if name.partition(".")[0] in _SCORES and name != "lape"]
        return [name for name in every if name not in left_out and name not in scores]
    if list(columns) == ["all"]:
        return list(every)
    unknown = next((name for name in columns if name not in every), None)
    if unknown is not None:
        raise UsageError(f"no column {unknown!r}", hint=f"Columns: {', '.join(every)}.")
    return list(columns)


_SCORES = frozenset(
    {
        *("bilingual_rate", "language_profile", "lape", "monolinguality", "monolinguality_d", "shared_k"),
        *("translation_lift", "translation_phi", "bridge", "causal_bridge"),
    }
)
"""Scores of METHODS section 7; all but `lape` are shown when they are asked for."""

_POINT = {"strength": pa.float64(), "set": pa.string()}


def _point(point: Point) -> dict[str, Any]:
    return {"strength": point.strength, "set": point.name}


def _continuations(steered: Steered) -> pa.Table:
    rows = []
    for point in (steered.unsteered, *steered.points):
        for written, beside in zip(point.continuations, steered.unsteered.continuations, strict=True):
            rows.append(
                {
                    **_point(point),
                    "sample": written.sample,
                    "text": written.text,
                    "same": written.token_ids == beside.token_ids,
                    "n_tokens": len(written.token_ids),
                    "logprob": sum(written.logprobs),
                    "kl": None if point is steered.unsteered else point.kl,
                }
            )
    kinds = {"sample": pa.int32(), "text": pa.string(), "same": pa.bool_(), "n_tokens": pa.int32()}
    return _table(rows, {**_POINT, **kinds, "logprob": pa.float64(), "kl": pa.float64()})


def _card(cards: Cards, layer: int, feature: int) -> dict[str, Any]:
    card = cards.of((layer, feature), 0.0)
    return {"label": card["label"], "promotes": card["promotes"]}


def _table(rows: Sequence[dict[str, Any]], kinds: dict[str, pa.DataType]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
