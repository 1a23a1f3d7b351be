"""The help of a screen, from the registry.

In: a screen. Out: sections: what it is for, its keys, keys of all widgets, and how to filter.
"""

from tui.actions import MOVES, SCREENS
from tui.screens.base import AtlasScreen
from tui.text import fit
from tui.widgets.line_view import Line, Section, text_line

FILTERS = (
    'layer>=20 and density<0.01      label~"hot"      promotes~cold      rate.en>0.2 and rate.fr>0.2',
    "starred or labelled             not dead         layer in (3, 4)    label is null",
    "Words without a comparison are searched for in labels, promoted tokens and the tokens of top contexts.",
)


def _keys(rows: list[tuple[str, str]]) -> tuple[Line, ...]:
    return tuple(Line(((fit(keys, 20), "strong"), (text, ""))) for keys, text in rows)


def help_sections(screen: AtlasScreen) -> list[Section]:
    """Return what `?` shows."""
    sections = [
        Section(screen.title_text, (text_line(SCREENS[screen.NAME][2]),)),
        Section("Keys", _keys(screen.help_lines())),
        Section("Moving", _keys(list(MOVES))),
    ]
    columns = [(column.title, column.help) for table in screen.tables() for column in table.columns if column.help]
    if columns:
        sections.append(Section("Columns", _keys(columns)))
    if screen.NAME in ("features",):
        sections.append(Section("Filters", tuple(text_line(text) for text in FILTERS)))
    return sections
