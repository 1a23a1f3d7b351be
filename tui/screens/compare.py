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
from tui.data import Asker, Read, Statement, Where
from tui.screens.base import bindings_of
from tui.screens.ledger import LedgerScreen, Part
from tui.session import Session
from tui.text import fit, safe
from tui.widgets.line_view import Line, Section
from tui.widgets.modals import Choice

MOST = 200_000
FEATURES = ("layer", "feature", "density", "max_activation", "mean_activation")


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
        Part("features", "Runs: features", "features", columns=(Column("difference", "difference", "signed_bar", 21, 0.1),)),
    )

    def __init__(self) -> None:
        super().__init__()
        self.other: str | None = None

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
        here = self.session.run_id
        (names, rows), statements = await self.get(
            self.session.data.gather(lambda ask: _features(ask, here, other), "features of two runs")
        )
        return statements[0], names, rows

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


def _features(ask: Asker, here: str, other: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return features of two runs, the largest difference of density first."""
    tables = []
    for run_id in (here, other):
        where = (Where("run_id", "=", run_id), Where("n_active", ">", 0))
        rows = ask(Read("features", "feature", FEATURES, where, ("layer", "feature"), MOST))
        tables.append({(row["layer"], row["feature"]): row for row in rows})
    mine, theirs = tables
    found = []
    for key in mine.keys() | theirs.keys():
        left, right = mine.get(key), theirs.get(key)
        a, b = (None if row is None else row["density"] for row in (left, right))
        maxima = (None if row is None else row["max_activation"] for row in (left, right))
        found.append((*key, "both" if left and right else "this" if left else "other", a, b, (b or 0.0) - (a or 0.0), *maxima))
    found.sort(key=lambda row: (-abs(row[5]), row[0], row[1]))
    return ["layer", "feature", "found_in", "density", "density_other", "difference", "max_activation", "max_other"], found


SCREEN = CompareScreen
