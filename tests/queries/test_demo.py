"""Every question on the real demo atlas: it answers, its keys are unique, its types are those of its header, and most have rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
import queries
from atlas.reader import Reader

EMPTY = {
    "behaviours/minimal_pairs",
    "features/labels",
    "features/several_behaviours",
    "graphs/attribution_quality",
    "graphs/unexplained_input",
    "interventions/reference_rules",
    "languages/universal_features",
    "provenance/claims",
}
"""Questions that have no rows where there is one behaviour without minimal pairs, no attribution graph of a single prompt, no label, no
claim, ablation by zero alone, and no feature that fires on four of five prompts of both languages."""


@pytest.fixture(scope="module")
def reader(demo_atlas: Path) -> Iterator[Reader]:
    """The demo atlas, as a notebook opens it."""
    with atlas.open(demo_atlas) as opened:
        yield opened


@pytest.mark.parametrize("name", list(queries.catalogue()))
def test_the_question_answers_on_the_demo(reader: Reader, name: str) -> None:
    question = queries.question(name)
    result = reader.ask(name, **question.example)
    assert result.columns == [column.name for column in question.columns]
    assert len(result) > 0 or name in EMPTY
    table = result.arrow()
    keys = list(zip(*(map(str, table[column].to_pylist()) for column in question.key), strict=True))
    assert len(keys) == len(set(keys))


def test_a_reader_can_be_asked_directly(reader: Reader) -> None:
    assert queries.ask(reader, "provenance/runs").rows() == reader.ask("provenance/runs").rows()
