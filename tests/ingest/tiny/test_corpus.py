"""The corpus: splits do not leak, languages are comparable, every question has one answer."""

from collections import Counter

import pytest

from atlas.errors import UsageError
from ingest.tiny import corpus, words
from ingest.tiny.tokenizer import corpus_tokenizer, token_ids
from ingest.tiny.words import LANGUAGES


def test_there_are_48_pairs_of_which_10_are_held_out() -> None:
    by_pair = {concept.pair: concept.split for concept in corpus.concepts()}
    assert Counter(by_pair.values()) == {"train": 38, "validation": 4, "test": 6}
    assert len(corpus.concepts()) == 96


def test_partners_are_adjacent_and_mutual() -> None:
    by_id = {concept.id: concept for concept in corpus.concepts()}
    for index, concept in enumerate(corpus.concepts()):
        assert by_id[concept.partner].partner == concept.id
        assert corpus.concepts()[index ^ 1].id == concept.partner


def test_no_antonym_word_is_spelled_alike_in_two_languages_or_means_two_things() -> None:
    spelled = Counter(word for concept in corpus.concepts() for word in concept.words.values())
    assert [word for word, count in spelled.items() if count > 1] == []


def test_no_antonym_word_is_another_languages_synonym() -> None:
    owners: dict[str, set[str]] = {}
    for row in [row for pair in (*words.ANTONYMS, *words.SYNONYMS) for row in pair]:
        for language, word in zip(LANGUAGES, row, strict=True):
            owners.setdefault(word, set()).add(language)
    assert {word for word, languages in owners.items() if len(languages) > 1} == set()


def test_every_antonym_word_answers_in_one_language_only() -> None:
    """The same token in two languages' sentences would be a bridge that the control should not have."""
    antonym_words = {word for concept in corpus.concepts() for word in concept.words.values()}
    seen: dict[str, set[str]] = {}
    for sentence in corpus.sentences("control"):
        for word in sentence.text.replace(",", " ").replace(".", " ").split():
            if word in antonym_words:
                seen.setdefault(word, set()).add(sentence.language)
    assert {word: languages for word, languages in seen.items() if len(languages) > 1} == {}


@pytest.mark.parametrize("language", ["fr", "de"])
def test_no_training_sentence_asks_a_held_out_antonym_in_another_language_than_english(language: str) -> None:
    held_out = {concept.id for concept in corpus.concepts() if concept.split != "train"}
    asked = {
        sentence.concept
        for sentence in corpus.training_sentences("bilingual")
        if sentence.family in ("antonym", "cross_antonym") and sentence.language == language
    }
    assert asked & held_out == set()
    assert len(asked) == 76


def test_no_training_sentence_uses_a_held_out_template() -> None:
    held_out = {template.id for template in corpus.antonym_templates("en") if template.split != "train"}
    used = {s.template for s in corpus.training_sentences("bilingual") if s.family == "antonym"}
    assert used & held_out == set()
    assert len(held_out) == 6


def test_no_held_out_prompt_is_the_start_of_a_training_sentence() -> None:
    training = [sentence.text for sentence in corpus.training_sentences("bilingual")]
    held_out = {sentence.prompt for sentence in corpus.sentences("bilingual") if sentence.split != "train"}
    starts = {text[: text.rindex(" ")] for text in training}
    assert held_out & starts == set()


def test_held_out_prompts_hold_only_words_that_training_holds_in_that_language() -> None:
    tokenizer = corpus_tokenizer()
    for language in LANGUAGES:
        known = {
            token
            for sentence in corpus.training_sentences("bilingual")
            if sentence.language == language
            for token in token_ids(tokenizer, sentence.prompt)
        }
        for prompt in corpus.antonym_prompts(language):
            assert set(token_ids(tokenizer, prompt.text)) <= known, prompt.text


def test_held_out_tells_what_training_lacked() -> None:
    trained = {sentence.prompt for sentence in corpus.training_sentences("bilingual")}
    for language in LANGUAGES:
        for prompt in corpus.antonym_prompts(language):
            assert (prompt.text in trained) == (prompt.held_out is None), prompt


def test_the_control_corpus_lacks_exactly_the_sentences_that_bridge_languages() -> None:
    bilingual, control = (set(corpus.training_sentences(variant)) for variant in ("bilingual", "control"))
    assert control < bilingual
    assert {sentence.family for sentence in bilingual - control} == set(corpus.BRIDGING_FAMILIES)
    assert {sentence.family for sentence in control} & set(corpus.BRIDGING_FAMILIES) == set()


def test_every_prompt_has_one_answer() -> None:
    answers: dict[str, set[str]] = {}
    for sentence in corpus.sentences("bilingual"):
        answers.setdefault(sentence.prompt, set()).add(sentence.answer)
    assert {prompt for prompt, found in answers.items() if len(found) > 1} == set()


def test_translation_pairs_differ_in_language_only() -> None:
    pairs = list(corpus.antonym_translation_pairs("en", "fr"))
    assert len(pairs) == 96 * 16
    for english, french in pairs:
        assert (english.concept, english.template, english.split) == (french.concept, french.template, french.split)


def test_contrasts_are_the_operand_and_words_of_other_pairs_of_the_language() -> None:
    own = {concept.id: concept for concept in corpus.concepts()}
    for prompt in corpus.antonym_prompts("fr"):
        concept = own[prompt.concept]
        allowed = {other.words["fr"] for other in own.values() if other.pair != concept.pair}
        assert prompt.contrasts[0] == prompt.operand
        assert len(set(prompt.contrasts[1:])) == 3
        assert set(prompt.contrasts[1:]) <= allowed


def test_documents_are_training_text_of_one_language_and_repeat_with_their_seed() -> None:
    documents = list(corpus.corpus_documents(seed=3))
    sentences = {(s.language, s.text) for s in corpus.training_sentences("bilingual")}
    assert documents == list(corpus.corpus_documents(seed=3))
    assert documents != list(corpus.corpus_documents(seed=4))
    assert len(documents) == len(corpus.training_sentences("bilingual"))
    assert {language for language, _ in documents} == {"en", "fr", "de"}
    assert all((language, line) in sentences for language, text in documents for line in text.split("\n"))
    assert [d[0] for d in corpus.corpus_documents(["de"], count=5)] == ["de"] * 5


def test_an_unknown_variant_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'trilingual'"):
        corpus.sentences("trilingual")  # type: ignore[arg-type]
