"""Questions are found by name, parameters are checked, and a run is found by id, start of id, name, or as the newest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import queries
from atlas.errors import QueryError, UsageError
from atlas.reader import Result
from tests.queries import synthetic

FOLDER = Path(queries.__file__).parent


def test_an_unknown_question_names_near_ones() -> None:
    with pytest.raises(UsageError) as caught:
        queries.question("languages/bilingual_feature")
    assert "languages/bilingual_features" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no question"):
        queries.question("zzzz")


def test_the_topic_can_be_left_out_where_that_is_clear() -> None:
    assert queries.question("bilingual_features").name == "languages/bilingual_features"
    with pytest.raises(UsageError) as caught:
        queries.question("summary")
    assert "graphs/summary" in (caught.value.hint or "")
    assert "circuits/summary" in (caught.value.hint or "")


def test_an_unknown_parameter_is_refused_with_those_there_are(built: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError) as caught:
        queries.ask(built, "languages/bilingual_features", rat=0.1)
    assert "rate" in (caught.value.hint or "")


def test_an_answer_is_a_result(built: duckdb.DuckDBPyConnection) -> None:
    result = queries.ask(built, "provenance/runs")
    assert isinstance(result, Result)
    assert result.columns[0] == "run_id"


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (None, synthetic.RUN),
        (synthetic.OLDER, synthetic.OLDER),
        (synthetic.OLDER[:4], synthetic.OLDER),
        ("synthetic", synthetic.RUN),
        ("imported graph", synthetic.IMPORTED),
    ],
)
def test_runs_are_found(built: duckdb.DuckDBPyConnection, run: str | None, found: str) -> None:
    assert queries.resolve_run(built, "prompt", run) == found


@pytest.mark.parametrize("run", ["nothing", "c0", "", "'; drop table run"])
def test_an_unknown_run_is_refused(built: duckdb.DuckDBPyConnection, run: str) -> None:
    with pytest.raises(UsageError, match="no complete run"):
        queries.resolve_run(built, "prompt", run)


def test_a_start_that_two_runs_share_is_refused(spoiled: duckdb.DuckDBPyConnection) -> None:
    other = synthetic.RUN[:-1] + "9"
    spoiled.execute(f"insert into run select * replace ('{other}' as run_id, 'another' as name) from run where run_id = '{synthetic.RUN}'")
    with pytest.raises(UsageError, match="not clear"):
        queries.resolve_run(spoiled, "prompt", synthetic.RUN[:8])


def test_the_newest_run_with_rows_is_asked(spoiled: duckdb.DuckDBPyConnection) -> None:
    spoiled.execute(f"delete from histogram where run_id = '{synthetic.RUN}'")
    assert queries.resolve_run(spoiled, "histogram", None) == synthetic.OLDER
    spoiled.execute("delete from histogram")
    assert queries.resolve_run(spoiled, "histogram", None) == synthetic.RUN


def test_of_the_runs_with_rows_the_newest_that_fits_is_asked(spoiled: duckdb.DuckDBPyConnection) -> None:
    spoiled.execute(f"delete from behaviour where run_id = '{synthetic.RUN}' and behaviour <> 'antonyms'")
    assert queries.resolve_run(spoiled, "feature_behaviour", None, "several_behaviours") == synthetic.OLDER
    spoiled.execute("delete from behaviour where behaviour <> 'antonyms'")
    assert queries.resolve_run(spoiled, "feature_behaviour", None, "several_behaviours") == synthetic.RUN


def test_what_a_question_takes_of_a_run_is_a_query_that_ships() -> None:
    named = {question.fits for question in queries.catalogue().values()} - {None}
    assert named == {"several_behaviours", "prompt_graphs"}
    assert all((FOLDER / "resolve" / f"{name}.sql").is_file() for name in named)


def test_a_run_that_is_not_complete_is_not_seen(spoiled: duckdb.DuckDBPyConnection) -> None:
    spoiled.execute(f"delete from histogram where run_id = '{synthetic.OLDER}'")
    with pytest.raises(UsageError):
        queries.resolve_run(spoiled, "histogram", "d00")


def test_of_one_name_the_newest_run_is_meant(spoiled: duckdb.DuckDBPyConnection) -> None:
    other = "f" * 16
    spoiled.execute(
        f"insert into run select * replace ('{other}' as run_id, finished_at + interval 1 day as finished_at) from run "
        f"where run_id = '{synthetic.RUN}'"
    )
    assert queries.resolve_run(spoiled, "prompt", "synthetic") == other


def test_sql_that_duckdb_refuses_is_an_error_of_ours(spoiled: duckdb.DuckDBPyConnection) -> None:
    spoiled.execute("drop table claim")
    with pytest.raises(QueryError, match="claim"):
        queries.ask(spoiled, "provenance/claims")


def test_the_catalogue_loads_without_heavy_packages() -> None:
    heavy = ("torch", "polars", "pyarrow", "numpy", "textual")
    code = f"import sys, queries; queries.catalogue(); print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == "[]"
