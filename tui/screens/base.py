"""What every screen has: frame, filter field, status, loading in workers, statements to show, state to keep.

In: a visit with arguments. Out: widgets filled by `load`, which runs in a worker and can be stopped at any time.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input
from textual.worker import Worker

from atlas.errors import AtlasError
from tui.actions import SCREENS, actions_of, by_id
from tui.data import Cancelled, Job, Statement
from tui.data.runs import RunInfo
from tui.session import Session
from tui.widgets.frame import StatusLine, TabLine
from tui.widgets.line_input import LineInput
from tui.widgets.line_view import LineView
from tui.widgets.paged_table import PagedTable

if TYPE_CHECKING:
    from tui.browser import Browser

T = TypeVar("T")


def bindings_of(screen: str) -> list[BindingType]:
    """Return the bindings of a screen from the registry."""
    return [
        Binding(action.keys, f"screen.perform('{action.id}')", action.title, show=action.footer, id=action.id)
        for action in actions_of(screen)
        if action.keys
    ]


class AtlasScreen(Screen[None]):
    """One screen of the browser."""

    NAME: ClassVar[str] = ""
    FIRST: ClassVar[str] = ""
    """Selector of the widget that has the focus at first."""
    EXPORTED: ClassVar[int | None] = None
    """Rows that an export takes at most; None: all."""
    DEFAULT_CSS = """
    AtlasScreen { layers: base; }
    AtlasScreen #body { height: 1fr; }
    AtlasScreen #filter { height: 1; border: none; padding: 0 1; background: $boost; display: none; &.open { display: block; } }
    AtlasScreen Footer { height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[Statement] = []
        self.arguments: dict[str, Any] = {}
        self.is_loaded = False
        self.filter_text = ""
        self.seen: Session | None = None
        self.said_after: tuple[str, str] | None = None
        """What the status line says once what is being loaded is here: that a word is safe, for example."""

    @property
    def browser(self) -> "Browser":
        """Return the app."""
        return cast("Browser", self.app)

    @property
    def session(self) -> Session:
        """Return what all screens share."""
        return self.browser.session

    # Layout ------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Lay out the frame around the body."""
        yield TabLine(self.NAME)
        yield Container(*self.body(), id="body")
        yield LineInput(id="filter", placeholder='layer>=20 and rate.en>0.2 · label~"hot" · starred · or words to search for')
        yield StatusLine()
        yield Footer(show_command_palette=False)

    def body(self) -> Sequence[Widget]:
        """Return the widgets between tabs and status."""
        return ()

    @property
    def status(self) -> StatusLine:
        """Return the status line."""
        return self.query_one(StatusLine)

    # Coming and loading ------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Focus the main widget."""
        if self.FIRST:
            self.query_one(self.FIRST).focus()

    def on_screen_resume(self) -> None:
        """Load when the screen is first seen, and again when the run or the atlas has changed."""
        if self.browser.ready and (not self.is_loaded or self.seen is not self.session):
            self.reload()

    def visit(self, **arguments: Any) -> None:
        """Come here with arguments, e.g. which feature."""
        if arguments and arguments != self.arguments:
            self.arguments = arguments
            self.is_loaded = False

    def reload(self) -> None:
        """Load again, stopping what was under way."""
        self.is_loaded = True
        self.seen = self.session
        self.query_one(TabLine).title = self.browser.atlas_title
        self.query_one(TabLine).refresh()
        self.start(self.load)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], group: str = "load") -> Worker[None]:
        """Run work that waits for data; newer work of the group replaces older."""
        return self.run_worker(partial(self._guarded, work), group=group, exclusive=True)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Turn errors into sentences: the one broad place between data and the screen."""
        try:
            await work()
        except Cancelled:
            self.status.say("stopped")
        except AtlasError as error:
            self.fail(error)
        else:
            if self.said_after is not None:
                self.status.say(*self.said_after)
        self.said_after = None

    def fail(self, error: AtlasError) -> None:
        """Show an error, whole, in the status line."""
        first = " ".join(error.message.split())
        self.status.say(f"{first} — {error.hint}" if error.hint else first, "negative")

    async def get(self, job: Job[T]) -> T:
        """Wait for a job, showing that it runs."""
        status = self.status
        status.work(job.what or "reading", job.meter)
        try:
            return await job.result()
        finally:
            status.work("")

    async def info(self) -> RunInfo | None:
        """Return what the features table must know of the chosen run, None where the atlas has no run."""
        return self.session.info or await self.get(self.session.read_info())

    async def load(self) -> None:
        """Read and show; overridden by every screen."""

    # State -------------------------------------------------------------------------------------------

    def keep(self) -> dict[str, Any]:
        """Return what should be kept between starts."""
        return {"filter": self.filter_text} if self.filter_text else {}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what was kept."""
        self.filter_text = str(kept.get("filter", ""))

    # Actions -----------------------------------------------------------------------------------------

    async def action_perform(self, action: str) -> None:
        """Perform an action of the registry without arguments, as a key does."""
        await self.browser.perform(action)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what this screen can do."""
        if action == "perform" and parameters:
            return self.can(str(parameters[0]))
        return super().check_action(action, parameters)

    def can(self, action: str) -> bool:
        """Say whether an action makes sense now."""
        if action in ("star", "label", "note"):
            return self.NAME in ("features", "feature") or (self.is_loaded and self.feature_here() is not None)
        return True

    def feature_here(self) -> tuple[int, int] | None:
        """Return (layer, feature) of what the cursor is on."""
        return None

    def copied(self) -> str | None:
        """Return what `y` copies."""
        return None

    def tables(self) -> list[PagedTable]:
        """Return the tables of this screen."""
        return list(self.query(PagedTable))

    async def row_is_here(self) -> None:
        """Wait for the row under the cursor: keys that are typed ahead of its page speak of it too."""
        table = self.focused if isinstance(self.focused, PagedTable) else next(iter(self.tables()), None)
        if table is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(table.row_here(), 2.0)

    def focused_place(self) -> tuple[str, int] | None:
        """Return the id of the focused table or list of lines, and where its cursor is."""
        widget = self.focused
        if isinstance(widget, (PagedTable, LineView)) and widget.id:
            return widget.id, widget.place
        return None

    def do_place(self, widget: str, place: int) -> None:
        """Put a cursor where a journal says."""
        found = self.query_one(f"#{widget}")
        if isinstance(found, (PagedTable, LineView)):
            found.focus()
            found.go(place)

    def do_filter(self, text: str | None = None) -> None:
        """Open the filter field, or filter by a text."""
        field = self.query_one("#filter", Input)
        if text is None:
            field.value = self.filter_text
            field.add_class("open")
            field.focus()
            return
        self.filter_text = text
        self.reload()

    @on(Input.Submitted, "#filter")
    async def filter_submitted(self, event: Input.Submitted) -> None:
        """Filter by what was typed."""
        event.stop()
        self._close_filter()
        await self.browser.perform("filter", text=event.value)

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        if self.FIRST:
            self.query_one(self.FIRST).focus()

    def do_cancel(self) -> None:
        """Close the filter field, else stop what is running, else take an error off, else the filter."""
        if self.query_one("#filter", Input).has_class("open"):
            self._close_filter()
            return
        stopped = False
        for worker in list(self.workers):
            if worker.node is self and worker.group in ("load", "work") and worker.is_running:
                worker.cancel()
                stopped = True
        if stopped:
            self.status.work("")
            self.status.say("stopped")
        elif not self.status.settle() and self.filter_text:
            self.do_filter("")

    async def do_open(self) -> None:
        """Open what is under the cursor."""

    @on(PagedTable.Selected)
    async def table_selected(self, event: PagedTable.Selected) -> None:
        """Open the chosen row."""
        event.stop()
        event.table.focus()
        await self.browser.perform("open")

    @on(PagedTable.Failed)
    def page_failed(self, event: PagedTable.Failed) -> None:
        """Say why rows are missing."""
        event.stop()
        self.fail(event.error)

    @on(LineView.Followed)
    async def line_followed(self, event: LineView.Followed) -> None:
        """Do what the line stands for."""
        event.stop()
        await self.browser.perform(event.link.action, **dict(event.link.arguments))

    @on(PagedTable.SortAsked)
    async def sort_asked(self, event: PagedTable.SortAsked) -> None:
        """Sort by the clicked head."""
        event.stop()
        event.table.focus()
        await self.browser.perform("sort", column=event.column, table=event.table.id)

    @on(TabLine.Chosen)
    async def tab_chosen(self, event: TabLine.Chosen) -> None:
        """Go to the clicked screen."""
        await self.browser.perform(f"go_{event.screen_name}")

    async def do_sort(self, column: str | None = None, table: str | None = None) -> None:
        """Sort a table that is in memory; tables that are not override this."""
        here = self.query_one(f"#{table}", PagedTable) if table else self.focused
        if not isinstance(here, PagedTable):
            here = next(iter(self.tables()), None)
        if here is None or not here.columns:
            return
        if column is None:
            await self.browser.perform("sort", column=here.columns[here.column].name, table=here.id)
            return
        here.sort(column)

    def help_lines(self) -> list[tuple[str, str]]:
        """Return (keys, text) of this screen for help."""
        return [(action.shown_keys, action.help) for action in actions_of(self.NAME) if action.keys]

    @property
    def title_text(self) -> str:
        """Return the screen's title."""
        return SCREENS[self.NAME][1]


def is_asking(action: str, arguments: dict[str, Any]) -> bool:
    """Say whether performing an action only opens a field."""
    return not arguments and by_id(action).asks
