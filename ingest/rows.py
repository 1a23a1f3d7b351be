"""Active features as sparse rows, and the grouped operations that statistics and contexts need on them.

In: `ActiveRows`, the active entries of one layer as (token, feature, value), on the device that encoded them.
Out: ranks within groups, exact look-ups, priorities. Everything is deterministic: ties are broken by token, and random
choices are hashes of (seed, feature, token), so that results do not depend on batch size or order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as int64: splitmix64's increment
_MIX_A = -4658895280553007687
_MIX_B = -7723592293110705685
_DENSE_NUMBERS = 1 << 25
"""Up to so many (token, feature) pairs a look-up table is dense: 128 MiB."""


@dataclass(frozen=True)
class ActiveRows:
    """Active entries of one layer; sorted by token, then feature."""

    token: Tensor
    """(R) int64: index into the flat tokens of the batch."""
    feature: Tensor
    """(R) int64."""
    value: Tensor
    """(R) float32: activation; > 0 in everything that is counted or stored."""

    def __len__(self) -> int:
        return int(self.token.numel())

    def select(self, keep: Tensor) -> ActiveRows:
        """Keep the rows of a boolean mask or of an index."""
        return ActiveRows(self.token[keep], self.feature[keep], self.value[keep])

    def positive(self) -> ActiveRows:
        """Leave out values below 0, which TopK and negative JumpReLU thresholds let through."""
        above = self.value > 0
        return self if bool(above.all()) else self.select(above)

    def to(self, device: torch.device | str) -> ActiveRows:
        """Move to a device."""
        return ActiveRows(self.token.to(device), self.feature.to(device), self.value.to(device))


def concatenate(parts: Sequence[ActiveRows], offsets: Sequence[int]) -> ActiveRows:
    """Join batches; `offsets` are the flat index of each batch's first token."""
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64)
        return ActiveRows(empty, empty, torch.zeros(0))
    return ActiveRows(
        torch.cat([part.token + offset for part, offset in zip(parts, offsets, strict=True)]),
        torch.cat([part.feature for part in parts]),
        torch.cat([part.value for part in parts]),
    )


def lexicographic_order(*keys: Tensor) -> Tensor:
    """Return the index that sorts by the first key, then the second, …; all ascending."""
    order = torch.argsort(keys[-1], stable=True)
    for key in reversed(keys[:-1]):
        order = order[torch.argsort(key[order], stable=True)]
    return order


def rank_in_group(sorted_group: Tensor) -> Tensor:
    """Return 0, 1, 2, … within each run of equal values of a sorted key (R) int64."""
    if sorted_group.numel() == 0:
        return sorted_group.clone()
    index = torch.arange(sorted_group.numel(), device=sorted_group.device)
    starts = torch.ones_like(sorted_group, dtype=torch.bool)
    starts[1:] = sorted_group[1:] != sorted_group[:-1]
    first = torch.where(starts, index, torch.zeros_like(index))
    return index - torch.cummax(first, 0).values


def look_up(sorted_keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """Return the value of each wanted key, 0 where it is absent; `sorted_keys` (R) int64 ascending and unique."""
    if sorted_keys.numel() == 0:
        return torch.zeros(wanted.shape, dtype=values.dtype, device=values.device)
    at = torch.searchsorted(sorted_keys, wanted.contiguous()).clamp_(max=sorted_keys.numel() - 1)
    return torch.where(sorted_keys[at] == wanted, values[at], torch.zeros_like(values[at]))


class Lookup:
    """Values of active rows at any (token, feature), 0 where silent; dense where that is small, else by binary search."""

    def __init__(self, rows: ActiveRows, n_tokens: int, n_features: int) -> None:
        """Take rows sorted by (token, feature)."""
        self.n_features = n_features
        self._keys = rows.token * n_features + rows.feature
        self._values = rows.value
        self._dense: Tensor | None = None
        if n_tokens * n_features <= _DENSE_NUMBERS:
            self._dense = rows.value.new_zeros(n_tokens * n_features)
            self._dense[self._keys] = rows.value

    def __call__(self, token: Tensor, feature: Tensor) -> Tensor:
        """Return the values at tokens and features of equal (or broadcastable) shape."""
        wanted = token * self.n_features + feature
        return look_up(self._keys, self._values, wanted) if self._dense is None else self._dense[wanted]

    def windows(self, token: Tensor, feature: Tensor, inside: Tensor) -> Tensor:
        """Return values (M, W) at tokens (M, W) of features (M) where `inside`, 0 elsewhere."""
        found = self._values.new_zeros(token.shape)
        member, _ = inside.nonzero(as_tuple=True)
        found[inside] = self(token[inside], feature[member])
        return found


def by_strength(rows: ActiveRows) -> tuple[ActiveRows, Tensor]:
    """Sort rows (values > 0, sorted by token) by feature and falling value, ties by token; return them with their rank in the feature."""
    # Positive floats order as their bits do, so one integer key holds feature and falling value.
    bits = rows.value.contiguous().view(torch.int32).to(torch.int64)
    order = torch.argsort((rows.feature << 32) | (0x7FFF_FFFF - bits), stable=True)
    rows = rows.select(order)
    return rows, rank_in_group(rows.feature)


def priority(seed: int, *parts: Tensor) -> Tensor:
    """Hash integers to a uniform non-negative int64 (splitmix64); the smallest priorities are a random sample."""
    state = torch.full_like(parts[0], seed) * _GOLDEN
    for part in parts:
        state = _mix(state + part.to(torch.int64) * _GOLDEN + _GOLDEN)
    return state & 0x7FFF_FFFF_FFFF_FFFF


def _mix(state: Tensor) -> Tensor:
    """Scramble 64 bits; torch shifts int64 arithmetically, so the sign bits are masked off."""
    state = (state ^ ((state >> 30) & 0x3_FFFF_FFFF)) * _MIX_A
    state = (state ^ ((state >> 27) & 0x1F_FFFF_FFFF)) * _MIX_B
    return state ^ ((state >> 31) & 0x1_FFFF_FFFF)
