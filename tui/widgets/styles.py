"""Map the style names of parts to the theme.

In: `(text, style)` parts. Out: segments. The names are component classes of every widget that draws lines, so themes and NO_COLOR apply;
weight and underline carry the meaning where colour is absent.
"""

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style
from textual.widget import Widget

from tui.columns import Part
from tui.text import width

NAMES = ("dim", "strong", "accent", "positive", "negative", "head", "link", "shade1", "shade2", "shade3", "shade4", "cursor")
MIXED = {"dim", "shade1", "shade2", "shade3", "shade4"}
"""Colours that let the background through: only a whole style has the two mixed, and text that stands out from a shade."""
CLASSES = {f"part--{name}" for name in NAMES}
CSS = """
    & > .part--dim { color: $text-muted; }
    & > .part--strong { text-style: bold; }
    & > .part--accent { color: $text-accent; }
    & > .part--positive { color: $text-success; }
    & > .part--negative { color: $text-error; }
    & > .part--head { color: $text-primary; text-style: bold; }
    & > .part--link { color: $text-secondary; }
    & > .part--shade1 { background: $warning 15%; color: auto; text-style: underline; }
    & > .part--shade2 { background: $warning 35%; color: auto; text-style: underline; }
    & > .part--shade3 { background: $warning 60%; color: auto; text-style: underline bold; }
    & > .part--shade4 { background: $warning 90%; color: auto; text-style: underline bold; }
    & > .part--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
"""


def styled(widget: Widget, parts: Iterable[Part], over: Style | None = None) -> list[Segment]:
    """Return segments for parts, one a stretch of equal style; `over` is laid on top, as for the line under the cursor."""
    stretches: list[tuple[list[str], str]] = []
    for text, name in parts:
        if stretches and stretches[-1][1] == name:
            stretches[-1][0].append(text)
        elif text:
            stretches.append(([text], name))
    segments = []
    for texts, name in stretches:
        style = widget.get_component_rich_style(f"part--{name}", partial=name not in MIXED) if name else Style.null()
        segments.append(Segment("".join(texts), style + over if over is not None else style))
    return segments


def parts_width(parts: Iterable[Part]) -> int:
    """Return the cells that parts take."""
    return sum(width(text) for text, _ in parts)
