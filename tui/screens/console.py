"""A statement of one's own: an editor with highlighting and completion, its rows, its history.

In: text. Out: rows; one SELECT, or an EXPLAIN of one, and nothing else (`atlas/reader.py`, `check_statement`).
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static, TextArea

from tui.columns import exact, result_columns
from tui.screens.base import AtlasScreen, bindings_of
from tui.screens.follow import follow_row
from tui.widgets.modals import Choice
from tui.widgets.paged_table import PagedTable

if TYPE_CHECKING:
    import duckdb

DISPLAY = 500
KEPT = 50
TYPING = "▲ keys type here · esc leaves the editor: then 1 to 0, ? … are commands"
READING = "▼ keys are commands · tab returns to the editor"
"""Which of the two parts has the keys: a line between them says it, since letters mean different things."""
FIRST_STATEMENT = (
    "select layer, count(*) as n_features, avg(density) as density\nfrom feature\nwhere n_active > 0\ngroup by layer\norder by layer"
)


class ConsoleScreen(AtlasScreen):
    """Editor above, rows below."""

    NAME = "console"
    FIRST = "#editor"
    EXPORTED = 10_000_000
    """A statement's hard limit, whatever is shown: a join without a condition would fill the disk."""
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("console")
    DEFAULT_CSS = """
    ConsoleScreen #editor { height: 40%; min-height: 5; border: none; }
    ConsoleScreen #way { height: 1; padding: 0 1; background: $boost; color: $text-muted; }
    ConsoleScreen #result { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.editor = TextArea.code_editor("", language="sql", id="editor", show_line_numbers=True, tab_behavior="focus")
        self.way = Static(TYPING, id="way", markup=False)
        self.result = PagedTable(id="result")
        self.names: list[str] = []
        self.history: list[str] = []
        self.functions: list[str] = []

    def body(self) -> Sequence[Widget]:
        """Return editor, the line between, and result."""
        return (Vertical(self.editor, self.way, self.result),)

    def keep(self) -> dict[str, Any]:
        """Keep the text and the history."""
        return {"text": self.editor.text, "history": self.history[-KEPT:]}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up the text and the history."""
        history = kept.get("history")
        self.history = [str(text) for text in history] if isinstance(history, list) else []
        self.editor.load_text(str(kept.get("text") or FIRST_STATEMENT))

    async def load(self) -> None:
        """Read the names of functions, for completion."""
        if not self.functions:
            work = "reading the names of functions"
            self.functions = await self.get(self.session.data.job(_functions, work))
        if not self.statements and not self.status.busy:
            self.status.say(f"ctrl+j or F5 runs · ctrl+space completes · shows {DISPLAY} rows, e exports {self.EXPORTED:,}")

    async def do_ask(self, sql: str | None = None) -> None:
        """Run the statement in the editor, or a given one."""
        if sql is None:
            await self.browser.perform("ask", sql=self.editor.text)
            return
        if sql != self.editor.text:
            self.editor.load_text(sql)
        if sql.strip() and (not self.history or self.history[-1] != sql):
            self.history.append(sql)
        self.start(partial(self._ask, sql), group="work")

    async def _ask(self, sql: str) -> None:
        self.result.fill([], (), message="running …")
        self.status.say("running …")
        try:
            statement, self.names, rows = await self.get(self.session.data.console(sql, DISPLAY))
        except BaseException:
            self.result.fill([], (), message="no rows")
            raise
        self.statements = [statement]
        shown = rows[:DISPLAY]
        if len(self.names) == 2 and self.names[0].endswith(("_plan", "_key")) and any("\n" in str(row[1]) for row in shown):
            shown, self.names = [(line,) for row in shown for line in str(row[1]).splitlines()], ["plan"]
        self.result.fill(shown, result_columns(self.names, shown, most=200 if self.names == ["plan"] else 40), message="No row.")
        more = (
            f"{DISPLAY:,} of more than {DISPLAY:,} rows" if len(rows) > DISPLAY else f"{len(shown):,} row{'s' if len(shown) != 1 else ''}"
        )
        self.status.say(more)

    async def do_open(self) -> None:
        """Open what the row speaks of."""
        row = self.result.row
        if row is not None and not await follow_row(self.browser, self.names, row):
            self.status.say("this row names no feature, prompt or graph")

    def do_history(self, number: int | None = None) -> None:
        """Bring back an earlier statement."""
        if number is None:
            if not self.history:
                self.status.say("nothing has been run yet")
                return
            newest_first = list(reversed(self.history))
            self.browser.ask(Choice("Earlier statements", [" ".join(text.split()) for text in newest_first]), "history", "number")
            return
        self.editor.load_text(list(reversed(self.history))[number])
        self.editor.focus()

    def do_complete(self) -> None:
        """Complete the name before the cursor; of several names, offer a choice."""
        row, column = self.editor.cursor_location
        line = self.editor.document.get_line(row)[:column]
        start = len(line)
        while start > 0 and (line[start - 1].isalnum() or line[start - 1] in "_."):
            start -= 1
        word = line[start:]
        names = self.completions(word)
        if not names:
            self.status.say(f"no name begins with {word!r}")
            return

        def take(number: int | None) -> None:
            if number is not None:
                self.editor.replace(names[number], (row, start), (row, column))
            self.editor.focus()

        if len(names) == 1:
            take(0)
        else:
            self.browser.push_screen(Choice(f"{word} …", names), take)

    @on(events.DescendantFocus)
    def say_who_has_the_keys(self) -> None:
        """Show how to get out of the editor, and back."""
        self.way.update(TYPING if self.focused is self.editor else READING)

    def completions(self, word: str) -> list[str]:
        """Return tables, columns and functions that begin with a word; `table.` gives that table's columns."""
        known = self.session.data.known
        table, dot, rest = word.lower().rpartition(".")
        if dot and table in known:
            return [f"{table}.{column}" for column in known[table] if column.startswith(rest)]
        low = word.lower()
        columns = {column for columns in known.values() for column in columns}
        names = [name for name in known if name.startswith(low)]
        names += sorted(column for column in columns if column.startswith(low) and column not in known)
        return names + [name for name in self.functions if name.startswith(low)] if low else names

    def copied(self) -> str | None:
        """Return the row as tab-separated text."""
        row = self.result.row
        return None if row is None else exact(row)

    def do_cancel(self) -> None:
        """Stop, else leave the editor for the rows."""
        if self.status.busy:
            super().do_cancel()
        elif self.focused is self.editor:
            self.result.focus()

    def help_lines(self) -> list[tuple[str, str]]:
        """Return the keys, and that letters type while the editor has the focus."""
        return [*super().help_lines(), ("esc", "leave the editor; then letters are keys again")]


def _functions(cursor: "duckdb.DuckDBPyConnection") -> list[str]:
    from tui.data.engine import function_names

    return function_names(cursor)


SCREEN = ConsoleScreen
