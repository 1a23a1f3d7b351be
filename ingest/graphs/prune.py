"""Influence, pruning and scores of an attribution graph.

In: `Edges` in node order (features, errors, tokens, logits) and the probabilities of the logits. Out: node influence,
the nodes and edges that stay, replacement and completeness scores. Definitions of circuit-tracer's `graph.py`, Ameisen
et al. 2025 (Circuit Tracing, "Graph pruning" and "Evaluating graphs"), METHODS section 4.3:

1. influence = sum over k >= 1 of w A^^k, w the logits' probabilities, A^ the row-normalised |A|.
2. keep the strongest nodes that make up `node_threshold` of all influence; tokens and logits always.
3. on the graph of kept nodes, edge score = A^[t, s] (influence[t] + w[t]), normalised and computed anew; keep the
   strongest edges that make up `edge_threshold` of all score.
4. drop features and errors without an outgoing edge, and features without an incoming one, until none is left.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import UsageError
from ingest.graphs.blocks import Edges


@dataclass(frozen=True)
class NodeOrder:
    """How many nodes of each kind there are; ids run in this order."""

    n_features: int
    n_layers: int
    n_positions: int
    n_logits: int

    @property
    def errors(self) -> int:
        """Return the first error node; error (layer, position) is `errors + layer * n_positions + position`."""
        return self.n_features

    @property
    def tokens(self) -> int:
        """Return the first token node."""
        return self.n_features + self.n_layers * self.n_positions

    @property
    def logits(self) -> int:
        """Return the first logit node."""
        return self.tokens + self.n_positions

    @property
    def n_nodes(self) -> int:
        """Return how many nodes there are."""
        return self.logits + self.n_logits


@dataclass(frozen=True)
class Pruned:
    """What pruning keeps, and the scores of the whole graph."""

    influence: Tensor
    """(N,) influence of each node before pruning."""
    cumulative: Tensor
    """(N,) share of all influence in nodes at least as influential as this one."""
    node_mask: Tensor
    """(N,) bool."""
    source: Tensor
    """(E,) int64 source of each kept edge, sorted by (target, source)."""
    target: Tensor
    """(E,) int64."""
    weight: Tensor
    """(E,)."""
    replacement_score: float
    """Influence of tokens / influence of tokens and errors."""
    completeness_score: float
    """Share of nodes' absolute inputs that is not from errors, weighted by influence."""

    def edge_mask(self) -> Tensor:
        """Return the (N, N) bool mask of kept edges, rows are targets."""
        mask = torch.zeros(len(self.influence), len(self.influence), dtype=torch.bool)
        mask[self.target, self.source] = True
        return mask


def prune(
    edges: Edges,
    order: NodeOrder,
    probabilities: Tensor,
    *,
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
    row_sums: Tensor | None = None,
) -> Pruned:
    """Score and prune a graph. `row_sums` (N,) normalises by more sources than are in it (default: by those in it).

    Raises UsageError for a threshold outside 0..1.
    """
    for name, threshold in (("node", node_threshold), ("edge", edge_threshold)):
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"--{name}-threshold is {threshold}, it must lie between 0 and 1")
    weights = torch.zeros(order.n_nodes, dtype=edges.dtype)
    weights[order.logits :] = probabilities.to(edges.dtype)
    row_sums = edges.row_sums() if row_sums is None else row_sums
    influence = edges.influence(weights, row_sums)
    node_mask = influence >= _threshold(influence, node_threshold)
    node_mask[order.tokens :] = True

    kept = edges.subgraph(node_mask)
    source, target, weight = _strong_edges(kept, weights, edge_threshold)
    node_mask, alive = _without_dangling(order, node_mask, source, target)
    source, target, weight = source[alive], target[alive], weight[alive]
    by_place = torch.argsort(target * order.n_nodes + source)
    replacement, completeness = scores(edges, order, influence, weights, row_sums)
    return Pruned(
        influence,
        _cumulative(influence),
        node_mask,
        source[by_place],
        target[by_place],
        weight[by_place],
        replacement,
        completeness,
    )


def scores(
    edges: Edges, order: NodeOrder, influence: Tensor, weights: Tensor, row_sums: Tensor, counted: Tensor | None = None
) -> tuple[float, float]:
    """Return replacement and completeness score; `counted` (N,) bool leaves nodes out of the second's mean."""
    through_tokens = influence[order.tokens : order.logits].sum()
    through_errors = influence[order.errors : order.tokens].sum()
    explained = 1 - edges.share_from(order.errors, order.tokens, row_sums)
    importance = influence + weights
    importance = importance if counted is None else importance * counted
    replacement = through_tokens / (through_tokens + through_errors)
    return float(replacement), float((explained * importance).sum() / importance.sum())


def _threshold(values: Tensor, share: float) -> Tensor:
    """Return the smallest of the largest values that together make up `share` of the sum."""
    ordered = torch.sort(values, descending=True).values
    cumulated = torch.cumsum(ordered.double(), 0)
    index = int(torch.searchsorted(cumulated, share * cumulated[-1]))
    return ordered[min(index, len(ordered) - 1)]


def _cumulative(influence: Tensor) -> Tensor:
    ordered, places = torch.sort(influence, descending=True)
    cumulated = torch.zeros_like(influence)
    cumulated[places] = (torch.cumsum(ordered.double(), 0) / ordered.double().sum()).to(influence.dtype)
    return cumulated


def _strong_edges(kept: Edges, weights: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (source, target, weight) of the edges that make up `share` of all edge score (step 3)."""
    row_sums = kept.row_sums()
    importance = (kept.influence(weights, row_sums) + weights) / row_sums.clamp(min=1e-10)
    score = [block.weights.abs().mul_(importance[block.targets][:, None]) for block in kept.blocks]
    flat = torch.cat([part.flatten() for part in score]) if score else torch.zeros(0, dtype=kept.dtype)
    flat = flat[flat > 0]
    if not len(flat):
        empty = torch.zeros(0, dtype=torch.int64)
        return empty, empty, torch.zeros(0, dtype=kept.dtype)
    least = _threshold(flat, share)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for block, part in zip(kept.blocks, score, strict=True):
        row, column = (part >= least).nonzero(as_tuple=True)
        columns.append((block.sources[column], block.targets[row], block.weights[row, column]))
    source, target, weight = (torch.cat(column) for column in zip(*columns, strict=True))
    return source, target, weight


def _without_dangling(order: NodeOrder, node_mask: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nodes and the mask of edges left when no feature or error dangles (step 4)."""
    alive = torch.ones(len(source), dtype=torch.bool)
    while True:
        has_out = torch.zeros(order.n_nodes, dtype=torch.bool)
        has_in = torch.zeros(order.n_nodes, dtype=torch.bool)
        has_out[source[alive]] = True
        has_in[target[alive]] = True
        left = node_mask.clone()
        left[: order.tokens] &= has_out[: order.tokens]
        left[: order.n_features] &= has_in[: order.n_features]
        alive &= left[source] & left[target]
        if bool((left == node_mask).all()):
            return node_mask, alive
        node_mask = left
