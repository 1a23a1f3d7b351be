"""How rows lie in a shard: columns of schema.sql, sort order, row groups, encodings.

In: Arrow tables or record batches of one table. Out: Arrow tables, one a row group, in the layout that STORAGE measured:

1. activation: sorted by (layer, feature, prompt, position), row groups within a layer; zstd-3, and
   zstd-16 once it is merged; dictionary on layer and position,
   byte-stream split of the value, delta encoding of feature and prompt. 1.6 to 2.9 bytes a row for bfloat16 values, 2.7 to 4.9
   for float32 (docs/scale.md). activation_by_prompt, where publish makes a file of it: the same, with a dictionary on prompt.
2. other tables: in the order they come, a million rows a group, dictionaries, zstd-1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.errors import InputError
from atlas.schema import arrow_schema, table_columns
from atlas.settings import ACTIVATION_GROUP_ROWS, ROW_GROUP_ROWS, WRITTEN_LEVEL

ACTIVATION_TABLES = ("activation", "activation_by_prompt")
ACTIVATION_ORDER = ("layer", "feature", "prompt", "position")


def conform(table: str, rows: pa.Table, schema: pa.Schema | None = None) -> pa.Table:
    """Bring rows to the columns, order and types of schema.sql; a missing nullable column becomes null.

    Raises InputError that names an unknown or missing column, a null where none may be, a value that does not fit, or an unknown
    value of an enum.
    """
    schema = arrow_schema(table) if schema is None else schema
    if unknown := [name for name in rows.column_names if name not in schema.names]:
        extra = " (run_id is the folder's name: leave it out)" if "run_id" in unknown else ""
        raise InputError(f"table {table} has no column {unknown[0]!r}{extra}", hint=f"Its columns are {', '.join(schema.names)}.")
    columns = []
    for item in schema:
        if item.name not in rows.column_names:
            if not item.nullable:
                raise InputError(f"table {table} needs column {item.name!r}", hint=f"It is not null in schema.sql: {item.type}.")
            columns.append(pa.nulls(rows.num_rows, item.type))
            continue
        columns.append(_conform_column(table, item, rows.column(item.name)))
    return pa.table(columns, schema=schema)


def _conform_column(table: str, item: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type != item.type:
        try:
            column = column.cast(item.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"{table}.{item.name} must be {item.type}, not {column.type}: {error}") from error
    if column.null_count and not item.nullable:
        raise InputError(f"{table}.{item.name} holds {column.null_count} nulls", hint="It is not null in schema.sql.")
    allowed = enum_values(table, item.name)
    if allowed is not None:
        unknown = [value for value in pc.unique(column).to_pylist() if value is not None and value not in allowed]
        if unknown:
            raise InputError(f"{table}.{item.name} holds {unknown[0]!r}", hint=f"It can be {', '.join(allowed)}.")
    return column


def enum_values(table: str, column: str) -> tuple[str, ...] | None:
    """Give the values that a column may take, None where it is no enum."""
    from atlas import schema

    name = table_columns(table)[column].info["duckdb"]
    literal = getattr(schema, "".join(word.capitalize() for word in name.split("_")), None)
    return None if name in schema.SQL_TYPES or literal is None else getattr(literal, "__args__", None)


def encoded_groups(table: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Give the row groups of a shard, ready to be written; nothing where there is no row."""
    if table == "activation":
        yield from _activation_groups(rows)
        return
    if isinstance(rows, pa.Table):
        whole = conform(table, rows)
        for start in range(0, whole.num_rows, ROW_GROUP_ROWS):
            yield whole.slice(start, ROW_GROUP_ROWS)
        return
    waiting: list[pa.Table] = []
    n_waiting = 0
    for batch in rows:
        if batch.num_rows == 0:
            continue
        waiting.append(conform(table, _as_table(batch)))
        n_waiting += batch.num_rows
        while n_waiting >= ROW_GROUP_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROW_GROUP_ROWS)
            n_waiting -= ROW_GROUP_ROWS
            waiting = [whole.slice(ROW_GROUP_ROWS)]
    if n_waiting:
        yield pa.concat_tables(waiting)


def _as_table(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    return batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])


def _activation_groups(rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Give sorted groups, none of which spans two layers.

    The shard is held in memory once: its rows may come in any order. One layer at a time is sorted, so that a key fits 64 bits.
    """
    if isinstance(rows, pa.Table):
        rows = rows.combine_chunks().to_batches()
    waiting: list[pa.Table] = []
    for batch in rows:
        if batch.num_rows:
            waiting.append(conform("activation", _as_table(batch)))
    if not waiting:
        return
    whole = pa.concat_tables(waiting).combine_chunks()
    waiting.clear()
    layers = whole["layer"].to_numpy()
    values = whole["activation"].to_numpy()
    if not np.isfinite(values).all() or values.min() <= 0:
        raise InputError("activation holds a value that is not finite and positive", hint="Only activations > 0 are rows.")
    boundaries = np.flatnonzero(np.diff(layers)) + 1
    runs = [0, *boundaries.tolist(), len(layers)]
    spans = {int(layers[start]): (start, end) for start, end in itertools.pairwise(runs)}
    in_order = len(spans) == len(runs) - 1
    for layer in sorted(spans):
        start, end = spans[layer]
        rows_of_layer = whole.slice(start, end - start) if in_order else whole.filter(pa.array(layers == layer))
        sorted_rows = _sorted_layer(rows_of_layer)
        for first in range(0, sorted_rows.num_rows, ACTIVATION_GROUP_ROWS):
            yield sorted_rows.slice(first, ACTIVATION_GROUP_ROWS)


def _sorted_layer(rows: pa.Table) -> pa.Table:
    """Sort one layer's rows by (feature, prompt, position); rows that are sorted already are passed on as they are.

    The three columns make one 64-bit key, and where bits are left, the row's number is its low end: sorting whole keys in place is
    three times as fast as sorting their order, and gives the sorted columns back without a gather.
    """
    feature, prompt, position = (rows[name].to_numpy() for name in ACTIVATION_ORDER[1:])
    if min(feature.min(), prompt.min(), position.min()) < 0:
        raise InputError("activation holds a negative feature, prompt or position")
    feature_bits, prompt_bits, position_bits = (int(column.max()).bit_length() for column in (feature, prompt, position))
    row_bits = len(feature).bit_length()
    if feature_bits + prompt_bits + position_bits + row_bits > 63:
        return _sorted_wide_layer(rows, np.lexsort((position, prompt, feature)))
    key = feature.astype(np.int64)
    for column, bits in ((prompt, prompt_bits), (position, position_bits)):
        key <<= bits
        key |= column
    if (key[1:] > key[:-1]).all():
        return rows
    key <<= row_bits
    key |= np.arange(len(key))
    key.sort()
    order = key & ((1 << row_bits) - 1)
    key >>= row_bits
    _no_row_twice(key[1:] == key[:-1])
    prompt = (key >> position_bits) & ((1 << prompt_bits) - 1)
    columns = {
        "layer": rows["layer"],  # one value
        "feature": pa.array((key >> (prompt_bits + position_bits)).astype(np.int32)),
        "prompt": pa.array(prompt.astype(np.int32)),
        "position": pa.array((key & ((1 << position_bits) - 1)).astype(np.int16)),
        "activation": pa.array(rows["activation"].to_numpy()[order]),
    }
    return pa.table([columns[name] for name in rows.column_names], schema=rows.schema)


def _sorted_wide_layer(rows: pa.Table, order: np.ndarray) -> pa.Table:
    rows = rows.take(pa.array(order))
    columns = (rows[name].to_numpy() for name in ACTIVATION_ORDER[1:])
    _no_row_twice(np.logical_and.reduce([column[1:] == column[:-1] for column in columns]))
    return rows


def _no_row_twice(same_as_before: np.ndarray) -> None:
    if same_as_before.any():
        raise InputError("activation holds two rows of the same layer, feature, prompt and position")


def writer_options(table: str, level: int | None = None) -> dict[str, Any]:
    """Give the Parquet writer's settings for a table; `level`: of zstd, in place of the one for what is written first."""
    common: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": level or 1,
        "version": "2.6",
        "data_page_version": "1.0",
        "store_schema": False,
        "write_page_checksum": False,
    }
    if table not in ACTIVATION_TABLES:
        return {**common, "use_dictionary": True}
    # Split by byte, the two low bytes of a bfloat16 value are zeros that compress away: one encoding serves both types.
    encodings = {"feature": "DELTA_BINARY_PACKED", "activation": "BYTE_STREAM_SPLIT"}
    dictionaries = ["layer", "position"]
    if table == "activation":
        encodings["prompt"] = "DELTA_BINARY_PACKED"
    else:
        dictionaries.append("prompt")
    return {**common, "compression_level": level or WRITTEN_LEVEL, "use_dictionary": dictionaries, "column_encoding": encodings}
