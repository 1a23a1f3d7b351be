"""How many digits a number deserves: as many as its uncertainty allows.

In: an Arrow table. Out: a number of decimals for each float column, or for each of its cells.

1. An estimate with an interval is rounded to two significant digits of the interval's half width, and so are the interval's ends
   (the Particle Data Group's habit). Columns belong together by name: `<x>_low`, `<x>_high` to `<x>` or `<x>_mean`; `ci_low`,
   `ci_high` (or `low`, `high`) to `value`, `mean`, `effect`, `weight`, …, or else to the column before `ci_low`.
2. A float without an interval gets four significant digits of the column's largest value; p and q values get two each.
3. A number that would be printed as zero and is none, or that has more digits than a double holds, is printed in scientific notation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

ESTIMATES = ("value", "mean", "effect", "weight", "estimate", "rate", "share", "accuracy", "score")
"""Columns that `ci_low` and `ci_high` may speak of, first one first."""
SIGNIFICANT = 4
INTERVAL_DIGITS = 2
MOST_DECIMALS = 8
LARGEST_WRITTEN = 1e15
"""From here on a double's last digits are no longer its own."""


def intervals(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return {estimate: (low, high)} for the columns of a table."""
    found = {}
    for low in columns:
        if low != "low" and not low.endswith("_low"):
            continue
        stem = low.removesuffix("low").removesuffix("_")
        high = f"{stem}_high" if stem else "high"
        if high not in columns:
            continue
        named = [name for name in (stem, f"{stem}_mean", stem.removesuffix("_ci")) if name in columns]
        if stem in ("ci", ""):
            before = columns[columns.index(low) - 1] if columns.index(low) else None
            named = [name for name in ESTIMATES if name in columns] or ([before] if before else [])
        if named:
            found[named[0]] = (low, high)
    return found


def decimals_of_interval(low: float | None, high: float | None) -> int | None:
    """Return the decimals that two significant digits of the half width leave; None where there is no width."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return None
    return min(MOST_DECIMALS, max(0, INTERVAL_DIGITS - 1 - math.floor(math.log10((high - low) / 2))))


def decimals_of_column(values: Sequence[float | None]) -> int:
    """Return the decimals that give the largest value four significant digits."""
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if largest == 0:
        return 1
    return min(MOST_DECIMALS, max(0, SIGNIFICANT - 1 - math.floor(math.log10(largest))))


def format_number(value: float, decimals: int) -> str:
    """Write a number with fixed decimals; scientifically if it is huge, or would look like zero and is none. `nan`, `inf` stay words."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= LARGEST_WRITTEN:
        return f"{value:.{SIGNIFICANT - 1}e}"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        return f"{value:.1e}" if value else text.lstrip("-")
    return text


def format_p(value: float) -> str:
    """Write a p or q value with two significant digits, never as 0."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.{2 if value >= 0.1 else 3}f}"


def formatted_floats(table: pa.Table) -> dict[str, list[str | None]]:
    """Return the text of every cell of every float column, rounded by its uncertainty; None for null."""
    columns = {field.name: table[field.name].to_pylist() for field in table.schema if pa.types.is_floating(field.type)}
    decimals: dict[str, list[int]] = {name: [decimals_of_column(values)] * table.num_rows for name, values in columns.items()}
    for estimate, (low, high) in intervals(table.column_names).items():
        if not {estimate, low, high} <= set(columns):
            continue
        for row in range(table.num_rows):
            deserved = decimals_of_interval(columns[low][row], columns[high][row])
            if deserved is not None:
                for name in (estimate, low, high):
                    decimals[name][row] = deserved
    return {
        name: [
            None if value is None else format_p(value) if is_p_value(name) else format_number(value, decimals[name][row])
            for row, value in enumerate(values)
        ]
        for name, values in columns.items()
    }


def is_p_value(name: str) -> bool:
    """Whether a column holds p or q values."""
    return name in ("p", "q") or name.endswith(("p_value", "q_value"))
