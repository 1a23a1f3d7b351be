"""Virtual weights: what one feature adds to a later feature's pre-activation along the residual stream alone.

In: selected nodes, their activations token by token, weights by rows. Out: `VirtualEdges`.

    V_ij = (W_enc'[j] * g_l') . W_dec[i]            static; the norm's denominator is left out (METHODS section 3)
    attribution      = E[1(a_j > 0) a_i] V_ij       over the graph's tokens
    target_weighted  = E[a_i a_j] / E[a_j] V_ij

1. Sub-matrices of V between the nodes of each pair of layers; a whole encoder or decoder is never needed.
2. Co-activation sums by sparse products over tokens, per cluster and language.
3. The strongest edges by the largest |attribution| over languages; the same for each bootstrap draw of clusters.
The gain g enters where the encoder reads after it; a LayerNorm's centring is part of the map. A cross-layer feature arrives at l' with
the sum of what it wrote to the layers before. Token embeddings reach features at their own position the same way (input edges).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ingest.graphs.selection import NO_ROLE, Design, EdgeConfig, FeatureNodes
from ingest.graphs.stars import Inputs, Stars
from ingest.model import LanguageModel
from ingest.transcoder import TranscoderSet

_CANDIDATES_PER_EDGE = 4
"""Edges looked at in bootstrap draws for each edge kept."""


@dataclass(frozen=True)
class VirtualEdges:
    """E edges; a source is a feature node or, where `source_role` is set, the input node of that role."""

    source: np.ndarray
    """(E) node index, -1 for inputs."""
    source_role: np.ndarray
    """(E) role of an input, `NO_ROLE` for features."""
    target: np.ndarray
    """(E) node index."""
    static: np.ndarray
    """(E) V_ij; NaN for inputs, whose embeddings differ from prompt to prompt."""
    weight: np.ndarray
    """(E) V_ij; for inputs the mean over prompts of the sum over tokens."""
    sd: np.ndarray
    """(E) over prompts, NaN for features."""
    attribution: np.ndarray
    target_weighted: np.ndarray
    """(E) NaN for inputs."""
    n_prompts: np.ndarray
    selection_frequency: np.ndarray
    """(E) NaN for inputs."""
    language_prompts: np.ndarray
    """(E, languages)."""
    language_weight: np.ndarray
    """(E, languages) as `weight`."""
    language_attribution: np.ndarray
    """(E, languages)."""


def reading_rows(model: LanguageModel, transcoders: TranscoderSet, layer: int, features: Tensor) -> Tensor:
    """Return encoder rows (n, D) as they read the residual stream: through the MLP norm's gain and centring, no denominator."""
    rows = transcoders.encoder_rows(layer, features)
    norm = model.norm(layer, "mlp")
    if transcoders.read_site == "residual" or norm is None:
        return rows
    one = torch.ones(1, dtype=rows.dtype, device=rows.device)
    return norm.backward(rows, one, gain=transcoders.read_site == "mlp_in")


def written_rows(transcoders: TranscoderSet, layer: int, features: Tensor, before: int) -> Tensor:
    """Return what features (n,) have written to the residual stream before the MLP of layer `before`, (n, D)."""
    total = torch.zeros(len(features), transcoders.d_model, dtype=transcoders.dtype, device=transcoders.device)
    for target in transcoders.writes_to(layer):
        if target < before:
            total = total + transcoders.decoder_rows(layer, features, target=target)
    return total


def virtual_weights(
    model: LanguageModel,
    transcoders: TranscoderSet,
    source_layer: int,
    source_features: Tensor,
    target_layer: int,
    target_features: Tensor,
) -> Tensor:
    """Return V (targets, sources) between chosen features of two layers, source_layer < target_layer."""
    read = reading_rows(model, transcoders, target_layer, target_features)
    return read @ written_rows(transcoders, source_layer, source_features, target_layer).T


def virtual_edges(
    model: LanguageModel,
    transcoders: TranscoderSet,
    nodes: FeatureNodes,
    rows: Stars,
    inputs: Inputs,
    design: Design,
    config: EdgeConfig,
) -> VirtualEdges:
    """Return the strongest virtual weights between nodes and every input edge with enough prompts."""
    tokens = _Tokens(nodes, rows, inputs, design)
    static = _static_matrix(model, transcoders, nodes)
    return _joined(_feature_edges(static, tokens, design, config), _input_edges(model, transcoders, nodes, tokens, inputs, design, config))


class _Tokens:
    """Activations of the nodes on the graph's tokens, sparse, (tokens, nodes)."""

    def __init__(self, nodes: FeatureNodes, rows: Stars, inputs: Inputs, design: Design) -> None:
        by_role = len(nodes) > 0 and nodes.role[0] != NO_ROLE
        token_key = _token_key(inputs.prompt, inputs.position)
        order = np.argsort(token_key)
        token = order[np.searchsorted(token_key[order], _token_key(rows.prompt, rows.position))]
        names = _name(nodes.layer, nodes.feature, nodes.role)
        name_order = np.argsort(names)
        wanted = _name(rows.layer, rows.feature, rows.role if by_role else np.full(len(rows.role), NO_ROLE))
        at = np.searchsorted(names[name_order], wanted)
        at = np.minimum(at, len(names) - 1)
        use = (names[name_order][at] == wanted) & (rows.activation > 0)
        shape = (len(token_key), len(nodes))
        self.values = sparse.csr_matrix((rows.activation[use].astype(np.float64), (token[use], name_order[at[use]])), shape)
        self.prompt = inputs.prompt
        self.language = design.language[inputs.prompt]
        self.cluster = design.cluster[inputs.prompt]

    @property
    def active(self) -> sparse.csr_matrix:
        """1 where a node is active."""
        return sparse.csr_matrix((np.ones_like(self.values.data), self.values.indices, self.values.indptr), self.values.shape)

    def of(self, keep: np.ndarray) -> _Tokens:
        """Keep some tokens."""
        part = object.__new__(_Tokens)
        part.values = self.values[keep]
        part.prompt, part.language, part.cluster = self.prompt[keep], self.language[keep], self.cluster[keep]
        return part

    def coactivation(self) -> np.ndarray:
        """Return sum over tokens of 1(a_j > 0) a_i, (i, j)."""
        return np.asarray((self.values.T @ self.active).toarray())


def _token_key(prompt: np.ndarray, position: np.ndarray) -> np.ndarray:
    return prompt.astype(np.int64) << 16 | position.astype(np.int64)


def _name(layer: np.ndarray, feature: np.ndarray, role: np.ndarray) -> np.ndarray:
    return layer.astype(np.int64) << 40 | feature.astype(np.int64) << 8 | (role.astype(np.int64) - NO_ROLE)


def _static_matrix(model: LanguageModel, transcoders: TranscoderSet, nodes: FeatureNodes) -> np.ndarray:
    """Return V as (source, target), 0 where the target is not in a later layer."""
    matrix = np.zeros((len(nodes), len(nodes)))
    layers = [int(layer) for layer in np.unique(nodes.layer)]
    members = {layer: np.flatnonzero(nodes.layer == layer) for layer in layers}
    features = {layer: torch.from_numpy(nodes.feature[members[layer]].astype(np.int64)) for layer in layers}
    for target in layers:
        read = reading_rows(model, transcoders, target, features[target]).double()
        for source in layers:
            if source < target:
                written = written_rows(transcoders, source, features[source], target).double()
                matrix[np.ix_(members[source], members[target])] = (written @ read.T).cpu().numpy()
    return matrix


def _feature_edges(static: np.ndarray, tokens: _Tokens, design: Design, config: EdgeConfig) -> VirtualEdges:
    n_languages = len(design.languages)
    together = np.zeros((n_languages, *static.shape))
    n_tokens = np.bincount(tokens.language, minlength=n_languages).astype(np.float64)
    for language in range(n_languages):
        together[language] = tokens.of(tokens.language == language).coactivation()
    strength = np.abs(static) * (together / np.maximum(n_tokens, 1)[:, None, None]).max(0)
    source, target = np.nonzero(strength)
    order = np.lexsort((target, source, -strength[source, target]))[: config.max_edges * _CANDIDATES_PER_EDGE]
    source, target = source[order], target[order]
    n_prompts = _shared_prompts(tokens, source, target, design)
    keep = n_prompts.sum(1) >= config.min_edge_prompts
    source, target, n_prompts = source[keep], target[keep], n_prompts[keep]
    selection = _edge_selection(np.abs(static[source, target]), source, target, tokens, design, config)
    chosen = slice(0, config.max_edges)  # candidates are sorted by strength
    source, target, n_prompts, selection = source[chosen], target[chosen], n_prompts[chosen], selection[chosen]
    weight = static[source, target]
    products = np.asarray((tokens.values.T @ tokens.values).toarray())[source, target]
    target_total = np.asarray(tokens.values.sum(0)).ravel()[target]
    by_language = together[:, source, target].T  # (E, languages)
    missing = np.full(len(source), np.nan)
    return VirtualEdges(
        source=source,
        source_role=np.full(len(source), NO_ROLE),
        target=target,
        static=weight,
        weight=weight,
        sd=missing,
        attribution=by_language.sum(1) / n_tokens.sum() * weight,
        target_weighted=products / target_total * weight,
        n_prompts=n_prompts.sum(1),
        selection_frequency=selection,
        language_prompts=n_prompts,
        language_weight=np.repeat(weight[:, None], n_languages, axis=1),
        language_attribution=by_language / np.maximum(n_tokens, 1) * weight[:, None],
    )


def _shared_prompts(tokens: _Tokens, source: np.ndarray, target: np.ndarray, design: Design) -> np.ndarray:
    """Count, per language, the prompts in which both ends are active at one position: (E, languages)."""
    columns = tokens.active.tocsc()
    counts = np.zeros((len(source), len(design.languages)), np.int64)
    for edge, (i, j) in enumerate(zip(source, target, strict=True)):
        a = columns.indices[columns.indptr[i] : columns.indptr[i + 1]]
        b = columns.indices[columns.indptr[j] : columns.indptr[j + 1]]
        prompts = np.unique(tokens.prompt[np.intersect1d(a, b, assume_unique=True)])
        counts[edge] = np.bincount(design.language[prompts], minlength=len(design.languages))
    return counts


def _edge_selection(
    strength: np.ndarray, source: np.ndarray, target: np.ndarray, tokens: _Tokens, design: Design, config: EdgeConfig
) -> np.ndarray:
    """Return the share of cluster draws that keep each candidate among the strongest; `strength` is |V_ij|."""
    n_languages = len(design.languages)
    sums = np.zeros((design.n_clusters, n_languages, len(source)))
    sizes = np.zeros((design.n_clusters, n_languages))
    for cluster, language in _cells(design):
        part = tokens.of((tokens.cluster == cluster) & (tokens.language == language))
        sums[cluster, language] = part.coactivation()[source, target]
        sizes[cluster, language] = len(part.prompt)
    kept = np.zeros(len(source))
    for draw in design.draws:
        drawn = np.einsum("c,cle->le", draw, sums) / np.maximum(draw @ sizes, 1)[:, None]
        value = strength * drawn.max(0)
        top = np.argsort(-value, kind="stable")[: config.max_edges]
        kept[top[value[top] > 0]] += 1
    return kept / max(len(design.draws), 1)


def _cells(design: Design) -> Iterator[tuple[int, int]]:
    for cell in np.unique(design.cluster * len(design.languages) + design.language):
        yield int(cell) // len(design.languages), int(cell) % len(design.languages)


def _input_edges(
    model: LanguageModel,
    transcoders: TranscoderSet,
    nodes: FeatureNodes,
    tokens: _Tokens,
    inputs: Inputs,
    design: Design,
    config: EdgeConfig,
) -> VirtualEdges:
    """Return the residual path of token embeddings to features at their own position, by role of the token."""
    ids, token_of = np.unique(inputs.token, return_inverse=True)
    vectors = model.token_vectors(torch.from_numpy(ids))
    reach = np.zeros((len(ids), len(nodes)))
    for layer in np.unique(nodes.layer):
        own = np.flatnonzero(nodes.layer == layer)
        features = torch.from_numpy(nodes.feature[own].astype(np.int64))
        read = reading_rows(model, transcoders, int(layer), features)
        reach[:, own] = (vectors.to(read).double() @ read.double().T).cpu().numpy()
    active = tokens.active.tocoo()
    value = reach[token_of[active.row], active.col]
    role = inputs.role[active.row].astype(np.int64)
    n_prompts = len(design.prompts)
    cell, index = np.unique((role * len(nodes) + active.col) * n_prompts + inputs.prompt[active.row], return_inverse=True)
    per_prompt = np.bincount(index, value, len(cell))
    edge_of, prompt = cell // n_prompts, cell % n_prompts
    names, edge = np.unique(edge_of, return_inverse=True)
    n_edges, languages = len(names), len(design.languages)
    counts = np.zeros((n_edges, languages))
    totals = np.zeros((n_edges, languages))
    np.add.at(counts, (edge, design.language[prompt]), 1.0)
    np.add.at(totals, (edge, design.language[prompt]), per_prompt)
    n, total = counts.sum(1), totals.sum(1)
    mean = total / n
    squares = np.bincount(edge, (per_prompt - mean[edge]) ** 2, n_edges)
    n_tokens = np.bincount(tokens.language, minlength=languages).astype(np.float64)
    keep = n >= config.min_edge_prompts
    missing = np.full(n_edges, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        edges = VirtualEdges(
            source=np.full(n_edges, -1),
            source_role=names // len(nodes),
            target=names % len(nodes),
            static=missing,
            weight=mean,
            sd=np.sqrt(squares / (n - 1)),
            attribution=total / n_tokens.sum(),
            target_weighted=missing,
            n_prompts=n.astype(np.int64),
            selection_frequency=missing,
            language_prompts=counts.astype(np.int64),
            language_weight=totals / counts,
            language_attribution=totals / np.maximum(n_tokens, 1),
        )
    return VirtualEdges(*(getattr(edges, name)[keep] for name in edges.__dataclass_fields__))


def _joined(*parts: VirtualEdges) -> VirtualEdges:
    return VirtualEdges(*(np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].__dataclass_fields__))
