"""The synthetic atlas as a database, once a session, and copies of it to spoil."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.queries import synthetic


@pytest.fixture(scope="session")
def built() -> Iterator[duckdb.DuckDBPyConnection]:
    """The synthetic atlas with all build steps done; tests leave it as it is, or roll back."""
    con = duckdb.connect(config={"threads": 1})
    synthetic.build(con)
    yield con
    con.close()


@pytest.fixture
def spoiled(built: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same, in a transaction that is rolled back after the test."""
    built.execute("begin transaction")
    yield built
    built.execute("rollback")
