"""Automated circuit discovery: the smallest set of features that keeps a given faithfulness.

In: a `Replacement` over discovery prompts and a ranking of features. Out: circuits (METHODS, section 6).

1. Attribution-pruned: the shortest prefix of the ranking whose faithfulness reaches the target, by doubling and bisection.
2. Greedy: from that prefix (or a longer one), features are taken out as long as the target is kept. In a round the removal of each member
   alone is measured; then as many of the least harmful as possible go at once, by halving; it ends when none can go.
3. Random rankings permute features within strata of layer and frequency decile, so that every prefix of expectation is matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from atlas.errors import InputError, UsageError
from ingest.circuit.metrics import faithfulness_values
from ingest.circuit.replacement import Members, Replacement
from ingest.intervene.rules import FeatureKey


def pruned(
    replacement: Replacement, ranking: Sequence[FeatureKey], target: float, empty: NDArray[np.floating], whole: NDArray[np.floating]
) -> tuple[Members, float]:
    """Return the shortest prefix (to within 5 %) that reaches the target, and its faithfulness; the whole ranking where none does.

    Raises:
        UsageError: a target outside (0, 1].
        InputError: an empty ranking.
    """
    _check(ranking, target)

    def reached(size: int) -> float:
        return float(faithfulness_values(replacement.margins([frozenset(ranking[:size])]), empty, whole)[0])

    low, high = 0, 1
    value = reached(high)
    while value < target and high < len(ranking):
        low, high = high, min(2 * high, len(ranking))
        value = reached(high)
    if value < target:
        return frozenset(ranking), value
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        here = reached(middle)
        if here >= target:
            high, value = middle, here
        else:
            low = middle
    return frozenset(ranking[:high]), value


def greedy(
    replacement: Replacement,
    start: Members,
    target: float,
    empty: NDArray[np.floating],
    whole: NDArray[np.floating],
    *,
    rounds: int = 20,
) -> tuple[Members, float]:
    """Take features out of a circuit while its faithfulness stays at the target or above; return it with its faithfulness.

    A start below the target is returned as it is.
    """
    current = start
    value = float(faithfulness_values(replacement.margins([current]), empty, whole)[0])
    for _ in range(rounds):
        if value < target or not current:
            break
        members = sorted(current)
        alone = faithfulness_values(replacement.margins([current - {member} for member in members]), empty, whole)
        order = np.argsort(-alone, kind="stable")
        step = max(1, len(members) // 2)
        removed = False
        while step >= 1:
            candidate = current - {members[i] for i in order[:step]}
            here = float(faithfulness_values(replacement.margins([candidate]), empty, whole)[0])
            if here >= target:
                current, value, removed = candidate, here, True
                break
            step //= 2
        if not removed:
            break
    return current, value


def stratified_rankings(frequency: Mapping[FeatureKey, float], ranking: Sequence[FeatureKey], n: int, seed: int) -> list[list[FeatureKey]]:
    """Return n random rankings: each place holds a feature of the same layer and frequency decile as the given ranking's there."""
    strata: dict[tuple[int, int], list[FeatureKey]] = {}
    values = np.array(sorted(frequency[feature] for feature in ranking))
    stratum_of = {
        feature: (feature[0], min(9, int(np.searchsorted(values, frequency[feature], side="right") / len(values) * 10)))
        for feature in ranking
    }
    for feature in ranking:
        strata.setdefault(stratum_of[feature], []).append(feature)
    rankings = []
    for draw in range(n):
        generator = np.random.default_rng([seed, draw])
        shuffled = {stratum: iter([members[i] for i in generator.permutation(len(members))]) for stratum, members in strata.items()}
        rankings.append([next(shuffled[stratum_of[feature]]) for feature in ranking])
    return rankings


def _check(ranking: Sequence[FeatureKey], target: float) -> None:
    if not 0 < target <= 1:
        raise UsageError(f"The target faithfulness is {target}, expected a number above 0 and at most 1.")
    if not ranking:
        raise InputError("There is no feature to build a circuit from.", hint="Lower the thresholds of the graph, or add prompts.")
