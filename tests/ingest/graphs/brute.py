"""Attribution by autograd through plain transformers models; nothing here comes from `ingest`.

The model itself is frozen: softmax and norm denominators are detached, an MLP's output is replaced by a constant leaf plus
the skip connection. The gradient of a target's pre-activation at the leaves, times the source vectors, is the edge.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.ingest.families import FAMILIES, LAYERS, at


@dataclass(frozen=True)
class Frozen:
    """The differentiable quantities of one frozen pass, one prompt."""

    mlp_in: list[Tensor]
    """per layer (T, D)."""
    mlp_out: list[Tensor]
    """per layer (T, D), leaves without the skip connection."""
    embeddings: Tensor
    """(T, D), a leaf: token embeddings."""
    final: Tensor
    """(T, D)."""


@contextmanager
def detached_softmax() -> Iterator[None]:
    """Make attention patterns constants, in the dtype of their scores; routers (2-D) stay as transformers has them."""

    def softmax(scores: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
        return torch.softmax(scores, dim, dtype=dtype if scores.ndim == 2 else None).detach()

    with mock.patch("torch.nn.functional.softmax", softmax):
        yield


def patch_norms(hf: Any, family: str) -> None:
    """Give every norm of the residual stream a constant denominator, all in the model's dtype."""
    place = FAMILIES[family]

    def patch(norm: Any) -> None:
        eps = getattr(norm, "variance_epsilon", None) or norm.eps

        def forward(x: Tensor) -> Tensor:
            if place.layer_norm:
                x = x - x.mean(-1, keepdim=True)
            r = (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt().detach()
            bias = norm.bias if place.layer_norm else 0.0
            return x * r * (norm.weight + place.gain_offset) + bias

        norm.forward = forward

    for layer in at(hf, place.layers):
        for path in place.norms:
            patch(at(layer, path))
        attention = getattr(layer, "self_attn", None)
        for name in ("q_norm", "k_norm"):
            if hasattr(attention, name):
                patch(getattr(attention, name))
    patch(at(hf, place.final_norm))


def frozen_pass(hf: Any, family: str, weights: dict[int, dict[str, Tensor]], tokens: list[int]) -> Frozen:
    """Run one prompt through a model of `families.random_hf`, which is changed for good."""
    place = FAMILIES[family]
    patch_norms(hf, family)
    if hasattr(hf, "set_experts_implementation"):
        hf.set_experts_implementation("eager")
    mlp_in: list[Tensor] = []
    mlp_out: list[Tensor] = []

    def note_input(_module: Any, _inputs: Any, output: Tensor) -> None:
        mlp_in.append(output)

    def hold_output(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        skip = weights[len(mlp_out)].get("W_skip")
        skipped = 0.0 if skip is None else mlp_in[-1] @ skip.T
        leaf = (output - skipped).detach().requires_grad_(True)
        mlp_out.append(leaf)
        return leaf + skipped

    for layer in at(hf, place.layers):
        at(layer, place.mlp_norm).register_forward_hook(note_input)
        at(layer, place.mlp_out).register_forward_hook(hold_output)
    embeddings = hf.get_input_embeddings()(torch.tensor([tokens])).detach().requires_grad_(True)
    with detached_softmax():
        final = hf.get_decoder()(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    return Frozen([x[0] for x in mlp_in], mlp_out, embeddings, final[0])


def edges_into(
    frozen: Frozen,
    target: Tensor,
    weights: dict[int, dict[str, Tensor]],
    active: list[tuple[int, int, int]],
    activation: Tensor,
    errors: Tensor,
    token_vectors: Tensor,
) -> Tensor:
    """Return edges into one scalar target from features, errors and tokens, in node order."""
    leaves = [*frozen.mlp_out, frozen.embeddings]
    found = torch.autograd.grad(target, leaves, retain_graph=True, allow_unused=True)
    gradients = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
    at_mlp = torch.stack([g[0] for g in gradients[:LAYERS]])  # (L, T, D)
    edges: list[Tensor] = []
    for (layer, position, feature), value in zip(active, activation, strict=True):
        decoder = weights[layer]["W_dec"][feature]
        if decoder.ndim == 1:
            edges.append(value * decoder @ at_mlp[layer, position])
        else:
            edges.append(sum(value * row @ at_mlp[layer + step, position] for step, row in enumerate(decoder)))  # type: ignore[arg-type]
    return torch.cat([torch.stack(edges), (errors * at_mlp).sum(-1).flatten(), (token_vectors * gradients[-1][0]).sum(-1)])
