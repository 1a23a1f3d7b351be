"""Every question on the real demo atlas: it has rows, its keys are unique, its types are those of its header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import atlas
import queries
from atlas.reader import Reader
from queries.claims import FOLDER, check, read_claims
from tests.queries import golden


@pytest.fixture(scope="module")
def reader(demo_atlas: Path) -> Iterator[Reader]:
    """The demo atlas, as a notebook opens it."""
    with atlas.open(demo_atlas) as opened:
        yield opened


@pytest.fixture(scope="module")
def goldens() -> dict[str, Any]:
    """The demo's answers as they stand in the repository, for the arithmetic they were made with."""
    found: dict[str, Any] = json.loads(golden.DEMO.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", list(queries.catalogue()))
def test_the_question_answers_on_the_demo(reader: Reader, name: str) -> None:
    question = queries.question(name)
    result = reader.ask(name, **question.example)
    assert result.columns == [column.name for column in question.columns]
    assert len(result) > 0
    table = result.arrow()
    keys = list(zip(*(map(str, table[column].to_pylist()) for column in question.key), strict=True))
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", list(queries.catalogue()))
def test_the_answer_on_the_demo_is_its_golden(reader: Reader, goldens: dict[str, Any], name: str) -> None:
    if goldens["arithmetic"] != golden.arithmetic():
        pytest.skip(f"the demo's goldens were made with {goldens['arithmetic']}, this is {golden.arithmetic()}")
    assert golden.demo_answer(reader, name) == goldens["answers"][name]


def test_a_reader_can_be_asked_directly(reader: Reader) -> None:
    assert queries.ask(reader, "provenance/runs").rows() == reader.ask("provenance/runs").rows()


def test_the_claims_about_the_demo_come_out_as_their_file_expects(reader: Reader) -> None:
    checked = check(reader, read_claims(FOLDER / "demo.toml"))
    assert [(item.claim.id, item.recomputed) for item in checked if item.surprising] == []
    assert len(checked) == len(read_claims(FOLDER / "demo.toml"))
    assert [row["verdict"] for row in reader.ask("provenance/claims").arrow().to_pylist()].count("reproduced") == len(checked) - 1


def test_no_answer_of_the_demo_names_a_token_by_its_number(reader: Reader) -> None:
    answer = reader.ask("interventions/promoted_competitors", run="bilingual").arrow().to_pylist()
    assert answer
    assert [row["strongest_rise"] for row in answer if row["strongest_rise"].isdigit()] == []


def test_only_edits_of_features_count_what_they_left_unchanged(reader: Reader) -> None:
    answer = reader.ask("interventions/soundness", run="bilingual").arrow().to_pylist()
    unknown = {row["rule"] for row in answer if row["n_unchanged"] is None}
    assert unknown == {"error_only", "whole_mlp"}
    assert all(row["largest_effect"] == 0 for row in answer if row["n_unchanged"] == row["n_outcomes"])


def test_no_effect_is_its_own_control(reader: Reader) -> None:
    answer = reader.ask("interventions/effects", run="bilingual").arrow().to_pylist()
    assert [row["control"] for row in answer if row["n_controls"] and row["control_mean"] == row["mean"]] == []
