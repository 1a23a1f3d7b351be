"""The two lines that frame every screen: tabs above, status below.

In: texts. Out: the message `TabLine.Chosen`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.actions import SCREENS, SHORT
from tui.columns import Part
from tui.data.engine import Meter
from tui.text import fit, safe, width, wrap
from tui.widgets.styles import CLASSES, CSS, styled

BREAK = "  │ "
"""What stands between the tabs and the atlas's name."""
NAMED = 16
"""Cells that the atlas's name should have before titles are cut for it."""
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def tabs(current: str, columns: int) -> list[tuple[str, str]]:
    """Return (screen, shown text) for all tabs: whole titles where they fit beside the atlas's name, else shorter ones."""
    whole = {name: title for name, (_, title, _) in SCREENS.items()}
    found = _written(current, whole)
    if sum(width(text) for _, text in found) + NAMED <= columns:
        return found
    for letters in (5, 4, 3, 0):
        found = _written(current, {name: SHORT.get(name, title)[:letters] for name, title in whole.items()})
        if sum(width(text) for _, text in found) <= columns:
            break
    return found


def _written(current: str, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    for name, (key, title, _) in SCREENS.items():
        text = f"{key} {title}" if name == current else f"{key} {titles[name]}".rstrip()
        found.append((name, f"▐{text}▌" if name == current else f" {text}"))
    return found


class TabLine(Widget):
    """All screens with their keys; where there is little room, others than the shown one are cut short."""

    DEFAULT_CSS = "TabLine { height: 1; background: $panel;" + CSS + "}"
    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES

    @dataclass
    class Chosen(Message):
        """A screen was clicked."""

        screen_name: str

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current
        self.title = ""

    def render_line(self, y: int) -> Strip:
        """Draw the line."""
        parts: list[Part] = [(text, "cursor" if name == self.current else "") for name, text in tabs(self.current, self.size.width)]
        room = self.size.width - sum(width(text) for text, _ in parts) - width(BREAK)
        if self.title and room >= 6:
            parts += [(BREAK, "dim"), (fit(safe(self.title) + " ", room, "right"), "dim")]
        base = self.rich_style
        return Strip(styled(self, parts)).adjust_cell_length(self.size.width, base).apply_style(base)

    def on_click(self, event: events.Click) -> None:
        """Go to the clicked screen."""
        start = 0
        for name, text in tabs(self.current, self.size.width):
            if start <= event.x < start + width(text):
                self.post_message(self.Chosen(name))
            start += width(text)


class StatusLine(Widget):
    """What is shown, and at the right what is running."""

    DEFAULT_CSS = "StatusLine { height: 1; background: $panel;" + CSS + "}"
    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES
    LINES = 6
    """Lines that an error may take: it is read whole here, since a box on top of the screen would hide what it speaks of."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.style_name = ""
        self.busy = ""
        self.meter: Meter | None = None
        self.since = 0.0
        self.calm = ""
        """What stood here before an error."""
        self.lines = [""]

    def say(self, text: str, style: str = "") -> None:
        """Show a text."""
        self.text, self.style_name = safe(text), style
        if style != "negative":
            self.calm = self.text
        self._fold()

    def settle(self) -> bool:
        """Take an error off again; say whether there was one."""
        if self.style_name != "negative":
            return False
        self.say(self.calm)
        return True

    def _fold(self) -> None:
        """Give an error as many lines as it takes."""
        cells = max(10, self.size.width - 2)
        self.lines = wrap(self.text, cells, self.LINES) if self.style_name == "negative" and self.size.width else [self.text]
        self.styles.height = len(self.lines)
        self.refresh()

    def on_resize(self) -> None:
        """Fold an error anew."""
        self._fold()

    def work(self, what: str, meter: Meter | None = None) -> None:
        """Show that something is running, and how far it is; an empty text ends it."""
        if what and not self.busy:
            self.since = time.monotonic()
        self.busy, self.meter = what, meter
        self.refresh()

    def on_mount(self) -> None:
        """Turn the wheel while something is running."""
        self.set_interval(0.1, lambda: self.refresh() if self.busy else None)

    def render_line(self, y: int) -> Strip:
        """Draw a line."""
        right = ""
        waited = time.monotonic() - self.since
        if self.busy and waited >= 0.15 and y == 0:
            share = None if self.meter is None else self.meter.share
            done = "" if share is None else f" {share:.0%}"
            right = f" {SPINNER[int(waited * 10) % len(SPINNER)]} {safe(self.busy)}{done} {waited:.1f} s · esc stops "
        elif y == 0 and getattr(self.app, "offered", False) and "newer atlas" not in self.text:
            right = " R: newer atlas "
        room = self.size.width - width(right)
        parts: list[Part] = [(fit(" " + (self.lines[y] if y < len(self.lines) else ""), max(0, room)), self.style_name), (right, "accent")]
        base = self.rich_style
        return Strip(styled(self, parts)).adjust_cell_length(self.size.width, base).apply_style(base)
