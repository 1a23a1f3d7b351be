"""Two languages of a run, or two runs, side by side: scores, features, nodes, edges.

In: the chosen run and, between runs, another one. Out: links to features.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import BindingType

from atlas.errors import UsageError
from atlas.ids import feature_name, parse_feature
from tui import marks
from tui.columns import Column, plain
from tui.data import Statement
from tui.data.features import run_difference
from tui.screens.base import bindings_of
from tui.screens.ledger import LedgerScreen, Part
from tui.session import Session
from tui.text import fit, safe
from tui.widgets.line_view import Line, Section
from tui.widgets.modals import Choice

SHOWN = 50_000
"""Features that are shown of two runs, the largest differences first."""


def languages(session: Session) -> dict[str, object]:
    """Return the run's first two languages as parameters."""
    known = [language for language in (session.info.languages if session.info else ()) if language != "xx"]
    return {"language_a": known[0], "language_b": known[1]} if len(known) >= 2 else {}


class CompareScreen(LedgerScreen):
    """Comparisons in turn."""

    NAME = "compare"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("compare")
    PARTS = (
        Part(
            "overlap",
            "Languages: overlap by layer",
            "languages/iou_by_layer",
            columns=(
                Column("layer", "layer", "number", 6),
                Column("languages", "languages", "text", 9),
                Column("same_concept", "same concept", "rate", 20),
                Column("other_concept", "other concept", "rate", 20),
                Column("null_mean", "chance", "rate", 16),
                Column("p_value", "p", "number", 7),
            ),
        ),
        Part(
            "profiles",
            "Languages: profiles by layer",
            "languages/language_profile",
            languages,
            (Column("layer", "layer", "number", 6), Column("profile", "profile", "text", 16), Column("share", "share", "rate", 20)),
        ),
        Part("scores", "Languages: every score of every feature", "languages/scores", languages, (Column("name", "feature", "text", 12),)),
        Part("nodes", "Languages: nodes of graphs", "languages/leaning_nodes", languages),
        Part(
            "edges",
            "Runs: edges",
            "graphs/run_difference",
            lambda _session: {},
            (
                Column("kind", "kind", "text", 15),
                Column("source_name", "from", "text", 12),
                Column("target_name", "to", "text", 12),
                Column("found_in", "in", "text", 6),
                Column("difference", "difference", "signed_bar", 21, 1.0),
            ),
        ),
        Part(
            "matches",
            "Runs: features matched by `atlas compare --keep`",
            "compare/features",
            lambda _session: {"run": None, "top": SHOWN},
            (
                Column("relation", "relation", "text", 10),
                Column("layer", "layer", "number", 6),
                Column("feature_a", "feature", "number", 9),
                Column("feature_b", "other", "number", 9),
                Column("cosine", "cosine", "rate", 14),
                Column("jaccard", "Jaccard", "rate", 14),
                Column("label_a", "label", "label", 30),
                Column("label_b", "other's label", "label", 30),
            ),
            ("measure", "match", "similarity"),
        ),
        Part("features", "Runs: features", "features", columns=(Column("difference", "difference", "signed_bar", 21, 0.1),)),
    )

    def __init__(self) -> None:
        super().__init__()
        self.other: str | None = None
        self.has_more = False

    def keep(self) -> dict[str, Any]:
        """Keep the other run too."""
        return {**super().keep(), "other": self.other}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up the other run."""
        super().restore(kept)
        self.other = kept["other"] if isinstance(kept.get("other"), str) else None

    async def do_mode(self, name: str | None = None, other: str | None = None) -> None:
        """Show the next comparison, or a named one, with another run."""
        if name is None:
            await self.browser.perform("mode", name=self.next_part())
            return
        self.other = other or self.other
        self.turn_to(name)

    async def answer(self, part: Part) -> tuple[Statement, list[str], list[tuple[Any, ...]]]:
        """Ask; runs are compared with the chosen other run."""
        if part.name not in ("edges", "features"):
            return await super().answer(part)
        other = self._other()
        if part.name == "edges":
            return await self.get(self.session.data.ask(part.question, {"run": self.session.run_id, "other": other}))
        statement = run_difference(self.session.run_id, other)
        names, rows = await self.get(self.session.data.some(statement, SHOWN + 1))
        self.has_more = len(rows) > SHOWN
        return statement, names, rows[:SHOWN]

    def say(self, count: int) -> None:
        """Show what the table is, and when it is not all."""
        super().say(count)
        if self.has_more and self.part.name == "features":
            kept = f"{count:,} of the {SHOWN:,}" if self.filter_text else f"the {SHOWN:,}"
            self.status.say(
                f"{self.part.title}: {kept} largest differences of more than {SHOWN:,}; e exports all · {self.filter_text}".rstrip(" ·")
            )

    def _other(self) -> str:
        runs = [run for run in self.session.runs if run.run_id != self.session.run_id]
        found = next((run.run_id for run in runs if run.run_id == self.other), None) or next((run.run_id for run in runs), None)
        if found is None:
            raise UsageError(
                "this atlas has one run only", hint="A second ingest, for instance with another seed, can be compared with it."
            )
        return found

    async def detail(self, row: Mapping[str, Any]) -> tuple[list[Section], list[Statement]]:
        """Return all figures of a row, shares as bars."""
        lines = []
        for name, value in row.items():
            bar = marks.bar(value, 1.0, 16) if isinstance(value, float) and 0 <= value <= 1 else ""
            lines.append(Line(((fit(name.replace("_", " "), 24), "dim"), (fit(plain(value), 12) + " ", ""), (bar, "accent"))))
        named = next((safe(str(row[name])) for name in ("name", "source_name") if row.get(name)), f"layer {row.get('layer', '')}")
        if self.part.name in ("edges", "features"):
            other = next((run for run in self.session.runs if run.run_id == self._other()), None)
            named += f" · other run: {other.name if other else ''}"
        return [Section(named, tuple(lines))], []

    async def do_open(self) -> None:
        """Open the row's feature; between runs, choose the other run where there is none."""
        here = self.feature_here()
        row = self.here
        if here is None and row is not None and row.get("source_name"):
            try:
                here = parse_feature(str(row["source_name"]))
            except UsageError:
                here = None
        if here is not None:
            await self.browser.perform("jump", feature=feature_name(*here))
            return
        runs = [run for run in self.session.runs if run.run_id != self.session.run_id]

        async def take(chosen: int | None) -> None:
            if chosen is not None:
                await self.browser.perform("mode", name=self.part.name, other=runs[chosen].run_id)

        if self.part.name in ("edges", "features") and runs:
            self.browser.push_screen(Choice("Compare with", [f"{run.name} · {run.run_id}" for run in runs]), take)


SCREEN = CompareScreen
