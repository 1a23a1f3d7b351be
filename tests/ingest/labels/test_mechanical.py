"""Profiles and mechanical labels against counting by hand, on planted features."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pytest

from atlas.errors import InputError
from ingest.labels.mechanical import active_tokens as find_active
from ingest.labels.mechanical import labels, mechanical_tables, profiles, script_of
from ingest.labels.rule import Rule, parse_rule
from ingest.labels.texts import Texts
from tests.ingest.labels import planted


@pytest.fixture(scope="module")
def made() -> dict[str, pa.Table]:
    return planted.tables()


def test_shares_are_those_of_counting_by_hand(made: dict[str, pa.Table]) -> None:
    at = {(row["item"], row["position"]): row for row in made["token"].to_pylist()}
    mass: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in made["activation"].to_pylist():
        if row["position"] > 0:
            mass[row["feature"]][at[row["prompt"], row["position"]]["token"]] += row["activation"]
    texts = planted.texts(made)
    found = profiles(*_active(made, texts)).to_pylist()
    assert [row["feature"] for row in found] == list(range(7))
    for row in found:
        expected = sorted(
            ((value / sum(mass[row["feature"]].values()), token) for token, value in mass[row["feature"]].items()), reverse=True
        )
        assert row["top_tokens"] == [token for _, token in expected]
        assert row["top_shares"] == pytest.approx([share for share, _ in expected])
        assert row["single_token_share"] == pytest.approx(expected[0][0])
        assert row["n_distinct_tokens"] == len(expected)
    assert [found[4]["language"], found[5]["language"]] == ["en", "fr"]
    assert found[4]["language_share"] == found[4]["single_token_share"] == 1.0
    assert (found[6]["role"], found[6]["role_share"], found[6]["position_mean"], found[6]["position_sd"]) == ("decision", 1.0, 5.0, 0.0)
    english = mass[0][" hot"] / sum(mass[0].values())  # as many tokens of each language
    assert found[0]["language_share"] == pytest.approx(max(english, 1 - english))


def _active(made: dict[str, pa.Table], texts: Texts) -> tuple[pa.Table, Texts, str]:
    active, basis = find_active(made, texts)
    return active, texts, basis


def test_every_feature_has_a_label_and_its_rule_says_where_it_fires(made: dict[str, pa.Table]) -> None:
    texts = planted.texts(made)
    found = mechanical_tables(made, texts, transcoder_set=planted.SET, source_run=planted.RUN, now=planted.NOW)["label"].to_pylist()
    assert [row["feature"] for row in found] == list(range(8))
    assert len({row["label_id"] for row in found}) == 8
    for row in found[:7]:
        rule = parse_rule(row["rule"])
        assert rule is not None
        truth = [
            position > 0 and planted.fires(row["feature"], texts.vocabulary[token], texts.languages[language], last=position == 5)
            for position, token, language in zip(texts.position, texts.token, texts.language, strict=True)
        ]
        assert rule.holds(texts).tolist() == truth
    assert found[4]["text"] == "the token “ hot” (100%) · template 100% · en 100% · promotes “ up”"
    assert (found[7]["text"], found[7]["rule"]) == ("silent on 800 tokens", None)


def test_a_run_that_keeps_no_raw_rows_is_labelled_from_its_contexts(made: dict[str, pa.Table]) -> None:
    rows = [{**row, "item": row["prompt"], "kind": kind} for row in made["activation"].to_pylist() for kind in ("top", "quantile")]
    context = pa.Table.from_pylist(rows).drop_columns(["prompt"])
    texts = planted.texts(made)
    empty = made["activation"].slice(0, 0)
    from_contexts = mechanical_tables(
        {**made, "activation": empty, "context": context}, texts, transcoder_set="s", source_run="r", now=planted.NOW
    )["feature_profile"].to_pylist()
    from_rows = profiles(*_active(made, texts)).to_pylist()
    assert {row["basis"] for row in from_contexts} == {"contexts"}
    assert [{**row, "basis": ""} for row in from_contexts] == [{**row, "basis": ""} for row in from_rows], "a token counts once"


def test_a_feature_spread_over_many_tokens_gets_a_rule_without_tokens() -> None:
    profile = {
        "layer": 3,
        "feature": 9,
        "top_tokens": [f" w{number}" for number in range(10)],
        "top_shares": [0.02] * 10,
        "n_distinct_tokens": 300,
        "single_token_share": 0.02,
        "role": "decision",
        "role_share": 0.97,
        "language": "fr",
        "language_share": 0.6,
        "script": "Cyrillic",
        "script_share": 0.9,
    }
    row = labels(
        pa.Table.from_pylist([profile]), pa.table({"layer": [], "feature": [], "n_tokens": []}), "s", "r", planted.NOW
    ).to_pylist()[0]
    assert parse_rule(row["rule"]) == Rule(role="decision")
    assert row["text"] == "“ w0” 2%, “ w1” 2%, “ w2” 2% of 300 tokens · decision 97% · Cyrillic 90%"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (" été", "Latin"),
        (" дом", "Cyrillic"),
        ("冷", "Han"),
        (" 42", "digits"),
        (",", "punctuation"),
        ("  ", "space"),
        ("\x00", "other"),
        ("1er", "Latin"),
    ],
)
def test_scripts_are_named_by_the_first_letter(text: str, script: str) -> None:
    assert script_of(text) == script


@pytest.mark.parametrize("text", ["fires on water", '["a"]', '{"word": "a"}', '{"tokens": "a"}', '{"tokens": [1]}'])
def test_a_rule_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InputError, match="rule"):
        parse_rule(text)


def test_no_rule_and_a_rule_without_conditions_are_opposites(made: dict[str, pa.Table]) -> None:
    texts = planted.texts(made)
    assert parse_rule(None) is None
    assert parse_rule(" ") is None
    everywhere = parse_rule("{}")
    assert everywhere is not None
    assert everywhere.holds(texts).sum() == 5 * planted.N_ITEMS


def test_a_token_of_an_unknown_prompt_is_damage(made: dict[str, pa.Table]) -> None:
    with pytest.raises(InputError, match="prompt 7 is not in table prompt"):
        Texts.of_tables(made["token"], made["prompt"].filter(pa.compute.not_equal(made["prompt"]["prompt"], 7)), "prompt")
