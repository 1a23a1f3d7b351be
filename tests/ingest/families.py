"""Tiny random-weight models of every supported family, and the names of their modules, written down a second time.

Nothing here comes from `ingest`, so that adapters are checked against an independent table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

LAYERS, WIDTH, VOCABULARY = 3, 24, 40
TOKENS = [0, 5, 17, 33, 8, 21]

_ROTARY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


@dataclass(frozen=True)
class Family:
    """How to build a model and where its modules are."""

    build: Callable[[], Any]
    layers: str = "model.layers"
    mlp_norm: str = "post_attention_layernorm"
    mlp_out: str = "mlp"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    final_norm: str = "model.norm"
    gain_offset: float = 0.0
    layer_norm: bool = False


_GEMMA_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _gemma(build: Callable[[], Any]) -> Family:
    return Family(
        build,
        mlp_norm="pre_feedforward_layernorm",
        mlp_out="post_feedforward_layernorm",
        norms=_GEMMA_NORMS,
        gain_offset=1.0,
    )


FAMILIES: dict[str, Family] = {
    "qwen3": Family(lambda: Qwen3ForCausalLM(Qwen3Config(**_ROTARY, tie_word_embeddings=True))),
    "qwen3_moe": Family(
        lambda: Qwen3MoeForCausalLM(
            Qwen3MoeConfig(
                **_ROTARY, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2, mlp_only_layers=[1], decoder_sparse_step=1
            )
        )
    ),
    "qwen2": Family(lambda: Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in _ROTARY.items() if k != "head_dim"}))),
    "llama": Family(lambda: LlamaForCausalLM(LlamaConfig(**_ROTARY, attention_bias=True))),
    "gemma2": _gemma(lambda: Gemma2ForCausalLM(Gemma2Config(**_ROTARY, query_pre_attn_scalar=8, sliding_window=4))),
    "gemma3_text": _gemma(
        lambda: Gemma3ForCausalLM(
            Gemma3TextConfig(
                **_ROTARY,
                query_pre_attn_scalar=8,
                sliding_window=4,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            )
        )
    ),
    "gpt2": Family(
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=4, bos_token_id=0, eos_token_id=0)
        ),
        layers="transformer.h",
        mlp_norm="ln_2",
        mlp_out="mlp",
        norms=("ln_1", "ln_2"),
        final_norm="transformer.ln_f",
        layer_norm=True,
    ),
}


def at(root: Any, path: str) -> Any:
    """Follow an attribute path."""
    for part in path.split("."):
        root = getattr(root, part)
    return root


def random_hf(family: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """Return a model with random weights, gains away from 1 and biases away from 0; equal for equal seeds."""
    torch.manual_seed(seed)
    hf = FAMILIES[family].build()
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" in name or ".ln_" in name:
                centre = 0.0 if FAMILIES[family].gain_offset or name.endswith("bias") else 1.0
                parameter.copy_(centre + 0.4 * torch.randn_like(parameter))
            elif parameter.ndim == 1:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(parameter.new_empty(parameter.shape).normal_(0, 0.25))
    hf.set_attn_implementation("eager")
    return hf.to(dtype).eval().requires_grad_(False)


def random_weights(
    kind: str = "relu", *, n_features: int = 40, seed: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[dict[int, dict[str, Tensor]], dict[str, object]]:
    """Return transcoder tensors by layer, as in `layer_{l}.safetensors`, and what config.yaml would hold.

    Kinds: relu, skip (asymmetric W_skip), jump_relu (thresholds below and above 0), topk, cross_layer.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).mul_(scale).to(dtype)

    config: dict[str, object] = {"scan": f"test/{kind}"}
    weights: dict[int, dict[str, Tensor]] = {}
    for layer in range(LAYERS):
        writes = (LAYERS - layer,) if kind == "cross_layer" else ()
        tensors = {
            "W_enc": normal(n_features, WIDTH, scale=WIDTH**-0.5),
            "W_dec": normal(n_features, *writes, WIDTH, scale=WIDTH**-0.5),
            "b_enc": normal(n_features, scale=0.3) - 0.5,
            "b_dec": normal(WIDTH, scale=0.3),
        }
        if kind == "skip":
            tensors["W_skip"] = normal(WIDTH, WIDTH, scale=0.5 * WIDTH**-0.5)
        if kind == "jump_relu":
            tensors["activation_function.threshold"] = normal(n_features, scale=0.7)
        weights[layer] = tensors
    if kind == "topk":
        config |= {"activation": "topk", "k": 6}
    if kind == "cross_layer":
        config |= {"model_kind": "cross_layer_transcoder"}
    return weights, config
