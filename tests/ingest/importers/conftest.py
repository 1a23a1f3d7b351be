"""Imported runs, loaded into the real schema in memory, so that golden values come out of SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from atlas.ids import run_id
from atlas.schema import arrow_schema, has_run
from ingest.importers import ImportedRun, read

SCHEMA = Path(__file__).parents[3] / "schema.sql"


def load(connection: duckdb.DuckDBPyConnection, imported: ImportedRun) -> str:
    """Insert a run the way publish does: run_id in front, rows of tables without a run once a key. Returns the run id."""
    identity = run_id(imported.plan)
    run_row = {"run_id": identity, "state": "complete", "attempt": 1, **imported.run_row}
    # model and transcoder come first: run refers to them
    ordered = sorted(imported.tables, key=lambda table: (table not in ("model", "transcoder"), table == "edge"))
    for table in [name for name in ordered if name in ("model", "transcoder")]:
        _insert(connection, table, imported.tables[table], None)
    _insert(connection, "run", pa.Table.from_pylist([run_row], schema=arrow_schema("run", with_run=True)), None)
    for table in [name for name in ordered if name not in ("model", "transcoder")]:
        _insert(connection, table, imported.tables[table], identity if has_run(table) else None)
    return identity


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Any, identity: str | None) -> None:
    batches = rows if isinstance(rows, pa.Table) else pa.Table.from_batches(list(rows), schema=arrow_schema(table))
    if identity is not None:
        batches = batches.append_column("run_id", pa.array([identity] * batches.num_rows))
    connection.register("incoming", batches)
    ignore = "or ignore " if table in ("model", "transcoder", "parameter_set", "label") else ""
    connection.execute(f'insert {ignore}into "{table}" by name select * from incoming')
    connection.unregister("incoming")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty atlas in memory."""
    with duckdb.connect() as made:
        made.execute(SCHEMA.read_text(encoding="utf-8"))
        yield made


@pytest.fixture(scope="session")
def thesis_runs(shared_data: Path) -> dict[str, ImportedRun]:
    """The three run folders of the thesis."""
    return {name: read("thesis", shared_data / "thesis" / name) for name in ("b1_v1", "mc", "grammar_agreement")}


@pytest.fixture(scope="session")
def thesis(thesis_runs: dict[str, ImportedRun]) -> Iterator[duckdb.DuckDBPyConnection]:
    """All three in one database, with views `run_ids` (name, run_id)."""
    with duckdb.connect() as made:
        made.execute(SCHEMA.read_text(encoding="utf-8"))
        made.execute("create table run_ids (name varchar, run_id varchar)")
        for name, imported in thesis_runs.items():
            made.execute("insert into run_ids values (?, ?)", [name, load(made, imported)])
        yield made
