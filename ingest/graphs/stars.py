"""Star edges: how much each active feature adds to the margin of its prompt, to first order.

In: a model, transcoders, prompts. Out: one `Star` row per active (prompt, position, layer, feature), and the same for the token
embeddings and the reconstruction errors (METHODS section 3).

1. A clean pass keeps MLP inputs, attention patterns and norm denominators; encoders give the activations a_f.
2. A second pass adds zeros to every MLP output; the margin's gradient in these zeros is g_l[p] = d margin / d m_l[p].
   star_total  = a_f <g_l[p], W_dec[f]> with nothing frozen;
   star_direct = the same where patterns, denominators and MLP outputs are constants (a skip connection stays live).
3. The error's share of the output at a place: <g, m - m^>, with <g, m^> read off the stars and b_dec (and x W_skip^T).
A feature of a cross-layer set adds up over the layers it writes to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ingest.baseline import margins
from ingest.batches import Progress, in_halving_batches, pad_right
from ingest.model import LanguageModel
from ingest.prompts import Prompt
from ingest.statistics import ROLES
from ingest.taps import Captured, Freeze, freeze_for
from ingest.transcoder import Sparse, TranscoderSet

_GATHERED_NUMBERS = 1 << 24
"""Decoder numbers gathered at a time."""


@dataclass(frozen=True)
class Stars:
    """Active features and their first-order effects; R rows sorted by layer, prompt, position, feature."""

    layer: np.ndarray
    """(R) int16."""
    prompt: np.ndarray
    """(R) int32: index into the given prompts."""
    position: np.ndarray
    """(R) int16."""
    role: np.ndarray
    """(R) int8: index into `ROLES`."""
    feature: np.ndarray
    """(R) int32."""
    activation: np.ndarray
    """(R) float32."""
    total: np.ndarray
    """(R) float64."""
    direct: np.ndarray
    """(R) float64."""


@dataclass(frozen=True)
class Inputs:
    """The same for token embeddings: one row per (prompt, position), sinks left out."""

    prompt: np.ndarray
    position: np.ndarray
    role: np.ndarray
    token: np.ndarray
    """(R) int64: token id."""
    total: np.ndarray
    direct: np.ndarray


@dataclass(frozen=True)
class StarResult:
    """What `stars` returns."""

    stars: Stars
    inputs: Inputs
    unexplained_share: float | None
    """sum |<g, error>| / (sum |<g, error>| + sum |<g, features>|) over (prompt, position, layer), g of the direct pass."""


def stars(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> StarResult:
    """Compute the star values of every active feature (sinks left out) of the given layers.

    Gradients are taken in the model's dtype: load it in float32 for values to trust.
    """
    pieces: list[tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray], float, float]] = []

    def run(part: slice) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray], float, float]:
        return _batch(model, transcoders, prompts[part], part.start, layers)

    for piece in in_halving_batches(len(prompts), batch_size, run):
        pieces.append(piece)
        if progress is not None:
            done = int(piece[1]["prompt"][-1]) + 1
            progress(done, len(prompts))
    rows = [row for piece in pieces for row in piece[0]]
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    order = np.lexsort((joined["feature"], joined["position"], joined["prompt"], joined["layer"]))
    inputs = {name: np.concatenate([piece[1][name] for piece in pieces]) for name in pieces[0][1]}
    error, explained = sum(piece[2] for piece in pieces), sum(piece[3] for piece in pieces)
    return StarResult(
        Stars(**{name: values[order] for name, values in joined.items()}),
        Inputs(**inputs),
        error / (error + explained) if error + explained > 0 else None,
    )


def margin_gradients(
    model: LanguageModel, prompts: Sequence[Prompt], clean: Captured, layers: Sequence[int], freeze: Freeze | None
) -> tuple[dict[int, Tensor], Tensor]:
    """Return d margin / d m_l, layer -> (B, T, D), and d margin / d embeddings (B, T, D); zeros where nothing leads to the output."""
    zeros = {layer: torch.zeros_like(clean.final, requires_grad=True) for layer in layers}

    def edit(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        return mlp_out + zeros[layer] if layer in zeros else mlp_out

    captured = model.capture(clean.tokens, clean.mask, mlp=False, gradients=True, edit=edit, freeze=freeze)
    decision = torch.tensor([prompt.decision_position for prompt in prompts], device=model.device)
    states = captured.final[torch.arange(len(prompts), device=model.device), decision]
    with torch.enable_grad():
        # One backward pass serves the batch: a prompt's margin does not depend on other prompts.
        total = margins(model, states, prompts, softcap=freeze is None).sum()
    leaves = [*zeros.values(), captured.embeddings]
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    filled = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]
    return dict(zip(zeros, filled[:-1], strict=True)), filled[-1]


def _batch(
    model: LanguageModel, transcoders: TranscoderSet, prompts: Sequence[Prompt], first: int, layers: Sequence[int]
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray], float, float]:
    ids, mask = pad_right([prompt.token_ids for prompt in prompts])
    clean = model.capture(ids, mask, patterns=True, denominators=True)
    written = sorted({target for layer in layers for target in transcoders.writes_to(layer)})
    direct_freeze = freeze_for("direct", clean, skip=transcoders.skip if transcoders.has_skip else None)
    total_gradient, total_embedding = margin_gradients(model, prompts, clean, written, None)
    direct_gradient, direct_embedding = margin_gradients(model, prompts, clean, written, direct_freeze)

    kept = mask.clone()
    kept[:, 0] = False  # the sink
    row, position = kept.nonzero(as_tuple=True)
    role = torch.tensor([ROLES.index(prompts[r].roles[p]) for r, p in zip(row.tolist(), position.tolist(), strict=True)])
    kept = kept.to(model.device)
    places: dict[str, np.ndarray] = {
        "prompt": (row + first).numpy().astype(np.int32),
        "position": position.numpy().astype(np.int16),
        "role": role.numpy().astype(np.int8),
    }
    flat_total = {layer: g[kept] for layer, g in total_gradient.items()}
    flat_direct = {layer: g[kept] for layer, g in direct_gradient.items()}
    rows: list[dict[str, np.ndarray]] = []
    explained_at = {layer: torch.zeros(len(row), dtype=torch.float64) for layer in written}
    for layer in layers:
        sparse = transcoders.encode_sparse(layer, clean.mlp_in[layer][kept])
        total = star_values(transcoders, layer, sparse, flat_total)
        direct = star_values(transcoders, layer, sparse, flat_direct)
        for target, values in direct.items():
            explained_at[target].index_add_(0, sparse.token.cpu(), values)
        token = sparse.token.cpu().numpy()
        rows.append(
            {name: values[token] for name, values in places.items()}
            | {
                "layer": np.full(len(token), layer, np.int16),
                "feature": sparse.feature.cpu().numpy().astype(np.int32),
                "activation": sparse.value.float().cpu().numpy(),
                "total": torch.stack(list(total.values())).sum(0).numpy(),
                "direct": torch.stack(list(direct.values())).sum(0).numpy(),
            }
        )
    error, explained = _error_shares(transcoders, clean, kept, layers, flat_direct, explained_at)
    embeddings = clean.embeddings[kept].double()
    inputs = places | {
        "token": clean.tokens[kept].cpu().numpy(),
        "total": (total_embedding[kept].double() * embeddings).sum(1).cpu().numpy(),
        "direct": (direct_embedding[kept].double() * embeddings).sum(1).cpu().numpy(),
    }
    return rows, inputs, error, explained


def star_values(transcoders: TranscoderSet, layer: int, sparse: Sparse, gradients: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return target layer -> a_f <g_target[p], W_dec[f -> target]> (n) float64 on the CPU, for gradients (N, D) of flat tokens."""
    values: dict[int, Tensor] = {}
    at_once = max(_GATHERED_NUMBERS // transcoders.d_model, 1)
    for target in transcoders.writes_to(layer):
        pieces = [torch.zeros(0, dtype=torch.float64)]
        for start in range(0, len(sparse.feature), at_once):
            part = slice(start, start + at_once)
            decoder = transcoders.decoder_rows(layer, sparse.feature[part], target=target)
            g = gradients[target][sparse.token[part].to(gradients[target].device)].to(decoder)
            product = (g * decoder).sum(1, dtype=_accumulator(decoder)) * sparse.value[part]
            pieces.append(product.double().cpu())
        values[target] = torch.cat(pieces)
    return values


def _accumulator(tensor: Tensor) -> torch.dtype:
    """Return the dtype to add up in: float32 at least."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _error_shares(
    transcoders: TranscoderSet,
    clean: Captured,
    kept: Tensor,
    layers: Sequence[int],
    gradients: Mapping[int, Tensor],
    explained_at: Mapping[int, Tensor],
) -> tuple[float, float]:
    """Return sum |<g, error>| and sum |<g, features>| over the places of the given layers."""
    error_sum = explained_sum = 0.0
    for layer in layers:
        if transcoders.cross_layer and not set(transcoders.sources_of(layer)) <= set(layers):
            continue  # its prediction needs features that were not encoded
        g = gradients[layer].double()
        constant = transcoders.decoder_bias(layer) + transcoders.skip(layer, clean.mlp_in[layer][kept])
        unexplained = (g * (clean.mlp_out[layer][kept].double() - constant.to(g))).sum(1).cpu()
        error_sum += float((unexplained - explained_at[layer]).abs().sum())
        explained_sum += float(explained_at[layer].abs().sum())
    return error_sum, explained_sum
