"""The null of single-feature ablations exchanges features: exchangeable features are rejected as often as the level says."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.intervene.effects import _against, neighbour_means
from ingest.intervene.measure import PooledControls

N_FEATURES, N_PROMPTS, REPEATS = 120, 60, 400


def p_of(generator: np.random.Generator, n_features: int) -> float | None:
    """One tested feature among others of the same kind: an effect of its own, the same on all prompts, and noise."""
    own = generator.normal(size=n_features + 1)
    effects = own + 0.5 * generator.normal(size=(N_PROMPTS, n_features + 1))
    features = np.broadcast_to(np.arange(n_features), (N_PROMPTS, n_features))
    pool = PooledControls(effects[:, 1:], features, np.ones_like(effects[:, 1:]), n_features, float(n_features))
    null = neighbour_means(pool, np.ones(N_PROMPTS, dtype=bool))
    p: float | None = _against(effects[:, 0].mean(), null, np.ones(len(null)), "two-sided", float(len(null)))["p_value"]
    return p


def test_exchangeable_features_are_rejected_at_the_level() -> None:
    generator = np.random.default_rng(0)
    rejected = np.mean([(p_of(generator, N_FEATURES) or 1.0) <= 0.05 for _ in range(REPEATS)])
    assert 0.02 <= rejected <= 0.08  # 400 repeats at .05: standard error .011


def test_few_neighbours_give_no_p() -> None:
    assert p_of(np.random.default_rng(0), 10) is None


def test_a_neighbour_counts_once_however_often_it_stands_there() -> None:
    effects = np.array([[1.0, 5.0], [3.0, np.nan], [2.0, np.nan], [2.0, np.nan], [2.0, np.nan]])
    features = np.array([[7, 9], [7, -1], [7, -1], [7, -1], [7, -1]])
    pool = PooledControls(effects, features, 2 * effects, 2, 2.0)
    assert neighbour_means(pool, np.ones(5, dtype=bool)).tolist() == pytest.approx([2.0])
    assert neighbour_means(pool, np.ones(5, dtype=bool), pool.norms).tolist() == pytest.approx([4.0])
    assert len(neighbour_means(pool, np.zeros(5, dtype=bool))) == 0
