"""The tokenizer: lossless on any text, one token a word, equal lengths over languages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ingest.tiny import corpus, paths
from ingest.tiny.tokenizer import END_OF_TEXT, corpus_tokenizer, token_ids
from ingest.tiny.words import LANGUAGES

SHIPPED: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(paths.model_path())


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_survives(text: str) -> None:
    assert SHIPPED.decode(token_ids(SHIPPED, text)) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([s.text for s in corpus.sentences()]) | st.text(max_size=4), max_size=6))
def test_corpus_text_mixed_with_any_other_survives(parts: list[str]) -> None:
    text = "".join(parts)
    assert SHIPPED.decode(token_ids(SHIPPED, text)) == text


@pytest.mark.parametrize("text", ["  two  spaces ", "l'été n’est", "naïve ☃ 🦉", "\r\n\t", "don't , stop", END_OF_TEXT * 2, "e\u0301"])
def test_awkward_text_survives(text: str) -> None:
    assert SHIPPED.decode(token_ids(SHIPPED, text)) == text


def test_the_shipped_tokenizer_is_the_one_that_the_corpus_gives() -> None:
    assert SHIPPED.get_vocab() == corpus_tokenizer().get_vocab()
    for name in paths.NAMES[1:]:
        assert AutoTokenizer.from_pretrained(paths.model_path(name)).get_vocab() == SHIPPED.get_vocab()


def test_end_of_text_is_token_0_and_is_not_prepended_by_itself() -> None:
    assert SHIPPED.convert_tokens_to_ids(END_OF_TEXT) == 0
    assert (SHIPPED.pad_token, SHIPPED.eos_token, SHIPPED.bos_token) == (END_OF_TEXT, END_OF_TEXT, None)
    assert 0 not in SHIPPED("The opposite of the word hot is")["input_ids"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_operands_and_answers_are_single_tokens(language: str) -> None:
    for concept in corpus.concepts():
        assert len(token_ids(SHIPPED, " " + concept.words[language])) == 1  # type: ignore[index]


def test_every_answer_of_the_corpus_is_a_single_token() -> None:
    for answer in {sentence.answer for sentence in corpus.sentences()}:
        assert len(token_ids(SHIPPED, f" {answer}")) == 1, answer


def test_prompt_tokens_do_not_change_when_the_answer_follows() -> None:
    for sentence in corpus.sentences()[::17]:
        prompt, whole = token_ids(SHIPPED, sentence.prompt), token_ids(SHIPPED, sentence.text)
        assert whole[: len(prompt)] == prompt
        assert len(whole) == len(prompt) + 2


def test_a_template_has_one_length_and_one_operand_position_in_all_languages() -> None:
    shapes: dict[str, set[tuple[int, int]]] = {}
    for language in LANGUAGES:
        for prompt in corpus.antonym_prompts(language):
            ids, operand = token_ids(SHIPPED, prompt.text), token_ids(SHIPPED, f" {prompt.operand}")[0]
            assert ids.count(operand) == 1
            shapes.setdefault(prompt.template, set()).add((len(ids), ids.index(operand)))
    assert {template: found for template, found in shapes.items() if len(found) > 1} == {}
    assert len(shapes) == 16
