"""Apply a filter to rows that are already here.

In: a filter tree and a row as a dict. Out: whether the row passes; the same meaning as the composed SQL: a comparison with null fails,
text is compared without case, free text looks in every text of the row.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from atlas import filters
from atlas.errors import UsageError

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def passes(tree: filters.Filter | None, row: Mapping[str, Any]) -> bool:
    """Return whether a row passes; raise UsageError for a column that the rows do not have."""
    match tree:
        case None:
            return True
        case filters.Both(left, right):
            return passes(left, row) and passes(right, row)
        case filters.Either(left, right):
            return passes(left, row) or passes(right, row)
        case filters.Not(operand):
            return not passes(operand, row)
        case filters.Null(column, negated):
            return (_value(row, column) is None) != negated
        case filters.Among(column, values):
            return any(_compare(_value(row, column), "=", value) for value in values)
        case filters.Compare(column, sign, value):
            return _compare(_value(row, column), sign, value)
        case filters.Search(text):
            words = text.lower().split()
            whole = " ".join(str(value).lower() for value in row.values() if value is not None)
            return all(word in whole for word in words)
        case filters.Flag(name):
            raise UsageError(f"{name} is a flag of features", hint="Columns here: " + ", ".join(row))
    raise UsageError(f"cannot filter by {tree!r}")


def _value(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise UsageError(f"no column {column!r}", hint="Columns here: " + ", ".join(row))
    return row[column]


def _compare(value: Any, sign: str, wanted: filters.Value) -> bool:
    if value is None:
        return False
    if sign in ("~", "!~"):
        return (str(wanted).lower() in str(value).lower()) == (sign == "~")
    if isinstance(value, bool):
        value = str(value).lower()
        wanted = str(wanted).lower()
    elif isinstance(value, str):
        value, wanted = value.lower(), str(wanted).lower()
    elif isinstance(wanted, str):
        raise UsageError(f"{wanted!r} is not a number")
    return _OPERATORS[sign](value, wanted)
