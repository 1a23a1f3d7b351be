"""Matched random controls: what may be drawn, how near it is, and how many sets there are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest

from atlas.errors import InputError
from ingest.controls import Draws, Matching, Places, Pool, combined, count_distinct, draw_sets, product_of
from ingest.intervene.activity import Activity, activity
from ingest.intervene.engine import Engine
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import random_model, random_prompts, random_transcoders


@pytest.fixture(scope="module")
def transcoders(tmp_path_factory: pytest.TempPathFactory) -> TranscoderSet:
    return random_transcoders(tmp_path_factory.mktemp("transcoders"))


@pytest.fixture(scope="module")
def clean(transcoders: TranscoderSet) -> Activity:
    return activity(Engine(random_model(), transcoders, random_prompts(n_concepts=12).prompts))


@pytest.fixture(scope="module")
def places(clean: Activity, transcoders: TranscoderSet) -> Places:
    return Places(clean, transcoders, clean.at_decision())


def active_prompts(clean: Activity, layer: int, feature: int) -> set[int]:
    keep = clean.at_decision() & (clean.layer == layer) & (clean.feature == feature)
    return set(clean.prompt[keep].tolist())


def commonest(clean: Activity, n: int) -> list[tuple[int, int]]:
    keep = clean.at_decision()
    features, counts = np.unique(np.stack([clean.layer[keep], clean.feature[keep]], axis=1), axis=0, return_counts=True)
    return [(int(layer), int(feature)) for layer, feature in features[np.argsort(-counts, kind="stable")[:n]]]


def test_candidates_are_of_the_layer_outside_the_set_and_active_where_the_feature_is(places: Places, clean: Activity) -> None:
    features = commonest(clean, 6)
    pools = places.pools(features, matching=Matching(min_overlap=0.6))
    assert any(pool.candidates for pool in pools.values())
    for (layer, feature), pool in pools.items():
        own = active_prompts(clean, layer, feature)
        for candidate in pool.candidates:
            assert candidate[0] == layer
            assert candidate not in features
            assert len(active_prompts(clean, *candidate) & own) >= 0.6 * len(own)


def test_every_feature_that_qualifies_is_in_a_large_pool(places: Places, clean: Activity, transcoders: TranscoderSet) -> None:
    layer, feature = commonest(clean, 1)[0]
    own = active_prompts(clean, layer, feature)
    expected = {
        (layer, other)
        for other in range(transcoders.d_transcoder(layer))
        if other != feature and len(active_prompts(clean, layer, other) & own) >= 0.5 * len(own)
    }
    pools = places.pools([(layer, feature)], matching=Matching(min_overlap=0.5, pool_size=1000, caliper=math.inf))
    assert set(pools[layer, feature].candidates) == expected


def test_candidates_are_ranked_by_decile_then_strength(clean: Activity, transcoders: TranscoderSet, places: Places) -> None:
    layer, feature = commonest(clean, 1)[0]
    pool = places.pools([(layer, feature)], matching=Matching(pool_size=1000, caliper=math.inf))[layer, feature].candidates
    keep = clean.at_decision() & (clean.layer == layer)
    n_places = len(np.unique(clean.prompt[clean.at_decision()]))
    frequency = np.bincount(clean.feature[keep], minlength=transcoders.d_transcoder(layer)) / n_places
    alive = np.sort(frequency[frequency > 0])
    decile = np.minimum(np.floor(np.searchsorted(alive, frequency, side="right") / len(alive) * 10), 9)
    own = active_prompts(clean, layer, feature)
    norms = transcoders.decoder_norms(layer).numpy()

    def strength(other: int) -> float:
        here = keep & (clean.feature == other) & np.isin(clean.prompt, list(own))
        return float(clean.value[here].sum() * norms[other])

    keys = [(abs(decile[other] - decile[feature]), abs(np.log(strength(other) / strength(feature)))) for _, other in pool]
    assert all(a[0] < b[0] or (a[0] == b[0] and a[1] <= b[1] + 1e-9) for a, b in pairwise(keys))


def test_a_pool_holds_what_contributes_as_much_as_its_feature(clean: Activity, transcoders: TranscoderSet, places: Places) -> None:
    keep = clean.at_decision()

    def contribution(layer: int, feature: int) -> float:
        values = clean.value[keep & (clean.layer == layer) & (clean.feature == feature)]
        return float(np.sqrt((values**2).sum()) * transcoders.decoder_norms(layer).numpy()[feature])

    filled = inside = 0
    for layer, feature in commonest(clean, 12):
        everyone = places.pools([(layer, feature)], matching=Matching(pool_size=1000, caliper=math.inf))[layer, feature].candidates
        own = contribution(layer, feature)
        away = {candidate: abs(np.log(contribution(*candidate) / own)) for candidate in everyone}
        near = {candidate for candidate in everyone if away[candidate] <= np.log(1.25)}
        pool = places.pools([(layer, feature)])[layer, feature].candidates
        if len(near) >= 5:
            inside += 1
            assert set(pool) <= near
            assert len(pool) == min(20, len(near))
        else:
            filled += 1
            assert sorted(away[candidate] for candidate in pool) == sorted(away.values())[:5]
    assert inside
    assert filled


def test_pools_over_some_prompts_use_only_these(places: Places, clean: Activity) -> None:
    features = commonest(clean, 3)
    some = np.arange(6)
    for (layer, feature), pool in places.pools(features, some).items():
        own = active_prompts(clean, layer, feature) & set(some.tolist())
        for candidate in pool.candidates:
            assert len(active_prompts(clean, *candidate) & own) >= 0.5 * len(own)


def pools_of(sizes: Sequence[Sequence[int]]) -> dict[tuple[int, int], Pool]:
    return {(0, 100 + i): Pool((0, 100 + i), tuple((0, f) for f in sizes_i)) for i, sizes_i in enumerate(sizes)}


def test_draws_are_distinct_sets_without_repeats() -> None:
    pools = pools_of([range(8), range(8), range(5, 12)])
    draws = draw_sets(list(pools), pools, 60, seed=3)
    assert len(draws.sets) == 60
    assert len({frozenset(chosen) for chosen in draws.sets}) == 60
    assert all(len(set(chosen)) == 3 for chosen in draws.sets)
    assert draws.n_pool == 12
    assert draw_sets(list(pools), pools, 60, seed=3) == draws
    assert draw_sets(list(pools), pools, 60, seed=4) != draws


def test_few_sets_are_all_enumerated() -> None:
    pools = pools_of([[0, 1], [1, 2]])
    draws = draw_sets(list(pools), pools, 100, seed=0)
    brute = {frozenset(chosen) for chosen in product([0, 1], [1, 2]) if len(set(chosen)) == 2}
    assert {frozenset(f for _, f in chosen) for chosen in draws.sets} == brute
    assert draws.distinct_sets == len(brute)


def test_count_of_distinct_sets_is_exact_for_small_and_a_bound_for_large_pools() -> None:
    small = [tuple((0, f) for f in range(6))] * 3
    assert count_distinct(small)[0] == 20  # 6 choose 3
    large = [tuple((0, f) for f in range(30))] * 5
    count, listed = count_distinct(large)
    assert listed is None
    assert count == 142506  # 30 choose 5


def test_features_without_a_candidate_are_named() -> None:
    pools = pools_of([[1, 2, 3], []])
    draws = draw_sets(list(pools), pools, 10, seed=0)
    assert draws.unmatched == ((0, 101),)
    assert all(len(chosen) == 1 for chosen in draws.sets)
    empty = pools_of([[]])
    with pytest.raises(InputError, match="None of the 1 features has a matched control"):
        draw_sets(list(empty), empty, 10, seed=0)


def test_a_used_up_pool_leaves_its_feature_unmatched_in_that_draw() -> None:
    pools = pools_of([[1], [1], [1, 2, 3, 4]])
    draws = draw_sets(list(pools), pools, 10, seed=0)
    assert all(len(set(chosen)) == len(chosen) for chosen in draws.sets)
    assert draws.distinct_sets >= len(draws.sets) > 0


def draws_of(n: int, distinct: float, first: int = 0) -> Draws:
    return Draws(tuple(((0, first + i),) for i in range(n)), n, distinct, ())


def test_a_draw_takes_one_set_a_concept() -> None:
    sets, distinct = combined({"a": draws_of(30, 1e6), "b": draws_of(4, 4.0, 100)}, 30, seed=0)
    assert distinct == 4e6
    assert [chosen["a"] for chosen in sets] == [((0, i),) for i in range(30)]
    assert {chosen["b"][0][1] for chosen in sets} == {100, 101, 102, 103}
    assert combined({"a": draws_of(30, 1e6), "b": draws_of(4, 4.0, 100)}, 30, seed=0) == (sets, distinct)


def test_few_combinations_are_all_taken_once() -> None:
    sets, distinct = combined({"a": draws_of(3, 3.0), "b": draws_of(2, 2.0, 100)}, 30, seed=0)
    assert distinct == len(sets) == len({(chosen["a"], chosen["b"]) for chosen in sets}) == 6
    assert combined({}, 30, seed=0) == ([], 0.0)


def test_the_count_of_sets_over_many_concepts_stays_a_number() -> None:
    # 40 concepts with 1e13 sets each: their product is beyond the largest double. It was infinite, with NumPy's "overflow in reduce".
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, distinct = combined({f"c{i}": draws_of(10, 1e13) for i in range(40)}, 10, seed=0)
    assert math.isfinite(distinct)
    assert distinct >= 1e300
    assert product_of([1e13, 2.0]) == 2e13


def test_a_layer_without_activity_has_empty_pools(places: Places) -> None:
    assert places.pools([(7, 3)]) == {(7, 3): Pool((7, 3), ())}
