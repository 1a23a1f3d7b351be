"""Small screens on top: a field, a choice, a text to read.

In: a title and values. Out: what the person gave, None when closed with esc.
"""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.text import safe
from tui.widgets.line_input import LineInput
from tui.widgets.line_view import LineView, Section


class Field(ModalScreen[str | None]):
    """One line of text."""

    DEFAULT_CSS = """
    Field { align: center middle; }
    Field > Vertical { width: 76; max-width: 95%; height: auto; border: round $primary; background: $surface; padding: 0 1; }
    Field Static { height: auto; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Close")]

    def __init__(self, title: str, value: str = "", help: str = "") -> None:
        super().__init__()
        self.heading, self.value, self.help_text = title, value, help

    def compose(self) -> ComposeResult:
        """Lay out the field."""
        with Vertical() as box:
            box.border_title = safe(self.heading)
            yield LineInput(self.value, id="field")
            if self.help_text:
                yield Static(self.help_text, markup=False)

    @on(Input.Submitted)
    def submit(self, event: Input.Submitted) -> None:
        """Give back the text."""
        event.stop()
        self.dismiss(event.value)


class Choice(ModalScreen[int | None]):
    """One of several; gives back its number."""

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical { width: 90; max-width: 95%; height: auto; max-height: 80%; border: round $primary; background: $surface; }
    Choice OptionList { height: auto; max-height: 100%; border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Close")]

    def __init__(self, title: str, options: Sequence[str], chosen: int = 0) -> None:
        super().__init__()
        self.heading, self.options, self.chosen = title, options, chosen

    def compose(self) -> ComposeResult:
        """Lay out the options."""
        with Vertical() as box:
            box.border_title = safe(self.heading)
            yield OptionList(*(Option(safe(option)) for option in self.options), markup=False)

    def on_mount(self) -> None:
        """Stand on the present choice."""
        self.query_one(OptionList).highlighted = self.chosen

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Give back the number."""
        event.stop()
        self.dismiss(event.option_index)


class Reader(ModalScreen[None]):
    """Sections to read."""

    DEFAULT_CSS = """
    Reader { align: center middle; }
    Reader > Vertical { width: 130; max-width: 96%; height: 90%; border: round $primary; background: $surface; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,s,question_mark,enter", "dismiss(None)", "Close")]

    def __init__(self, title: str, sections: Sequence[Section]) -> None:
        super().__init__()
        self.heading, self.sections = title, sections

    def compose(self) -> ComposeResult:
        """Lay out the text."""
        with Vertical() as box:
            box.border_title = safe(self.heading)
            box.border_subtitle = "esc closes"
            yield LineView(id="reader")

    def on_mount(self) -> None:
        """Show the text."""
        self.query_one(LineView).show(self.sections)
