"""Baselines against the model's own logits."""

import pyarrow as pa
import pytest
import torch

from atlas.errors import GateError, ModelError
from ingest.baseline import Accuracy, BaselineConfig, baseline, check_gate
from ingest.model import LanguageModel
from ingest.prompts import PromptSet
from tests.ingest.random_world import plain_copy, plain_margin, random_model, random_prompts


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_model()


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return random_prompts()


@pytest.fixture(scope="module")
def tables(model: LanguageModel, prompts: PromptSet) -> dict[str, pa.Table]:
    return baseline(model, prompts, BaselineConfig(batch_size=5))


def test_margins_equal_those_of_plain_transformers(model: LanguageModel, prompts: PromptSet, tables: dict[str, pa.Table]) -> None:
    plain = plain_copy(model)
    for row, prompt in zip(tables["baseline"].to_pylist(), prompts.prompts, strict=True):
        margin = plain_margin(plain, prompt)
        assert row["prompt"] == prompt.prompt
        assert row["margin"] == pytest.approx(margin, abs=1e-5)
        assert row["correct"] == (margin > 0)


def test_answers_have_the_logits_ranks_and_probabilities_of_plain_transformers(
    model: LanguageModel, prompts: PromptSet, tables: dict[str, pa.Table]
) -> None:
    plain = plain_copy(model)
    rows = {(row["prompt"], row["answer"]): row for row in tables["answer"].to_pylist()}
    assert len(rows) == 3 * len(prompts.prompts)
    for prompt, row in zip(prompts.prompts, tables["baseline"].to_pylist(), strict=True):
        logits = plain(torch.tensor([prompt.token_ids])).logits[0, -1].double()
        logprob = logits - logits.logsumexp(0)
        assert row["top1_token_id"] == int(logits.argmax())
        assert row["entropy"] == pytest.approx(float(-(logprob.exp() * logprob).sum()), abs=1e-5)
        for ordinal, answer in enumerate(prompt.answers):
            found = rows[prompt.prompt, ordinal]
            assert found["token_id"] == answer.token_id
            assert found["role"] == answer.role
            assert found["logprob"] == pytest.approx(float(logprob[answer.token_id]), abs=1e-5)
            assert found["rank"] == sorted(logits.tolist(), reverse=True).index(float(logits[answer.token_id]))


def test_wilson_interval_of_accuracy() -> None:
    # Worked by hand: p = 8/10, z = 1.959964; centre .716739, half-width .226494.
    low, high = Accuracy("en", 8, 10).interval
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-5)


def test_gate_names_behaviour_language_and_numbers(prompts: PromptSet, tables: dict[str, pa.Table]) -> None:
    correct = {row["prompt"]: row["correct"] for row in tables["baseline"].to_pylist()}
    english = [correct[prompt.prompt] for prompt in prompts.prompts if prompt.language == "en"]
    with pytest.raises(GateError, match=rf"random in en: accuracy .*{sum(english)} of {len(english)}\), gate 1.00"):
        check_gate(prompts, tables["baseline"], {"random": 1.0})
    measured = check_gate(prompts, tables["baseline"], {"random": 0.0})
    assert measured["random", "en"].n_correct == sum(english)


def test_infinite_logits_name_the_prompt(prompts: PromptSet) -> None:
    model = random_model()
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[prompts.prompts[4].token_ids[2]] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        baseline(model, prompts)
