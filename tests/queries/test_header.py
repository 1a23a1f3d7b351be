"""A header is parsed strictly: what is wrong is named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.errors import QueryError, UsageError
from queries.header import Parameter, parse_question

GOOD = """\
-- Which things are there?
--
-- In two
-- lines of prose.
-- decides: what to do
-- grain: one row per thing
-- main: feature
-- key: layer
-- parameters:
--   run | varchar | null | the run
--   least | double | 0.5 | a threshold
--       told in two lines
--   side | varchar | left | a side | left, right
-- columns:
--   layer | smallint | - | layer
-- example: least=0.1, side=right
select layer from feature where run_id = $run and density > $least and $side = 'left' order by layer;
"""


def test_a_good_header_says_everything() -> None:
    question = parse_question(GOOD, "features/things", Path("things.sql"))
    assert question.title == "Which things are there?"
    assert question.text == "In two lines of prose."
    assert (question.topic, question.grain, question.main, question.key) == ("features", "one row per thing", "feature", ("layer",))
    assert [parameter.name for parameter in question.parameters] == ["run", "least", "side"]
    assert question.parameters[1].meaning == "a threshold told in two lines"
    assert question.parameters[1].default == 0.5
    assert question.parameters[2].choices == ("left", "right")
    assert question.example == {"least": 0.1, "side": "right"}
    assert question.sql.startswith("select layer")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("Which things are there?", "Things.", 1, "question"),
        ("-- decides: what to do\n", "", 15, "no 'decides'"),
        ("-- grain: one row per thing", "-- grain: one row per thing\n-- grain: again", 7, "twice"),
        ("| double | 0.5", "| decimal | 0.5", 11, "decimal"),
        ("| double | 0.5", "| double | half", 11, "half"),
        ("| left | a side", "| up | a side", 13, "not one of left, right"),
        ("--   layer | smallint | - | layer", "--   layer | smallint", 15, "2 cells"),
        ("--   layer | smallint", "--   Layer | smallint", 15, "not a name"),
        ("-- key: layer", "-- key: feature", 1, "key column"),
        ("-- main: feature\n", "", 1, "main"),
        ("least=0.1", "most=0.1", 16, "most"),
        ("least=0.1", "least=often", 16, "often"),
        ("select layer", "-- select layer", 17, "belongs to no field"),
    ],
)
def test_a_bad_header_is_named_with_file_and_line(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    with pytest.raises(QueryError) as caught:
        parse_question(GOOD.replace(old, new, 1), "features/things", Path("things.sql"))
    assert f"things.sql:{line}:" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("varchar", "x", "x"),
        ("smallint", "12", 12),
        ("integer", 12, 12),
        ("bigint", "-3", -3),
        ("double", "1e-3", 0.001),
        ("double", 2, 2.0),
        ("boolean", "yes", True),
        ("boolean", False, False),
        ("integer", None, None),
        ("varchar", "null", None),
    ],
)
def test_values_and_their_texts_are_read(kind: str, given: object, expected: object) -> None:
    value = Parameter("p", kind, None, "meaning").parse(given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("smallint", 40000),
        ("integer", "1.5"),
        ("integer", True),
        ("double", "nan"),
        ("double", "much"),
        ("boolean", "perhaps"),
        ("varchar", 3),
    ],
)
def test_wrong_values_are_refused_by_name(kind: str, given: object) -> None:
    with pytest.raises(UsageError, match="rate = "):
        Parameter("rate", kind, None, "meaning").parse(given)
