"""Carry the targets of an attribution graph backwards and meet its sources.

In: a `FrozenPrompt`, source vectors per layer, targets (encoder rows at one position, or logit directions). Out: blocks
of edges (step 4 of `ingest/graphs/attribution.py`). Q positions from the first that has sources to the targets' own.

The state is one matrix of gradients (Q, n, D) for all targets of a position that lie in later layers than the one at
hand. Per layer it meets the sources written there, one product per position; passes the skip connection, if
transcoders have one; and hops through attention, where the targets of this layer join.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.adapters import upcast
from ingest.graphs.blocks import Block
from ingest.graphs.frozen import FrozenPrompt
from ingest.transcoder import TranscoderSet


@dataclass(frozen=True)
class LayerSources:
    """Sources of one layer (features and errors), sorted by position."""

    layer: int
    nodes: Tensor
    """(C,) int64 node ids."""
    vectors: Mapping[int, Tensor]
    """layer written to -> (C, D) output vectors; several for a cross-layer transcoder."""
    ends: list[int]
    """Sources at position q are ends[q]..ends[q + 1] - 1."""

    @classmethod
    def build(
        cls, layer: int, *, positions: Tensor, nodes: Tensor, vectors: Mapping[int, Tensor], own: Tensor, n_positions: int
    ) -> "LayerSources":
        """Sort features, then errors `own` (which are written to this layer only), by position."""
        order = torch.argsort(positions, stable=True)
        counts = torch.bincount(positions, minlength=n_positions)
        ends = [0, *torch.cumsum(counts, 0).tolist()]
        by_target = {}
        for target, features in vectors.items():
            errors = own if target == layer else torch.zeros_like(own)
            by_target[target] = torch.cat([features, errors])[order]
        return cls(layer, nodes[order], by_target, ends)


class Backward:
    """The backward pass of one prompt."""

    def __init__(
        self,
        frozen: FrozenPrompt,
        transcoders: TranscoderSet,
        sources: list[LayerSources],
        first: int,
        batch_elements: int,
        dtype: torch.dtype,
    ) -> None:
        self.frozen = frozen
        self.transcoders = transcoders
        self.sources = sources
        self.first = first
        self.batch_elements = batch_elements
        self.dtype = dtype

    def features(self, position: int, targets: Mapping[int, tuple[Tensor, Tensor]]) -> list[Block]:
        """Return blocks of edges into features at a position: layer -> (nodes (n,), encoder rows (n, D))."""
        fresh = {layer: (nodes, self.frozen.read[layer].backward(encoder, position)) for layer, (nodes, encoder) in targets.items()}
        return self._carry(position, max(targets), fresh)

    def logits(self, directions: Tensor, nodes: Tensor) -> list[Block]:
        """Return blocks of edges into logits at the last position, from directions (K, D)."""
        position = self.frozen.n_positions - 1
        gradient = self.frozen.final.backward(directions, position)
        return self._carry(position, self.frozen.n_layers, {self.frozen.n_layers: (nodes, gradient)})

    def _carry(self, position: int, top: int, fresh: Mapping[int, tuple[Tensor, Tensor]]) -> list[Block]:
        """Carry gradients that enter at (layer, position) down to layer 0. Logits enter at layer n_layers."""
        if position < self.first:
            return []
        width = self.sources[0].vectors[0].shape[-1]
        span = position + 1 - self.first
        device = self.sources[0].nodes.device
        nodes = torch.zeros(0, dtype=torch.int64, device=device)
        spread = torch.zeros(span, 0, width, dtype=self.dtype, device=device)
        edges: dict[int, tuple[Tensor, Tensor]] = {}
        for layer in range(top, 0, -1):
            # `spread` is at the residual stream between this layer's attention and MLP: hop to the one before both.
            if layer == self.frozen.n_layers:
                joined = torch.zeros(span, len(fresh[layer][0]), width, dtype=self.dtype, device=device)
                joined[-1] = fresh[layer][1]
                nodes, spread = fresh[layer][0], joined
            else:
                parts = [self.frozen.hop(layer, spread, self.first)] if spread.shape[1] else []
                if layer in fresh:
                    parts.append(self.frozen.first_hop(layer, fresh[layer][1], position, self.first))
                    nodes = torch.cat([nodes, fresh[layer][0]])
                spread = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            self._meet(layer - 1, position, nodes, spread, edges)
            spread = self._skip(layer - 1, position, spread)
        return [Block(rows.cpu(), self._columns(layer, position), weights.cpu(), layer) for layer, (rows, weights) in edges.items()]

    def _meet(self, written: int, position: int, nodes: Tensor, spread: Tensor, edges: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Add the products of gradients at an MLP output with the vectors that sources write there."""
        for layer in self.transcoders.sources_of(written):
            sources = self.sources[layer]
            start, end = sources.ends[self.first], sources.ends[position + 1]
            vectors = sources.vectors[written]
            weights = torch.empty(len(nodes), end - start, dtype=self.dtype, device=nodes.device)
            for index, place in enumerate(range(self.first, position + 1)):
                low, high = sources.ends[place], sources.ends[place + 1]
                torch.mm(spread[index], vectors[low:high].T, out=weights[:, low - start : high - start])
            if layer in edges:
                # A cross-layer source met fewer targets at later layers; targets only ever join at the end.
                weights[: len(edges[layer][0])] += edges[layer][1]
            edges[layer] = (nodes, weights)

    def _skip(self, layer: int, position: int, spread: Tensor) -> Tensor:
        """Carry gradients at an MLP output back through the skip connection to the residual stream before it."""
        weight = self.transcoders.skip_weight(layer)
        if weight is None:
            return spread
        read = self.frozen.read[layer]
        through = (spread @ upcast(weight)).transpose(0, 1)  # (n, Q, D)
        return spread + read.backward(through, slice(self.first, position + 1)).transpose(0, 1)

    def _columns(self, layer: int, position: int) -> Tensor:
        sources = self.sources[layer]
        return sources.nodes[sources.ends[self.first] : sources.ends[position + 1]].cpu()
