"""Matched random controls: features that could have been chosen instead, and random sets drawn from them.

In: clean activations at one role of position, decoder norms, the features to match and the prompts they are edited on. Out: for each
feature a pool, and draws of whole sets (METHODS, sections 5 and 6).

1. A candidate is of the same layer, is not in the set, and is active on at least `min_overlap` of the places (prompt, position) where the
   matched feature is active.
2. Inside the caliper are candidates whose own contribution to a change, sqrt(sum a^2) x ||W_dec|| over all places, is within a factor
   `caliper` of the feature's. They are ranked by distance of frequency decile, then by |log| ratio of mean |a| x ||W_dec|| over the
   matched feature's places; the nearest `pool_size` make the pool. Where fewer than `least` are inside, those with the nearest
   contribution fill the pool up to `least`.
3. A draw takes one candidate for each feature, none twice; equal sets are drawn once. How many distinct sets there are is said beside it.
4. Where concepts have sets of their own, a draw takes one set for each (`combined`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import comb, prod
from sys import float_info

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from atlas.errors import InputError
from atlas.stats import MINIMUM_DRAWS
from ingest.intervene.activity import Activity, Doubles
from ingest.intervene.edits import Integers
from ingest.intervene.rules import FeatureKey
from ingest.transcoder import TranscoderSet

MINIMUM_DISTINCT = MINIMUM_DRAWS
"""With fewer distinct control sets there is no p-value but the comparison itself (METHODS, section 6)."""
_ENUMERATE = 20_000


@dataclass(frozen=True)
class Matching:
    """How controls are matched."""

    min_overlap: float = 0.5
    """Share of the feature's active places on which a candidate must be active."""
    pool_size: int = 20
    """Nearest candidates kept."""
    caliper: float = 1.25
    """Largest ratio of a candidate's contribution to the feature's, in either direction."""
    least: int = 5
    """Candidates kept even where fewer are inside the caliper."""


@dataclass(frozen=True)
class Pool:
    """Candidates for one feature, nearest first."""

    feature: FeatureKey
    candidates: tuple[FeatureKey, ...]


@dataclass(frozen=True)
class Draws:
    """Random sets matched to one set."""

    sets: tuple[tuple[FeatureKey, ...], ...]
    """Distinct sets; a set is shorter where a pool was used up by other features of it."""
    n_pool: int
    """Distinct features that controls were drawn from."""
    distinct_sets: float
    """Number of distinct sets there are (an upper bound where they are too many to count); those drawn where pools are used up."""
    unmatched: tuple[FeatureKey, ...]
    """Features without a candidate; they stay as they are out of every draw."""


class Places:
    """Activity at one role of position as sparse matrices (places, features) by layer."""

    def __init__(self, activity: Activity, transcoders: TranscoderSet, keep: NDArray[np.bool_]) -> None:
        """Take the entries `keep` (A,) of the clean activations: those at the positions that are edited."""
        self.transcoders = transcoders
        self._norms: dict[int, Doubles] = {}
        self._values: dict[int, sparse.csc_matrix] = {}
        self._prompt: dict[int, Integers] = {}
        position_key = activity.prompt * (int(activity.lengths.max()) + 1) + activity.position
        places, index = np.unique(position_key[keep], return_inverse=True)
        self.prompt_of_place = places // (int(activity.lengths.max()) + 1)
        for layer in np.unique(activity.layer[keep]).tolist():
            here = activity.layer[keep] == layer
            shape = (len(places), transcoders.d_transcoder(layer))
            entries = (np.abs(activity.value[keep][here]), (index[here], activity.feature[keep][here]))
            self._values[layer] = sparse.csc_matrix(entries, shape=shape)

    def norms(self, layer: int) -> Doubles:
        """Return the decoder norms (F,) of a layer."""
        if layer not in self._norms:
            self._norms[layer] = self.transcoders.decoder_norms(layer).double().cpu().numpy()
        return self._norms[layer]

    def pools(
        self,
        features: Sequence[FeatureKey],
        prompts: Integers | None = None,
        matching: Matching | None = None,
        exclude: Sequence[FeatureKey] = (),
    ) -> dict[FeatureKey, Pool]:
        """Return the pool of each feature over some prompts (default: all); members of the set and `exclude` are in none."""
        matching = matching or Matching()
        inside = np.ones(len(self.prompt_of_place), dtype=bool) if prompts is None else np.isin(self.prompt_of_place, prompts)
        excluded = {*features, *exclude}
        pools: dict[FeatureKey, Pool] = {}
        for layer in sorted({layer for layer, _ in features}):
            own = [feature for feature_layer, feature in features if feature_layer == layer]
            values = self._values.get(layer)
            if values is None:
                pools |= {(layer, feature): Pool((layer, feature), ()) for feature in own}
                continue
            values = values[inside]
            active = (values != 0).astype(np.float64)
            frequency = np.asarray(active.sum(axis=0)).ravel() / max(1, values.shape[0])
            decile = _deciles(frequency)
            shared = np.asarray((active[:, own].T @ active).todense())  # (own, F) places where both are active
            strength = np.asarray((active[:, own].T @ values).todense()) * self.norms(layer)  # (own, F)
            size = np.sqrt(np.asarray(values.multiply(values).sum(axis=0)).ravel()) * self.norms(layer)  # (F,)
            for row, feature in enumerate(own):
                near = shared[row] >= matching.min_overlap * shared[row, feature]
                near[[other for own_layer, other in excluded if own_layer == layer]] = False
                if shared[row, feature] == 0:
                    near[:] = False
                ranked = _ranked(np.flatnonzero(near), feature, strength[row], size, decile, matching)
                pools[layer, feature] = Pool((layer, feature), tuple((layer, other) for other in ranked.tolist()))
        return pools


def _ranked(near: Integers, feature: int, strength: Doubles, size: Doubles, decile: Integers, matching: Matching) -> Integers:
    """Return the pool among candidates, nearest first."""
    if not len(near):
        return near
    distance, away = (np.abs(np.log(np.maximum(of[near], 1e-30) / max(of[feature], 1e-30))) for of in (strength, size))
    inside = away <= np.log(matching.caliper)
    order = np.lexsort((near, distance, np.abs(decile[near] - decile[feature]), np.where(inside, 0.0, away)))
    kept = near[order[: min(matching.pool_size, max(matching.least, int(inside.sum())))]]
    return np.asarray(kept, dtype=np.int64)


def draw_sets(features: Sequence[FeatureKey], pools: Mapping[FeatureKey, Pool], draws: int, seed: int) -> Draws:
    """Draw distinct random sets, one candidate a feature, none twice.

    Raises:
        InputError: no feature of the set has a candidate.
    """
    matched = [feature for feature in features if pools[feature].candidates]
    unmatched = tuple(feature for feature in features if not pools[feature].candidates)
    if not matched:
        raise InputError(
            f"None of the {len(features)} features has a matched control.",
            hint="Lower the minimum overlap, or add prompts on which more features fire.",
        )
    candidates = [pools[feature].candidates for feature in matched]
    n_pool = len({candidate for pool in candidates for candidate in pool})
    distinct, every = count_distinct(candidates)
    generator = np.random.default_rng(seed)
    if every and distinct <= draws:
        return Draws(tuple(every), n_pool, distinct, unmatched)
    seen: dict[frozenset[FeatureKey], tuple[FeatureKey, ...]] = {}
    for _ in range(draws * 20):
        if len(seen) == draws:
            break
        chosen = _one_draw(candidates, generator)
        seen.setdefault(frozenset(chosen), chosen)
    return Draws(tuple(seen.values()), n_pool, max(distinct, float(len(seen))), unmatched)


def combined(draws: Mapping[str | None, Draws], n: int, seed: int) -> tuple[list[dict[str | None, tuple[FeatureKey, ...]]], float]:
    """Take one set a concept for each of n draws; return the distinct combinations, and how many there are.

    A concept with as many sets as draws gives each once, one with fewer gives them at random.
    """
    if not draws:
        return [], 0.0
    every = [len(draw.sets) for draw in draws.values()]
    places: dict[tuple[int, ...], None] = {}
    if prod(every) <= n:
        places = dict.fromkeys(product(*(range(size) for size in every)))
    else:
        generator = np.random.default_rng([seed, 1])
        for attempt in range(20 * n):
            if len(places) == n:
                break
            places[tuple(attempt % n if size >= n else int(generator.integers(size)) for size in every)] = None
    sets = [{concept: draw.sets[i] for (concept, draw), i in zip(draws.items(), place, strict=True)} for place in places]
    return sets, max(product_of(draw.distinct_sets for draw in draws.values()), float(len(sets)))


def product_of(counts: Iterable[float]) -> float:
    """Multiply counts; where the product is beyond the largest double, return that: it is a bound that no draw comes near."""
    total = 1.0
    for count in counts:
        total = min(total * count, float_info.max)
    return total


def count_distinct(candidates: Sequence[Sequence[FeatureKey]]) -> tuple[float, list[tuple[FeatureKey, ...]] | None]:
    """Count the distinct sets of one candidate each, none twice: exactly with the sets where they are few, else an upper bound."""
    if prod(len(pool) for pool in candidates) <= _ENUMERATE:
        sets = {frozenset(chosen): chosen for chosen in product(*candidates) if len({*chosen}) == len(chosen)}
        return float(len(sets)), list(sets.values())
    bound = 1.0
    for layer in {pool[0][0] for pool in candidates}:
        pools = [pool for pool in candidates if pool[0][0] == layer]
        union = {candidate for pool in pools for candidate in pool}
        bound *= min(float(prod(len(pool) for pool in pools)), float(comb(len(union), len(pools))))
    return bound, None


def _one_draw(candidates: Sequence[Sequence[FeatureKey]], generator: np.random.Generator) -> tuple[FeatureKey, ...]:
    """Draw in order of pool size, so that small pools are not emptied by large ones; a feature whose pool is emptied stays unmatched."""
    taken: dict[int, FeatureKey] = {}
    for place in sorted(range(len(candidates)), key=lambda i: len(candidates[i])):
        used = set(taken.values())
        free = [candidate for candidate in candidates[place] if candidate not in used]
        if free:
            taken[place] = free[int(generator.integers(len(free)))]
    return tuple(taken[place] for place in sorted(taken))


def _deciles(frequency: Doubles) -> Integers:
    """Return each feature's decile (0 to 9) among the active ones."""
    active = np.sort(frequency[frequency > 0])
    if not len(active):
        return np.zeros(len(frequency), dtype=np.int64)
    rank = np.searchsorted(active, frequency, side="right") / len(active)
    return np.minimum(np.floor(rank * 10), 9).astype(np.int64)
