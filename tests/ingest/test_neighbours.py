"""The nulls of single-feature ablations exchange features: exchangeable features are rejected as often as the level says."""

from __future__ import annotations

import numpy as np
import pytest

from atlas import stats
from ingest.intervene.effects import _against, neighbour_means
from ingest.intervene.measure import PooledControls
from ingest.properties import Slot, _exchange_test, exchanged

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


def exchangeable_slots(generator: np.random.Generator, tested: int, others: int, layers: int = 3, rows: int = 40) -> list[Slot]:
    """Tested features like their neighbours: each has a rate of its own, on all prompts, at which its effect has the predicted sign."""
    slots = []
    for layer in range(layers):
        n = tested + others
        right = generator.binomial(rows, generator.beta(0.6, 0.6, size=n)) / rows
        names = [(layer << 32) + i for i in range(n)]
        for feature in range(tested):
            near = np.sort(generator.choice([i for i in range(n) if i != feature], size=int(0.7 * (n - 1)), replace=False))
            slots.append(Slot(names[feature], rows, float(right[feature]), tuple(names[i] for i in near), right[near]))
    return slots


@pytest.mark.parametrize(("tested", "others"), [(5, 20), (10, 10)])
def test_directionality_rejects_exchangeable_features_at_the_level(tested: int, others: int) -> None:
    generator = np.random.default_rng(0)
    p_values = []
    for repeat in range(250):
        slots = exchangeable_slots(generator, tested, others)
        observed = np.mean([slot.right for slot in slots])
        p_values.append(float(stats.empirical_p(observed - 1e-12, exchanged(slots, 99, repeat))))
    # 250 repeats: standard errors .014 and .025. A neighbour drawn anew on every row gave .3 to .5 here, untested features alone .1 to .5.
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.095
    assert 0.4 <= np.mean(np.array(p_values) <= 0.5) <= 0.6


def test_directionality_finds_features_that_are_right_more_often() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(20):
        slots = exchangeable_slots(generator, 5, 20)
        right = [
            Slot(slot.name, slot.n_rows, 1.0, slot.others, np.where(np.array(slot.others) % (1 << 32) < 5, 1.0, slot.others_right))
            for slot in slots
        ]
        found.append(_exchange_test(1.0, right, 0)["p_value"])
    assert np.mean(np.array(found) <= 0.01) >= 0.9


def test_a_draw_takes_no_feature_twice_and_keeps_to_each_slots_own_pool() -> None:
    slots = [Slot(1, 1, 1.0, (10, 11), np.array([0.1, 0.2])), Slot(2, 1, 1.0, (10,), np.array([0.4]))]
    untested = exchanged(slots, 200, 0, tested=False)
    # The second slot takes 10, which leaves 11 to the first.
    assert untested == pytest.approx((0.2 + 0.4) / 2)
    every = {round(value, 6) for value in exchanged(slots, 400, 0)}
    assert every == {round(value, 6) for value in (1.0, (0.1 + 1.0) / 2, (0.2 + 1.0) / 2, (1.0 + 0.4) / 2, (0.2 + 0.4) / 2)}
    alone = [Slot(1, 3, 0.5, (2,), np.array([0.5])), Slot(2, 1, 0.5, (1,), np.array([0.5]))]
    assert np.isnan(exchanged(alone, 5, 0, tested=False)).all()
    assert _exchange_test(0.5, alone, 0) == {"n_controls": 0, "p_value": None, "supports": None}
