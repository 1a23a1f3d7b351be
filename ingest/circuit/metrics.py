"""Figures of circuits: faithfulness, completeness, curves over the share kept, each as a ratio of prompt means with its interval.

In: margins per circuit and prompt. Out: `Ratio`s and `Curve`s (METHODS, section 6; CPR and CMD after Mueller et al. 2025).

    faithfulness f(C) = (m(C) - m(empty)) / (m(N) - m(empty))       completeness = f(N without C), low is good
    CPR = integral of f over the share kept        CMD = integral of |1 - f|

A curve of completeness goes over the share taken out: f(N without the first k of a ranking), 1 at its beginning and 0 at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas import stats
from atlas.errors import InputError
from ingest.circuit.replacement import Members, Replacement
from ingest.intervene.activity import Doubles
from ingest.intervene.rules import FeatureKey


@dataclass(frozen=True)
class Ratio:
    """A ratio of prompt means; None where the denominator's interval over clusters holds 0."""

    value: float | None
    low: float | None
    high: float | None
    n_prompts: int
    n_clusters: int


@dataclass(frozen=True)
class Curve:
    """f over the share kept (or, of completeness, taken out), ends included."""

    shares: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def cpr(self) -> float:
        """Integral of f."""
        return float(np.trapezoid(self.values, self.shares))

    @property
    def cmd(self) -> float:
        """Integral of |1 - f|."""
        return float(np.trapezoid(np.abs(1 - np.array(self.values)), self.shares))


def ratio(margins: NDArray[np.floating], empty: NDArray[np.floating], whole: NDArray[np.floating], clusters: Sequence[str]) -> Ratio:
    """Return (mean m - mean empty) / (mean whole - mean empty) with the linearised cluster t interval of a ratio.

    Args:
        margins: (P,) of the circuit.
        empty: (P,) with nothing kept.
        whole: (P,) with everything kept.
        clusters: (P,) labels.
    """
    numerator = np.asarray(margins, dtype=np.float64) - np.asarray(empty, dtype=np.float64)
    denominator = np.asarray(whole, dtype=np.float64) - np.asarray(empty, dtype=np.float64)
    if not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
        raise InputError("A margin of a circuit is not finite.")
    labels = np.asarray(clusters)
    below = stats.cluster_t(denominator, labels)
    n_clusters = int(below.n_clusters)
    holds_zero = bool(below.low <= 0 <= below.high) if n_clusters >= stats.MINIMUM_CLUSTERS else denominator.mean() == 0
    if holds_zero:
        return Ratio(None, None, None, len(numerator), n_clusters)
    value = float(numerator.mean() / denominator.mean())
    spread = stats.cluster_t((numerator - value * denominator) / denominator.mean(), labels)
    low, high = value + float(spread.low), value + float(spread.high)
    return Ratio(value, None if np.isnan(low) else low, None if np.isnan(high) else high, len(numerator), n_clusters)


def faithfulness_values(margins: NDArray[np.floating], empty: NDArray[np.floating], whole: NDArray[np.floating]) -> Doubles:
    """Return (C,) ratios of prompt means of margins (C, P); NaN where the denominator is 0."""
    denominator = float(whole.astype(np.float64).mean() - empty.astype(np.float64).mean())
    numerator = margins.astype(np.float64).mean(1) - float(empty.astype(np.float64).mean())
    return numerator / denominator if denominator != 0 else np.full(len(margins), np.nan)


def sizes_of(shares: Sequence[float], n: int) -> list[int]:
    """Return the number of features kept at each share, strictly between none and all, without repeats."""
    return sorted({min(max(round(share * n), 1), n - 1) for share in shares if 0 < share < 1}) if n > 1 else []


def curves(
    replacement: Replacement,
    rankings: Sequence[Sequence[FeatureKey]],
    shares: Sequence[float],
    empty: NDArray[np.floating],
    whole: NDArray[np.floating],
    *,
    complement: bool = False,
) -> list[Curve]:
    """Return the curve of each ranking: its first features kept, at each share; 0 and 1 at the ends by definition.

    With `complement` they are taken out instead: the curve of completeness, which goes from 1 to 0.

    Raises:
        InputError: rankings of different length.
    """
    lengths = {len(ranking) for ranking in rankings}
    if len(lengths) != 1:
        raise InputError(f"Rankings have different lengths: {sorted(lengths)}.")
    (n,) = lengths
    sizes = sizes_of(shares, n)
    circuits: list[Members] = [frozenset(ranking[:size]) for ranking in rankings for size in sizes]
    values = faithfulness_values(replacement.margins(circuits, complement=complement), empty, whole).reshape(len(rankings), len(sizes))
    points = (0.0, *(size / n for size in sizes), 1.0)
    first, last = (1.0, 0.0) if complement else (0.0, 1.0)
    return [Curve(points, (first, *row, last)) for row in values.tolist()]
