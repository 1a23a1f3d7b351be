import math

import pytest

from atlas.errors import InputError, UsageError
from atlas.ids import canonical_json, check_run_id, check_shard, feature_name, parse_feature, run_id, sha256_text


def test_run_id_is_the_start_of_the_hash_of_the_canonical_plan() -> None:
    plan = {"b": [1, {"y": 2.5, "x": None}], "a": "é"}
    assert canonical_json(plan) == '{"a":"é","b":[1,{"x":null,"y":2.5}]}'
    assert run_id(plan) == sha256_text(canonical_json(plan))[:16]
    assert run_id(dict(reversed(plan.items()))) == run_id(plan)
    assert run_id({**plan, "a": "e"}) != run_id(plan)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object()])
def test_a_plan_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="canonical JSON"):
        canonical_json({"x": value})


@pytest.mark.parametrize(
    "text", ["L20_F1454", "l20_f1454", " L20F1454 ", "qwen3-4b/20-transcoder-hp/1454", "20-transcoder-hp/1454", "20_1454_7"]
)
def test_a_feature_is_read_in_three_spellings(text: str) -> None:
    assert parse_feature(text) == (20, 1454)
    assert parse_feature(feature_name(20, 1454)) == (20, 1454)


@pytest.mark.parametrize("text", ["", "L20", "F1454", "L-1_F2", "20", "L20_F", "L20_F14x", "a/b/c"])
def test_other_text_is_no_feature(text: str) -> None:
    with pytest.raises(UsageError, match="not a feature"):
        parse_feature(text)


def test_names_that_could_leave_their_folder_are_refused() -> None:
    assert check_shard("activations-20.a") == "activations-20.a"
    for text in ("", "..", "../x", "a/b", ".hidden", "x" * 200):
        with pytest.raises(UsageError):
            check_shard(text)
    for text in ("", "0123", "../etc/passwd", "0123456789ABCDEF"):
        with pytest.raises(UsageError):
            check_run_id(text)
