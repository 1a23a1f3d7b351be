"""Per-feature counts of one layer, by language and role, in dense arrays on the device.

In: `ActiveRows` of whole documents with the language, role and document of each token. Out: rows of feature,
feature_language, feature_role and histogram.

1. Every count is a scatter-add into an array of (language, feature): the cost does not depend on how many features are
   looked at, and batches and checkpoints add up.
2. Only counted tokens enter: position 0 (an attention sink) is left out by the caller.
3. The pseudo-language `xx` of random tokens has rows of its own and is in no denominator of `feature` (METHODS section 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ingest.rows import ActiveRows

RANDOM_LANGUAGE = "xx"
"""Pseudo-language of random tokens: a null, in no denominator."""
ROLES: tuple[str, ...] = ("sink", "content", "operator", "quote", "template", "decision", "padding", "other")
"""schema.sql's token_role, in order."""

HISTOGRAM_LOW_EXPONENT = -8.0
HISTOGRAM_BINS_PER_OCTAVE = 2
N_HISTOGRAM_BINS = 48
"""Half-octave bins from 2^-8 to 2^16, the same for every feature, so that they can be filled before the maximum is known."""


@dataclass(frozen=True)
class TokenBlock:
    """The flat tokens of whole documents; N tokens, none of them padding."""

    item: Tensor
    """(N) int64: prompt or document ordinal, ascending."""
    position: Tensor
    """(N) int64: 0 is the first unpadded token."""
    language: Tensor
    """(N) int64: index into the languages."""
    role: Tensor
    """(N) int64: index into `ROLES`."""

    def __len__(self) -> int:
        return int(self.item.numel())

    @property
    def counted(self) -> Tensor:
        """(N) bool: tokens that enter statistics, all but position 0."""
        return self.position > 0

    def to(self, device: torch.device | str) -> TokenBlock:
        """Move to a device."""
        return TokenBlock(*(getattr(self, name).to(device) for name in ("item", "position", "language", "role")))


@dataclass(frozen=True)
class TokenCounts:
    """Denominators, the same for every feature and layer."""

    tokens: Tensor
    """(languages) int64: counted tokens."""
    documents: Tensor
    """(languages) int64."""
    roles: Tensor
    """(languages, roles) int64."""

    @staticmethod
    def empty(n_languages: int) -> TokenCounts:
        """Return zero counts."""
        zeros = torch.zeros(n_languages, dtype=torch.int64)
        return TokenCounts(zeros.clone(), zeros.clone(), torch.zeros(n_languages, len(ROLES), dtype=torch.int64))

    def add(self, block: TokenBlock) -> None:
        """Count a block's tokens and documents."""
        block = block.to("cpu")
        counted = block.counted
        n_languages = self.tokens.numel()
        self.tokens.add_(torch.bincount(block.language[counted], minlength=n_languages))
        keys = torch.unique(block.item * n_languages + block.language)
        self.documents.add_(torch.bincount(keys % n_languages, minlength=n_languages))
        flat = block.language[counted] * len(ROLES) + block.role[counted]
        self.roles.add_(torch.bincount(flat, minlength=n_languages * len(ROLES)).view(n_languages, len(ROLES)))


class LayerStatistics:
    """Dense counts of one layer, (languages, features) each."""

    _ARRAYS = ("n_active", "n_documents", "total", "squares", "maximum", "bins", "role_active", "role_total")

    def __init__(self, n_features: int, n_languages: int, device: torch.device | str, *, with_roles: bool) -> None:
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        shape = (n_languages, n_features)
        n_roles = len(ROLES) if with_roles else 0
        self.n_features, self.n_languages, self.with_roles = n_features, n_languages, with_roles
        self.n_active = zeros(*shape, dtype=torch.int64)
        self.n_documents = zeros(*shape, dtype=torch.int32)
        self.total = zeros(*shape, dtype=torch.float64)
        self.squares = zeros(*shape, dtype=torch.float64)
        self.maximum = zeros(*shape, dtype=torch.float32)
        self.bins = zeros(n_features, N_HISTOGRAM_BINS, dtype=torch.int32)
        self.role_active = zeros(n_languages, n_roles, n_features, dtype=torch.int32)
        self.role_total = zeros(n_languages, n_roles, n_features, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """Return the arrays on the CPU, for a checkpoint."""
        return {name: getattr(self, name).cpu() for name in self._ARRAYS}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the arrays of a checkpoint."""
        for name in self._ARRAYS:
            getattr(self, name).copy_(state[name])

    def add(self, rows: ActiveRows, block: TokenBlock, *, real: Tensor) -> None:
        """Add the active rows of whole documents.

        Args:
            rows: active rows whose `token` indexes `block`.
            block: the tokens, on the same device.
            real: (languages) bool, False for pseudo-languages, which stay out of the histogram.
        """
        rows = rows.select(block.counted[rows.token])
        if len(rows) == 0:
            return
        language = block.language[rows.token]
        cell = language * self.n_features + rows.feature
        value = rows.value.double()
        self.n_active.view(-1).index_add_(0, cell, torch.ones_like(cell))
        self.total.view(-1).index_add_(0, cell, value)
        self.squares.view(-1).index_add_(0, cell, value * value)
        self.maximum.view(-1).scatter_reduce_(0, cell, rows.value.float(), "amax")
        self._add_documents(rows, block)
        in_histogram = real[language]
        bin_cell = rows.feature[in_histogram] * N_HISTOGRAM_BINS + histogram_bin(rows.value[in_histogram])
        self.bins.view(-1).index_add_(0, bin_cell, torch.ones_like(bin_cell, dtype=torch.int32))
        if self.with_roles:
            role_cell = (language * len(ROLES) + block.role[rows.token]) * self.n_features + rows.feature
            self.role_active.view(-1).index_add_(0, role_cell, torch.ones_like(role_cell, dtype=torch.int32))
            self.role_total.view(-1).index_add_(0, role_cell, value)

    def _add_documents(self, rows: ActiveRows, block: TokenBlock) -> None:
        first = block.item[rows.token]
        pair = torch.unique(first * self.n_features + rows.feature)
        item, feature = pair // self.n_features, pair % self.n_features
        language_of_item = block.language[torch.searchsorted(block.item, item)]
        cell = language_of_item * self.n_features + feature
        self.n_documents.view(-1).index_add_(0, cell, torch.ones_like(cell, dtype=torch.int32))

    # ------------------------------------------------------------------ rows of schema.sql

    def feature_columns(self, layer: int, counts: TokenCounts, languages: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the measured columns of table `feature`, all features, dead ones included."""
        real = [i for i, language in enumerate(languages) if language != RANDOM_LANGUAGE]
        n_active = self.n_active[real].sum(0).cpu().numpy()
        total, squares = self.total[real].sum(0).cpu().numpy(), self.squares[real].sum(0).cpu().numpy()
        n_tokens = int(counts.tokens[real].sum())
        alive = n_active > 0
        divisor = np.maximum(n_active, 1)
        mean = total / divisor
        sd = np.sqrt(np.maximum(squares / divisor - mean**2, 0.0))
        return {
            "layer": np.full(self.n_features, layer, np.int16),
            "feature": np.arange(self.n_features, dtype=np.int32),
            "n_tokens": np.full(self.n_features, n_tokens, np.int64),
            "n_active": n_active,
            "n_prompts_active": self.n_documents[real].sum(0).cpu().numpy().astype(np.int32),
            "density": n_active / max(n_tokens, 1),
            "max_activation": _masked(self.maximum[real].amax(0).cpu().numpy(), alive),
            "mean_activation": _masked(mean.astype(np.float32), alive),
            "sd_activation": _masked(sd.astype(np.float32), alive),
        }

    def language_table(self, layer: int, counts: TokenCounts, languages: Sequence[str]) -> pa.Table:
        """Return feature_language: every language of every feature that is active in any, zeros included."""
        alive = np.flatnonzero((self.n_active.sum(0) > 0).cpu().numpy()).astype(np.int32)
        n, k = len(alive), len(languages)

        def column(array: Tensor) -> np.ndarray:
            return array.cpu().numpy()[:, alive].T.reshape(-1)

        return pa.table(
            {
                "layer": pa.array(np.full(n * k, layer, np.int16)),
                "feature": pa.array(np.repeat(alive, k)),
                "language": _repeated(languages, np.tile(np.arange(k), n)),
                "n_tokens": pa.array(np.tile(counts.tokens.numpy(), n)),
                "n_active": pa.array(column(self.n_active)),
                "n_prompts": pa.array(np.tile(counts.documents.numpy().astype(np.int32), n)),
                "n_prompts_active": pa.array(column(self.n_documents)),
                "sum_activation": pa.array(column(self.total)),
                "sum_squares": pa.array(column(self.squares)),
                "max_activation": pa.array(column(self.maximum)),
            }
        )

    def role_table(self, layer: int, counts: TokenCounts, languages: Sequence[str]) -> pa.Table:
        """Return feature_role: active (feature, language, role) only."""
        active = self.role_active.cpu().numpy().transpose(2, 0, 1)
        feature, language, role = np.nonzero(active)
        return pa.table(
            {
                "layer": pa.array(np.full(len(feature), layer, np.int16)),
                "feature": pa.array(feature.astype(np.int32)),
                "language": _repeated(languages, language),
                "role": _repeated(ROLES, role),
                "n_tokens": pa.array(counts.roles.numpy()[language, role]),
                "n_active": pa.array(active[feature, language, role].astype(np.int64)),
                "sum_activation": pa.array(self.role_total.cpu().numpy().transpose(2, 0, 1)[feature, language, role]),
            }
        )

    def histogram_table(self, layer: int) -> pa.Table:
        """Return histogram: the bins that are not empty."""
        counts = self.bins.cpu().numpy()
        feature, bins = np.nonzero(counts)
        low, high = histogram_edges(bins)
        return pa.table(
            {
                "layer": pa.array(np.full(len(feature), layer, np.int16)),
                "feature": pa.array(feature.astype(np.int32)),
                "bin": pa.array(bins.astype(np.int16)),
                "low": pa.array(low.astype(np.float32)),
                "high": pa.array(high.astype(np.float32)),
                "n": pa.array(counts[feature, bins].astype(np.int64)),
            }
        )


def histogram_bin(value: Tensor) -> Tensor:
    """Return the half-octave bin of positive values; the first and last bins take what lies beyond."""
    scaled = (torch.log2(value.double()) - HISTOGRAM_LOW_EXPONENT) * HISTOGRAM_BINS_PER_OCTAVE
    return scaled.floor().clamp(0, N_HISTOGRAM_BINS - 1).to(torch.int64)


def histogram_edges(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper edges; the first bin reaches down to 0, the last one up to infinity."""
    low = 2.0 ** (HISTOGRAM_LOW_EXPONENT + bins / HISTOGRAM_BINS_PER_OCTAVE)
    high = 2.0 ** (HISTOGRAM_LOW_EXPONENT + (bins + 1) / HISTOGRAM_BINS_PER_OCTAVE)
    return np.where(bins == 0, 0.0, low), np.where(bins == N_HISTOGRAM_BINS - 1, np.inf, high)


def _masked(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return a masked array: Arrow turns what is masked into null."""
    return np.ma.masked_array(values, mask=~keep)


def _repeated(names: Sequence[str], index: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(list(names))).dictionary_decode()
