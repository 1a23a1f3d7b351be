"""Join what fires on a text with what the atlas knows of these features: label, density, language rates and scores.

In: `Active` entries, an open atlas, a run. Out: rows as dicts and an Arrow table, filtered, ranked and cut.

Names of columns are those of the browser's features table, so that one filter expression works in both: `layer>=2 and lape<0.5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from atlas import filters
from atlas.errors import UsageError
from atlas.ids import feature_name
from atlas.memory_filter import passes
from ingest.ask.text import Active, OwnText

if TYPE_CHECKING:
    from atlas.reader import Reader

Key = tuple[int, int]
"""(layer, feature)."""
QUESTION = "features/cards"
SHOWN_TOKENS = 5


@dataclass(frozen=True)
class Cards:
    """Short cards of features, from one run of an atlas."""

    run: str | None = None
    by_key: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    """Names of the run's scores."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a row gets from its card."""
        return ("relative", "density", "label", *(f"rate.{language}" for language in self.languages), *self.scores, "promotes")

    def of(self, key: Key, activation: float) -> dict[str, Any]:
        """Return the card's columns for a feature that has an activation; nulls for one that the run never saw."""
        card = self.by_key.get(key, {})
        rates = dict(zip(card.get("languages") or (), card.get("rates") or (), strict=True))
        scores = dict(zip(card.get("scores") or (), card.get("score_values") or (), strict=True))
        largest = card.get("max_activation")
        row: dict[str, Any] = {"relative": activation / largest if largest else None}
        row |= {"density": card.get("density"), "label": card.get("label")}
        row |= {f"rate.{language}": rates.get(language) for language in self.languages}
        row |= {name: scores.get(name) for name in self.scores}
        return row | {"promotes": (card.get("promoted_tokens") or [])[:SHOWN_TOKENS] or None}

    def sd(self, layer: int, feature: int) -> float | None:
        """Return the standard deviation of a feature's active values; None where the run does not know it."""
        value = self.by_key.get((layer, feature), {}).get("sd_activation")
        return None if not value else float(value)


def read_cards(reader: Reader | None, blank: Cards, keys: Sequence[Key]) -> Cards:
    """Ask the atlas for the cards of some features of the run that `blank` names; without one they stay empty."""
    if reader is None or blank.run is None or not keys:
        return blank
    names = ",".join(feature_name(*key) for key in keys)
    rows = reader.ask(QUESTION, run=blank.run, features=names).arrow().to_pylist()
    return replace(blank, by_key={(row["layer"], row["feature"]): row for row in rows})


@dataclass(frozen=True)
class Asking:
    """Which of the active features are wanted, and how many."""

    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    """Positions of the text (negative ones count from its end); None is every one but the sink."""
    token: str | None = None
    """Only tokens with this text, spaces around it and case aside."""
    min_value: float = 0.0
    """Smallest activation."""
    filter: str = ""
    """Filter expression over the columns of a row."""
    top: int = 10
    """Strongest features of each token (of each text with `whole`); 0 keeps all."""
    by: str = "activation"
    """Column that ranks, largest first: activation, relative, or a score."""
    whole: bool = False
    """One row per feature over the whole text instead of one per token."""
    sinks: bool = False
    """Keep the attention sink, position 0."""

    def positions_of(self, text: OwnText) -> list[int]:
        """Return the wanted positions of a text, ascending.

        Raises:
            UsageError: a position outside of it, or a token that it does not have.
        """
        chosen = range(0 if self.sinks else 1, len(text)) if self.positions is None else self.positions
        outside = [position for position in chosen if not -len(text) <= position < len(text)]
        if outside:
            raise UsageError(f"position {outside[0]} lies outside of the text, which has {len(text)} tokens")
        found = sorted({position % len(text) for position in chosen})
        if self.token is None:
            return found
        wanted = self.token.strip().casefold()
        named = [position for position in found if text.tokens[position].strip().casefold() == wanted]
        if not named:
            tokens = " | ".join(text.tokens[1:])
            raise UsageError(f"no token of the text is {self.token!r}", hint=f"Its tokens: {tokens}")
        return named


def parse_positions(text: str) -> tuple[int, ...]:
    """Read `3`, `3-5` or `2,-1`; raise UsageError for anything else."""
    positions: list[int] = []
    for part in text.split(","):
        part = part.strip()
        low, dash, high = part[1:].partition("-")
        try:
            first = int(part[:1] + low)
            positions += range(first, int(high) + 1) if dash else [first]
        except ValueError as error:
            raise UsageError(f"positions are {text!r}", hint="Write 3, 3-5 or 2,-1 (-1 is the last token).") from error
    return tuple(positions)


def wanted(active: Active, texts: Sequence[OwnText], asking: Asking) -> Active:
    """Keep the entries of wanted layers, positions and values."""
    keep = active.activation >= asking.min_value
    if asking.layers is not None:
        keep &= np.isin(active.layer, asking.layers)
    at = np.zeros(len(active), dtype=bool)
    for number, text in enumerate(texts):
        at |= (active.text == number) & np.isin(active.position, asking.positions_of(text))
    return active.select(keep & at)


@dataclass(frozen=True)
class Whole:
    """A feature over the wanted positions of one text."""

    activation: float
    """Largest value."""
    position: int
    """Where, the first of equals."""
    n_positions: int


def over_text(active: Active, text: int) -> dict[Key, Whole]:
    """Sum up the entries of one text by feature."""
    here = active.select(active.text == text)
    order = np.lexsort((here.position, -here.activation, here.feature, here.layer))
    sums: dict[Key, Whole] = {}
    for at in order.tolist():
        key = (int(here.layer[at]), int(here.feature[at]))
        known = sums.get(key)
        if known is None:
            sums[key] = Whole(float(here.activation[at]), int(here.position[at]), 1)
        else:
            sums[key] = Whole(known.activation, known.position, known.n_positions + 1)
    return sums


def rows_of(active: Active, texts: Sequence[OwnText], cards: Cards, asking: Asking) -> list[dict[str, Any]]:
    """Return the rows of an answer: texts in order, tokens in order, in each the strongest first.

    Raises:
        UsageError: a filter or a ranking over a column that there is none of.
    """
    tree = filters.parse(asking.filter)
    rows: list[dict[str, Any]] = []
    for number in range(len(texts)):
        if asking.whole:
            found: Iterable[tuple[Key, Whole]] = over_text(active, number).items()
        else:
            found = _singles(active, number)
        candidates = [_row(number, texts[number], key, value, cards, asking) for key, value in found]
        chosen = [row for row in candidates if passes(tree, row)]
        rows += _ranked(chosen, asking)
    return rows


def _singles(active: Active, text: int) -> Iterable[tuple[Key, Whole]]:
    for at in np.flatnonzero(active.text == text).tolist():
        key = (int(active.layer[at]), int(active.feature[at]))
        yield key, Whole(float(active.activation[at]), int(active.position[at]), 1)


def _row(number: int, text: OwnText, key: Key, value: Whole, cards: Cards, asking: Asking) -> dict[str, Any]:
    row: dict[str, Any] = {"text": number, "position": value.position, "token": text.tokens[value.position]}
    row |= {"layer": key[0], "feature": key[1], "name": feature_name(*key), "activation": value.activation}
    if asking.whole:
        row["n_positions"] = value.n_positions
    return row | cards.of(key, value.activation)


def _ranked(rows: list[dict[str, Any]], asking: Asking) -> list[dict[str, Any]]:
    """Sort the rows of one text by token, in it by the ranking column (nulls last), and keep the first ones."""
    if rows and asking.by not in rows[0]:
        raise UsageError(f"cannot rank by {asking.by!r}", hint=f"Columns: {', '.join(rows[0])}.")

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        value = row[asking.by]
        group = 0 if asking.whole else row["position"]
        return group, value is None, -float(value or 0.0), row["layer"], row["feature"]

    if rows and not isinstance(rows[0][asking.by], int | float | None):
        raise UsageError(f"cannot rank by {asking.by!r}, which is no number")
    rows.sort(key=rank)
    if asking.top <= 0:
        return rows
    kept: list[dict[str, Any]] = []
    seen: dict[int, int] = {}
    for row in rows:
        group = 0 if asking.whole else row["position"]
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= asking.top:
            kept.append(row)
    return kept


FIXED_TYPES = {
    **dict.fromkeys(("text", "position", "layer", "feature", "n_positions", "n_here", "n_there"), pa.int32()),
    **dict.fromkeys(("token", "name", "label", "where", "token_here", "token_there"), pa.string()),
    "promotes": pa.list_(pa.string()),
}
"""Types of columns; the others are numbers."""


def to_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pa.Table:
    """Return rows as an Arrow table with the given columns."""
    return pa.table(
        {name: pa.array([row[name] for row in rows], FIXED_TYPES.get(name, pa.float64())) for name in columns},
    )
