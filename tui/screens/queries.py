"""The named questions: a list, a form made from each header, the answer.

In: `queries.catalogue()`. Out: rows; enter opens the feature, prompt or graph that a row speaks of.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.columns import Column, exact, plain, result_columns
from tui.screens.base import AtlasScreen, bindings_of
from tui.screens.follow import follow_row
from tui.text import fit, safe
from tui.widgets.line_input import LineInput
from tui.widgets.line_view import LineView, Section, text_line
from tui.widgets.paged_table import PagedTable

if TYPE_CHECKING:
    from queries.header import Question

LIST_COLUMNS = (Column("name", "question", "text", 42), Column("title", "in words", "text", 100))
NARROW = 120


class Form(VerticalScroll):
    """Fields for the parameters of one question."""

    DEFAULT_CSS = """
    Form { height: auto; max-height: 40%; padding: 0 1; }
    Form Horizontal { height: 1; }
    Form .name { width: 30; color: $text-muted; }
    Form Input { height: 1; border: none; width: 28; padding: 0 1; background: $boost; }
    Form .meaning { width: 1fr; padding: 0 1; color: $text-muted; }
    """

    def rows(self, question: "Question", values: Mapping[str, object]) -> list[Horizontal]:
        """Return one row of widgets a parameter."""
        rows = []
        for parameter in question.parameters:
            value = values.get(parameter.name, parameter.default)
            meaning = safe(parameter.meaning) + (f" [{', '.join(parameter.choices)}]" if parameter.choices else "")
            field = LineInput(
                "" if value is None else _text(value), placeholder="required" if parameter.required else "null", name=parameter.name
            )
            title = Static(fit(f"{parameter.name} · {parameter.type}", 29), classes="name", markup=False)
            rows.append(Horizontal(title, field, Static(meaning, classes="meaning", markup=False)))
        return rows

    def values(self) -> dict[str, object]:
        """Return what stands in the fields; an empty one is null."""
        return {str(field.name): field.value.strip() or None for field in self.query(Input)}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class QueriesScreen(AtlasScreen):
    """List, form, answer."""

    NAME = "queries"
    FIRST = "#questions"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("queries")
    DEFAULT_CSS = """
    QueriesScreen #body { layout: horizontal; }
    QueriesScreen #questions { width: 46; }
    QueriesScreen #answer { width: 1fr; border-left: vkey $panel; }
    QueriesScreen #about { height: auto; max-height: 30%; }
    QueriesScreen #result { height: 1fr; }
    QueriesScreen.narrow #questions { width: 1fr; }
    QueriesScreen.narrow #answer { display: none; border-left: none; }
    QueriesScreen.narrow.open #questions { display: none; }
    QueriesScreen.narrow.open #answer { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.list = PagedTable(LIST_COLUMNS, id="questions")
        self.about = LineView(id="about")
        self.form = Form(id="form")
        self.result = PagedTable(id="result")
        self.question: Question | None = None
        self.names: list[str] = []

    def body(self) -> Sequence[Widget]:
        """Return the three parts."""
        return (self.list, Vertical(self.about, self.form, self.result, id="answer"))

    def keep(self) -> dict[str, Any]:
        """Keep the question that is open."""
        return {**super().keep(), **({"question": self.question.name} if self.question else {})}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up the question."""
        super().restore(kept)
        if isinstance(kept.get("question"), str):
            self.arguments = {"question": kept["question"]}

    async def load(self) -> None:
        """List the questions that pass the filter, and open the asked one."""
        from queries.loader import catalogue

        questions = await self.get(self.session.data.job(lambda _cursor: catalogue(), "reading the questions"))
        words = self.filter_text.lower().split()
        rows = [
            (question.name, question.title)
            for question in questions.values()
            if all(word in f"{question.name} {question.title} {question.text}".lower() for word in words)
        ]
        self.set_class(self.size.width < NARROW, "narrow")
        columns = LIST_COLUMNS if self.has_class("narrow") else LIST_COLUMNS[:1]
        self.list.fill(rows, columns, message="No question has these words.", keep=True)
        self.status.say(f"{len(rows)} of {len(questions)} questions · / searches · enter asks")
        name = self.arguments.get("question")
        given = self.arguments.get("parameters")
        if isinstance(name, str) and name in questions and (given or self.question is None or self.question.name != name):
            await self.choose(questions[name], given if isinstance(given, dict) else {})
            names = [row[0] for row in rows]
            if name in names:
                self.list.go(names.index(name))

    async def choose(self, question: "Question", given: Mapping[str, object]) -> None:
        """Show a question's form; ask it at once where nothing is required."""
        self.question = question
        about = [text_line(question.text)] if question.text else []
        about += [text_line(f"decides: {question.decides}", "dim"), text_line(f"grain: {question.grain}", "dim")]
        self.about.show([Section(question.title, tuple(about))])
        self.about.styles.height = len(about) + 1
        await self.form.remove_children()
        example = question.example if any(parameter.required for parameter in question.parameters) else {}
        example = {**example, **{name: value for name, value in given.items() if isinstance(value, (str, int, float, bool))}}
        await self.form.mount_all(self.form.rows(question, example))
        self.result.fill([], (), message="")
        self.add_class("open")
        self.result.focus()
        await self._ask(question.name, self.form.values())

    async def do_open(self) -> None:
        """Open the question, or what the row speaks of."""
        if self.focused is self.list:
            row = self.list.row
            if row is not None:
                await self.browser.perform("go_queries", question=row[0])
            return
        row = await self.result.row_here()
        if row is not None and not await follow_row(self.browser, self.names, row):
            self.status.say("this row names no feature, prompt or graph")

    async def do_ask(self, question: str | None = None, parameters: Mapping[str, object] | None = None) -> None:
        """Ask with the values of the form, or with given ones."""
        if question is None:
            if self.question is not None:
                await self.browser.perform("ask", question=self.question.name, parameters=self.form.values())
            return
        self.start(partial(self._ask, question, dict(parameters or {})), group="work")

    async def _ask(self, name: str, parameters: dict[str, object]) -> None:
        given = {key: value for key, value in parameters.items() if value is not None}
        self.result.fill([], (), message="asking …")
        try:
            statement, self.names, rows = await self.get(self.session.data.ask(name, given))
        except BaseException:
            self.result.fill([], (), message="no answer")
            raise
        self.statements = [statement]
        self.result.fill(rows, result_columns(self.names, rows), message="No row: nothing passes these parameters.")
        run = statement.parameters.get("run")
        self.status.say(f"{len(rows):,} row{'s' if len(rows) != 1 else ''} · {name}" + (f" · run {plain(run)}" if run else ""))

    @on(Input.Submitted, "Form Input")
    async def field_submitted(self, event: Input.Submitted) -> None:
        """Ask with the values of the form."""
        event.stop()
        await self.browser.perform("ask")
        self.result.focus()

    def do_cancel(self) -> None:
        """Stop, else return from the answer to the list."""
        if self.status.busy or self.query_one("#filter", Input).has_class("open"):
            super().do_cancel()
        elif self.has_class("open"):
            self.remove_class("open")
            self.list.focus()
        else:
            super().do_cancel()

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature of the row under the cursor."""
        row = self.result.row
        if row is None or "layer" not in self.names or "feature" not in self.names:
            return None
        return row[self.names.index("layer")], row[self.names.index("feature")]

    def copied(self) -> str | None:
        """Return the row as tab-separated text."""
        row = self.result.row
        return None if row is None else exact(row)

    def on_resize(self) -> None:
        """One pane where there is little room."""
        self.set_class(self.size.width < NARROW, "narrow")


SCREEN = QueriesScreen
