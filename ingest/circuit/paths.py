"""Exact top-K chains through a layered graph.

In: edges of one kind (source, target, weight) between nodes with a layer. Out: the K chains with the largest product of normalised
weights, each once (METHODS, section 6).

1. An edge's share is |weight| / sum of |weight| over all edges into its target.
2. A chain begins at a node without incoming edges and ends at one without outgoing edges, so that no chain is part of another.
3. Dynamic programming over nodes in order of layer: each node keeps its K best chains, merged from its predecessors' by a heap. As
   shares are at most 1 and scores multiply, a chain among the K best has K-best parts only, so that the result is exact.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atlas.errors import InputError, UsageError


@dataclass(frozen=True)
class Chain:
    """Nodes from source to sink, the share of each step, and their product."""

    nodes: tuple[int, ...]
    shares: tuple[float, ...]
    score: float


def top_chains(edges: Sequence[tuple[int, int, float]], layer: Mapping[int, float], k: int) -> list[Chain]:
    """Return the k best chains, best first; ties in order of their nodes.

    Args:
        edges: (source, target, weight); weights of 0 are no edges.
        layer: node -> layer; inputs before, outputs after all features. Every edge must rise.
        k: number of chains.

    Raises:
        UsageError: k below 1.
        InputError: an edge that does not go to a later layer, or stands twice.
    """
    if k < 1:
        raise UsageError(f"{k} chains were asked for, expected at least 1.")
    kept = [(source, target, weight) for source, target, weight in edges if weight != 0]
    if len({(source, target) for source, target, _ in kept}) != len(kept):
        raise InputError("An edge stands twice in the graph of paths.")
    for source, target, _ in kept:
        if layer[source] >= layer[target]:
            raise InputError(f"The edge {source} -> {target} does not go to a later layer.")
    total: dict[int, float] = defaultdict(float)
    incoming: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for _, target, weight in kept:
        total[target] += abs(weight)
    for source, target, weight in kept:
        incoming[target].append((source, abs(weight) / total[target]))
    best: dict[int, list[Chain]] = {}
    nodes = {node for source, target, _ in kept for node in (source, target)}
    for node in sorted(nodes, key=lambda n: (layer[n], n)):
        best[node] = _best_into(node, incoming[node], best, k) if incoming[node] else [Chain((node,), (), 1.0)]
    sources = {source for source, _, _ in kept}
    ends = [chain for node in nodes - sources for chain in best[node]]
    return sorted(ends, key=lambda chain: (-chain.score, chain.nodes))[:k]


def _best_into(node: int, incoming: Sequence[tuple[int, float]], best: Mapping[int, Sequence[Chain]], k: int) -> list[Chain]:
    """Merge the predecessors' sorted lists of chains; each is extended by the edge into the node."""
    heap: list[tuple[float, tuple[int, ...], int, int]] = []
    for place, (source, share) in enumerate(incoming):
        first = best[source][0]
        heap.append((-first.score * share, first.nodes, place, 0))
    heapq.heapify(heap)
    chains: list[Chain] = []
    while heap and len(chains) < k:
        negative, _, place, rank = heapq.heappop(heap)
        source, share = incoming[place]
        prefix = best[source][rank]
        chains.append(Chain((*prefix.nodes, node), (*prefix.shares, share), -negative))
        if rank + 1 < len(best[source]):
            following = best[source][rank + 1]
            heapq.heappush(heap, (-following.score * share, following.nodes, place, rank + 1))
    return chains
