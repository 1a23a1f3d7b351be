"""The data dictionary: every table and column of schema.sql with its type and meaning.

In: the text of schema.sql. Out: an Arrow table, one row a column; `column` is empty in a table's own row.
"""

from __future__ import annotations

import re

import pyarrow as pa

TABLE = re.compile(r"^create table (\w+) \(\n(.*?)^\);", re.MULTILINE | re.DOTALL)
COLUMN = re.compile(r"^    (\w+)\s+([a-z_]+(?:\[\])?)( not null)?", re.MULTILINE)
COMMENT = re.compile(r"^comment on (table|column) ([\w.]+) is '((?:[^']|'')*)';", re.MULTILINE)
NOT_COLUMNS = ("primary", "foreign", "unique", "check")
FIELDS = ("table", "column", "type", "nullable", "meaning")


def data_dictionary(schema_sql: str) -> pa.Table:
    """Return table, column, type, nullable, meaning, in the order of schema.sql."""
    meanings = {name: text.replace("''", "'") for _, name, text in COMMENT.findall(schema_sql)}
    rows: list[tuple[str, str, str, bool | None, str]] = []
    for table, body in TABLE.findall(schema_sql):
        rows.append((table, "", "table", None, meanings.get(table, "")))
        for column, kind, required in COLUMN.findall(body):
            if column not in NOT_COLUMNS:
                rows.append((table, column, kind, not required, meanings.get(f"{table}.{column}", "")))
    columns: list[tuple[object, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(FIELDS)
    types = (pa.string(), pa.string(), pa.string(), pa.bool_(), pa.string())
    return pa.table({name: pa.array(list(values), kind) for name, values, kind in zip(FIELDS, columns, types, strict=True)})
