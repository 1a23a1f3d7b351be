"""Answers of several tokens, token by token with the plain model; and behaviours that have them, or a chat template."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from atlas.errors import InputError, UsageError
from ingest.ask import Session
from ingest.ask.sequence import margin
from ingest.baseline import BaselineConfig, baseline
from ingest.job import prepare
from ingest.plan import Plan
from ingest.prompts import PromptSet, build_prompt_set, parse_behaviour
from ingest.prompts.check import check_text
from ingest.tiny import paths
from tests.ingest.ask import plain

PROMPT = "Le contraire de « chaud » est"
BEHAVIOUR = """
name = "long"
title = "Name the opposite in several words"
computation_type = "abstract_mapping"
answers = "sequence"
n_distractors = 2

[[template]]
name = "opposite_of"
language = "en"
text = "The opposite of {operand} is"

[[concept]]
name = "hot"
en = { operand = "hot", answer = "cold and raw", contrasts = ["cold", "cold and hot"] }

[[concept]]
name = "big"
en = { operand = "big", answer = "small", contrasts = ["big and small"] }

[[concept]]
name = "old"
en = { operand = "old", answer = "new" }
"""


def by_hand(prompt: list[int], answer: list[int]) -> list[float]:
    """Score an answer one token at a time, each after a sequence of its own."""
    out = []
    for place, token in enumerate(answer):
        out.append(float(torch.log_softmax(plain.next_logits([*prompt, *answer[:place]]), dim=0)[token]))
    return out


@pytest.fixture
def tokenizer() -> Any:
    """One of its own, to be given a template."""
    return AutoTokenizer.from_pretrained(paths.model_path("bilingual"))


def test_log_probabilities_are_those_of_one_token_after_the_other(session: Session) -> None:
    answers = [" froid", " froid et chaud", " chaud"]
    (text,) = session.texts([PROMPT])
    scores = session.answers(PROMPT, answers)
    for answer, score in zip(answers, scores, strict=True):
        ids = plain.tokenizer()(answer, add_special_tokens=False)["input_ids"]
        expected = by_hand(list(text.token_ids), ids)
        assert list(score.logprobs) == pytest.approx(expected, abs=1e-4)
        assert score.total == pytest.approx(sum(expected), abs=1e-4)
    assert len(scores[1].logprobs) == 3
    assert margin(scores) == pytest.approx(scores[0].total - max(scores[1].total, scores[2].total))
    assert margin(scores[:1]) is None
    with pytest.raises(InputError, match="an answer is empty"):
        session.answers(PROMPT, [""])


def test_a_behaviour_may_have_answers_of_several_tokens(session: Session, tokenizer: Any) -> None:
    prompts = build_prompt_set([parse_behaviour(BEHAVIOUR, "long.toml")], tokenizer)
    hot, big, old = prompts.prompts
    assert [len(answer.ids) for answer in hot.answers][:3] == [3, 1, 3]
    assert [hot.has_sequences, big.has_sequences, old.has_sequences] == [True, True, True]
    assert check_text(parse_behaviour(BEHAVIOUR, "long.toml")) == []
    tables = baseline(session.opened.model, prompts, BaselineConfig(batch_size=2))
    rows = {(row["prompt"], row["answer"]): row for row in tables["answer"].to_pylist()}
    for prompt, base in zip(prompts.prompts, tables["baseline"].to_pylist(), strict=True):
        totals = []
        for place, answer in enumerate(prompt.answers):
            expected = by_hand(list(prompt.token_ids), list(answer.ids))
            row = rows[prompt.prompt, place]
            assert row["logprob"] == pytest.approx(sum(expected), abs=1e-4)
            assert (row["logit"] is None) == (len(answer.ids) > 1)
            assert row["token_ids"] == (list(answer.ids) if len(answer.ids) > 1 else None)
            totals.append((answer.role, sum(expected)))
        best = max(total for role, total in totals[1:] if role in ("contrast", "distractor"))
        assert base["margin"] == pytest.approx(totals[0][1] - best, abs=1e-4)
        assert base["correct"] == (base["margin"] > 0)


def test_single_tokens_have_the_same_margin_both_ways(session: Session, tokenizer: Any) -> None:
    text = BEHAVIOUR.replace('answer = "cold and raw", contrasts = ["cold", "cold and hot"]', 'answer = "cold"').replace(
        ', contrasts = ["big and small"]', ""
    )
    text = text.replace("n_distractors = 2", "n_distractors = 1")
    single, several = (
        build_prompt_set([parse_behaviour(part, "long.toml")], tokenizer) for part in (text.replace('"sequence"', '"token"'), text)
    )
    tables = [baseline(session.opened.model, prompts) for prompts in (single, several)]
    assert tables[0]["baseline"].equals(tables[1]["baseline"])
    for prompt, row in zip(single.prompts, tables[0]["baseline"].to_pylist(), strict=True):
        totals = [sum(by_hand(list(prompt.token_ids), list(answer.ids))) for answer in prompt.answers]
        assert row["margin"] == pytest.approx(totals[0] - max(totals[1:]), abs=1e-4)


def test_a_plan_with_long_answers_stops_before_graphs(tmp_path: Any) -> None:
    path = tmp_path / "long.toml"
    path.write_text(BEHAVIOUR, encoding="utf-8")
    plan = Plan(transcoders="embedded:bilingual", behaviours=(str(path),), languages=("en",), until="activations")
    assert prepare(plan).prompts.has_sequences
    with pytest.raises(UsageError, match="' cold and raw' of behaviour long is 3 tokens"):
        prepare(replace(plan, until="graph"))


def test_a_behaviour_in_a_chat_template_keeps_its_positions(tokenizer: Any) -> None:
    text = BEHAVIOUR.replace('answers = "sequence"', 'answers = "sequence"\nchat = true\nsystem = "Be brief"')
    with pytest.raises(InputError, match="no chat template"):
        build_prompt_set([parse_behaviour(text, "long.toml")], tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<|endoftext|>{{ m.content }}\n{% endfor %}The word is"
    prompts: PromptSet = build_prompt_set([parse_behaviour(text, "long.toml")], tokenizer)
    prompt = prompts.prompts[0]
    assert prompt.text == "<|endoftext|>Be brief\n<|endoftext|>The opposite of hot is\nThe word is"
    assert prompt.token_ids[0] == tokenizer.eos_token_id
    assert prompt.roles[0] == "sink"
    assert [prompt.tokens[position] for position in prompt.content_positions] == [" hot"]
    assert [role for role, token in zip(prompt.roles, prompt.tokens, strict=True) if token == " hot"] == ["content"]
    assert len(prompt.roles) == len(prompt.token_ids) == len(prompt.offsets)
    with pytest.raises(InputError, match="needs a chat template"):
        parse_behaviour(text.replace("chat = true\n", ""), "long.toml")
