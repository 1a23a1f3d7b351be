"""A table of millions of rows: lines drawn from pages that threads load.

In: columns and a `Source`. Out: messages `Selected` (enter, click on the cursor's row), `Moved`, `SortAsked` (click on a head).

1. A line that is on the screen is drawn from its page; a page that is missing is asked for and drawn as dots until it comes.
2. Pages are kept by how recently they were drawn; nothing is ever made a widget.
3. The cursor is a row and a column; the mark ▸ stands beside it, so that it can be seen without colour.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.worker import Worker

from atlas.errors import AtlasError
from tui.columns import Column, draw
from tui.data import Cancelled, Job, Row
from tui.data.pages import MemorySource, Source
from tui.text import fit
from tui.widgets.styles import CLASSES, CSS, styled

PAGE = 64
KEPT = 48
SORTED = {None: "", False: "▲", True: "▼"}


def turn(order: dict[str, bool], column: str) -> dict[str, bool]:
    """Return the next order of a column: descending, ascending, none."""
    if column not in order:
        return {column: True}
    return {column: False} if order[column] else {}


class PagedTable(ScrollView, can_focus=True):
    """Rows of a source under fixed heads."""

    DEFAULT_CSS = (
        "PagedTable { background: $surface; scrollbar-size-horizontal: 0; &:focus { background-tint: $foreground 3%; }" + CSS + "}"
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home,g", "end(0)", show=False),
        Binding("end,G", "end(1)", show=False),
        Binding("left", "column(-1)", show=False),
        Binding("right", "column(1)", show=False),
        Binding("enter", "select", show=False),
    ]

    @dataclass
    class Selected(Message):
        """A row was chosen."""

        table: "PagedTable"
        place: int
        row: Row

        @property
        def control(self) -> "PagedTable":
            """The table, for `on` selectors."""
            return self.table

    @dataclass
    class Moved(Message):
        """The cursor came to another row."""

        table: "PagedTable"
        place: int

        @property
        def control(self) -> "PagedTable":
            """The table, for `on` selectors."""
            return self.table

    @dataclass
    class Failed(Message):
        """A page could not be loaded."""

        table: "PagedTable"
        error: AtlasError

    @dataclass
    class SortAsked(Message):
        """A head was clicked."""

        table: "PagedTable"
        column: str

        @property
        def control(self) -> "PagedTable":
            """The table, for `on` selectors."""
            return self.table

    def __init__(self, columns: tuple[Column, ...] = (), *, offset: int = 0, id: str | None = None) -> None:
        """Draw `columns` of rows whose first `offset` values are not shown."""
        super().__init__(id=id)
        self.columns = columns
        self.offset_values = offset
        self.source: Source = MemorySource(())
        self.place = 0
        self.column = 0
        self.order: dict[str, bool] = {}
        self.message = ""
        self._pages: OrderedDict[int, list[Row]] = OrderedDict()
        self._asked: set[int] = set()
        self._loading: dict[int, Job[list[Row]]] = {}

    _base: Style | None = None

    def show(self, source: Source, columns: tuple[Column, ...] | None = None, *, place: int = 0, message: str = "") -> None:
        """Show other rows; `message` stands there when there are none."""
        if columns is not None:
            self.columns = columns
        self.source = source
        self.message = message
        self._pages.clear()
        self._asked.clear()
        for job in self._loading.values():
            job.cancel()
        self._loading.clear()
        self.column = min(self.column, max(0, len(self.columns) - 1))
        self.virtual_size = Size(self._width(), source.count + 1)
        self.place = max(0, min(place, source.count - 1))
        self._reveal(center=True)
        self.refresh()

    def fill(self, rows: list[Row], columns: tuple[Column, ...] | None = None, *, message: str = "", keep: bool = False) -> None:
        """Show rows that are all here, in the order they come."""
        self.order = {}
        self.show(MemorySource(rows), columns, place=self.place if keep else 0, message=message)

    def sort(self, column: str) -> None:
        """Sort rows that are all here by one column: descending, ascending, as they came; rows without a value last."""
        if not isinstance(self.source, MemorySource):
            return
        natural = self.source.natural
        self.order = turn(self.order, column)
        rows = list(natural)
        if self.order:
            place = self.offset_values + [shown.name for shown in self.columns].index(column)
            filled = [row for row in rows if row[place] is not None]
            try:
                filled.sort(key=lambda row: row[place], reverse=self.order[column])
            except TypeError:
                filled.sort(key=lambda row: str(row[place]), reverse=self.order[column])
            rows = filled + [row for row in rows if row[place] is None]
        self.show(MemorySource(rows, natural), message=self.message)

    def _width(self) -> int:
        return 2 + sum(column.cells + 1 for column in self.columns)

    @property
    def row(self) -> Row | None:
        """Return the row under the cursor, None while it is loading."""
        return self.row_at(self.place)

    def row_at(self, place: int) -> Row | None:
        """Return a row, None while it is loading; a missing page is asked for."""
        if not 0 <= place < self.source.count:
            return None
        number, inside = divmod(place, PAGE)
        page = self._pages.get(number)
        if page is not None:
            self._pages.move_to_end(number)
            return page[inside] if inside < len(page) else None
        first, last = number * PAGE, min(self.source.count, (number + 1) * PAGE)
        ready = self.source.ready(first, last)
        if ready is not None:
            self._keep(number, ready)
            return ready[inside]
        if number not in self._asked:
            self._asked.add(number)
            load: Callable[[], Coroutine[Any, Any, None]] = partial(self._load, self.source, number, first, last)
            _worker: Worker[None] = self.run_worker(load, group="pages")
        return None

    async def _load(self, source: Source, number: int, first: int, last: int) -> None:
        try:
            if not self._is_wanted(number):
                return
            for other, job in list(self._loading.items()):
                if not self._is_wanted(other):
                    job.cancel()
            self._loading[number] = source.load(first, last)
            rows = await self._loading[number].result()
        except Cancelled:
            return
        except AtlasError as error:
            self.post_message(self.Failed(self, error))
            return
        finally:
            if source is self.source:
                self._asked.discard(number)
                self._loading.pop(number, None)
        if source is self.source:
            self._keep(number, rows)
            self.refresh()
            if number == self.place // PAGE:
                self.post_message(self.Moved(self, self.place))
                self._ahead(number)

    def _ahead(self, number: int) -> None:
        """Ask for the pages after and before the cursor's, so that a key that leads there shows rows at once."""
        for near in (number + 1, number - 1):
            if near not in self._pages and 0 <= near * PAGE < self.source.count:
                self.row_at(near * PAGE)

    def _is_wanted(self, number: int) -> bool:
        """Say whether a page is still near the screen: fast scrolling leaves pages behind that nobody looks at."""
        first = max(0, int(self.scroll_offset.y) - PAGE) // PAGE
        last = (int(self.scroll_offset.y) + self.size.height + PAGE) // PAGE
        return first <= number <= last or number == self.place // PAGE

    def _keep(self, number: int, rows: list[Row]) -> None:
        self._pages[number] = rows
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)

    def render_line(self, y: int) -> Strip:
        """Draw one line of the viewport: the heads, then rows."""
        wide = max(self.size.width, self._width())
        base = self.base_style
        if y == 0:
            segments = self._heads()
        else:
            place = int(self.scroll_offset.y) + y - 1
            if self.source.count == 0 and y == 1 and self.message:
                segments = styled(self, [("  " + fit(self.message, max(0, self.size.width - 2)), "dim")])
            elif place >= self.source.count:
                segments = []
            else:
                segments = self._line(place)
        strip = Strip(segments).extend_cell_length(wide, base if not segments else None).apply_style(base)
        left = int(self.scroll_offset.x)
        return strip.crop(left, left + self.size.width)

    @property
    def base_style(self) -> Style:
        """Return the widget's own style; looked up once until a theme or the focus changes it."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def notify_style_update(self) -> None:
        """Look the style up again."""
        super().notify_style_update()
        self._base = None

    def _heads(self) -> list[Segment]:
        parts = [("  ", "head")]
        for place, column in enumerate(self.columns):
            mark = SORTED[self.order.get(column.name)]
            title = fit(column.title + mark if column.align == "left" else mark + column.title, column.cells, column.align)
            parts += [(title, "cursor" if place == self.column and self.has_focus else "head"), (" ", "head")]
        return styled(self, parts)

    def _line(self, place: int) -> list[Segment]:
        is_cursor = place == self.place
        over = self.get_component_rich_style("part--cursor", partial=True) if is_cursor and self.has_focus else None
        row = self.row_at(place)
        parts = [("▸ " if is_cursor else "  ", "accent")]
        for number, column in enumerate(self.columns):
            if row is None:
                parts += [(fit("·", column.cells, column.align), "dim"), (" ", "")]
            else:
                parts += [*draw(column, row[self.offset_values + number]), (" ", "")]
        if over is None:
            return styled(self, parts)
        return styled(self, [(text, "" if name in ("dim", "accent", "positive", "negative") else name) for text, name in parts], over)

    def _reveal(self, *, center: bool = False) -> None:
        """Scroll so that the cursor is on the screen."""
        lines = max(1, self.size.height - 1)
        top = int(self.scroll_offset.y)
        if center and not top <= self.place < top + lines:
            top = max(0, self.place - lines // 2)
        elif self.place < top:
            top = self.place
        elif self.place >= top + lines:
            top = self.place - lines + 1
        left = int(self.scroll_offset.x)
        start = 2 + sum(column.cells + 1 for column in self.columns[: self.column])
        stop = start + (self.columns[self.column].cells + 1 if self.columns else 0)
        if start < left or self.column == 0:
            left = start if self.column else 0
        elif stop > left + self.size.width:
            left = stop - self.size.width
        self.scroll_to(x=left, y=top, animate=False, force=True, immediate=True)

    def go(self, place: int) -> None:
        """Put the cursor on a row."""
        place = max(0, min(place, self.source.count - 1))
        before, top = self.place, int(self.scroll_offset.y)
        if place != self.place:
            self.place = place
            self.post_message(self.Moved(self, place))
        self._reveal()
        if int(self.scroll_offset.y) == top:
            # Only two lines change: redrawing all of them would cost most of a key's time.
            for line in {before, place}:
                self.refresh(Region(0, line - top + 1, self.size.width, 1))
        else:
            self.refresh()

    async def row_here(self) -> Row | None:
        """Return the row under the cursor, waiting for its page."""
        place = self.place
        while (row := self.row_at(place)) is None and place < self.source.count:
            await asyncio.sleep(0.005)
        return row

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self.go(self.place + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by screens."""
        self.go(self.place + by * max(1, self.size.height - 2))

    def action_end(self, last: int) -> None:
        """Move the cursor to the first or last row."""
        self.go(self.source.count - 1 if last else 0)

    def action_column(self, by: int) -> None:
        """Move to another column."""
        self.column = max(0, min(len(self.columns) - 1, self.column + by))
        self._reveal()
        self.refresh()

    def action_select(self) -> None:
        """Choose the row under the cursor."""
        row = self.row
        if row is not None:
            self.post_message(self.Selected(self, self.place, row))

    async def _on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            column = self._column_at(offset.x + int(self.scroll_offset.x))
            if column is not None:
                self.column = column
                self.post_message(self.SortAsked(self, self.columns[column].name))
            return
        place = int(self.scroll_offset.y) + offset.y - 1
        if place >= self.source.count:
            return
        if place == self.place:
            self.action_select()
        else:
            self.go(place)

    def _column_at(self, x: int) -> int | None:
        start = 2
        for number, column in enumerate(self.columns):
            if start <= x < start + column.cells + 1:
                return number
            start += column.cells + 1
        return None

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Redraw: the heads stand still while the rows move."""
        super().watch_scroll_y(old, new)
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Keep the cursor on the screen."""
        self._reveal()

    def value(self, name: str) -> Any:
        """Return the value of a shown column in the row under the cursor."""
        row = self.row
        for number, column in enumerate(self.columns):
            if row is not None and column.name == name:
                return row[self.offset_values + number]
        return None
