"""Draw quantities with characters: bars, signed bars, columns of a histogram, shades of a token.

In: numbers. Out: short strings of block glyphs, of exactly the asked width. Size and sign are in the glyphs, never in colour alone.
"""

from collections.abc import Sequence

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = " ▁▂▃▄▅▆▇█"


def bar(value: float | None, largest: float, cells: int) -> str:
    """Return a bar from the left: `value / largest` of `cells`, in eighths; a positive value is never invisible."""
    if value is None or largest <= 0 or value != value:
        return " " * cells
    eighths = round(max(0.0, min(1.0, value / largest)) * cells * 8)
    if value > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(cells)


def signed_bar(value: float | None, largest: float, cells: int) -> str:
    """Return a bar around a middle axis: negative `░` to the left, positive `█` to the right; `cells` is made odd."""
    half = max(1, (cells - 1) // 2)
    if value is None or largest <= 0 or value != value:
        return " " * half + "│" + " " * half
    length = max(1 if value else 0, round(min(1.0, abs(value) / largest) * half))
    if value < 0:
        return ("░" * length).rjust(half) + "│" + " " * half
    return " " * half + "│" + ("█" * length).ljust(half)


def level(value: float | None, largest: float) -> str:
    """Return one cell whose height is `value / largest`; anything above zero has at least the lowest block."""
    if value is None or value != value or largest <= 0 or value <= 0:
        return " "
    return LEVELS[max(1, min(8, round(value / largest * 8)))]


def shade(value: float, largest: float) -> int:
    """Return the shade of an activation, 0 (none) to 4 (strongest)."""
    if largest <= 0 or value <= 0:
        return 0
    return max(1, min(4, round(value / largest * 4)))


def columns(values: Sequence[float], height: int) -> list[str]:
    """Return a histogram of `height` lines, one cell a value, highest line first."""
    largest = max(values, default=0.0)
    lines = []
    for row in range(height - 1, -1, -1):
        line = ""
        for value in values:
            eighths = 0 if largest <= 0 else round(value / largest * height * 8)
            if value > 0:
                eighths = max(1, eighths)
            line += LEVELS[max(0, min(8, eighths - row * 8))]
        lines.append(line)
    return lines


def spark(values: Sequence[float | None]) -> str:
    """Return one line of block heights, scaled to the largest value."""
    largest = max((value for value in values if value is not None), default=0.0)
    return "".join(level(value, largest) for value in values)


def interval(low: float | None, middle: float | None, high: float | None, least: float, largest: float, cells: int) -> str:
    """Return an interval on a line from `least` to `largest`: ├─●─┤ with │ where zero lies."""
    line = ["·"] * cells
    span = largest - least

    def place(value: float) -> int:
        return max(0, min(cells - 1, round((value - least) / span * (cells - 1)))) if span > 0 else 0

    if least <= 0 <= largest:
        line[place(0.0)] = "│"
    if low is not None and high is not None:
        left, right = place(low), place(high)
        line[left : right + 1] = "─" * (right - left + 1)
        line[left], line[right] = "├", "┤"
    if middle is not None:
        line[place(middle)] = "●"
    return "".join(line)
