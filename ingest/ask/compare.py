"""Two texts side by side: which features fire on both, only here, only there.

In: the active features of two texts (text 0 and 1), their cards. Out: rows, one per feature.

A feature fires on a text when it is active at any of the wanted positions; its value is the largest one there. Sinks are left out as
everywhere. Shared, only here and only there are counted over everything that was asked for (layers, positions, smallest activation);
filter and `top` choose what is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atlas import filters
from atlas.ids import feature_name
from atlas.memory_filter import passes
from ingest.ask.cards import Asking, Cards, Key, Whole, over_text
from ingest.ask.text import Active, OwnText

WHERE = ("both", "here", "there")
"""Values of the column `where`, in the order in which they are listed."""
COLUMNS = ("where", "layer", "feature", "name", "here", "there", "difference", "token_here", "token_there", "n_here", "n_there")


@dataclass(frozen=True)
class Overlap:
    """How many features two texts share."""

    both: int
    here: int
    """Only on the first."""
    there: int
    """Only on the second."""

    @property
    def jaccard(self) -> float:
        """Shared features over all of both."""
        every = self.both + self.here + self.there
        return self.both / every if every else 0.0

    def sentence(self) -> str:
        """Say it."""
        return f"{self.both:,} features fire on both, {self.here:,} only here, {self.there:,} only there (Jaccard {self.jaccard:.2f})"


def compare_texts(active: Active, texts: Sequence[OwnText], cards: Cards, asking: Asking) -> tuple[list[dict[str, Any]], Overlap]:
    """Return the rows of two texts side by side, and how many features they share.

    `asking.top` counts per value of `where`; both are ranked by the difference's size, the others by their activation.
    """
    here, there = over_text(active, 0), over_text(active, 1)
    rows = {where: [] for where in WHERE}  # type: dict[str, list[dict[str, Any]]]
    for key in sorted({*here, *there}):
        where = "both" if key in here and key in there else "here" if key in here else "there"
        rows[where].append(_row(where, key, here.get(key), there.get(key), texts, cards))
    overlap = Overlap(*(len(rows[where]) for where in WHERE))
    tree = filters.parse(asking.filter)
    listed: list[dict[str, Any]] = []
    for where in WHERE:
        chosen = [row for row in rows[where] if passes(tree, row)]
        chosen.sort(key=lambda row: (-abs(row["difference"]), row["layer"], row["feature"]))
        listed += chosen[: asking.top] if asking.top > 0 else chosen
    return listed, overlap


def _row(where: str, key: Key, here: Whole | None, there: Whole | None, texts: Sequence[OwnText], cards: Cards) -> dict[str, Any]:
    a, b = (0.0 if side is None else side.activation for side in (here, there))
    return {
        "where": where,
        "layer": key[0],
        "feature": key[1],
        "name": feature_name(*key),
        "here": a,
        "there": b,
        "difference": a - b,
        "token_here": None if here is None else texts[0].tokens[here.position],
        "token_there": None if there is None else texts[1].tokens[there.position],
        "n_here": 0 if here is None else here.n_positions,
        "n_there": 0 if there is None else there.n_positions,
        **cards.of(key, max(a, b)),
    }
