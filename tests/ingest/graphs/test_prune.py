"""Influence, pruning and scores against dense matrices and power series, on random layered graphs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from atlas.errors import UsageError
from ingest.graphs.blocks import TOKENS, Block, Edges
from ingest.graphs.prune import NodeOrder, prune

Matrix = npt.NDArray[Any]


def random_graph(
    seed: int, *, layers: int = 4, positions: int = 3, per_cell: int = 4, logits: int = 3
) -> tuple[Edges, NodeOrder, torch.Tensor]:
    """Return a graph in blocks: features of (layer, position) from all earlier layers at positions up to their own."""
    draw = torch.Generator().manual_seed(seed)
    order = NodeOrder(layers * positions * per_cell, layers, positions, logits)
    feature = torch.arange(order.n_features).view(layers, positions, per_cell)
    error = order.errors + torch.arange(layers * positions).view(layers, positions)
    blocks = []
    for position in range(positions):
        for layer in range(layers + 1):
            is_logit = layer == layers
            if is_logit and position < positions - 1:
                continue
            rows = order.logits + torch.arange(logits) if is_logit else feature[layer, position]
            for source in range(layer):
                columns = torch.cat([feature[source, : position + 1].flatten(), error[source, : position + 1]])
                weights = torch.randn(len(rows), len(columns), generator=draw, dtype=torch.float64) ** 3
                blocks.append(Block(rows, columns, weights, source))
            columns = order.tokens + torch.arange(position + 1)
            blocks.append(Block(rows, columns, torch.randn(len(rows), position + 1, generator=draw, dtype=torch.float64), TOKENS))
    probabilities = torch.rand(logits, generator=draw, dtype=torch.float64) / logits
    return Edges(blocks, order.n_nodes, torch.float64), order, probabilities


def normalised(matrix: Matrix) -> Matrix:
    sums = np.abs(matrix).sum(1, keepdims=True)
    return np.abs(matrix) / np.where(sums == 0, 1, sums)


def influence(matrix: Matrix, weights: Matrix) -> Matrix:
    """Return w (A + A^2 + …) by solving x = w A + x A."""
    return np.linalg.solve((np.eye(len(matrix)) - matrix).T, weights @ matrix)


def least_kept(values: Matrix, share: float) -> float:
    ordered = np.sort(values.ravel())[::-1]
    cumulated = np.cumsum(ordered) / ordered.sum()
    return float(ordered[min(int(np.searchsorted(cumulated, share)), len(ordered) - 1)])


def prune_densely(matrix: Matrix, order: NodeOrder, weights: Matrix, node_share: float, edge_share: float) -> tuple[Matrix, Matrix]:
    scores = influence(normalised(matrix), weights)
    nodes = scores >= least_kept(scores, node_share)
    nodes[order.tokens :] = True
    kept = np.where(np.outer(nodes, nodes), matrix, 0)
    edge_scores = normalised(kept) * (influence(normalised(kept), weights) + weights)[:, None]
    edges = edge_scores >= least_kept(edge_scores, edge_share)
    while True:
        left = nodes.copy()
        left[: order.tokens] &= edges[:, : order.tokens].any(0)
        left[: order.n_features] &= edges[: order.n_features].any(1)
        edges &= np.outer(left, left)
        if (left == nodes).all():
            return nodes, edges
        nodes = left


def as_weights(order: NodeOrder, probabilities: torch.Tensor) -> torch.Tensor:
    weights = torch.zeros(order.n_nodes, dtype=torch.float64)
    weights[order.logits :] = probabilities
    return weights


@pytest.mark.parametrize("seed", range(5))
def test_influence_is_the_sum_of_all_paths(seed: int) -> None:
    edges, order, probabilities = random_graph(seed)
    weights = as_weights(order, probabilities)
    expected = influence(normalised(edges.dense().numpy()), weights.numpy())
    np.testing.assert_allclose(edges.influence(weights).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("node_share", "edge_share"), [(0.8, 0.98), (0.5, 0.5), (0.95, 0.999), (0.1, 0.3)])
def test_pruning_keeps_what_dense_pruning_keeps(seed: int, node_share: float, edge_share: float) -> None:
    edges, order, probabilities = random_graph(seed)
    matrix = edges.dense().numpy()
    pruned = prune(edges, order, probabilities, node_threshold=node_share, edge_threshold=edge_share)
    nodes, kept = prune_densely(matrix, order, as_weights(order, probabilities).numpy(), node_share, edge_share)
    np.testing.assert_array_equal(pruned.node_mask.numpy(), nodes)
    np.testing.assert_array_equal(pruned.edge_mask().numpy(), kept)
    np.testing.assert_array_equal(pruned.weight.numpy(), matrix[kept])


@pytest.mark.parametrize("seed", range(3))
def test_scores_by_their_definitions(seed: int) -> None:
    edges, order, probabilities = random_graph(seed)
    weights = as_weights(order, probabilities).numpy()
    shares = normalised(edges.dense().numpy())
    scores = influence(shares, weights)
    tokens, errors = scores[order.tokens : order.logits].sum(), scores[order.errors : order.tokens].sum()
    explained = 1 - shares[:, order.errors : order.tokens].sum(1)
    pruned = prune(edges, order, probabilities)
    assert pruned.replacement_score == pytest.approx(tokens / (tokens + errors))
    assert pruned.completeness_score == pytest.approx((explained * (scores + weights)).sum() / (scores + weights).sum())
    np.testing.assert_allclose(np.sort(pruned.cumulative.numpy()), np.cumsum(np.sort(scores)[::-1]) / scores.sum())


def test_everything_is_kept_at_thresholds_of_one() -> None:
    edges, order, probabilities = random_graph(0)
    pruned = prune(edges, order, probabilities, node_threshold=1.0, edge_threshold=1.0)
    kept = influence(normalised(edges.dense().numpy()), as_weights(order, probabilities).numpy()) > 0
    assert bool(pruned.node_mask[: order.tokens].numpy()[kept[: order.tokens]].all())


def test_row_sums_over_more_sources_lower_the_influence() -> None:
    edges, order, probabilities = random_graph(1)
    plain = prune(edges, order, probabilities)
    more = prune(edges, order, probabilities, row_sums=2 * edges.row_sums())
    assert float(more.influence.sum()) <= 0.5 * float(plain.influence.sum())


@pytest.mark.parametrize("seed", range(3))
def test_sub_graphs_keep_weights_and_renumber(seed: int) -> None:
    edges, order, _ = random_graph(seed)
    keep = torch.rand(order.n_nodes, generator=torch.Generator().manual_seed(seed)) < 0.5
    dense = edges.dense()
    same = edges.subgraph(keep).dense()
    torch.testing.assert_close(same, dense * keep[:, None] * keep[None])
    renumbered = edges.subgraph(keep, torch.cumsum(keep, 0) - 1).dense()
    n = len(renumbered)
    torch.testing.assert_close(renumbered, dense[keep][:, keep][:n, :n])


@pytest.mark.parametrize(("name", "value"), [("node_threshold", -0.1), ("edge_threshold", 1.1)])
def test_thresholds_outside_the_unit_interval_are_refused(name: str, value: float) -> None:
    edges, order, probabilities = random_graph(0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        prune(edges, order, probabilities, **{name: value})  # type: ignore[arg-type]
