"""What edited runs change: feature values and whole vectors at places, and the change at the MLP output that follows.

In: `Edits`, flat arrays over all rows of a batch (row = one prompt run once with one intervention). Out: `LayerEdit`, which turns the MLP
input and output of a layer in the edited run into the change of the MLP output (METHODS, section 5).

1. The members of a layer are gathered into slots, one per (row, column), and the distinct features of the layer.
2. a = the current activation of each member, from its own encoder row; the coefficient is a' - a, and 0 where a' is NaN (a no-op).
3. The change of a slot is coefficients @ W_dec, so that the reconstruction error stays. A same-norm random direction keeps the length only.
4. Vector edits put m' - m there instead: a whole MLP output, or its reconstruction error alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingest.transcoder import TranscoderSet

Integers = NDArray[np.int64]
VectorKind = Literal["error", "mlp"]

NOTHING = 1e-4
"""A change shorter than this share of the length it should have is no direction but rounding."""
_NONE = np.iinfo(np.int64).max
_DENSE_PER_MEMBER = 8
"""Slots times features are computed densely up to this many numbers a member."""


@dataclass(frozen=True)
class Edits:
    """Edits of R rows; members and vectors refer to rows by index. Positions count from each prompt's first token."""

    prompt: Integers
    """(R,) ordinal of the prompt that is run."""
    row: Integers
    """(M,) row of each member."""
    layer: Integers
    """(M,)."""
    position: Integers
    """(M,)."""
    feature: Integers
    """(M,)."""
    value: NDArray[np.float64]
    """(M,) absolute target a'; NaN keeps the current activation (a no-op)."""
    direction: Integers | None = None
    """(R,) seed of a random direction that replaces the change at each place, keeping its length; -1 for none."""
    vector_row: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(K,) row of each vector edit."""
    vector_layer: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    vector_position: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    vector_target: Tensor | None = None
    """(K, D) what the MLP output (`mlp`) or its reconstruction error (`error`) becomes."""
    vector_kind: VectorKind = "mlp"
    length: NDArray[np.float64] | None = None
    """(R, L) length that the change at each layer's MLP output is stretched to (METHODS, section 5), NaN for as it is."""

    def __len__(self) -> int:
        return len(self.prompt)

    def lowest_layers(self, none: int) -> Integers:
        """Return (R,) the lowest edited layer of each row, `none` where nothing is edited."""
        lowest = self._smallest(self.layer, self.vector_layer)
        return np.where(lowest == _NONE, none, lowest)

    def first_positions(self, none: Integers) -> Integers:
        """Return (R,) the earliest edited position of each row, `none` (R,) where nothing is edited."""
        return np.minimum(self._smallest(self.position, self.vector_position), none)

    def _smallest(self, of_members: Integers, of_vectors: Integers) -> Integers:
        smallest = np.full(len(self), _NONE, dtype=np.int64)
        np.minimum.at(smallest, self.row, of_members)
        np.minimum.at(smallest, self.vector_row, of_vectors)
        return smallest

    def pick(self, rows: Integers) -> Edits:
        """Return the edits of some rows, renumbered in their order."""
        return next(self.split([rows]))

    def split(self, groups: Sequence[Integers]) -> Iterator[Edits]:
        """Yield the edits of each group of rows, renumbered in their order; members are gone through once for all groups."""
        group, place = np.full(len(self), len(groups), dtype=np.int64), np.zeros(len(self), dtype=np.int64)
        for number, rows in enumerate(groups):
            group[rows], place[rows] = number, np.arange(len(rows))
        members, vectors = (_by_group(group[of], len(groups)) for of in (self.row, self.vector_row))
        for rows, member, vector in zip(groups, members, vectors, strict=True):
            yield Edits(
                self.prompt[rows],
                place[self.row[member]],
                self.layer[member],
                self.position[member],
                self.feature[member],
                self.value[member],
                None if self.direction is None else self.direction[rows],
                place[self.vector_row[vector]],
                self.vector_layer[vector],
                self.vector_position[vector],
                None if self.vector_target is None else self.vector_target[torch.from_numpy(vector)],
                self.vector_kind,
                None if self.length is None else self.length[rows],
            )


def _by_group(group: Integers, n: int) -> list[Integers]:
    """Return the ascending places of each group 0 to n - 1 among (M,) group numbers; others are left out."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, n + 1)))[:n]


def concatenate(parts: list[Edits]) -> Edits:
    """Join edits one after the other; vector edits must be of one kind."""
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    joined: dict[str, object] = {}
    for name in (f.name for f in fields(Edits)):
        values = [getattr(part, name) for part in parts]
        if name in ("row", "vector_row"):
            values = [value + offset for value, offset in zip(values, offsets[:-1], strict=True)]
        if name in ("direction", "length"):
            given = [value for value in values if value is not None]
            if given:
                empty = -1 if name == "direction" else np.nan
                filled = [
                    np.full((len(p), *given[0].shape[1:]), empty, given[0].dtype) if v is None else v
                    for p, v in zip(parts, values, strict=True)
                ]
                joined[name] = np.concatenate(filled)
        elif name == "vector_target":
            tensors = [value for value in values if value is not None]
            joined[name] = torch.cat(tensors) if tensors else None
        elif name == "vector_kind":
            joined[name] = next((p.vector_kind for p in parts if p.vector_target is not None), "mlp")
        else:
            joined[name] = np.concatenate(values)
    return replace(parts[0], **joined)  # type: ignore[arg-type]


@dataclass
class Written:
    """What the edits of one layer write: coefficients (S, U) of distinct features (U,) at slots (S,) of (row, column)."""

    rows: Tensor
    columns: Tensor
    features: Tensor
    coefficients: Tensor


class LayerEdit:
    """The edits of one layer in one batch, on the model's device."""

    def __init__(self, transcoders: TranscoderSet, layer: int, rows: Tensor, columns: Tensor, features: Tensor, targets: Tensor) -> None:
        self.transcoders, self.layer = transcoders, layer
        n_columns = int(columns.max()) + 1 if len(columns) else 1
        slots, self.slot = torch.unique(rows * n_columns + columns, return_inverse=True)
        self.rows, self.columns = slots // n_columns, slots % n_columns
        self.features, self.index = torch.unique(features, return_inverse=True)
        self.targets = targets

    def current(self, mlp_in: Tensor) -> Tensor:
        """Return (M,) the activation of each member in mlp_in (N, w, D)."""
        x = mlp_in[self.rows, self.columns]  # (S, D)
        if len(self.rows) * len(self.features) <= _DENSE_PER_MEMBER * len(self.targets) or self.transcoders.activation == "topk":
            return self.transcoders.encode_rows(self.layer, x, self.features)[self.slot, self.index]
        return encode_pairs(self.transcoders, self.layer, x, self.slot, self.features, self.index)

    def write(self, change: Tensor) -> Written:
        """Return what (M,) changes of activation write, to be decoded into each target layer."""
        coefficients = change.new_zeros(len(self.rows), len(self.features))
        coefficients = coefficients.index_put((self.slot, self.index), change)
        return Written(self.rows, self.columns, self.features, coefficients)


def encode_pairs(transcoders: TranscoderSet, layer: int, x: Tensor, slot: Tensor, features: Tensor, index: Tensor) -> Tensor:
    """Return (M,) activations of (slot, feature) pairs without the slots x features matrix.

    A block of features at a time is encoded over the slots that ask for any of them, sorted so that blocks are small.
    """
    order = torch.argsort(index, stable=True)
    out = x.new_empty(len(slot))
    block = max(1, _DENSE_PER_MEMBER * len(slot) // max(1, len(x)))
    bounds = torch.searchsorted(index[order].contiguous(), torch.arange(0, len(features) + block, block, device=x.device))
    for start, stop, first_feature in zip(bounds[:-1].tolist(), bounds[1:].tolist(), range(0, len(features), block), strict=True):
        members = order[start:stop]
        used, place = torch.unique(slot[members], return_inverse=True)
        chosen = features[first_feature : first_feature + block]
        out[members] = transcoders.encode_rows(layer, x[used], chosen)[place, index[members] - first_feature]
    return out


def decode(transcoders: TranscoderSet, written: Written, source: int, target: int) -> Tensor:
    """Return (S, D) the change of the MLP output of layer `target`."""
    return written.coefficients @ transcoders.decoder_rows(source, written.features, target=target)


def stretched(change: Tensor, length: Tensor, owed: Tensor) -> tuple[Tensor, Tensor]:
    """Give the changes (N, w, D) of one layer a length (N,), NaN for as they are; return them and what is owed to later layers (N,).

    A row without any change here has no direction to stretch: what it should have had is owed, in squares, to the next layer with one.
    """
    own = torch.linalg.vector_norm(change.double(), dim=(1, 2))
    wanted = (length.double().square() + owed).sqrt()
    asked = ~torch.isnan(length)
    moved = own > NOTHING * wanted
    factor = torch.where(asked & moved, wanted / torch.where(moved, own, torch.ones_like(own)), torch.ones_like(own))
    settled = torch.where(moved, torch.zeros_like(owed), wanted.square())
    return change * factor.to(change.dtype)[:, None, None], torch.where(asked, settled, owed)


def same_length_random(change: Tensor, seeds: Tensor, layer: int, columns: Tensor, draw: Callable[[int, int, int], Tensor]) -> Tensor:
    """Replace changes (S, D) by random directions of the same length where a seed (S,) is not -1."""
    out = change.clone()
    for slot in torch.nonzero(seeds >= 0)[:, 0].tolist():
        direction = draw(int(seeds[slot]), layer, int(columns[slot]))
        out[slot] = direction * torch.linalg.vector_norm(change[slot])
    return out
