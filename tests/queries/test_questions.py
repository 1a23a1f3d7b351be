"""Every question keeps what its header says: parameters, columns, rows, order, golden; and it hears a change of the data."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

import queries
from tests.queries import golden, synthetic

NAMES = list(queries.catalogue())
TOPICS = {"languages", "features", "graphs", "interventions", "behaviours", "circuits", "provenance", "labels", "compare"}

OTHER_TABLE = {
    "provenance/runs": "prompt",
    "provenance/tables": "run_table",
    "provenance/same_source": "prompt",
    "provenance/parameter_sets": "parameter_set",
    "provenance/claims": "claim",
    "features/labels": "label",
    "labels/scores": "label_score",
    "labels/one_language": "label_score",
    "labels/methods": "label_score",
    "graphs/summary": "edge",
    "behaviours/minimal_pairs": "feature_contrast",
    "circuits/summary": "circuit_member",
}
"""Table to spoil where it is not the question's main table."""
SWAPPED = [
    "languages/bilingual_features",
    "languages/language_specific",
    "languages/concept_specific",
    "languages/bilingual_by_role",
    "languages/communities",
    "languages/leaning_nodes",
    "graphs/edge_languages",
]


SAME_IN_BOTH = {
    "behaviours/properties": "measured over both languages",
    "circuits/evaluation": "measured over both languages",
    "circuits/faithfulness": "measured over both languages",
    "features/dictionary_quality": "equal figures in both",
    "interventions/bridge_counts": "a sign and a q that both languages must have",
    "interventions/causal_bridges": "the worse of both",
    "labels/failures": "a failure at writing, which speaks of no language",
    "languages/score_agreement": "yes or no of bilingual scores, which treat both alike",
    "languages/script_and_length": "equal figures in both",
    "languages/template_artefacts": "equal counts in both",
    "languages/universal_features": "the smaller and the larger rate",
    "provenance/models": "the list of both",
    "provenance/unexplained": "equal figures in both",
}
"""Questions that name languages and whose answer on the synthetic atlas stays when the two change places, and why."""


def ask(con: duckdb.DuckDBPyConnection, name: str) -> list[tuple[Any, ...]]:
    return queries.ask(con, name, **queries.question(name).example).rows()


def test_there_are_enough_questions_over_all_topics() -> None:
    assert len(NAMES) >= 45
    assert {queries.question(name).topic for name in NAMES} == TOPICS


@pytest.mark.parametrize("name", NAMES)
def test_header_is_true(built: duckdb.DuckDBPyConnection, reordered: duckdb.DuckDBPyConnection, name: str) -> None:
    """Parameters, columns, golden rows, a unique key that stands in the order, and the same answer from rows in another order."""
    question, parameters = queries.prepare(built, name, queries.question(name).example)
    statements = built.extract_statements(question.sql)
    assert len(statements) == 1
    assert set(statements[0].named_parameters) == {parameter.name for parameter in question.parameters}
    described = built.execute(f"describe {question.sql}", parameters).fetchall()
    assert [(row[0], row[1].lower()) for row in described] == [(column.name, column.type) for column in question.columns]

    assert golden.path(name).exists(), "no golden; `python -m tests.queries.golden` writes them, look at what changed"
    result = queries.ask(built, name, **question.example)
    found = golden.summarise(result.rows(), result.columns)
    assert found["n_rows"] > 0
    assert found == json.loads(golden.path(name).read_text(encoding="utf-8"))

    table = result.arrow()
    keys = list(zip(*(map(str, table[column].to_pylist()) for column in question.key), strict=True))
    assert len(keys) == len(set(keys))
    order = question.sql[question.sql.rindex("order by") :]
    assert [column for column in question.key if column not in order] == []
    assert golden.answer(reordered, name) == found


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in golden.FOLDER.glob("*.json")} == {golden.path(name).name for name in NAMES}


@pytest.fixture(scope="module")
def reordered() -> duckdb.DuckDBPyConnection:
    """The same rows, inserted the other way round."""
    tables = synthetic.rows()
    con = duckdb.connect(config={"threads": 1})
    sorted_tables = ("activation", "activation_by_prompt")
    synthetic.load(con, {name: rows if name in sorted_tables else rows[::-1] for name, rows in tables.items()})
    for step in queries.build_steps():
        step.run(con)
    return con


@pytest.mark.parametrize("name", NAMES)
def test_dropped_rows_change_the_answer(spoiled: duckdb.DuckDBPyConnection, name: str) -> None:
    before = ask(spoiled, name)
    table = OTHER_TABLE.get(name) or queries.question(name).main
    assert table is not None
    own = f" where run_id = '{synthetic.RUN}'" if queries.question(name).main == table else ""
    spoiled.execute(f"delete from {table}{own}")
    if own:
        # The run is named: without its rows the question would turn to another one.
        after = queries.ask(spoiled, name, **{**queries.question(name).example, "run": synthetic.RUN}).rows()
    else:
        after = ask(spoiled, name)
    assert after != before


@pytest.mark.parametrize("name", SWAPPED)
def test_swapped_languages_change_the_answer(built: duckdb.DuckDBPyConnection, name: str) -> None:
    question = queries.question(name)
    names = [parameter.name for parameter in question.parameters]
    swapped = {"language_a": "fr", "language_b": "en"} if "language_a" in names else {"language": "en"}
    assert queries.ask(built, name, **question.example, **swapped).rows() != ask(built, name)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("languages/language_profile", "shared_count.language_b"),
        ("languages/bilingual_features", "feature_language.language"),
        ("languages/template_artefacts", "feature_template.language_b"),
        ("languages/concept_specific", "feature_cluster.language"),
        ("languages/bilingual_by_role", "feature_role.language"),
        ("languages/communities", "node_language.language"),
        ("languages/leaning_nodes", "node_language.language"),
        ("graphs/edge_languages", "edge_language.language"),
        ("features/l0", "feature_language.language"),
        ("behaviours/baseline", "prompt.language"),
    ],
)
def test_a_renamed_language_changes_the_answer(spoiled: duckdb.DuckDBPyConnection, name: str, column: str) -> None:
    before = ask(spoiled, name)
    table, _, language = column.partition(".")
    spoiled.execute(f"update {table} set {language} = 'de' where {language} = 'fr'")
    assert ask(spoiled, name) != before


@pytest.fixture(scope="module")
def swapped() -> duckdb.DuckDBPyConnection:
    """The same measurements with the two languages exchanged in every table."""
    other = {"en": "fr", "fr": "en"}

    def exchange(column: str, value: Any) -> Any:
        if "language" not in column or value is None:
            return value
        return [other.get(item, item) for item in value] if isinstance(value, list) else other.get(value, value)

    tables = {
        name: [{column: exchange(column, value) for column, value in row.items()} for row in rows]
        for name, rows in synthetic.rows().items()
    }
    con = duckdb.connect(config={"threads": 1})
    synthetic.load(con, tables)
    for step in queries.build_steps():
        step.run(con)
    return con


@pytest.mark.parametrize("name", NAMES)
def test_exchanged_languages_change_the_answer_where_it_speaks_of_them(
    built: duckdb.DuckDBPyConnection, swapped: duckdb.DuckDBPyConnection, name: str
) -> None:
    question = queries.question(name)
    names = [column.name for column in question.columns]
    compares = "language_a" in [parameter.name for parameter in question.parameters]
    speaks = question.topic == "languages" or compares or any("language" in column or column == "scores" for column in names)
    assert (ask(swapped, name) != ask(built, name)) == (speaks and name not in SAME_IN_BOTH)


OF_ONE_RUN = [name for name in NAMES if queries.question(name).main and name != "graphs/run_difference"]


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_another_run_does_not_leak_in(spoiled: duckdb.DuckDBPyConnection, name: str) -> None:
    before = queries.ask(spoiled, name, **{**queries.question(name).example, "run": synthetic.RUN}).rows()
    for table in ("activation", "activation_by_prompt", "prompt", "token", "feature", "feature_language", "feature_role"):
        spoiled.execute(f"delete from {table} where run_id = '{synthetic.OLDER}'")
    for table in ("feature_behaviour", "feature_cluster", "feature_template", "feature_contrast", "feature_correctness", "shared_count"):
        spoiled.execute(f"delete from {table} where run_id = '{synthetic.OLDER}'")
    for table in (
        "feature_score",
        "feature_verdict",
        "score_summary",
        "layer_score",
        "node",
        "edge",
        "intervention",
        "outcome",
        "effect",
        "evaluation",
    ):
        spoiled.execute(f"delete from {table} where run_id = '{synthetic.OLDER}'")
    assert queries.ask(spoiled, name, **{**queries.question(name).example, "run": synthetic.RUN}).rows() == before


@pytest.mark.parametrize("name", NAMES)
def test_without_rows_there_is_no_error(built: duckdb.DuckDBPyConnection, empty: duckdb.DuckDBPyConnection, name: str) -> None:
    example = queries.question(name).example
    queries.ask(empty, name, **example)
    if name in OF_ONE_RUN:
        rows = queries.ask(built, name, **{**example, "run": synthetic.PUBLISH}).rows()
        assert all(set(row) <= {None, 0, -1} for row in rows)


@pytest.fixture(scope="module")
def empty() -> duckdb.DuckDBPyConnection:
    """The schema with all build steps done on no rows."""
    con = duckdb.connect(config={"threads": 1})
    synthetic.load(con, {})
    for step in queries.build_steps():
        step.run(con)
    return con


def test_a_feature_shows_the_label_that_was_counted_on_the_run_asked_about(spoiled: duckdb.DuckDBPyConnection) -> None:
    copied = "insert into label select * replace ('9999999999999999' as label_id, 'elsewhere' as text, ? as source_run, "
    copied += "created_at + interval 1 day as created_at) from label where method = 'mechanical' limit 1"
    (layer, feature), *_ = spoiled.execute("select layer, feature from label where method = 'mechanical'").fetchall()
    spoiled.execute("delete from label where method <> 'mechanical'")
    question = {"run": synthetic.RUN, "layer": int(layer), "feature": int(feature)}
    before = queries.ask(spoiled, "features/card", **question).arrow().to_pylist()
    listed = queries.ask(spoiled, "features/labels", run=synthetic.RUN).rows()
    spoiled.execute(copied, [synthetic.OLDER])
    assert queries.ask(spoiled, "features/card", **question).arrow().to_pylist() == before
    assert queries.ask(spoiled, "features/labels", run=synthetic.RUN).rows() == listed
    spoiled.execute("update label set source_run = ? where text = 'elsewhere'", [synthetic.RUN])
    assert queries.ask(spoiled, "features/card", **question).arrow().to_pylist()[0]["label"] == "elsewhere"


def test_a_strength_that_does_nothing_leaves_one_row_a_sample(spoiled: duckdb.DuckDBPyConnection) -> None:
    ((run, n),) = spoiled.execute("select run_id, count(*) from continuation group by run_id").fetchall()
    for number, n_members in ((8, 0), (9, 1)):
        spoiled.execute(
            "insert into intervention select * replace (? as intervention, ? as n_members, 'no_op' as rule) from intervention "
            "where run_id = ? and intervention = 0",
            [number, n_members, run],
        )
        spoiled.execute(
            "insert into continuation select * replace (? as intervention) from continuation where run_id = ? and intervention = 0",
            [number, run],
        )
    answer = queries.ask(spoiled, "interventions/continuations", run=run).arrow().to_pylist()
    assert len(answer) == 3 * n
    assert all(row["unsteered"] == row["text"] for row in answer)
