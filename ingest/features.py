"""Feature cards: what a feature writes, how long its rows are, and which features are like it.

In: a model, transcoders, the tables `feature` and `activation` of an extraction. Out: `feature` with its card's columns filled, and rows
of `neighbour`.

1. Promoted and suppressed tokens: logit weights = U (gain * W_dec[f]) with the final norm's gain and no denominator, the largest and
   the smallest; only for features that were active.
2. Norms of encoder and decoder rows, for every feature.
3. Neighbours by decoder cosine, in blocks of matrix products (never features x features in memory), among active features of layers
   up to `span` apart.
4. Neighbours by co-activation: Jaccard of the sets of active tokens, sinks left out, from sparse products.
A cross-layer feature is represented by the sum of its decoder rows over the layers it writes to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import sparse
from torch import Tensor

from ingest.batches import Progress, in_halving_batches
from ingest.model import LanguageModel
from ingest.transcoder import TranscoderSet


@dataclass(frozen=True)
class FeatureConfig:
    """How much a card holds."""

    n_tokens: int = 10
    """Promoted and suppressed tokens each."""
    n_neighbours: int = 10
    """Similar features of each kind."""
    span: int = 2
    """Layers to each side in which decoder cosines are looked for; 0 is the own layer only."""
    min_active: int = 3
    """Active tokens below which a feature has no co-activation neighbours: chance alone gives it a Jaccard of 1."""
    max_coactivation_tokens: int = 50_000
    """Tokens, evenly spaced, on which co-activation is counted."""
    max_elements: int = 1 << 26
    """Numbers of a block of logit weights or cosines."""


def features(
    model: LanguageModel,
    transcoders: TranscoderSet,
    measured: Mapping[str, pa.Table],
    config: FeatureConfig | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Fill the cards of `measured["feature"]` from weights and `measured["activation"]`.

    Returns `feature` (the given columns and the card's) and `neighbour`. `progress` counts layers.
    """
    config = config or FeatureConfig()
    table, activation = measured["feature"], measured["activation"]
    layers = sorted(pc.unique(table["layer"]).to_pylist())
    own = {layer: table.filter(pc.equal(table["layer"], layer)) for layer in layers}
    active = {layer: active_features(own[layer]) for layer in layers}
    together = Coactivity(
        layers, lambda layer, columns: activation.filter(pc.equal(activation["layer"], layer)).select(list(columns)), config
    )
    written, neighbours = [], []
    for done, layer in enumerate(layers):
        written.append(cards(model, transcoders, own[layer], layer, config))
        neighbours.append(cosine_neighbours(transcoders, layer, active, config))
        neighbours.append(together.neighbours(layer))
        if progress is not None:
            progress(done + 1, len(layers))
    return {"feature": pa.concat_tables(written), "neighbour": pa.concat_tables(neighbours)}


def output_vectors(transcoders: TranscoderSet, layer: int, features: Tensor) -> Tensor:
    """Return what features (n,) write to the residual stream in all, (n, D)."""
    total = transcoders.decoder_rows(layer, features)
    for target in transcoders.writes_to(layer):
        if target != layer:
            total = total + transcoders.decoder_rows(layer, features, target=target)
    return total


def logit_weights(model: LanguageModel, vectors: Tensor) -> Tensor:
    """Return logit weights (n, V) of residual-stream vectors (n, D): through the final norm's gain, no denominator."""
    one = torch.ones(1, dtype=vectors.dtype, device=vectors.device)
    return model.final_norm.forward(vectors, one) @ model.unembedding.to(vectors.dtype).T


def promoted_and_suppressed(
    model: LanguageModel, vectors: Tensor, n: int, max_elements: int = 1 << 26
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids and weights (N, n) of the tokens that vectors (N, D) raise most, then of those they lower most."""

    def run(part: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weights = logit_weights(model, vectors[part].to(model.device, model.dtype)).float()
        raised, lowered = weights.topk(n, dim=1), weights.topk(n, dim=1, largest=False)
        return raised.indices.cpu(), raised.values.cpu(), lowered.indices.cpu(), lowered.values.cpu()

    at_once = max(max_elements // model.vocab_size, 1)
    parts = list(in_halving_batches(len(vectors), at_once, run, what="features"))
    raised_ids, raised, lowered_ids, lowered = (torch.cat(column) for column in zip(*parts, strict=True))
    return raised_ids, raised, lowered_ids, lowered


def active_features(own: pa.Table) -> Tensor:
    """Return the features (n) int64 of a layer's rows of table `feature` that were active, ascending."""
    features = own.filter(pc.greater(own["n_active"], 0))["feature"].to_numpy()
    return torch.from_numpy(np.sort(features).astype(np.int64))


def cards(model: LanguageModel, transcoders: TranscoderSet, own: pa.Table, layer: int, config: FeatureConfig | None = None) -> pa.Table:
    """Append norms and token lists to the rows of one layer of table `feature`; features that were never active get no lists."""
    config, active = config or FeatureConfig(), active_features(own)
    row_feature = own["feature"].to_numpy()
    own = own.append_column("encoder_norm", pa.array(transcoders.encoder_norms(layer).float().cpu().numpy()[row_feature]))
    own = own.append_column("decoder_norm", pa.array(transcoders.decoder_norms(layer).float().cpu().numpy()[row_feature]))
    n = min(config.n_tokens, model.vocab_size)
    at = np.searchsorted(active.numpy(), row_feature)
    has_card = np.isin(row_feature, active.numpy())
    if len(active):
        vectors = output_vectors(transcoders, layer, active)
        raised_ids, raised, lowered_ids, lowered = promoted_and_suppressed(model, vectors, n, config.max_elements)
    else:
        raised_ids = lowered_ids = torch.zeros(0, n, dtype=torch.int64)
        raised = lowered = torch.zeros(0, n)
    order = at[has_card]
    texts = _TokenTexts(model)
    for name, ids, weights in (("promoted", raised_ids, raised), ("suppressed", lowered_ids, lowered)):
        chosen = ids.numpy()[order]
        own = own.append_column(f"{name}_token_ids", _lists(pa.array(chosen.ravel().astype(np.int32)), has_card, n))
        own = own.append_column(f"{name}_tokens", _lists(texts.of(chosen.ravel()), has_card, n))
        own = own.append_column(f"{name}_weights", _lists(pa.array(weights.numpy()[order].ravel()), has_card, n))
    return own


def _lists(values: pa.Array, present: np.ndarray, length: int) -> pa.ListArray:
    """Return lists of equal length where `present`, null elsewhere."""
    offsets = np.concatenate([[0], np.cumsum(present * length)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~present))


class _TokenTexts:
    """Texts of tokens, each decoded once."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def of(self, ids: np.ndarray) -> pa.Array:
        unique, inverse = np.unique(ids, return_inverse=True)
        texts = pa.array(self.model.token_texts([int(token) for token in unique]), pa.string())
        return texts.take(pa.array(inverse))


def cosine_neighbours(
    transcoders: TranscoderSet, layer: int, active: Mapping[int, Tensor], config: FeatureConfig | None = None
) -> pa.Table:
    """Return the nearest features of layers up to `span` apart for each feature of a layer; `active`: layer -> active features."""
    config = config or FeatureConfig()
    own = _unit_rows(transcoders, layer, active[layer])
    others = [other for other in active if abs(other - layer) <= config.span and len(active[other])]
    best = torch.full((len(own), 0), 0.0, device=own.device)
    best_layer = best_feature = torch.zeros(len(own), 0, dtype=torch.int64, device=own.device)
    for other in others:
        rows = own if other == layer else _unit_rows(transcoders, other, active[other])
        similarity, index = _blocked_top(own, rows, config, same=other == layer)
        best = torch.cat([best, similarity], dim=1)
        best_layer = torch.cat([best_layer, torch.full_like(index, other)], dim=1)
        best_feature = torch.cat([best_feature, active[other].to(index.device)[index]], dim=1)
        best, order = best.sort(dim=1, descending=True, stable=True)
        best, order = best[:, : config.n_neighbours], order[:, : config.n_neighbours]
        best_layer, best_feature = best_layer.gather(1, order), best_feature.gather(1, order)
    finite = torch.isfinite(best)
    which, rank = finite.nonzero(as_tuple=True)
    return _neighbour_table(
        np.full(len(which), layer),
        active[layer].numpy()[which.cpu().numpy()],
        "decoder_cosine",
        rank.cpu().numpy(),
        best_layer[finite].cpu().numpy(),
        best_feature[finite].cpu().numpy(),
        best[finite].float().cpu().numpy(),
    )


def _unit_rows(transcoders: TranscoderSet, layer: int, features: Tensor) -> Tensor:
    vectors = output_vectors(transcoders, layer, features)
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-30)
    return unit


def _blocked_top(own: Tensor, rows: Tensor, config: FeatureConfig, *, same: bool) -> tuple[Tensor, Tensor]:
    """Return the n largest cosines (N, n) of own (N, D) with rows (M, D), and their index; itself left out where `same`."""
    n = min(config.n_neighbours, len(rows))

    def run(part: slice) -> tuple[Tensor, Tensor]:
        cosine = own[part] @ rows.T
        if same:
            index = torch.arange(part.start, part.stop, device=cosine.device)
            cosine[index - part.start, index] = -torch.inf
        top = cosine.topk(n, dim=1)
        return top.values, top.indices

    blocks = list(in_halving_batches(len(own), max(config.max_elements // max(len(rows), 1), 1), run, what="features"))
    if not blocks:
        return own.new_zeros(0, n), torch.zeros(0, n, dtype=torch.int64, device=own.device)
    return torch.cat([values for values, _ in blocks]), torch.cat([index for _, index in blocks])


class Coactivity:
    """On which tokens the features of all layers are active, as one sparse matrix; read layer by layer.

    At most `max_coactivation_tokens` tokens are kept, so that memory does not grow with the prompt set: 8 bytes an active feature on
    one of them.
    """

    def __init__(self, layers: Sequence[int], read: Callable[[int, Sequence[str]], pa.Table], config: FeatureConfig | None = None) -> None:
        self.layers, self.read, self.config = tuple(layers), read, config or FeatureConfig()

    def neighbours(self, layer: int) -> pa.Table:
        """Return, for each feature of a layer, the features of any layer with the largest Jaccard of active tokens."""
        names, counts, matrix = self._tokens
        own = np.flatnonzero(names >> 32 == layer)
        part = slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(0, 0)
        empty = np.zeros(0, np.int64)
        found = [(empty, empty, empty, np.zeros(0))]
        for start in range(part.start, part.stop, 2048):
            found.append(_jaccard_block(matrix, counts, slice(start, min(start + 2048, part.stop)), self.config.n_neighbours))
        row, rank, other, value = (np.concatenate(column) for column in zip(*found, strict=True))
        low = (1 << 32) - 1
        return _neighbour_table(names[row] >> 32, names[row] & low, "coactivation", rank, names[other] >> 32, names[other] & low, value)

    @cached_property
    def _tokens(self) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
        """Return features (layer << 32 | feature), their active tokens, and the matrix (features, tokens) of those active often enough."""
        tokens = self._chosen_tokens()
        names, counts, blocks = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [sparse.csr_matrix((0, len(tokens)), dtype=np.int32)]
        for layer in self.layers:
            token, feature = self._active(layer, ("prompt", "position", "feature"))
            at = np.minimum(np.searchsorted(tokens, token), max(len(tokens) - 1, 0))
            keep = tokens[at] == token if len(tokens) else np.zeros(0, bool)
            at, feature = at[keep], feature[keep]
            own, index, n = np.unique(feature, return_inverse=True, return_counts=True)
            frequent = n >= self.config.min_active
            keep = frequent[index]
            place = (np.cumsum(frequent) - 1)[index[keep]]
            shape = (int(frequent.sum()), len(tokens))
            blocks.append(sparse.csr_matrix((np.ones(len(place), np.int32), (place, at[keep])), shape=shape))
            names.append(layer << 32 | own[frequent].astype(np.int64))
            counts.append(n[frequent])
        return np.concatenate(names), np.concatenate(counts), sparse.vstack(blocks, format="csr")

    def _chosen_tokens(self) -> np.ndarray:
        """Return the tokens where anything is active, ascending; evenly spaced ones where there are too many."""
        tokens = np.zeros(0, np.int64)
        for layer in self.layers:
            tokens = np.union1d(tokens, self._active(layer, ("prompt", "position"))[0])
        if len(tokens) > self.config.max_coactivation_tokens:
            tokens = tokens[np.linspace(0, len(tokens) - 1, self.config.max_coactivation_tokens).astype(int)]
        return tokens

    def _active(self, layer: int, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return token (prompt << 16 | position) and feature of a layer's rows, sinks left out."""
        rows = self.read(layer, columns)
        counted = rows.filter(pc.greater(rows["position"], 0))
        token = counted["prompt"].to_numpy().astype(np.int64) << 16 | counted["position"].to_numpy().astype(np.int64)
        return token, counted["feature"].to_numpy() if "feature" in columns else np.zeros(0, np.int32)


def _jaccard_block(
    matrix: sparse.csr_matrix, counts: np.ndarray, part: slice, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (row, rank, other, Jaccard) of the n most co-active features of each row of a block."""
    both = (matrix[part] @ matrix.T).tocoo()
    row, other = both.row.astype(np.int64) + part.start, both.col.astype(np.int64)
    value = both.data / (counts[row] + counts[other] - both.data)
    apart = row != other
    row, other, value = row[apart], other[apart], value[apart]
    order = np.lexsort((other, -value, row))
    row, other, value = row[order], other[order], value[order]
    starts = np.searchsorted(row, row)
    rank = np.arange(len(row)) - starts
    keep = rank < n
    return row[keep], rank[keep], other[keep], value[keep]


def _neighbour_table(
    layer: np.ndarray,
    feature: np.ndarray,
    kind: str,
    rank: np.ndarray,
    neighbour_layer: np.ndarray,
    neighbour_feature: np.ndarray,
    similarity: np.ndarray,
) -> pa.Table:
    return pa.table(
        {
            "layer": pa.array(layer.astype(np.int16)),
            "feature": pa.array(feature.astype(np.int32)),
            "kind": pa.array([kind] * len(feature), pa.string()),
            "rank": pa.array(rank.astype(np.int16)),
            "neighbour_layer": pa.array(neighbour_layer.astype(np.int16)),
            "neighbour_feature": pa.array(neighbour_feature.astype(np.int32)),
            "similarity": pa.array(similarity.astype(np.float32)),
        }
    )
