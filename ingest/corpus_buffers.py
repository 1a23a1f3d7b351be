"""What a corpus pass keeps of each feature: its strongest tokens, a uniform sample of its active ones, and tokens where it is silent.

In: chunks of active rows, in any batches. Out: buffers of fixed size per feature, each entry a value, a pointer and a window of values.

1. top: (F, K) largest values. Documents arrive in order, so an equal later value never displaces an earlier one.
2. reservoir: (F, R) entries with the smallest hash of (seed, feature, pointer): a uniform sample of the active tokens, from which the
   deciles are read (Vitter's reservoir without its dependence on the order of arrival).
3. pool: the S counted tokens with the smallest hash, shared by all features, with every active feature in their windows: where a
   feature is missing there, it is silent.
Memory is (K + R) (12 + 4 (2 w + 1)) bytes a feature; nothing depends on how many features are looked at, nor on batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.rows import ActiveRows, lexicographic_order, look_up, priority, rank_in_group
from ingest.statistics import TokenBlock

POSITION_BITS = 16
"""A pointer is document << 16 | position."""
_NEVER = torch.iinfo(torch.int64).max


def pointers(block: TokenBlock) -> Tensor:
    """Return (N) int64 pointers of a block's tokens."""
    return (block.item << POSITION_BITS) | block.position


@dataclass(frozen=True)
class BufferSizes:
    """How much is kept."""

    n_top: int
    n_reservoir: int
    n_pool: int
    window: int


def buffer_bytes(n_features: int, n_entries: int, window: int) -> int:
    """Return the bytes of one layer's buffers: a key, a pointer, a value and a window of values for each entry of a feature."""
    return n_features * n_entries * (8 + 8 + 4 + 4 * (2 * window + 1))


class Buffer:
    """(F, K) entries per feature, sorted by an ascending int64 key; the largest keys leave."""

    _ARRAYS = ("key", "value", "pointer", "windows")

    def __init__(self, n_features: int, size: int, window: int, device: torch.device | str) -> None:
        shape = (n_features, size)
        self.size = size
        self.key = torch.full(shape, _NEVER, dtype=torch.int64, device=device)
        self.value = torch.zeros(shape, device=device)
        self.pointer = torch.full(shape, -1, dtype=torch.int64, device=device)
        self.windows = torch.zeros(*shape, 2 * window + 1, device=device)

    def candidates(self, feature: Tensor, key: Tensor) -> Tensor:
        """Return the index of rows that could enter: the `size` smallest keys of each feature, below its largest."""
        possible = (key < self.key[:, -1][feature]).nonzero()[:, 0]
        order = lexicographic_order(feature[possible], key[possible])
        order = order[rank_in_group(feature[possible][order]) < self.size]
        return possible[order]

    def merge(self, feature: Tensor, key: Tensor, value: Tensor, pointer: Tensor, windows: Tensor) -> None:
        """Put rows in, sorted by (feature, key) as `candidates` gives them."""
        if feature.numel() == 0:
            return
        affected, inverse = torch.unique_consecutive(feature, return_inverse=True)
        slot = rank_in_group(feature)
        fresh = Buffer(len(affected), self.size, (self.windows.shape[2] - 1) // 2, self.key.device)
        fresh.key[inverse, slot], fresh.value[inverse, slot] = key, value
        fresh.pointer[inverse, slot], fresh.windows[inverse, slot] = pointer, windows
        joined_key = torch.cat([self.key[affected], fresh.key], dim=1)
        order = joined_key.argsort(dim=1, stable=True)[:, : self.size]  # stable: the older entry of two equal keys stays
        self.key[affected] = joined_key.gather(1, order)
        for name in ("value", "pointer"):
            joined = torch.cat([getattr(self, name)[affected], getattr(fresh, name)], dim=1)
            getattr(self, name)[affected] = joined.gather(1, order)
        joined = torch.cat([self.windows[affected], fresh.windows], dim=1)
        self.windows[affected] = joined.gather(1, order[..., None].expand(-1, -1, joined.shape[2]))

    def state(self) -> dict[str, Tensor]:
        """Return the arrays on the CPU."""
        return {name: getattr(self, name).cpu() for name in self._ARRAYS}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the arrays of a checkpoint."""
        for name in self._ARRAYS:
            getattr(self, name).copy_(state[name])


class Pool:
    """Tokens drawn from all counted ones, the same for every layer."""

    def __init__(self, size: int, seed: int, device: torch.device | str) -> None:
        self.size, self.seed = size, seed
        self.pointer = torch.zeros(0, dtype=torch.int64, device=device)
        """(S) sorted by priority."""

    def offer(self, offered: Tensor) -> Tensor:
        """Take counted tokens (n) in; return the index of those that are in the pool now."""
        everything = torch.cat([self.pointer, offered.to(self.pointer.device)])
        order = torch.argsort(priority(self.seed, everything))[: self.size]
        n_before = self.pointer.numel()
        self.pointer = everything[order]
        return order[order >= n_before] - n_before


class LayerBuffers:
    """The buffers of one layer."""

    def __init__(self, n_features: int, sizes: BufferSizes, seed: int, device: torch.device | str) -> None:
        self.n_features, self.sizes, self.seed = n_features, sizes, seed
        self.top = Buffer(n_features, sizes.n_top, sizes.window, device)
        self.reservoir = Buffer(n_features, sizes.n_reservoir, sizes.window, device)
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        self.pool_pointer, self.pool_offset, self.pool_feature = empty, empty.clone(), empty.clone()
        self.pool_value = torch.zeros(0, device=device)

    def add(self, rows: ActiveRows, block: TokenBlock, eligible: Tensor, entered: Tensor, pool: Pool) -> None:
        """Add a chunk.

        Args:
            rows: every active row of the chunk's tokens, sinks too, sorted by token and feature.
            block: the chunk's tokens.
            eligible: (N) bool: tokens that may become a context.
            entered: tokens of the chunk that are in the pool now.
            pool: the pool after it took them.
        """
        pointer = pointers(block)
        keys = rows.token * self.n_features + rows.feature
        counted = rows.select(eligible[rows.token])
        # Positive floats order as their bits do, so the negated bits order by falling value.
        strength = -counted.value.contiguous().view(torch.int32).to(torch.int64)
        draw = priority(self.seed, counted.feature, pointer[counted.token])
        for buffer, key in ((self.top, strength), (self.reservoir, draw)):
            chosen = buffer.candidates(counted.feature, key)
            picked = counted.select(chosen)
            windows = self._windows(picked.token, picked.feature, keys, rows.value, block)
            buffer.merge(picked.feature, key[chosen], picked.value, pointer[picked.token], windows)
        self._add_to_pool(rows, block, entered, pool, pointer)

    def _windows(self, token: Tensor, feature: Tensor, keys: Tensor, values: Tensor, block: TokenBlock) -> Tensor:
        """Return values (M, 2 w + 1) around tokens, 0 beyond their document."""
        around, inside = _neighbourhood(token, self.sizes.window, block)
        found = look_up(keys, values, around * self.n_features + feature[:, None])
        return torch.where(inside, found, torch.zeros_like(found))

    def _add_to_pool(self, rows: ActiveRows, block: TokenBlock, entered: Tensor, pool: Pool, pointer: Tensor) -> None:
        stays = torch.isin(self.pool_pointer, pool.pointer)
        around, inside = _neighbourhood(entered, self.sizes.window, block)
        member, offset = inside.nonzero(as_tuple=True)
        token = around[member, offset]
        low, high = (torch.searchsorted(rows.token, token, right=right) for right in (False, True))
        count = high - low
        which = torch.repeat_interleave(torch.arange(len(token), device=token.device), count)
        first = torch.repeat_interleave(low - (count.cumsum(0) - count), count)
        row = torch.arange(len(which), device=token.device) + first
        self.pool_pointer = torch.cat([self.pool_pointer[stays], pointer[entered][member[which]]])
        self.pool_offset = torch.cat([self.pool_offset[stays], offset[which]])
        self.pool_feature = torch.cat([self.pool_feature[stays], rows.feature[row]])
        self.pool_value = torch.cat([self.pool_value[stays], rows.value[row]])

    def silent(self, features: Tensor, pool: Pool, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (feature, rank, pointer, windows) of up to n pool tokens where each of `features` is silent."""
        size = max(pool.pointer.numel(), 1)
        width = 2 * self.sizes.window + 1
        by_pointer = pool.pointer.argsort()
        slot = by_pointer[torch.searchsorted(pool.pointer[by_pointer], self.pool_pointer)]
        keys = (slot * width + self.pool_offset) * self.n_features + self.pool_feature
        order = keys.argsort()
        keys, values = keys[order], self.pool_value[order]
        start = priority(self.seed + 1, features) % size
        candidates = min(8 * n, pool.pointer.numel())
        index = (start[:, None] + torch.arange(candidates, device=start.device)) % size
        active = look_up(keys, values, (index * width + self.sizes.window) * self.n_features + features[:, None]) > 0
        rank = (~active).long().cumsum(1) - 1
        keep = ~active & (rank < n)
        which = keep.nonzero()[:, 0]
        offsets = torch.arange(width, device=start.device)
        wanted = (index[keep][:, None] * width + offsets) * self.n_features + features[which][:, None]
        return features[which], rank[keep], pool.pointer[index[keep]], look_up(keys, values, wanted)

    def state(self) -> dict[str, Tensor]:
        """Return everything on the CPU, under flat names."""
        found = {f"top.{name}": tensor for name, tensor in self.top.state().items()}
        found |= {f"reservoir.{name}": tensor for name, tensor in self.reservoir.state().items()}
        for name in ("pointer", "offset", "feature", "value"):
            found[f"pool.{name}"] = getattr(self, f"pool_{name}").cpu()
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take everything from a checkpoint."""
        for part, buffer in (("top", self.top), ("reservoir", self.reservoir)):
            buffer.load({name.partition(".")[2]: tensor for name, tensor in state.items() if name.startswith(f"{part}.")})
        device = self.top.key.device
        for name in ("pointer", "offset", "feature", "value"):
            setattr(self, f"pool_{name}", state[f"pool.{name}"].to(device))


def _neighbourhood(token: Tensor, window: int, block: TokenBlock) -> tuple[Tensor, Tensor]:
    """Return flat tokens (M, 2 w + 1) around tokens (M), and which of them exist in the same document."""
    around = token[:, None] + torch.arange(-window, window + 1, device=token.device)
    inside = (around >= 0) & (around < len(block))
    around = around.clamp(0, max(len(block) - 1, 0))
    return around, inside & (block.item[around] == block.item[token][:, None])
