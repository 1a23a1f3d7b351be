"""Questions on a second engine: translated by sqlglot, run by DataFusion over Parquet files, equal to DuckDB's answers."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

import atlas as package
import queries
from atlas.errors import QueryError, UsageError
from queries.elsewhere import dialects, execute_all, main, same, translate, write_tables

EQUAL = (
    "behaviours/baseline",
    "behaviours/candidates",
    "behaviours/prompts",
    "circuits/evaluation",
    "circuits/faithfulness",
    "features/contexts",
    "features/dead",
    "features/dictionary_quality",
    "features/histogram",
    "features/l0",
    "graphs/edges",
    "graphs/nodes",
    "graphs/nodes_by_layer",
    "languages/bilingual_by_role",
    "languages/bilingual_features",
    "languages/communities",
    "behaviours/properties",  # a pattern that a whole text matches
    "behaviours/type_evidence",  # in the order of an enum, which passes through a common table expression
    "circuits/members",  # arg_max by several values
    "features/cards",  # arg_max, and two joins using one column
    "features/coactive",  # materialized, an anti join
    "graphs/edge_languages",  # sign; in an order that is not selected
    "interventions/soundness",  # in the order of an enum
    "languages/concept_specific",  # a column whose name is a reserved word there
    "provenance/runs",  # three joins using one column
)
"""Asked here with their examples' parameters; docs/scale.md counts all that are equal."""


@pytest.fixture(scope="module")
def parquet(demo_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "tables"
    write_tables(demo_atlas, folder)
    return folder


def test_questions_give_equal_answers_on_another_engine(demo_atlas: Path, parquet: Path) -> None:
    datafusion = pytest.importorskip("datafusion", reason="datafusion is not installed (pip install 'feature-atlas[test]')")
    engine = datafusion.SessionContext()
    for file in parquet.glob("*.parquet"):
        engine.register_parquet(file.stem, str(file))
    different = []
    with package.open(demo_atlas) as reader:
        for name in EQUAL:
            question, settled = queries.prepare(reader, name, dict(queries.question(name).example))
            ours = execute_all(reader, question, settled)
            found = engine.sql(translate(question, settled, "datafusion")).to_arrow_table()
            theirs = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
            assert ours, f"{name} has no row to compare"
            assert found.column_names == [column.name for column in question.columns]
            if not same(ours, theirs):
                different.append(name)
    assert different == []


def test_no_rewriting_changes_an_answer(demo_atlas: Path) -> None:
    """What other engines read is asked of DuckDB, question by question."""
    different = []
    with package.open(demo_atlas) as reader:
        for name, question in queries.catalogue().items():
            if all(item.name in question.example for item in question.parameters if item.required):
                _, settled = queries.prepare(reader, name, dict(question.example))
                ours, theirs = execute_all(reader, question, settled), reader.sql(translate(question, settled, "duckdb")).rows()
                if not same(ours, theirs):
                    different.append(name)
    assert different == []


def test_an_order_by_an_enum_is_that_of_schema_sql_where_enums_are_text() -> None:
    question = queries.question("interventions/soundness")
    text = translate(question, {item.name: None for item in question.parameters}, "spark")
    assert re.search(r"ORDER BY.*CASE `i`\.`mode` WHEN 'free' THEN 0", " ".join(text.split()))


def test_every_question_can_be_written_for_spark(demo_atlas: Path) -> None:
    with package.open(demo_atlas) as reader:
        for name, question in queries.catalogue().items():
            given = {**{item.name: 0 for item in question.parameters if item.required}, **question.example}
            try:
                _, settled = queries.prepare(reader, name, given)
            except UsageError:
                continue
            text = translate(question, settled, "spark")
            assert not any(re.search(rf"[$:]{item.name}\b", text) for item in question.parameters), name


def test_what_cannot_be_is_said(demo_atlas: Path) -> None:
    assert {"spark", "trino", "clickhouse", "datafusion"} <= set(dialects())
    question = queries.question("languages/bilingual_features")
    with pytest.raises(UsageError, match="no dialect 'cobol'"):
        translate(question, {}, "cobol")
    broken = type(question)(**{**vars(question), "sql": "select from where"})
    with pytest.raises(QueryError, match="cannot read"):
        translate(broken, {}, "spark")


def test_tables_and_shards_are_named(demo_atlas: Path, parquet: Path) -> None:
    with pytest.raises(UsageError, match="is not empty"):
        write_tables(demo_atlas, parquet)
    said = io.StringIO()
    main(["shards", "--atlas", str(demo_atlas)], said)
    lines = said.getvalue().splitlines()
    assert lines[0] == "table,run_id,path,rows"
    assert all(Path(line.split(",")[2]).is_file() for line in lines[1:])
