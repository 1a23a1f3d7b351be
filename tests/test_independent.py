"""The demo atlas against plain transformers: margins, features and ablations computed again with hooks, importing nothing of `ingest`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

import atlas
from atlas.reader import Reader

EMBEDDED = Path(__file__).parent.parent / "ingest" / "tiny" / "data" / "bilingual"
RUN = "(select run_id from run where name = 'bilingual')"
SOME = range(0, 768, 24)
"""Prompts that are computed again: both languages, all splits."""


@pytest.fixture(scope="module")
def reader(demo_atlas: Path) -> Iterator[Reader]:
    with atlas.open(demo_atlas) as opened:
        yield opened


@pytest.fixture(scope="module")
def model() -> Any:
    return Qwen3ForCausalLM.from_pretrained(EMBEDDED / "model").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokens(reader: Reader) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    text = f"select item, token_id from token where run_id = {RUN} and source = 'prompt' order by item, position"
    for prompt, token_id in reader.sql(text).rows():
        found[prompt].append(token_id)
    return dict(found)


@pytest.fixture(scope="module")
def answers(reader: Reader) -> dict[int, tuple[int, list[int]]]:
    """Prompt -> the correct token, and those that it is compared with."""
    correct: dict[int, int] = {}
    contrasts: dict[int, list[int]] = defaultdict(list)
    for prompt, role, token_id in reader.sql(f"select prompt, role::varchar, token_id from answer where run_id = {RUN}").rows():
        if role == "correct":
            correct[prompt] = token_id
        elif role in ("contrast", "distractor"):
            contrasts[prompt].append(token_id)
    return {prompt: (token_id, contrasts[prompt]) for prompt, token_id in correct.items()}


def margin(model: Any, ids: list[int], answer: tuple[int, list[int]]) -> float:
    logits = model(torch.tensor([ids])).logits[0, -1].float()
    return float(logits[answer[0]] - logits[answer[1]].max())


@contextmanager
def hooked(module: Any, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_margins_equal_those_of_plain_transformers(
    reader: Reader, model: Any, tokens: dict[int, list[int]], answers: dict[int, tuple[int, list[int]]]
) -> None:
    stored = dict(reader.sql(f"select prompt, margin from baseline where run_id = {RUN}").rows())
    for prompt in SOME:
        assert stored[prompt] == pytest.approx(margin(model, tokens[prompt], answers[prompt]), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("layer", range(6))
def test_activations_equal_a_dense_computation(reader: Reader, model: Any, tokens: dict[int, list[int]], layer: int) -> None:
    weights = load_file(EMBEDDED / "transcoders" / f"layer_{layer}.safetensors")
    w_enc, b_enc = weights["W_enc"].float(), weights["b_enc"].float()
    chosen = list(SOME)[::4]
    text = f"select prompt, position, feature, activation from activation where run_id = {RUN} and layer = {layer}"
    stored = {row[:3]: row[3] for row in reader.sql(f"{text} and prompt in ({', '.join(map(str, chosen))})").rows()}
    expected: dict[tuple[int, int, int], float] = {}
    for prompt in chosen:
        seen: list[torch.Tensor] = []
        with hooked(model.model.layers[layer].post_attention_layernorm, lambda _m, _i, out, seen=seen: seen.append(out[0])):
            model(torch.tensor([tokens[prompt]]))
        pre = seen[0] @ w_enc.T + b_enc  # (T, F)
        for position, feature in (pre > 1e-4).nonzero().tolist():
            expected[prompt, position, feature] = float(pre[position, feature])
    assert len(expected) > 100
    assert all(key in stored for key in expected)
    assert all(value < 2e-4 for key, value in stored.items() if key not in expected)
    assert max(abs(stored[key] - value) for key, value in expected.items()) < 1e-4


def test_ablations_equal_a_forward_pass_by_hand(
    reader: Reader, model: Any, tokens: dict[int, list[int]], answers: dict[int, tuple[int, list[int]]]
) -> None:
    text = f"""
        select layer, feature, prompt, margin_after, effect
        from intervention
        join intervention_member using (run_id, intervention)
        join outcome using (run_id, intervention)
        where run_id = {RUN} and rule = 'zero' and n_members = 1 and control is null and positions = 'decision' and abs(effect) > 0.2
        order by abs(effect) desc, layer, feature, prompt
        limit 30
    """
    rows = reader.sql(text).rows()
    assert len(rows) == 30
    for layer, feature, prompt, margin_after, effect in rows:
        weights = load_file(EMBEDDED / "transcoders" / f"layer_{layer}.safetensors")
        encoder, bias = weights["W_enc"][feature].float(), weights["b_enc"][feature].float()
        decoder = weights["W_dec"][feature].float()

        def ablate(
            _module: Any,
            inputs: tuple[torch.Tensor],
            out: torch.Tensor,
            encoder: torch.Tensor = encoder,
            bias: torch.Tensor = bias,
            decoder: torch.Tensor = decoder,
        ) -> torch.Tensor:
            activation = torch.relu(inputs[0][0, -1] @ encoder + bias)
            changed = out.clone()
            changed[0, -1] -= activation * decoder
            return changed

        before = margin(model, tokens[prompt], answers[prompt])
        with hooked(model.model.layers[layer].mlp, ablate):
            after = margin(model, tokens[prompt], answers[prompt])
        assert margin_after == pytest.approx(after, abs=1e-4)
        assert effect == pytest.approx(after - before, abs=1e-4)
