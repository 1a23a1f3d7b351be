"""Behaviours and prompt sets: what is asked, of whom, with which answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atlas.errors import InputError
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour, parse_behaviour, shipped_behaviours
from ingest.prompts.check import check_text
from ingest.tiny import behaviours as generated
from ingest.tiny.tokenizer import corpus_tokenizer

TOML = """
name = "opposites"
title = "Name the opposite"
computation_type = "abstract_mapping"
n_distractors = 1

[[template]]
name = "plain"
language = "en"
text = "An opposite for {operand} is"
operator = "opposite"

[[template]]
name = "plain"
language = "fr"
text = "Un contraire pour {operand} est"
split = "test"

[[concept]]
name = "hot"
cluster = "hot_cold"
en = { operand = "hot", answer = "cold" }
fr = { operand = "chaud", answer = "froid" }

[[concept]]
name = "big"
split = "validation"
en = [{ operand = "big", answer = "small", variant = "a" }, { operand = "big", answer = "cold", variant = "b", contrasts = ["small"] }]
"""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return corpus_tokenizer()


@pytest.fixture(scope="module")
def small(tokenizer: Any) -> PromptSet:
    return build_prompt_set([parse_behaviour(TOML, "opposites.toml")], tokenizer, prepend=0)


def test_each_concept_case_and_template_of_one_language_is_one_prompt(small: PromptSet) -> None:
    assert [(p.language, p.concept, p.variant, p.split, p.held_out) for p in small.prompts] == [
        ("en", "hot", None, "train", None),
        ("en", "big", "a", "validation", "concept"),
        ("en", "big", "b", "validation", "concept"),
        ("fr", "hot", None, "test", "template"),
    ]


def test_roles_follow_from_character_offsets(small: PromptSet) -> None:
    assert small.prompts[0].tokens == ("<|endoftext|>", "An", " opposite", " for", " hot", " is")
    assert small.prompts[0].roles == ("sink", "template", "operator", "template", "content", "decision")
    assert small.prompts[0].content_positions == (4,)
    assert small.prompts[0].decision_position == 5


def test_answers_are_correct_contrast_distractor_and_the_other_language(small: PromptSet) -> None:
    answers = [(answer.role, answer.text) for answer in small.prompts[0].answers]
    assert answers == [("correct", " cold"), ("contrast", " hot"), ("distractor", " small"), ("source_language", " froid")]
    assert [answer.text for answer in small.prompts[0].contrasts] == [" hot", " small"]


def test_pairs_differ_in_one_respect(small: PromptSet) -> None:
    assert [(pair.kind, pair.prompt_a, pair.prompt_b) for pair in small.pairs] == [("translation", 0, 3), ("minimal", 1, 2)]


def test_tables_have_a_row_a_prompt_and_token(small: PromptSet) -> None:
    tables = small.tables()
    assert tables["prompt"].num_rows == len(small.prompts)
    assert tables["token"].num_rows == sum(len(prompt.token_ids) for prompt in small.prompts) == int(small.mask.sum())
    assert tables["behaviour"].to_pylist()[0]["languages"] == ["en", "fr"]


def test_prompt_hash_changes_with_text_and_answers(tokenizer: Any, small: PromptSet) -> None:
    other = build_prompt_set([parse_behaviour(TOML.replace('"small", variant', '"cold", variant'), "x")], tokenizer, prepend=0)
    assert other.prompts[0].prompt_hash != small.prompts[0].prompt_hash
    assert other.prompt_set_hash != small.prompt_set_hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"abstract_mapping"', '"guessing"', "computation_type is 'guessing'"),
        ("n_distractors = 1", "n_distractor = 1", "unknown field 'n_distractor'"),
        ("{operand} is", "it is", "has no {operand}"),
        ('operator = "opposite"', 'operator = "antonym"', "does not stand in its text"),
        ('split = "test"', 'split = "later"', "split is 'later'"),
        ('name = "big"', 'name = "hot"', "concepts stand twice: hot"),
        ('answer = "froid"', "answer = 3", "field 'answer' is 3"),
    ],
)
def test_a_wrong_behaviour_is_refused_by_name(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("{", r"\{")) as caught:
        parse_behaviour(TOML.replace(old, new), "opposites.toml")
    assert "opposites.toml" in str(caught.value)


def test_an_answer_of_several_tokens_is_refused_by_name(tokenizer: Any) -> None:
    behaviour = parse_behaviour(TOML.replace('answer = "froid"', 'answer = "glacial"'), "opposites.toml")
    with pytest.raises(InputError, match=r"opposites/fr/plain/hot: the answer ' glacial' is 8 tokens"):
        build_prompt_set([behaviour], tokenizer, prepend=0)


def test_an_unknown_behaviour_names_those_that_ship() -> None:
    with pytest.raises(InputError, match="antonym_words") as caught:
        load_behaviour("antonym_words")
    assert "antonyms" in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        load_behaviour(tmp_path / "absent.toml")


def test_shipped_behaviours_are_what_the_small_world_generates() -> None:
    texts = generated.behaviours()
    assert {name: load_behaviour(name).definition for name in texts} == texts


@pytest.mark.parametrize("name", sorted(generated.behaviours()))
def test_shipped_behaviours_tokenise_and_pair(name: str, tokenizer: Any) -> None:
    assert name in shipped_behaviours()
    prompts = build_prompt_set([load_behaviour(name)], tokenizer, prepend=0)
    assert {prompt.language for prompt in prompts.prompts} == {"en", "fr", "de"}
    assert all(prompt.contrasts for prompt in prompts.prompts)
    assert any(pair.kind == "translation" for pair in prompts.pairs)


@pytest.mark.parametrize("name", shipped_behaviours())
def test_every_shipped_behaviour_holds_out_and_leaks_nothing(name: str) -> None:
    behaviour = load_behaviour(name)
    assert check_text(behaviour) == []
    assert {concept.split for concept in behaviour.concepts} > {"train"}
    assert name == behaviour.name


def test_antonyms_for_qwen_have_eight_quoted_templates_in_each_of_five_languages() -> None:
    behaviour = load_behaviour("antonyms_qwen")
    assert behaviour.languages == ("en", "fr", "de", "es", "zh")
    for language in behaviour.languages:
        own = [template for template in behaviour.templates if template.language == language]
        assert len(own) >= 8
        assert all("“{operand}”" in template.text if language == "zh" else '"{operand}"' in template.text for template in own)
        assert {template.split for template in own} == {"train", "validation", "test"}
        concepts = [concept for concept in behaviour.concepts if language in concept.cases]
        assert len({concept.cluster for concept in concepts}) >= 24
        assert {concept.split for concept in concepts} == {"train", "validation", "test"}


def test_behaviours_for_qwen_are_minimal_pairs_where_they_should_be() -> None:
    for name in ("agreement_qwen", "gated_qwen"):
        for concept in load_behaviour(name).concepts:
            for one, other in concept.cases.values():
                assert one.contrasts == (other.answer,)
                assert other.contrasts == (one.answer,)


def test_a_held_out_concept_under_another_name_is_a_leak() -> None:
    twin = '\n[[concept]]\nname = "warm"\nsplit = "test"\nen = { operand = "hot", answer = "cold" }\n'
    found = check_text(parse_behaviour(TOML + twin, "x"))
    assert [finding.where for finding in found if finding.kind == "leak"] == ["opposites/en/plain/warm", "opposites/en/warm"]


def test_prompts_with_an_answer_of_several_tokens_can_be_left_out(tokenizer: Any) -> None:
    behaviour = parse_behaviour(TOML.replace('answer = "froid"', 'answer = "glacial"'), "opposites.toml")
    prompts = build_prompt_set([behaviour], tokenizer, prepend=0, drop_multitoken=True)
    assert [(prompt.language, prompt.prompt) for prompt in prompts.prompts] == [("en", 0), ("en", 1), ("en", 2)]
    assert len(prompts.dropped) == 1
    assert "' glacial' is 8 tokens" in prompts.dropped[0]
    with pytest.raises(InputError, match="1 were left out"):
        build_prompt_set([behaviour], tokenizer, prepend=0, languages=["fr"], drop_multitoken=True)


def test_dropping_excuses_nothing_but_tokens(tokenizer: Any) -> None:
    text = TOML.replace("An opposite for {operand} is", "An opposite for {operand} at {place} is").replace('operator = "opposite"', "")
    with pytest.raises(InputError, match=r"no value for \{place\}"):
        build_prompt_set([parse_behaviour(text, "x")], tokenizer, prepend=0, drop_multitoken=True)


def test_translations_of_antonym_prompts_have_equal_length_and_operand_position(tokenizer: Any) -> None:
    prompts = build_prompt_set([load_behaviour("antonyms")], tokenizer, prepend=0, languages=["en", "fr"])
    for pair in prompts.pairs:
        a, b = prompts.prompts[pair.prompt_a], prompts.prompts[pair.prompt_b]
        assert len(a.token_ids) == len(b.token_ids)
        assert a.content_positions == b.content_positions


def test_sampling_keeps_whole_clusters_of_every_split(tokenizer: Any) -> None:
    prompts = build_prompt_set([load_behaviour("antonyms")], tokenizer, prepend=0, languages=["en"], max_concepts=24)
    concepts = {prompt.concept for prompt in prompts.prompts}
    assert len(concepts) == 24
    assert len({prompt.cluster for prompt in prompts.prompts}) == 12
    splits = {prompt.cluster: prompt.split for prompt in prompts.prompts if prompt.template == "antonym_for"}
    assert set(splits.values()) == {"train", "validation", "test"}
