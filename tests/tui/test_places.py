"""Counts of scattered features are found by their places, in order or not, beside another run."""

import duckdb
import numpy as np
import pytest

from tui.data.features import feature_key
from tui.data.places import STEP, CountPlaces


def table(order: str) -> duckdb.DuckDBPyConnection:
    """Two runs one after the other, 3 layers, every third feature with a row for each of two languages."""
    con = duckdb.connect()
    con.execute(
        "create table feature_language as select run_id, layer::smallint as layer, feature::integer as feature, language"
        " from (values ('a'), ('b')) r(run_id), range(3) l(layer), range(0, 2000, 3) f(feature), (values ('en'), ('fr')) s(language)"
        f" order by {order}"
    )
    return con


@pytest.mark.parametrize("run", ["a", "b"])
def test_the_steps_hold_all_rows_of_a_feature_and_little_else(run: str) -> None:
    con, places = table("run_id, layer, feature, language"), CountPlaces()
    for layer, feature in ((0, 0), (1, 999), (2, 1998), (2, 1), (1, 1998)):
        key = feature_key(layer, feature)
        starts = places.starts(con, run, [key])
        assert starts is not None
        assert len(starts) <= 2
        near = [row for start in starts for row in range(max(start, places.first), min(start + STEP, places.last + 1))]
        rows = con.execute(
            "select run_id, layer, feature from feature_language where rowid in (select unnest($1::bigint[]))", [near]
        ).fetchall()
        assert {row[0] for row in rows} <= {run}
        assert rows.count((run, layer, feature)) == (2 if feature % 3 == 0 else 0)


@pytest.mark.parametrize("order", ["hash(feature)", "layer, feature, run_id"])
def test_rows_in_another_order_or_between_another_runs_have_no_places(order: str) -> None:
    assert CountPlaces().starts(table(order), "a", [feature_key(1, 3)]) is None


def test_a_run_without_counts_has_no_places() -> None:
    assert CountPlaces().starts(table("all"), "c", np.array([feature_key(1, 3)])) == []
