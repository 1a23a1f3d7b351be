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


@dataclass(frozen=True)
class ActiveRows:
    """Active entries of one layer; sorted by token, then feature."""

    token: Tensor
    """(R) int64: index into the flat tokens of the batch."""
    feature: Tensor
    """(R) int64."""
    value: Tensor
    """(R) float32: activation, > 0."""

    def __len__(self) -> int:
        return int(self.token.numel())

    def select(self, keep: Tensor) -> ActiveRows:
        """Keep the rows of a boolean mask or of an index."""
        return ActiveRows(self.token[keep], self.feature[keep], self.value[keep])

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
