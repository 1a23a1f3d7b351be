"""Claims are recomputed by questions; the thesis's claims come out as the file expects where the data are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import queries
from atlas.errors import InputError
from queries.claims import FOLDER, Claim, check, check_claims, claims_files, read_claims, summary, write_claims
from tests.queries import synthetic

BASE: dict[str, Any] = {"id": "c", "statement": "s", "source": "text", "expected": "reproduced", "run": "imported graph"}


FILE = "[[claim]]\nid='a'\nstatement='s'\nsource='t'\npublished=2\nexpected='reproduced'\nquery='graphs/summary'\ncolumn='n'\n"


def verdict(con: duckdb.DuckDBPyConnection, **fields: Any) -> tuple[str, Any]:
    (checked,) = check(con, [Claim(**{**BASE, **fields})])
    return checked.verdict, checked.recomputed


@pytest.mark.parametrize(
    ("published", "fields", "expected"),
    [
        (96, {"tolerance": 0.0}, ("contradicted", 2)),
        (2, {}, ("reproduced", 2)),
        (2.4, {"tolerance": 0.4}, ("reproduced", 2)),
        (2.4, {"tolerance": 0.3}, ("contradicted", 2)),
        ("< 3", {}, ("reproduced", 2)),
        (">= 3", {}, ("contradicted", 2)),
        ([2], {"reduce": "list"}, ("reproduced", [2])),
        ([2, 3], {"reduce": "list"}, ("contradicted", [2])),
        ("positive", {"reduce": "sign"}, ("reproduced", "positive")),
        (1, {"reduce": "count"}, ("reproduced", 1)),
        (3, {"where": {}, "reduce": "sum"}, ("reproduced", 3)),
        (1, {"where": {"part": "!node"}}, ("reproduced", 1)),
        (2, {"where": {"part": "nothing"}}, ("not_reproducible", None)),
        (0, {"where": {"part": "nothing"}, "reduce": "count"}, ("reproduced", 0)),
        (0, {"where": {"part": "nothing"}, "reduce": "sum"}, ("not_reproducible", None)),
        (True, {"where": {"part": "nothing"}, "reduce": "all"}, ("not_reproducible", None)),
        ([], {"where": {"part": "nothing"}, "reduce": "list"}, ("not_reproducible", None)),
        (0.0, {"column": "unexplained_share"}, ("not_reproducible", None)),
        ("2", {}, ("not_reproducible", None)),
        (True, {"reduce": "count"}, ("not_reproducible", None)),
        (2, {"where": {}}, ("not_reproducible", None)),
        ("positive", {"column": "kind", "reduce": "sign"}, ("not_reproducible", None)),
    ],
)
def test_verdicts(built: duckdb.DuckDBPyConnection, published: Any, fields: dict[str, Any], expected: tuple[str, Any]) -> None:
    given = {"query": "graphs/summary", "column": "n", "where": {"part": "node"}, **fields}
    assert verdict(built, published=published, **given) == expected


def test_a_claim_that_nothing_recomputes_is_not_reproducible(built: duckdb.DuckDBPyConnection) -> None:
    assert verdict(built, published=1) == ("not_reproducible", None)


def test_an_answer_without_rows_reproduces_no_count(built: duckdb.DuckDBPyConnection) -> None:
    given = {"query": "circuits/summary", "column": "circuit", "reduce": "count"}
    assert queries.ask(built, "circuits/summary", run="imported graph").arrow().num_rows == 0
    assert verdict(built, published=0, **given) == ("not_reproducible", None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"published": 2}, "claim 'c': 2 rows where one is meant"),
        ({"published": "2", "where": {"part": "node"}}, "claim 'c': published = '2' and the recomputed 2 are of different types"),
        ({"published": 2, "column": "kind", "reduce": "sum"}, "claim 'c': sum of these values"),
    ],
)
def test_a_claim_that_cannot_be_checked_as_written_is_refused_by_name(
    built: duckdb.DuckDBPyConnection, fields: dict[str, Any], words: str
) -> None:
    claim = Claim(**{**BASE, "query": "graphs/summary", "column": "n", **fields})
    with pytest.raises(InputError, match=words):
        check(built, [claim], strict=True)
    (checked,) = check(built, [claim])  # publish goes on, and says why
    assert (checked.verdict, (checked.note or "")[:12]) == ("not_reproducible", "not checked:")


def test_claims_of_runs_that_are_not_here_are_left_out(built: duckdb.DuckDBPyConnection) -> None:
    claim = Claim(**{**BASE, "published": 1, "run": "another run"})
    assert check(built, [claim]) == []


def test_checked_claims_are_written_and_replaced(spoiled: duckdb.DuckDBPyConnection) -> None:
    claim = Claim(**{**BASE, "published": 2}, query="graphs/summary", column="n", where={"part": "node"})
    for _ in range(2):
        write_claims(spoiled, check(spoiled, [claim]))
    rows = queries.ask(spoiled, "provenance/claims", verdict="reproduced").arrow().to_pylist()
    (row,) = [row for row in rows if row["claim_id"] == "c"]
    assert (row["published"], row["recomputed"], row["run_name"]) == ("2", "2", "imported graph")


def test_a_claims_file_becomes_a_table(built: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    text = FILE + "where={part='node'}\nrun='%s'\n"
    path.write_text(text % "imported graph", encoding="utf-8")
    table = check_claims(built, path)
    assert table.column("verdict").to_pylist() == ["reproduced"]
    assert table.column("recomputed").to_pylist() == ["2"]
    path.write_text(text % "no run", encoding="utf-8")
    with pytest.raises(InputError, match="no claim speaks"):
        check_claims(built, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[claim]]\nid = 'a'", "has no 'statement'"),
        ("[[claim]\n", "claims.toml"),
        ("[[claim]]\nid='a'\nstatement='s'\nsource='t'\npublished=1\nexpected='true'", "expected"),
        ("[[claim]]\nid='a'\nstatement='s'\nsource='t'\npublished=1\nexpected='reproduced'\ntolerence=1", "tolerence"),
        (
            "[[claim]]\nid='a'\nstatement='s'\nsource='t'\npublished=1\nexpected='reproduced'\nquery='graphs/summary'\ncolumn='m'",
            "column 'm'",
        ),
        ("[[claim]]\nid='a'\nstatement='s'\nsource='t'\npublished=1\nexpected='reproduced'\nreduce='mean'", "mean"),
        (FILE * 2, "claim 'a' stands twice"),
        ("", "an empty file"),
        ("[[claims]]\nid = 'a'", r"expected \[\[claim\]\] tables and nothing else, got claims"),
        ("claim = 3", r"expected \[\[claim\]\] tables"),
        (FILE.replace("source='t'", "source=''"), "claim 'a' has no 'source'"),
        (FILE.replace("published=2", "published=nan"), "published = nan: expected a finite number"),
        (FILE.replace("published=2", "published=2020-01-01"), "expected a finite number, a text, true or false"),
        (FILE.replace("published=2", "published='< abc'"), "'< abc' is no bound"),
        (FILE + "where={n='>= 1.2.3'}", "'>= 1.2.3' is no bound"),
        (FILE + "tolerance=-1", "tolerance = -1: expected a finite number of 0 or more"),
        (FILE + "tolerance=inf", "tolerance = inf"),
        (FILE + "tolerance=true", "tolerance = True"),
        (FILE.replace("graphs/summary", "graphs/sumary"), "claim 'a': no question 'graphs/sumary'"),
        (FILE.replace("query='graphs/summary'\ncolumn='n'\n", ""), "claim 'a' has no 'query'"),
        (FILE.replace("column='n'\n", ""), "claim 'a' has no 'column'"),
        (FILE + "parameters={nosuch=1}", "claim 'a': graphs/summary has no parameter 'nosuch'"),
        (FILE + "parameters={run='x'}", "claim 'a': a run among the parameters"),
    ],
)
def test_a_bad_claims_file_is_named_with_its_claim(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_claims(path)


def test_all_files_that_ship_are_read_and_name_each_claim_once() -> None:
    names = [claim.id for path in claims_files() for claim in read_claims(path)]
    assert len(names) == len(set(names)) > 100


def test_figures_of_the_demo_stand_in_the_page_that_they_are_cited_from() -> None:
    readme = (synthetic.SCHEMA.parent / "README.md").read_text(encoding="utf-8")
    cited = [claim for claim in read_claims(FOLDER / "demo.toml") if claim.source.startswith("README")]
    for claim in cited:
        for value in claim.published if isinstance(claim.published, list) else [claim.published]:
            texts = (str(value), f"{value:.2f}", f"{value:+.2f}", f"{value:.3f}")
            assert any(text in readme for text in texts), (claim.id, value)


@pytest.fixture(scope="module")
def thesis(shared_data: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The runs that the claims speak of, imported and built."""
    from ingest.importers import read
    from tests.ingest.importers.conftest import load

    with duckdb.connect() as con:
        con.execute(synthetic.SCHEMA.read_text(encoding="utf-8"))
        for name in ("b1_v1", "mc", "grammar_agreement"):
            load(con, read("thesis", shared_data / "thesis" / name))
        for step in queries.build_steps():
            step.run(con)
        yield con


def test_every_claim_about_the_thesis_has_the_verdict_its_file_expects(thesis: duckdb.DuckDBPyConnection) -> None:
    checked = check(thesis, read_claims(FOLDER / "thesis.toml"))
    assert [(item.claim.id, item.recomputed, item.verdict) for item in checked if item.surprising] == []
    assert len(checked) == len(read_claims(FOLDER / "thesis.toml"))
    assert summary(checked) == {"reproduced": 82, "contradicted": 11, "not_reproducible": 2}


def test_the_imported_thesis_passes_all_audits(thesis: duckdb.DuckDBPyConnection) -> None:
    found = {audit.name: thesis.execute(audit.sql).fetchall() for audit in queries.audits()}
    assert {name: rows for name, rows in found.items() if rows} == {}
