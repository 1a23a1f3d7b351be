"""Questions, SQL and the data dictionary from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import queries
from atlas.schema import TABLES
from tests.atlas.commands.conftest import Atlas


def test_all_questions_are_listed(run: Atlas) -> None:
    assert [row["question"] for row in run("query").rows] == list(queries.catalogue())


@pytest.mark.parametrize("name", list(queries.catalogue()))
def test_every_question_describes_itself(run: Atlas, name: str) -> None:
    question = queries.question(name)
    said = run("query", name, "--describe")
    assert said.out.startswith(f"{name}: {question.title}")
    items = [(item.name, item.type, item.meaning) for item in question.parameters]
    items += [(item.name, item.type, item.meaning) for item in question.columns]
    for name_of_it, type_of_it, meaning in items:
        assert any(line.split()[:2] == [name_of_it, type_of_it] and meaning in line for line in said.out.splitlines())
    assert run("query", name, "--sql").out.strip() == question.sql.strip()


def test_a_question_is_asked_with_parameters(run: Atlas, demo_atlas: Path) -> None:
    said = run("query", "bilingual_by_layer", "-p", "run=bilingual", "-a", demo_atlas)
    assert {row["score"] for row in said.rows} >= {"bilingual_rate", "language_profile"}
    said = run("query", "bilingual_by_layer", "-p", "nonsense=1", "-a", demo_atlas, code=2)
    assert "has no parameter 'nonsense'" in said.err


def test_sql_reads_and_only_reads(run: Atlas, demo_atlas: Path) -> None:
    said = run("sql", "select name from run where name = $name", "-p", "name=control", "-a", demo_atlas)
    assert [row["name"] for row in said.rows] == ["control"]
    run("sql", "delete from run", "-a", demo_atlas, code=5)
    run("sql", "select * from read_csv('/etc/hosts')", "-a", demo_atlas, code=5)


def test_the_dictionary_is_the_schema(run: Atlas) -> None:
    assert [row["table"] for row in run("schema", "-f", "csv").rows] == list(TABLES)
    assert run("schema", "edge", "-f", "csv").rows[0]["column"] == "run_id"
    assert "no table" in run("schema", "nothing", code=2).err


def test_a_parameter_given_twice_is_refused(run: Atlas, demo_atlas: Path) -> None:
    said = run("query", "languages/bilingual_features", "-p", "rate=1", "-p", "rate=0.1", "-a", demo_atlas, code=2)
    assert "--param rate is given twice: '1' and '0.1'" in said.err
