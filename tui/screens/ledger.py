"""What the screens over one question's answer share: a table, a filter in memory, a detail of the row under the cursor, parts in turn.

In: parts, each a named question. Out: a table and, for the row under the cursor, sections of lines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual import events, on
from textual.widget import Widget

from atlas import filters
from atlas.errors import AtlasError, UsageError
from atlas.memory_filter import passes
from tui.columns import Column, exact, result_columns
from tui.data import Statement
from tui.screens.base import AtlasScreen
from tui.session import Session
from tui.widgets.line_view import LineView, Section
from tui.widgets.paged_table import PagedTable

WIDE = 124
Dict = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One table of a screen: a question, its parameters, and which columns show how."""

    name: str
    title: str
    question: str
    parameters: Callable[[Session], dict[str, object]] = lambda _session: {}
    columns: tuple[Column, ...] = ()
    """Known columns with how they are drawn; the others follow, drawn by their values."""
    hidden: tuple[str, ...] = ()


class LedgerScreen(AtlasScreen):
    """Table and detail."""

    FIRST = "#ledger"
    PARTS: ClassVar[tuple[Part, ...]] = ()
    DEFAULT_CSS = """
    LedgerScreen #ledger { height: 1fr; }
    LedgerScreen #detail { height: 40%; border-top: hkey $panel; }
    LedgerScreen.wide #body { layout: horizontal; }
    LedgerScreen.wide #ledger { width: 3fr; height: 100%; }
    LedgerScreen.wide #detail { width: 2fr; height: 100%; border-top: none; border-left: vkey $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = PagedTable(id="ledger")
        self.detail_view = LineView(id="detail")
        self.part = self.PARTS[0]
        self.names: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.detail_of: tuple[Any, ...] | None = None

    def body(self) -> Sequence[Widget]:
        """Return table and detail."""
        return (self.table, self.detail_view)

    def keep(self) -> dict[str, Any]:
        """Keep filter and part."""
        return {**super().keep(), "part": self.part.name}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up filter and part."""
        super().restore(kept)
        self.part = self.part_called(str(kept.get("part")))

    def part_called(self, name: str) -> Part:
        """Return a part by its name, the first where there is none."""
        return next((part for part in self.PARTS if part.name == name), self.PARTS[0])

    async def answer(self, part: Part) -> tuple[Statement, list[str], list[tuple[Any, ...]]]:
        """Ask a part's question for the chosen run."""
        from queries.loader import question

        await self.info()
        if self.session.run is None:
            raise UsageError("this atlas has no run yet", hint="`atlas ingest` or `atlas import` makes one, `atlas publish` shows it.")
        parameters = part.parameters(self.session)
        if any(parameter.name == "run" for parameter in question(part.question).parameters):
            parameters.setdefault("run", self.session.run_id)
        known = {parameter.name for parameter in question(part.question).parameters}
        given = {name: value for name, value in parameters.items() if name in known}
        return await self.get(self.session.data.ask(part.question, given))

    async def load(self) -> None:
        """Ask, filter, show; then the detail of the wanted row, else of the first."""
        self.detail_of = None
        self.detail_view.show([])
        try:
            statement, self.names, found = await self.answer(self.part)
        except AtlasError:
            self.rows, self.statements = [], []
            self.table.fill([], (), message="no answer")
            raise
        self.statements = [statement]
        self.rows = [dict(zip(self.names, row, strict=True)) for row in found]
        tree = filters.parse(self.filter_text)
        shown = [row for row in self.rows if passes(tree, row)]
        columns = self.columns_of(self.part, found)
        # The last value of a row is its place in `shown`: it is not drawn, and stays with the row when the table is sorted.
        lines = [(*(row[column.name] for column in columns), place) for place, row in enumerate(shown)]
        self.shown = shown
        self.table.fill(lines, columns, message="Nothing of the kind in this run.")
        self.say(len(shown))
        wanted = self.wanted_place(shown)
        self.table.go(wanted)
        await self._detail()

    shown: Sequence[dict[str, Any]] = ()

    def say(self, count: int) -> None:
        """Show what the table is."""
        kept = f"{count:,} of {len(self.rows):,}" if self.filter_text else f"{count:,}"
        following = "v shows the next of: " + ", ".join(part.name for part in self.PARTS) if len(self.PARTS) > 1 else self.part.question
        top = self.statements[0].parameters.get("top") if self.statements else None
        cut = ", the first that the question gives" if top == len(self.rows) else ""
        self.status.say(f"{self.part.title}: {kept} row{'s' if count != 1 else ''}{cut} · {self.filter_text or following}")

    def wanted_place(self, shown: Sequence[Dict]) -> int:
        """Return the row to begin with."""
        for name in ("intervention", "circuit", "claim_id"):
            if name in self.arguments:
                for place, row in enumerate(shown):
                    if row.get(name) == self.arguments[name]:
                        return place
        return 0

    def columns_of(self, part: Part, rows: Sequence[Sequence[Any]]) -> tuple[Column, ...]:
        """Return the columns: those with a known drawing first, in their order."""
        known = {column.name: column for column in part.columns}
        others = [column for column in result_columns(self.names, rows) if column.name not in known and column.name not in part.hidden]
        return (*(self._scaled(column, rows) for name, column in known.items() if name in self.names), *others)

    def _scaled(self, column: Column, rows: Sequence[Sequence[Any]]) -> Column:
        """Return a column whose signed bars reach as far as the largest value."""
        if column.kind != "signed_bar":
            return column
        place = self.names.index(column.name)
        return replace(column, scale=max((abs(row[place]) for row in rows if row[place] is not None), default=1.0))

    @property
    def here(self) -> dict[str, Any] | None:
        """Return the row under the cursor, with all its columns."""
        row = self.table.row
        return None if row is None else self.shown[row[-1]]

    async def _detail(self) -> None:
        row = self.here
        if row is None:
            return
        key = tuple(str(value) for value in row.values())
        if key == self.detail_of:
            return
        self.detail_of = key
        sections, statements = await self.detail(row)
        self.detail_view.show(sections)
        self.statements = [*self.statements[:1], *statements]

    async def detail(self, row: Dict) -> tuple[list[Section], list[Statement]]:
        """Return the detail of a row; overridden."""
        return [], []

    @on(PagedTable.Moved, "#ledger")
    def moved(self, event: PagedTable.Moved) -> None:
        """Follow the cursor."""
        event.stop()
        self.start(self._detail, group="work")

    def next_part(self) -> str:
        """Return the name of the part after the shown one."""
        names = [part.name for part in self.PARTS]
        return names[(names.index(self.part.name) + 1) % len(names)]

    def turn_to(self, name: str) -> None:
        """Show another part."""
        self.part = self.part_called(name)
        self.filter_text = ""
        self.reload()

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature of the row or of the detail's line under the cursor."""
        row = self.here
        if row is None or not isinstance(row.get("layer"), int) or not isinstance(row.get("feature"), int):
            return None
        return row["layer"], row["feature"]

    def copied(self) -> str | None:
        """Return the row as tab-separated text."""
        row = self.here
        return None if row is None else exact(list(row.values()))

    def on_resize(self, event: events.Resize) -> None:
        """Side by side where there is room."""
        self.set_class(event.size.width >= WIDE, "wide")
