"""Prompts: a table of them, and the one under the cursor with tokens, answers and active features; two of them compared.

In: the chosen run. Out: links to features.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.widget import Widget

from atlas import filters
from atlas.errors import UsageError
from atlas.memory_filter import passes
from tui.columns import Column
from tui.data import Asker, Read, Where
from tui.prompt_card import PromptCard, compare, read_prompt, sections
from tui.screens.base import AtlasScreen, bindings_of
from tui.widgets.line_view import LineView
from tui.widgets.modals import Choice
from tui.widgets.paged_table import PagedTable

WIDE = 124
NAMES = ("prompt", "behaviour", "language", "concept", "split", "correct", "margin", "template", "text")
COLUMNS = (
    Column("prompt", "prompt", "number", 6),
    Column("language", "lang", "text", 4),
    Column("concept", "concept", "text", 12),
    Column("correct", "✓", "flag", 2),
    Column("margin", "margin", "signed", 7),
    Column("text", "text", "text", 40),
    Column("behaviour", "behaviour", "text", 14),
    Column("template", "template", "text", 12),
    Column("split", "split", "text", 10),
)


class PromptsScreen(AtlasScreen):
    """Table and card."""

    NAME = "prompts"
    FIRST = "#prompts"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("prompts")
    DEFAULT_CSS = """
    PromptsScreen #prompts { height: 40%; }
    PromptsScreen #card { height: 1fr; border-top: hkey $panel; }
    PromptsScreen.wide #body { layout: horizontal; }
    PromptsScreen.wide #prompts { width: 1fr; height: 100%; }
    PromptsScreen.wide #card { width: 1fr; height: 100%; border-top: none; border-left: vkey $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = PagedTable(COLUMNS, id="prompts")
        self.view = LineView(id="card")
        self.rows: list[dict[str, Any]] = []
        self.card: PromptCard | None = None
        self.rows_of = ""

    def body(self) -> Sequence[Widget]:
        """Return table and card."""
        return (self.table, self.view)

    def visit(self, **arguments: Any) -> None:
        """Come here for a prompt, one of its tokens, a pair, or a behaviour."""
        if "behaviour" in arguments:
            self.filter_text = f'behaviour="{arguments.pop("behaviour")}"'
            self.arguments, self.is_loaded = {}, False
        super().visit(**arguments)

    async def load(self) -> None:
        """List prompts that pass the filter; show the asked one, else the first."""
        run_id = self.session.run_id
        if not self.rows or self.rows_of != run_id:
            (self.rows, self.statements), self.rows_of = (
                await self.get(self.session.data.gather(lambda ask: _rows(ask, run_id), "prompts")),
                run_id,
            )
        tree = filters.parse(self.filter_text)
        shown = [row for row in self.rows if passes(tree, row)]
        wanted = self.arguments.get("prompt")
        ids = [row["prompt"] for row in shown]
        self.table.fill(
            [tuple(row[column.name] for column in COLUMNS) for row in shown],
            message="No prompt passes this filter." if self.rows else "This run has no prompts.",
        )
        if wanted in ids:
            self.table.place = ids.index(wanted)
            self.table.go(self.table.place)
        said = self.filter_text or "enter shows one"
        self.status.say(f"{len(shown):,} of {len(self.rows):,} prompts · {said} · p pair · enter on a token: its features")
        if wanted is None and shown:
            wanted = shown[0]["prompt"]
        if wanted is not None:
            await self._show(int(wanted), self.arguments.get("position"), self.arguments.get("pair"))

    async def _show(self, prompt: int, position: int | None, pair: int | None) -> None:
        run_id = self.session.run_id

        def work(ask: Asker) -> tuple[PromptCard | None, PromptCard | None]:
            return read_prompt(ask, run_id, prompt), None if pair is None else read_prompt(ask, run_id, pair)

        (card, other), self.statements = await self.get(self.session.data.gather(work, f"prompt {prompt}"))
        if card is None:
            raise UsageError(f"this run has no prompt {prompt}", hint="Press r to choose another run.")
        self.card = card
        self.view.show(compare(card, other) if other is not None else sections(card, position), keep=position is not None)

    async def do_open(self) -> None:
        """Show the prompt under the cursor, or follow the link in its card."""
        if self.focused is self.view and self.view.link is not None:
            await self.browser.perform(self.view.link.action, **dict(self.view.link.arguments))
            return
        row = self.table.row
        if row is not None:
            await self.browser.perform("go_prompts", prompt=row[0])

    async def do_pair(self, prompt: int | None = None, pair: int | None = None) -> None:
        """Compare with a pair; of several, offer a choice."""
        row = self.table.row
        if prompt is None:
            if self.focused is self.table and row is not None and (self.card is None or self.card.row["prompt"] != row[0]):
                await self._show(row[0], None, None)
            if self.card is None or not self.card.pairs:
                raise UsageError("this prompt has no pair", hint="Pairs are translations and minimal pairs of a behaviour.")
            here, pairs = self.card.row["prompt"], self.card.pairs
            if len(pairs) == 1:
                await self.browser.perform("pair", prompt=here, pair=pairs[0][1])
                return
            by_id = {row["prompt"]: row for row in self.rows}
            options = [f"{kind} · {number} · {by_id.get(number, {}).get('text', '')}" for kind, number in pairs]

            async def take(chosen: int | None) -> None:
                if chosen is not None:
                    await self.browser.perform("pair", prompt=here, pair=pairs[chosen][1])

            self.browser.push_screen(Choice("Compare with", options), take)
            return
        await self.browser.show("prompts", {"prompt": prompt, "pair": pair})

    async def _step(self, by: int) -> None:
        self.table.go(self.table.place + by)
        row = self.table.row
        if row is not None:
            await self.browser.show("prompts", {"prompt": row[0]}, remember=False)

    async def do_next(self) -> None:
        """Show the next prompt."""
        await self._step(1)

    async def do_previous(self) -> None:
        """Show the prompt before."""
        await self._step(-1)

    @on(PagedTable.Moved, "#prompts")
    def moved(self, event: PagedTable.Moved) -> None:
        """Follow the cursor once it rests."""
        event.stop()
        row = self.table.row
        if row is not None and (self.card is None or self.card.row["prompt"] != row[0]) and self.focused is self.table:
            self.start(partial(self._show, row[0], None, None), group="work")

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature of the card's line under the cursor."""
        link = self.view.link
        if link is None or link.action != "jump":
            return None
        from atlas.ids import parse_feature

        return parse_feature(str(link.arguments["feature"]))

    def copied(self) -> str | None:
        """Return the prompt's text."""
        return str(self.card.row["text"]) if self.card is not None else None

    def on_resize(self, event: events.Resize) -> None:
        """Side by side where there is room."""
        self.set_class(event.size.width >= WIDE, "wide")


def _rows(ask: Asker, run_id: str) -> list[dict[str, Any]]:
    """Return the prompts of a run with their margins."""
    here = (Where("run_id", "=", run_id),)
    margins = {row["prompt"]: row for row in ask(Read("baseline", "baseline", ("prompt", "margin", "correct"), here))}
    columns = ("prompt", "behaviour", "language", "concept", "split", "template", "text")
    nothing: dict[str, Any] = {"margin": None, "correct": None}
    return [{**row, **margins.get(row["prompt"], nothing)} for row in ask(Read("prompts", "prompt", columns, here, ("prompt",)))]


SCREEN = PromptsScreen
