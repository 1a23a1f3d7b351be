"""Every question on the real demo atlas: it answers, its keys are unique, its types are those of its header, and most have rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import atlas
import queries
from atlas.reader import Reader
from tests.queries import golden

EMPTY = {
    "behaviours/minimal_pairs",
    "compare/features",
    "compare/relations",
    "features/several_behaviours",
    "interventions/continuations",
    "labels/failures",
    "labels/intruders",
    "labels/methods",
    "labels/one_language",
    "labels/scores",
    "languages/universal_features",
    "provenance/claims",
}
"""Questions that have no rows where there is one behaviour without minimal pairs, no attribution graph of a single prompt, no
claim, no label that was scored, no comparison, and no feature that fires on four of five prompts of both languages."""


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
    run = {"run": golden.RUNS[name]} if name in golden.RUNS else {}
    result = reader.ask(name, **question.example, **run)
    assert result.columns == [column.name for column in question.columns]
    assert (len(result) > 0) == (name not in EMPTY)
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
