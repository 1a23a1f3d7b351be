"""The help of a screen, from the registry.

In: a screen. Out: sections: what it is for, its keys, keys of all widgets, and how to filter.
"""

import textwrap
from collections.abc import Sequence

from tui.actions import MOVES, SCREENS
from tui.screens.base import AtlasScreen
from tui.text import fit
from tui.widgets.line_view import Line, Section, text_line

FILTERS = (
    ("layer>=20 and density<0.01", "numbers"),
    ("rate.en>0.2 or not rate.fr>0.2", "per language"),
    ("layer in (3, 4), lape is null", "some values, no value"),
    ('label~"hot", promotes!~cold', "holds, does not hold"),
    ("starred, labelled, noted, dead", "by themselves"),
    ('text~"hot weather" and layer=3', "searched for, within a filter"),
    ("hot weather", "searched for in labels, promoted tokens and the windows of top contexts"),
)


KEY_CELLS = 20
MARGIN = 12
"""Cells that frame, padding and scroll bar of the reader take, with a few to spare."""


def _keys(rows: Sequence[tuple[str, str]], cells: int, first: int = KEY_CELLS) -> tuple[Line, ...]:
    """Return a line a row, and more where the text is wider than the screen."""
    lines = []
    for keys, text in rows:
        for number, part in enumerate(textwrap.wrap(text, cells) or [""]):
            lines.append(Line(((fit("" if number else keys, first), "strong"), (part, ""))))
    return tuple(lines)


def help_sections(screen: AtlasScreen) -> list[Section]:
    """Return what `?` shows."""
    cells = max(30, min(130, screen.size.width) - KEY_CELLS - MARGIN)
    sections = [
        Section(screen.title_text, tuple(text_line(part) for part in textwrap.wrap(SCREENS[screen.NAME][2], cells + KEY_CELLS))),
        Section("Keys", _keys(screen.help_lines(), cells)),
        Section("Moving", _keys(MOVES, cells)),
    ]
    columns = [(column.title, column.help) for table in screen.tables() for column in table.columns if column.help]
    if columns:
        sections.append(Section("Columns", _keys(columns, cells)))
    if screen.NAME in ("features",):
        sections.append(Section("Filters", _keys(FILTERS, cells - 14, KEY_CELLS + 14)))
    return sections
