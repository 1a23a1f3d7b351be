"""Edges of an attribution graph, stored as dense blocks of its causal cone.

In: blocks of edge weights, each a matrix from some source nodes of one layer to some target nodes of later layers. Out:
`Edges`, with row sums, influence, sub-graphs and edge lists (METHODS section 4.3).

A target at (layer, position) can only have sources at earlier layers and at its own or earlier positions. With sources
sorted by position, these are a range of columns per layer, so a block needs no indices per edge: 4 bytes an edge in
float32, and nothing where the causal cone is empty. No N x N matrix exists unless `dense` is called.

Layers order the nodes: every target of a block lies in a later layer than its sources. One pass over the blocks, last
source layer first, therefore gives sum over k >= 1 of w A^k exactly, without iterating to convergence.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

TOKENS = -1
"""`Block.layer` of token sources, which come before layer 0."""


@dataclass(frozen=True)
class Block:
    """A dense piece of the adjacency matrix."""

    targets: Tensor
    """(n,) int64 node ids, rows."""
    sources: Tensor
    """(m,) int64 node ids, columns."""
    weights: Tensor
    """(n, m)."""
    layer: int
    """Layer of the sources; `TOKENS` for tokens."""


class Edges:
    """Edges between `n_nodes` nodes as blocks, last source layer first."""

    def __init__(self, blocks: Iterable[Block], n_nodes: int, dtype: torch.dtype) -> None:
        self.blocks = sorted(blocks, key=lambda block: -block.layer)
        self.n_nodes = n_nodes
        self.dtype = dtype

    @property
    def n_edges(self) -> int:
        """Return how many weights are stored."""
        return sum(block.weights.numel() for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Return their bytes, node ids included."""
        return sum(b.weights.nbytes + b.targets.nbytes + b.sources.nbytes for b in self.blocks)

    def row_sums(self, *, absolute: bool = True) -> Tensor:
        """Return (n_nodes,) the sum of (absolute) weights into each node."""
        sums = torch.zeros(self.n_nodes, dtype=self.dtype)
        for block in self.blocks:
            rows = torch.linalg.vector_norm(block.weights, ord=1, dim=1) if absolute else block.weights.sum(1)
            sums.index_add_(0, block.targets, rows)
        return sums

    def influence(self, weights: Tensor, row_sums: Tensor | None = None) -> Tensor:
        """Return (n_nodes,) sum over k >= 1 of w A^^k, A^ = |A| with rows divided by `row_sums` (default: their own).

        weights (n_nodes,) are the target probabilities at the logits and 0 elsewhere.
        """
        row_sums = self.row_sums() if row_sums is None else row_sums
        influence = torch.zeros(self.n_nodes, dtype=self.dtype)
        for block in self.blocks:
            arriving = influence[block.targets] + weights[block.targets]
            shares = arriving / row_sums[block.targets].clamp(min=1e-10)
            influence.index_add_(0, block.sources, shares @ block.weights.abs())
        return influence

    def share_from(self, first: int, last: int, row_sums: Tensor) -> Tensor:
        """Return (n_nodes,) the share of each node's absolute input that comes from sources first..last - 1."""
        sums = torch.zeros(self.n_nodes, dtype=self.dtype)
        for block in self.blocks:
            chosen = ((block.sources >= first) & (block.sources < last)).nonzero()[:, 0]
            if len(chosen):
                part = torch.linalg.vector_norm(block.weights[:, chosen], ord=1, dim=1)
                sums.index_add_(0, block.targets, part)
        return sums / row_sums.clamp(min=1e-10)

    def subgraph(self, keep: Tensor, renumber: Tensor | None = None) -> "Edges":
        """Return the edges between kept nodes (n_nodes,) bool; ids stay, or become renumber[id]."""
        blocks: list[Block] = []
        for block in self.blocks:
            rows = keep[block.targets].nonzero()[:, 0]
            columns = keep[block.sources].nonzero()[:, 0]
            if len(rows) and len(columns):
                targets, sources = block.targets[rows], block.sources[columns]
                if renumber is not None:
                    targets, sources = renumber[targets], renumber[sources]
                blocks.append(Block(targets, sources, block.weights[rows][:, columns], block.layer))
        n_nodes = self.n_nodes if renumber is None else int(renumber[keep].max()) + 1
        return Edges(blocks, n_nodes, self.dtype)

    def dense(self) -> Tensor:
        """Return the (n_nodes, n_nodes) adjacency matrix, rows are targets."""
        matrix = torch.zeros(self.n_nodes, self.n_nodes, dtype=self.dtype)
        for block in self.blocks:
            matrix[block.targets[:, None], block.sources[None]] += block.weights
        return matrix
