"""Columns of tables on the screen: how a value becomes exactly so many cells.

In: a value from a row. Out: parts, `(text, style)`, whose widths add up to the column's. Styles are names that a widget maps to the
theme: "" (plain), dim, strong, accent, positive, negative, shade1 to shade4, head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tui import marks
from tui.text import cut, figure, fit, number, safe, token, width

Part = tuple[str, str]
Kind = Literal["text", "number", "signed", "rate", "bar", "signed_bar", "tokens", "star", "flag", "label"]


@dataclass(frozen=True)
class Column:
    """One column: `name` is what filters and orders call it, `scale` the largest value of its bars."""

    name: str
    title: str
    kind: Kind = "text"
    cells: int = 10
    scale: float = 1.0
    help: str = ""

    @property
    def align(self) -> str:
        """Return where values stand."""
        return "right" if self.kind in ("number", "signed") else "left"


def draw(column: Column, value: Any) -> list[Part]:
    """Return the parts of one cell, exactly `column.cells` wide."""
    cells = column.cells
    match column.kind:
        case "number":
            return [(fit(figure(value, cells), cells, "right"), "dim" if value is None else "")]
        case "signed":
            return [(fit(figure(value, cells, sign=True), cells, "right"), _sign(value))]
        case "rate" | "bar":
            return _bar(value, column)
        case "signed_bar":
            shown = fit(figure(value, 7, sign=True), 7, "right")
            return [(shown + " ", _sign(value)), (fit(marks.signed_bar(value, column.scale, cells - 8), cells - 8), _sign(value))]
        case "tokens":
            return _tokens(value or (), cells)
        case "star":
            return [(fit("★" if value else " ", cells), "accent")]
        case "flag":
            return [(fit("·" if value is None else "✓" if value else "✗", cells), "positive" if value else "dim")]
        case "label":
            return [(fit(safe(str(value)) if value else "", cells), "")]
    return [(fit("·" if value is None else plain(value), cells), "dim" if value is None else "")]


def plain(value: Any) -> str:
    """Return any value of a result as one line."""
    if isinstance(value, (int, float)) or value is None:
        return number(value)
    if isinstance(value, (list, tuple)):
        return " ".join(token(part) if isinstance(part, str) else number(part) for part in value)
    return safe(str(value))


def exact(row: Sequence[Any]) -> str:
    """Return a row as tab-separated text with all its digits, for other programs."""
    return "\t".join("" if value is None else " ".join(str(value).split()) for value in row)


def _sign(value: Any) -> str:
    return "dim" if value is None else "negative" if value < 0 else "positive" if value > 0 else ""


def _bar(value: Any, column: Column) -> list[Part]:
    shown = fit(figure(value, 5, 2), 5, "right")
    return [(shown + " ", "dim" if value is None else ""), (marks.bar(value, column.scale, column.cells - 6), "accent")]


def _tokens(values: Sequence[str], cells: int) -> list[Part]:
    parts: list[Part] = []
    used = 0
    for place, value in enumerate(values):
        text = cut(token(value), max(0, cells - used))
        if not text:
            break
        parts.append((text, "strong" if place == 0 else ""))
        used += width(text)
        if used < cells:
            parts.append((" ", ""))
            used += 1
    return [*parts, (" " * (cells - used), "")]


def result_columns(names: Sequence[str], rows: Sequence[Sequence[Any]], most: int = 40) -> tuple[Column, ...]:
    """Return columns for a result whose shape is not known beforehand; widths follow the first rows."""
    columns = []
    for place, name in enumerate(names):
        sample = [row[place] for row in rows[:200]]
        numeric = any(value is not None for value in sample) and all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in sample
        )
        widest = max((width(plain(value)) for value in sample), default=1)
        cells = max(3, min(most, max(widest, width(safe(name)) + 1)))
        columns.append(Column(name, name, "number" if numeric else "text", cells))
    return tuple(columns)
