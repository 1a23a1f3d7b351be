"""Sections of lines that are drawn, not laid out: cards, contexts, edges, circuits.

In: `Section`s of `Line`s. Out: the message `Followed` when a line with a link is chosen.

The cursor stands on lines that have a link, and on the heads of sections; the other lines scroll by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.columns import Part
from tui.text import safe
from tui.widgets.styles import CLASSES, CSS, parts_width, styled


@dataclass(frozen=True)
class Link:
    """What enter does on a line: an action of the registry with its arguments."""

    action: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of parts."""

    parts: tuple[Part, ...] = ()
    link: Link | None = None


@dataclass(frozen=True)
class Section:
    """A head and its lines; `note` stands dim beside the head."""

    title: str
    lines: tuple[Line, ...]
    note: str = ""


def text_line(text: str, style: str = "", link: Link | None = None) -> Line:
    """Return a line of one part, made safe."""
    return Line(((safe(text), style),), link)


class LineView(ScrollView, can_focus=True):
    """Sections under one another."""

    DEFAULT_CSS = "LineView { background: $surface; scrollbar-size-horizontal: 0;" + CSS + "}"
    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home,g", "end(0)", show=False),
        Binding("end,G", "end(1)", show=False),
        Binding("left", "shift(-8)", show=False),
        Binding("right", "shift(8)", show=False),
        Binding("left_square_bracket", "section(-1)", show=False),
        Binding("right_square_bracket", "section(1)", show=False),
        Binding("enter", "follow", show=False),
    ]

    @dataclass
    class Followed(Message):
        """A link was chosen."""

        view: "LineView"
        link: Link

        @property
        def control(self) -> "LineView":
            """The view, for `on` selectors."""
            return self.view

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[Line] = []
        self.heads: list[int] = []
        self.place = 0

    def show(self, sections: Sequence[Section], *, keep: bool = False) -> None:
        """Show other sections; `keep` leaves cursor and scroll where they are."""
        self.lines, self.heads = [], []
        for section in sections:
            if self.lines:
                self.lines.append(Line())
            self.heads.append(len(self.lines))
            note = ((f"  {section.note}", "dim"),) if section.note else ()
            self.lines.append(Line(((section.title, "head"), *note)))
            self.lines += section.lines
        widest = max((parts_width(line.parts) for line in self.lines), default=0) + 2
        self.virtual_size = Size(widest, len(self.lines))
        self.place = min(self.place, max(0, len(self.lines) - 1)) if keep else 0
        if not keep:
            self.scroll_to(0, 0, animate=False, force=True, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw one line of the viewport."""
        place = int(self.scroll_offset.y) + y
        base = self.rich_style
        if place >= len(self.lines):
            return Strip.blank(self.size.width, base)
        line = self.lines[place]
        is_cursor = place == self.place and self.has_focus
        mark = "▸ " if place == self.place and (line.link or place in self.heads) else "  "
        segments = styled(self, [(mark, "accent")])
        if is_cursor and line.link is not None:
            over = self.get_component_rich_style("part--cursor", partial=True)
            segments += styled(self, [(text, name if name.startswith("shade") else "") for text, name in line.parts], over)
        else:
            segments += styled(self, line.parts)
        wide = max(self.size.width, self.virtual_size.width)
        left = int(self.scroll_offset.x)
        return Strip(segments).extend_cell_length(wide).apply_style(base).crop(left, left + self.size.width)

    @property
    def link(self) -> Link | None:
        """Return the link under the cursor."""
        return self.lines[self.place].link if self.place < len(self.lines) else None

    def _stops(self) -> list[int]:
        heads = set(self.heads)
        return [place for place, line in enumerate(self.lines) if line.link is not None or place in heads]

    def go(self, place: int) -> None:
        """Put the cursor on a line and bring it onto the screen."""
        self.place = max(0, min(place, len(self.lines) - 1))
        height = max(1, self.size.height)
        top = int(self.scroll_offset.y)
        if self.place < top:
            top = self.place
        elif self.place >= top + height:
            top = self.place - height + 1
        self.scroll_to(y=top, animate=False, force=True, immediate=True)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move to the next stop; where none is near, scroll by lines so that nothing is skipped."""
        ahead = [stop for stop in self._stops() if (stop - self.place) * by > 0]
        stop = (ahead[0] if by > 0 else ahead[-1]) if ahead else None
        height = max(1, self.size.height)
        top = int(self.scroll_offset.y)
        if stop is not None and top - 1 <= stop <= top + height:
            self.go(stop)
        else:
            self.scroll_to(y=top + by, animate=False, force=True, immediate=True)
            if stop is not None and not top <= self.place < top + height:
                self.place = stop
            self.refresh()

    def action_page(self, by: int) -> None:
        """Scroll by screens."""
        height = max(1, self.size.height - 1)
        self.scroll_to(y=int(self.scroll_offset.y) + by * height, animate=False, force=True, immediate=True)
        top = int(self.scroll_offset.y)
        stops = [stop for stop in self._stops() if top <= stop < top + self.size.height]
        if stops:
            self.place = stops[0]
        self.refresh()

    def action_end(self, last: int) -> None:
        """Go to the first or last line."""
        self.go(len(self.lines) - 1 if last else 0)

    def action_shift(self, by: int) -> None:
        """Scroll sideways."""
        self.scroll_to(x=int(self.scroll_offset.x) + by, animate=False, force=True, immediate=True)

    def action_section(self, by: int) -> None:
        """Go to another section's head, at the top of the screen."""
        ahead = [head for head in self.heads if (head - self.place) * by > 0]
        if ahead:
            self.place = ahead[0] if by > 0 else ahead[-1]
            self.scroll_to(y=self.place, animate=False, force=True, immediate=True)
            self.refresh()

    def action_follow(self) -> None:
        """Choose the line under the cursor."""
        if self.link is not None:
            self.post_message(self.Followed(self, self.link))

    async def _on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        place = int(self.scroll_offset.y) + offset.y
        if place < len(self.lines):
            self.place = place
            self.refresh()
            self.action_follow()
