"""Compose statements from typed descriptions: known tables and columns, every value bound.

In: a `Read` and the atlas's own list of columns. Out: a `Statement`. A name that is not in the list is refused, so no text from a
person or a file can become SQL.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas.errors import QueryError

Value = str | int | float | bool | None | Sequence[str] | Sequence[int]


@dataclass(frozen=True)
class Statement:
    """One statement with its bound values, as it is run, shown and exported."""

    title: str
    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Where:
    """One condition of a Read; `operator` is =, !=, <, <=, >, >=, any, contains, null or not null."""

    column: str
    operator: str = "="
    value: Value = None


@dataclass(frozen=True)
class Measure:
    """One aggregate of a Read: count, sum, avg, min, max, or share (mean of a boolean)."""

    function: str
    column: str
    name: str


@dataclass(frozen=True)
class Read:
    """Rows of one table: what is read, not how. `order` names columns, `-` in front for descending."""

    title: str
    table: str
    columns: tuple[str, ...]
    where: tuple[Where, ...] = ()
    order: tuple[str, ...] = ()
    limit: int | None = None
    measures: tuple[Measure, ...] = ()


class Names:
    """Bound values of one statement, named in the order they come."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def bind(self, value: Any, hint: str = "value") -> str:
        """Return the placeholder of a value."""
        name = hint if hint not in self.values else f"{hint}_{len(self.values)}"
        self.values[name] = value
        return f"${name}"


def used(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a statement names: the engine refuses others."""
    names = set(re.findall(r"\$(\w+)", text))
    return {name: value for name, value in values.items() if name in names}


def compose_read(read: Read, known: Mapping[str, Mapping[str, str]]) -> Statement:
    """Return the statement of a Read; raise QueryError for a table or column that the atlas does not have."""
    columns = known.get(read.table)
    if columns is None:
        raise QueryError(f"this atlas has no table {read.table!r}", hint="`atlas publish` rebuilds it with the current schema.")

    def name(column: str) -> str:
        if column not in columns:
            raise QueryError(f"table {read.table} has no column {column!r}", hint="`atlas publish` rebuilds it with the current schema.")
        return column

    names = Names()
    selected = [name(column) for column in read.columns]
    selected += [f"{_measure(measure, name)} as {measure.name}" for measure in read.measures]
    lines = ["select " + ", ".join(selected), f"from {read.table}"]
    conditions = [_condition(where, name(where.column), names) for where in read.where]
    lines += [f"{'where' if number == 0 else '  and'} {condition}" for number, condition in enumerate(conditions)]
    if read.measures and read.columns:
        lines.append("group by " + ", ".join(read.columns))
    if read.order:
        known_names = {*columns, *(measure.name for measure in read.measures)}
        for column in read.order:
            if column.lstrip("-|") not in known_names:
                raise QueryError(f"table {read.table} cannot be ordered by {column!r}")
        lines.append("order by " + ", ".join(_ordering(column) for column in read.order))
    if read.limit is not None:
        lines.append(f"limit {int(read.limit)}")
    return Statement(read.title, "\n".join(lines), names.values)


def _ordering(column: str) -> str:
    """Return one part of `order by`; `-x` is descending, `-|x` descending by size."""
    bare = column.lstrip("-|")
    text = f"abs({bare})" if "|" in column else bare
    return f"{text} desc nulls last" if column.startswith("-") else f"{text} nulls last"


def _measure(measure: Measure, name: Callable[[str], str]) -> str:
    if measure.function == "count":
        return "count(*)"
    if measure.function == "share":
        return f"avg({name(measure.column)}::integer)"
    if measure.function not in ("sum", "avg", "min", "max"):
        raise QueryError(f"no aggregate {measure.function!r}")
    return f"{measure.function}({name(measure.column)})"


def _condition(where: Where, column: str, names: Names) -> str:
    if where.operator in ("null", "not null"):
        return f"{column} is {where.operator}"
    place = names.bind(list(where.value) if where.operator == "any" else where.value, column)  # type: ignore[arg-type]
    if where.operator == "any":
        return f"{column} = any({place})"
    if where.operator == "contains":
        return f"contains(lower({column}), lower({place}))"
    if where.operator not in ("=", "!=", "<", "<=", ">", ">="):
        raise QueryError(f"no operator {where.operator!r}")
    return f"{column} {where.operator} {place}"
