"""The synthetic atlas has a row in every table of schema.sql, so that every table is loaded, audited and asked in the tests."""

from __future__ import annotations

import duckdb

from atlas.schema import list_tables


def test_every_table_has_a_row(built: duckdb.DuckDBPyConnection) -> None:
    tables = list_tables()["table"].to_pylist()
    empty = [table for table in tables if built.execute(f'select count(*) from "{table}"').fetchall() == [(0,)]]
    assert empty == []
    assert len(tables) > 40
