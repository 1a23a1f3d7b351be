"""Where a feature fires: its strongest tokens, a sample of each decile, and tokens where it is silent, each with a window.

In: the active rows of one layer over all tokens at hand. Out: rows of `context`, pointers into `token` without copied text.

1. top: the `n_top` largest values of a feature; ties go to the earlier token.
2. quantile: positive values of a feature are cut into deciles by rank (9 is strongest); `per_decile` of each are drawn.
3. non_activating: counted tokens where the feature is silent, drawn from a shared shuffled pool from a place of the feature's own.
Draws are hashes of (seed, feature, token), so that they depend neither on batches nor on order. Sinks and random tokens are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ingest.rows import ActiveRows, Lookup, lexicographic_order, priority, rank_in_group
from ingest.statistics import TokenBlock

N_DECILES = 10
_CANDIDATES_PER_SAMPLE = 8
"""Pool tokens looked at for each non-activating sample wanted; a feature active on most tokens may get fewer samples."""


@dataclass(frozen=True)
class ContextConfig:
    """How many contexts a feature gets."""

    n_top: int = 20
    """Strongest tokens."""
    per_decile: int = 1
    """Samples of each decile of positive values."""
    n_silent: int = 5
    """Tokens where the feature is silent."""
    window: int = 8
    """Tokens to each side of the one pointed at."""


@dataclass(frozen=True)
class Contexts:
    """Chosen (feature, token) pairs of one kind, M of them, sorted by feature and rank."""

    kind: str
    feature: Tensor
    """(M) int64."""
    rank: Tensor
    """(M) int64, from 0 within a feature."""
    token: Tensor
    """(M) int64: flat token."""
    value: Tensor
    """(M) float32."""
    quantile: Tensor | None = None
    """(M) int64, or None where the kind has none."""


def strongest(ranked: ActiveRows, rank: Tensor, n: int) -> Contexts:
    """Choose each feature's n largest values from rows `by_strength`."""
    kept = ranked.select(rank < n)
    return Contexts("top", kept.feature, rank[rank < n], kept.token, kept.value)


def decile_samples(ranked: ActiveRows, rank: Tensor, per_decile: int, seed: int) -> Contexts:
    """Draw tokens of each decile of a feature's positive values from rows `by_strength`, strongest decile first."""
    if len(ranked) == 0:
        return Contexts("quantile", ranked.feature, rank, ranked.token, ranked.value, rank)
    _, inverse, counts = torch.unique_consecutive(ranked.feature, return_inverse=True, return_counts=True)
    decile = N_DECILES - 1 - (rank * N_DECILES) // counts[inverse]
    return drawn_by_decile(ranked, decile, priority(seed, ranked.feature, ranked.token), per_decile)


def drawn_by_decile(rows: ActiveRows, decile: Tensor, draw: Tensor, per_decile: int) -> Contexts:
    """Keep, of each (feature, decile), the rows with the smallest draws."""
    group = rows.feature * N_DECILES + (N_DECILES - 1 - decile)
    order = lexicographic_order(group, draw)  # rows by strength are sorted by group already, but not by draw within it
    order = order[rank_in_group(group[order]) < per_decile]
    feature = rows.feature[order]
    return Contexts("quantile", feature, rank_in_group(feature), rows.token[order], rows.value[order], quantile=decile[order])


def silent_samples(activation: Lookup, features: Tensor, pool: Tensor, n: int, seed: int) -> Contexts:
    """Draw tokens of the pool where each of `features` is silent."""
    pool = pool[torch.argsort(priority(seed, pool))]
    n_candidates = min(n * _CANDIDATES_PER_SAMPLE, pool.numel())
    start = priority(seed + 1, features) % max(pool.numel(), 1)
    index = (start[:, None] + torch.arange(n_candidates, device=pool.device)) % max(pool.numel(), 1)
    token = pool[index]  # (features, candidates)
    active = activation(token, features[:, None]) > 0
    rank = (~active).long().cumsum(1) - 1
    keep = ~active & (rank < n)
    which = keep.nonzero()[:, 0]
    return Contexts("non_activating", features[which], rank[keep], token[keep], torch.zeros(int(keep.sum()), device=token.device))


def context_table(
    chosen: Sequence[Contexts],
    activation: Lookup,
    block: TokenBlock,
    *,
    layer: int,
    languages: Sequence[str],
    source: str,
    window: int,
) -> pa.Table:
    """Return rows of `context`; `activation` knows every token of `block`, sinks too."""
    tables = []
    for contexts in chosen:
        offsets = torch.arange(-window, window + 1, device=contexts.token.device)
        around = contexts.token[:, None] + offsets  # (M, 2 window + 1)
        inside = (around >= 0) & (around < len(block))
        around = around.clamp(0, max(len(block) - 1, 0))
        inside &= block.item[around] == block.item[contexts.token][:, None]
        values = activation.windows(around, contexts.feature, inside)
        position = block.position[contexts.token]
        language = block.language[contexts.token].cpu().numpy().astype(np.int32)
        tables.append(
            context_columns(
                layer=layer,
                feature=contexts.feature.cpu().numpy(),
                kind=contexts.kind,
                rank=contexts.rank.cpu().numpy(),
                source=source,
                item=block.item[contexts.token].cpu().numpy(),
                position=position.cpu().numpy(),
                language=pa.DictionaryArray.from_arrays(pa.array(language), pa.array(list(languages))),
                activation=contexts.value.cpu().numpy(),
                quantile=None if contexts.quantile is None else contexts.quantile.cpu().numpy(),
                inside=inside.cpu().numpy(),
                window_values=values.cpu().numpy(),
            )
        )
    return pa.concat_tables(tables)


def context_columns(
    *,
    layer: int,
    feature: np.ndarray,
    kind: str,
    rank: np.ndarray,
    source: str,
    item: np.ndarray,
    position: np.ndarray,
    language: pa.DictionaryArray,
    activation: np.ndarray,
    quantile: np.ndarray | None,
    inside: np.ndarray,
    window_values: np.ndarray,
) -> pa.Table:
    """Assemble `context` rows; `inside` (M, 2 window + 1) tells which places of the window exist."""
    n = len(feature)
    half = (inside.shape[1] - 1) // 2
    lengths = inside.sum(1)
    before = inside[:, :half].sum(1)
    lists = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        pa.array(window_values[inside].astype(np.float32)),
    )
    return pa.table(
        {
            "layer": pa.array(np.full(n, layer, np.int16)),
            "feature": pa.array(feature.astype(np.int32)),
            "kind": pa.array([kind] * n, pa.string()),
            "rank": pa.array(rank.astype(np.int16)),
            "source": pa.array([source] * n, pa.string()),
            "item": pa.array(item.astype(np.int32)),
            "position": pa.array(position.astype(np.int16)),
            "language": language.dictionary_decode(),
            "activation": pa.array(activation.astype(np.float32)),
            "quantile": pa.nulls(n, pa.int16()) if quantile is None else pa.array(quantile.astype(np.int16)),
            "window_start": pa.array((position - before).astype(np.int16)),
            "window_end": pa.array((position - before + lengths - 1).astype(np.int16)),
            "window_activations": lists,
        }
    )
