"""Steer and see: what a prompt becomes when chosen features are changed, beside what it is unedited.

In: a prompt, changes, positions, strengths, how to sample. Out: `Steered`: the unedited `Point` and one for each strength.

1. One clean pass over the prompt: the next-token distribution before, every layer's active features before.
2. Per strength, the same pass with the edit (mode `free` of METHODS section 5): distribution after, KL(before || after), the tokens
   that gain and lose most, the later features that move most.
3. Continuations (`ingest.ask.generation`) and answers (`ingest.ask.sequence`), unedited and edited by the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atlas.errors import ModelError
from atlas.ids import feature_name
from ingest.activations import encode_rows
from ingest.ask.change import Change, at_strength, check_changes, in_activation_units
from ingest.ask.generation import Continuation, Sampling, generate
from ingest.ask.sequence import Score, answer_ids, sequence_scores
from ingest.ask.steering import SteeringEdit, Where, clean_values
from ingest.ask.text import NextToken, OwnText, Progress
from ingest.model import LanguageModel
from ingest.taps import Captured
from ingest.transcoder import TranscoderSet


@dataclass(frozen=True)
class Shift:
    """A token whose probability as the next one has changed."""

    token_id: int
    token: str
    before: float
    """Log-probability unedited, nats."""
    after: float


@dataclass(frozen=True)
class Moved:
    """A feature of a later layer whose activation has changed at one position of the prompt."""

    layer: int
    feature: int
    position: int
    before: float
    after: float

    @property
    def name(self) -> str:
        """`L20_F1454`."""
        return feature_name(self.layer, self.feature)


@dataclass(frozen=True)
class Member:
    """A changed feature at a position of the prompt: its clean activation, the current one, the one it got."""

    layer: int
    feature: int
    position: int
    clean: float
    target: float


@dataclass(frozen=True)
class Point:
    """What one set of changes did; the unedited one has none."""

    strength: float | None
    changes: tuple[Change, ...]
    continuations: tuple[Continuation, ...]
    answers: tuple[Score, ...]
    top_before: NextToken
    """Most probable next token, unedited."""
    top_after: NextToken
    kl: float = 0.0
    """KL(before || after) of the token after the prompt, nats."""
    gains: tuple[Shift, ...] = ()
    """Largest rise of probability first."""
    losses: tuple[Shift, ...] = ()
    moved: tuple[Moved, ...] = ()
    """Largest |after - before| first."""
    members: tuple[Member, ...] = ()
    n_edited: int = 0
    """(position, feature) values of the prompt that really changed."""

    @property
    def name(self) -> str:
        """The changes in the spelling of --set, or `unsteered`."""
        return " ".join(change.name for change in self.changes) or "unsteered"


@dataclass(frozen=True)
class Steered:
    """A prompt with its unedited point and the edited ones."""

    prompt: OwnText
    positions: str
    """As asked: a rule or numbers."""
    sampling: Sampling
    answer_texts: tuple[str, ...]
    unsteered: Point
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()
    """What a person should know, e.g. that a scaled feature is silent."""


def steer(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompt: OwnText,
    changes: Sequence[Change],
    *,
    positions: str = "all",
    strengths: Sequence[float] | None = None,
    sampling: Sampling | None = None,
    answers: Sequence[str] = (),
    top: int = 10,
    layers: Sequence[int] | None = None,
    sd_of: Callable[[int, int], float | None] = lambda _layer, _feature: None,
    progress: Progress | None = None,
) -> Steered:
    """Continue a prompt with and without changed features.

    Args:
        model: the model.
        transcoders: bound to it.
        prompt: tokenised (`own_texts`).
        changes: what is set (`parse_changes`).
        positions: which positions are edited (`POSITION_RULES`, or numbers).
        strengths: values that replace those of scale, add and clamp, one after the other; None: as written.
        sampling: how new tokens are chosen; default 20 greedy ones.
        answers: texts whose log-probability after the prompt is measured, the first one against the others.
        top: tokens that gain, tokens that lose, and features that move, to return.
        layers: layers in which moved features are looked for; default all of the set.
        sd_of: standard deviation of a feature's active values, for changes in these units.
        progress: called with (stage, done, total); what it raises stops the work.

    Raises:
        UsageError: unknown features or positions, missing strengths, a text that gets too long.
        ModelError: NaN or infinity.
    """
    check_changes(changes, transcoders)
    where = Where.parse(positions, len(prompt))
    planned = [tuple(in_activation_units(at_strength(changes, strength), sd_of)) for strength in (strengths or (None,))]
    sampling = sampling or Sampling()
    given = [answer_ids(model, answer) for answer in answers]
    bench = _Bench(model, transcoders, prompt, where, sampling, given, top, tuple(layers or transcoders.layers))
    unsteered = bench.unsteered(progress)
    points = []
    for strength, settled in zip(strengths or (None,), planned, strict=True):
        points.append(bench.point(strength, settled, progress))
    return Steered(prompt, positions, sampling, tuple(answers), unsteered, tuple(points), tuple(_notes(points, where)))


class _Bench:
    """The clean pass over the prompt, and everything that is measured against it."""

    def __init__(
        self,
        model: LanguageModel,
        transcoders: TranscoderSet,
        prompt: OwnText,
        where: Where,
        sampling: Sampling,
        answers: Sequence[tuple[int, ...]],
        top: int,
        layers: tuple[int, ...],
    ) -> None:
        self.model, self.transcoders, self.prompt, self.where = model, transcoders, prompt, where
        self.sampling, self.answers, self.top, self.layers = sampling, answers, top, layers
        self.ids = torch.tensor([prompt.token_ids])
        self.clean = model.capture(self.ids)
        self.before = self._logprobs(self.clean)  # (V,)

    def unsteered(self, progress: Progress | None) -> Point:
        """Return the unedited point."""
        written = generate(self.model, self.prompt.token_ids, self.sampling, None, stage="unsteered", progress=progress)
        top = self._top(self.before)
        return Point(None, (), tuple(written), tuple(self._scores(None)), top, top)

    def point(self, strength: float | None, changes: tuple[Change, ...], progress: Progress | None) -> Point:
        """Return what a set of changes does."""
        edit = SteeringEdit(self.transcoders, changes, self.where, len(self.prompt))
        clean = clean_values(self.transcoders, changes, self.clean.mlp_in)
        captured = self.model.capture(self.ids, edit=edit.begin(0, clean if edit.needs_clean else None))
        n_edited = edit.n_edited
        after = self._logprobs(captured)
        stage = " ".join(change.name for change in changes)
        written = generate(self.model, self.prompt.token_ids, self.sampling, edit, stage=stage, progress=progress)
        gains, losses = self._shifts(after)
        return Point(
            strength,
            changes,
            tuple(written),
            tuple(self._scores(edit)),
            kl=max(0.0, float((self.before.exp() * (self.before - after)).sum())),
            top_before=self._top(self.before),
            top_after=self._top(after),
            gains=gains,
            losses=losses,
            moved=tuple(self._moved(captured, min(edit.layers))),
            members=tuple(self._members(edit, clean)),
            n_edited=n_edited,
        )

    def _logprobs(self, captured: Captured) -> Tensor:
        logits = self.model.logits(captured.final[0, -1])
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"{self.model.name} gave NaN or infinite logits after the prompt", hint="change less, or use float32")
        return torch.log_softmax(logits.double(), dim=0).cpu()

    def _top(self, logprobs: Tensor) -> NextToken:
        token = int(logprobs.argmax())
        return NextToken(token, self.model.token_texts([token])[0], float(logprobs[token]))

    def _scores(self, edit: SteeringEdit | None) -> list[Score]:
        """Score each answer in a pass of its own: edited and unedited ones share shapes, so that a no-op changes no bit."""
        scores = []
        for answer in self.answers:
            if edit is not None:
                clean = None
                if edit.needs_clean:
                    whole = torch.tensor([[*self.prompt.token_ids, *answer]])
                    clean = clean_values(self.transcoders, edit.changes, self.model.capture(whole, layers=edit.layers).mlp_in)
                edit.begin(0, clean)
            scores += sequence_scores(self.model, [(self.prompt.token_ids, answer)], edit=edit)
        return scores

    def _shifts(self, after: Tensor) -> tuple[tuple[Shift, ...], tuple[Shift, ...]]:
        """Return the tokens that gain and lose most probability (not log-probability: a rise from 1e-9 to 1e-7 is none)."""
        rise = after.exp() - self.before.exp()
        n = min(self.top, len(rise))

        def rows(sign: int) -> tuple[Shift, ...]:
            values, ids = (rise * sign).topk(n)
            chosen = [token for value, token in zip(values.tolist(), ids.tolist(), strict=True) if value > 0]
            texts = self.model.token_texts(chosen)
            pairs = zip(chosen, texts, strict=True)
            return tuple(Shift(token, text, float(self.before[token]), float(after[token])) for token, text in pairs)

        return rows(1), rows(-1)

    def _moved(self, captured: Captured, lowest: int) -> list[Moved]:
        """Return the later features that moved most, over all positions of the prompt but the sink."""
        found: list[Moved] = []
        for layer in self.layers:
            if layer <= lowest:
                continue
            values = []
            for record in (self.clean, captured):
                rows = encode_rows(self.transcoders, layer, record.mlp_in[layer][0]).to("cpu")
                values.append(((rows.token * self.transcoders.d_transcoder(layer) + rows.feature).numpy(), rows.value.double().numpy()))
            keys = np.union1d(values[0][0], values[1][0])
            before, after = (_at(keys, *pair) for pair in values)
            counted = (before != after) & (keys >= self.transcoders.d_transcoder(layer))  # position 0 is the sink
            keys, before, after = keys[counted], before[counted], after[counted]
            for place in np.argsort(-np.abs(after - before), kind="stable")[: self.top].tolist():
                position, feature = divmod(int(keys[place]), self.transcoders.d_transcoder(layer))
                found.append(Moved(layer, feature, position, float(before[place]), float(after[place])))
        found.sort(key=lambda moved: (-abs(moved.after - moved.before), moved.layer, moved.feature, moved.position))
        return found[: self.top]

    def _members(self, edit: SteeringEdit, clean: dict[tuple[int, int], Tensor]) -> list[Member]:
        """Return the absolute values that prompt positions got."""
        edit.begin(0, clean)
        columns = [position for position in range(len(self.prompt)) if self.where.covers(position, len(self.prompt))]
        members = []
        for change in edit.changes:
            for place in change.places:
                values = clean[place][0].tolist()
                target = edit.target_values(place)[0].tolist()
                members += [Member(*place, position, values[position], target[position]) for position in columns]
        return members


def _at(keys: np.ndarray, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the value of each key (ascending), 0 where it is not among a pass's own."""
    out = np.zeros(len(keys))
    out[np.searchsorted(keys, own)] = values
    return out


def _notes(points: Sequence[Point], where: Where) -> list[str]:
    notes = []
    silent: dict[str, None] = {}
    for point in points:
        for change in point.changes:
            if change.kind == "scale" and not change.does_nothing and where.rule != "new":
                own = [m for m in point.members if (m.layer, m.feature) == (change.layer, change.feature)]
                if own and all(m.clean == 0 for m in own):
                    silent[feature_name(change.layer, change.feature)] = None
    for name in silent:
        notes.append(
            f"{name} is silent at the edited positions of the prompt: scaling it changes nothing there; clamp it (=4) or add (=+2)"
        )
    return notes
