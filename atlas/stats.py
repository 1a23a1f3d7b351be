"""Statistics over clusters: intervals, tests, multiple testing, and what a design can detect.

In: arrays whose last axis is rows (prompts), one cluster label (concept) per row, and, where designs are unbalanced, a mask of the
rows that are there. Out: arrays of the leading shape. Everything is vectorised over the leading axes, float64, and depends on nothing
but its arguments and a seed (METHODS, section 8).

1. Only clusters are resampled: the rows of a cluster are one observation, with the ratio estimator sum / count as the mean.
2. Below 30 clusters intervals are cluster t with G - 1 degrees of freedom (Cameron and Miller 2015, section VI.B): the percentile bootstrap
   covers too little there. From 30 on they are BCa bootstrap intervals (Efron 1987).
3. p-values are exact sign flips where 2^G is small, Monte Carlo with (1 + #) / (1 + n) elsewhere (Phipson and Smyth 2010).
4. An interval is never turned into a p-value; Benjamini-Hochberg takes p-values only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from scipy import stats as reference

from atlas.errors import InputError, UsageError

Alternative = Literal["two-sided", "greater", "less"]
Floats = NDArray[np.float64]

SMALL_SAMPLE_CLUSTERS = 30
"""Below this many clusters bootstrap intervals cover too little (METHODS, section 8)."""
EXACT_FLIPS_CLUSTERS = 16
"""Up to this many clusters all 2^G sign flips are enumerated."""
MINIMUM_DRAWS = 100
"""With fewer distinct controls than this there is no p-value but the comparison itself (METHODS, section 6)."""
MINIMUM_CLUSTERS = 3
"""Below this many clusters an interval over clusters says nothing."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval over clusters; arrays of the leading shape of the values."""

    mean: Floats
    low: Floats
    """NaN where there are too few clusters."""
    high: Floats
    n: NDArray[np.int64]
    """Rows."""
    n_clusters: NDArray[np.int64]
    """Clusters with at least one row."""
    method: str


@dataclass(frozen=True)
class ClusterSums:
    """Sums and counts by cluster: all that a clustered mean needs."""

    sums: Floats
    """(..., G)."""
    counts: Floats
    """(..., G)."""

    @property
    def n(self) -> NDArray[np.int64]:
        """Rows, of the leading shape."""
        return np.asarray(self.counts.sum(-1), dtype=np.int64)

    @property
    def n_clusters(self) -> NDArray[np.int64]:
        """Clusters with rows, of the leading shape."""
        return np.asarray((self.counts > 0).sum(-1), dtype=np.int64)

    @property
    def mean(self) -> Floats:
        """Mean over rows, NaN where there are none."""
        return _ratio(self.sums.sum(-1), self.counts.sum(-1))


def cluster_sums(values: ArrayLike, clusters: ArrayLike, present: ArrayLike | None = None) -> ClusterSums:
    """Add up rows by cluster.

    Args:
        values: (..., n) numbers.
        clusters: (n,) labels of any kind.
        present: (..., n) bool, False where a row does not exist; its value is ignored.

    Raises:
        InputError: a value that counts is not finite, or the shapes do not fit.
    """
    array = np.asarray(values, dtype=np.float64)
    labels = np.asarray(clusters)
    if labels.ndim != 1 or array.ndim == 0 or array.shape[-1] != labels.shape[0]:
        raise InputError(
            f"Values of shape {array.shape} do not fit {labels.shape} cluster labels.", hint="The last axis is one value per label."
        )
    mask = np.ones(array.shape, dtype=bool) if present is None else np.broadcast_to(np.asarray(present, dtype=bool), array.shape)
    bad = mask & ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{int(bad.sum())} of {array.size} values are not finite, the first at index {where}.", hint="Mark missing rows with `present`."
        )
    _, index = np.unique(labels, return_inverse=True)
    n_clusters = int(index.max(initial=-1)) + 1
    if array.ndim == 1:  # a million comparisons by a hundred clusters would be a matrix of a gigabyte
        here = index[mask]
        sums, counts = np.bincount(here, array[mask], n_clusters), np.bincount(here, minlength=n_clusters)
        return ClusterSums(sums.astype(np.float64), counts.astype(np.float64))
    one_hot = np.zeros((labels.shape[0], n_clusters))  # (n, G)
    one_hot[np.arange(labels.shape[0]), index] = 1
    return ClusterSums(np.where(mask, array, 0.0) @ one_hot, mask.astype(np.float64) @ one_hot)


def interval(
    values: ArrayLike, clusters: ArrayLike, present: ArrayLike | None = None, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Take the interval that suits the number of clusters: cluster t below 30, BCa from there on; NaN bounds below 3."""
    sums = cluster_sums(values, clusters, present)
    if sums.sums.shape[-1] < SMALL_SAMPLE_CLUSTERS:
        return _cluster_t(sums, level)
    return _bootstrap(sums, level, draws, seed, "bca")


def cluster_t(values: ArrayLike, clusters: ArrayLike, present: ArrayLike | None = None, *, level: float = 0.95) -> Interval:
    """Interval of the mean over rows from Student's t over clusters, G - 1 degrees of freedom.

    The variance is the linearised one of the ratio sum / count, which for clusters of one size is the variance of the cluster means.
    """
    return _cluster_t(cluster_sums(values, clusters, present), level)


def cluster_t_p(
    values: ArrayLike, clusters: ArrayLike, present: ArrayLike | None = None, *, alternative: Alternative = "two-sided"
) -> Floats:
    """p-value of mean = 0 from Student's t over clusters; NaN below 2 clusters."""
    sums = cluster_sums(values, clusters, present)
    error, degrees = _standard_error(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = sums.mean / error
    p = {
        "greater": special.stdtr(degrees, -statistic),
        "less": special.stdtr(degrees, statistic),
        "two-sided": 2 * special.stdtr(degrees, -np.abs(statistic)),
    }[_known(alternative)]
    exact_zero = (error == 0) & (sums.mean == 0)
    return np.where(exact_zero, 1.0, p)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    present: ArrayLike | None = None,
    *,
    method: Literal["percentile", "bca"] = "percentile",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean from resampled clusters."""
    if method not in ("percentile", "bca"):
        raise UsageError(f"Unknown bootstrap method {method!r}.", hint="One of: percentile, bca.")
    return _bootstrap(cluster_sums(values, clusters, present), level, draws, seed, method)


def pigeonhole_bootstrap(
    values: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
    present: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval when two crossed factors (concept, template) are both resampled and their weights multiply (Owen 2007)."""
    array = np.asarray(values, dtype=np.float64)
    row_labels, column_labels = np.asarray(rows), np.asarray(columns)
    if row_labels.shape != column_labels.shape:
        raise InputError(f"{row_labels.shape} row labels and {column_labels.shape} column labels differ in length.")
    sums = cluster_sums(array, row_labels, present)
    mask = np.ones(array.shape, dtype=bool) if present is None else np.broadcast_to(np.asarray(present, dtype=bool), array.shape)
    _, i = np.unique(row_labels, return_inverse=True)
    _, j = np.unique(column_labels, return_inverse=True)
    generator = np.random.default_rng(seed)
    row_weights = _resample_counts(generator, int(i.max()) + 1, draws)
    column_weights = _resample_counts(generator, int(j.max()) + 1, draws)
    weights = row_weights[:, i] * column_weights[:, j]  # (draws, n)
    draw_means = _ratio(np.where(mask, array, 0.0) @ weights.T, mask.astype(np.float64) @ weights.T)  # (..., draws)
    low, high = _quantiles(draw_means, level)
    few = min(int(i.max()), int(j.max())) + 1 < 2
    return Interval(sums.mean, np.where(few, np.nan, low), np.where(few, np.nan, high), sums.n, sums.n_clusters, "pigeonhole bootstrap")


def sign_flip_p(
    values: ArrayLike,
    clusters: ArrayLike,
    present: ArrayLike | None = None,
    *,
    alternative: Alternative = "two-sided",
    draws: int = 9999,
    seed: int = 0,
) -> Floats:
    """p-value of symmetry about 0: the sign of a whole cluster is flipped, all 2^G ways up to 16 clusters, `draws` random ways beyond."""
    sums = cluster_sums(values, clusters, present).sums  # (..., G)
    n_clusters = sums.shape[-1]
    exact = n_clusters <= EXACT_FLIPS_CLUSTERS
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)) & 1)  # (2^G, G)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, n_clusters))
    observed = sums.sum(-1)[..., None]
    null = sums @ signs.T  # (..., flips)
    # A sum that differs from the observed one by rounding alone is a tie, and a tie counts as extreme.
    slack = 1e-9 * np.abs(sums).sum(-1)[..., None]
    compared = {
        "greater": null >= observed - slack,
        "less": null <= observed + slack,
        "two-sided": np.abs(null) >= np.abs(observed) - slack,
    }[_known(alternative)]
    count = compared.sum(-1)
    p: Floats = count / signs.shape[0] if exact else (1 + count) / (1 + draws)
    return p


def empirical_p(observed: ArrayLike, controls: ArrayLike, *, alternative: Alternative = "greater") -> Floats:
    """p-value against random controls: (1 + #{as extreme}) / (1 + n).

    Args:
        observed: (...) statistics.
        controls: (..., n) the same statistic of each control. Two-sided: twice the smaller tail, at most 1.

    Raises:
        InputError: there is no control, or a number is not finite.
    """
    value, null = np.asarray(observed, dtype=np.float64), np.asarray(controls, dtype=np.float64)
    n = null.shape[-1] if null.ndim else 0
    if n == 0:
        raise InputError(
            "A p-value against controls needs at least one control.", hint="Draw controls, or report the comparison without p."
        )
    if not (np.isfinite(value).all() and np.isfinite(null).all()):
        raise InputError("An observed value or a control is not finite.")
    above: Floats = (1 + (null >= value[..., None]).sum(-1)) / (1 + n)
    below: Floats = (1 + (null <= value[..., None]).sum(-1)) / (1 + n)
    two_sided: Floats = np.minimum(1.0, 2 * np.minimum(above, below))
    return {"greater": above, "less": below, "two-sided": two_sided}[_known(alternative)]


def randomised_p(observed: ArrayLike, controls: ArrayLike, *, seed: int = 0) -> Floats:
    """One-sided p with ties broken at random: exactly uniform under exchangeability, for tests of uniformity only."""
    value, null = np.asarray(observed, dtype=np.float64), np.asarray(controls, dtype=np.float64)
    uniform = np.random.default_rng(seed).random(value.shape)
    above, ties = (null > value[..., None]).sum(-1), (null == value[..., None]).sum(-1)
    p: Floats = (above + uniform * (1 + ties)) / (1 + null.shape[-1])
    return p


def permutation_null(
    statistic: Callable[[NDArray[Any]], Floats], labels: ArrayLike, *, within: ArrayLike | None = None, draws: int = 999, seed: int = 0
) -> Floats:
    """Values of `statistic(permuted labels)` over random permutations, labels being exchanged within groups only.

    Args:
        statistic: takes (n,) labels, gives a number or an array (...).
        labels: (n,).
        within: (n,) group of each label, e.g. template; None permutes all.

    Returns:
        (..., draws), to be given to `empirical_p`.
    """
    array = np.asarray(labels)
    groups = np.zeros(array.shape[0], dtype=np.int64) if within is None else np.unique(np.asarray(within), return_inverse=True)[1]
    order = np.argsort(groups, kind="stable")
    generator = np.random.default_rng(seed)
    results = []
    for _ in range(draws):
        # Sorting by (group, random key) shuffles each group in place.
        shuffled = np.lexsort(np.stack([generator.random(array.shape[0]), groups]))
        permuted = np.empty_like(array)
        permuted[order] = array[shuffled]
        results.append(np.asarray(statistic(permuted), dtype=np.float64))
    return np.stack(results, axis=-1)


def intersection_union(p_values: ArrayLike, axis: int = -1) -> Floats:
    """p-value that all parts hold (in both languages): the largest one-sided p (Berger 1982); NaN if one is missing."""
    return np.asarray(np.max(np.asarray(p_values, dtype=np.float64), axis=axis), dtype=np.float64)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p-values (q) of one family; NaN stays NaN and is not counted.

    Raises:
        InputError: a p-value is outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise InputError("A p-value lies outside [0, 1].")
    q = np.full(p.shape, np.nan)
    tested = p[known]
    if tested.size == 0:
        return q
    order = np.argsort(tested)
    scaled = tested[order] * tested.size / np.arange(1, tested.size + 1)
    adjusted = np.empty_like(tested)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    q[known] = adjusted
    return q


def wilson(successes: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson score interval of a rate (Wilson 1927); (0, 1) where n = 0."""
    k, total = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if ((k < 0) | (k > total)).any():
        raise InputError("Successes must lie between 0 and n.")
    z = float(special.ndtri(0.5 + level / 2))
    safe = np.maximum(total, 1)
    rate = k / safe
    centre = (rate + z**2 / (2 * safe)) / (1 + z**2 / safe)
    half = z / (1 + z**2 / safe) * np.sqrt(rate * (1 - rate) / safe + z**2 / (4 * safe**2))
    low = np.where(k == 0, 0.0, centre - half)
    high = np.where(k == total, 1.0, centre + half)
    return np.where(total == 0, 0.0, low), np.where(total == 0, 1.0, high)


def quantile_band(draws: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper quantile over the last axis: the band in which controls lie."""
    return _quantiles(np.asarray(draws, dtype=np.float64), level)


def smallest_attainable_p(*, n_clusters: int | None = None, draws: int | None = None, alternative: Alternative = "two-sided") -> float:
    """Smallest p a design can give: sign flips over clusters, or (1 + 0) / (1 + draws) against controls.

    Raises:
        UsageError: neither or both are given.
    """
    if (n_clusters is None) == (draws is None):
        raise UsageError("Give the number of clusters or the number of draws, not both.")
    sides = 2 if _known(alternative) == "two-sided" else 1
    if draws is not None:
        return min(1.0, sides / (1 + draws))
    assert n_clusters is not None
    return min(1.0, sides / 2.0**n_clusters)


def smallest_detectable_effect(n_clusters: int, *, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true mean that a two-sided cluster t test finds with the given power, in the unit of `sd` (the sd of cluster means).

    Raises:
        InputError: fewer than 2 clusters, or sd, alpha or power out of range.
    """
    if n_clusters < 2:
        raise InputError(f"{n_clusters} clusters: an effect over clusters needs at least 2.", hint="Add concepts to the plan.")
    if not (sd > 0 and 0 < alpha < power < 1):
        raise InputError(f"sd {sd}, alpha {alpha}, power {power}: expected sd > 0 and 0 < alpha < power < 1.")
    degrees = n_clusters - 1
    critical = float(special.stdtrit(degrees, 1 - alpha / 2))

    def shortfall(noncentrality: float) -> float:
        # SciPy's far tail is NaN at some arguments where it is below 1e-15.
        far = np.nan_to_num(reference.nct.cdf(-critical, degrees, noncentrality))
        return float(reference.nct.sf(critical, degrees, noncentrality) + far) - power

    high = critical + 1.0
    while shortfall(high) < 0:
        high *= 1.5
    return float(optimize.brentq(shortfall, 1e-6, high)) * sd / float(np.sqrt(n_clusters))


def require_clusters(n_clusters: int, minimum: int = MINIMUM_CLUSTERS, *, what: str = "an interval") -> None:
    """Refuse a design with too few clusters.

    Raises:
        InputError: naming both numbers.
    """
    if n_clusters < minimum:
        raise InputError(
            f"{n_clusters} concepts are too few for {what}: at least {minimum} are needed.",
            hint="Add concepts to the behaviour, or lower the plan's minimum.",
        )


def describe_design(n_clusters: int, draws: int) -> Sequence[str]:
    """Say what a plan can show: printed before a run."""
    lines = [f"{n_clusters} concepts: smallest two-sided p of a sign flip {smallest_attainable_p(n_clusters=n_clusters):.2g}"]
    if draws < MINIMUM_DRAWS:
        lines.append(f"{draws} matched random controls (control_draws): no p-value against them, which takes {MINIMUM_DRAWS}")
    else:
        one, two = smallest_attainable_p(draws=draws, alternative="greater"), smallest_attainable_p(draws=draws)
        lines.append(f"{draws} matched random controls (control_draws): smallest p {one:.2g} one-sided, {two:.2g} two-sided")
    if n_clusters >= 2:
        detectable = smallest_detectable_effect(n_clusters)
        lines.append(f"smallest mean effect found with power .8 at p < .05: {detectable:.2g} standard deviations over concepts")
    return lines


def _cluster_t(sums: ClusterSums, level: float) -> Interval:
    error, degrees = _standard_error(sums)
    half = special.stdtrit(np.maximum(degrees, 1), 0.5 + level / 2) * error
    half = np.where(sums.n_clusters >= MINIMUM_CLUSTERS, half, np.nan)
    return Interval(sums.mean, sums.mean - half, sums.mean + half, sums.n, sums.n_clusters, "cluster t")


def _standard_error(sums: ClusterSums) -> tuple[Floats, Floats]:
    n_clusters = sums.n_clusters.astype(np.float64)
    residual = sums.sums - np.where(np.isnan(sums.mean), 0.0, sums.mean)[..., None] * sums.counts
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = n_clusters / (n_clusters - 1) * (residual**2).sum(-1) / sums.counts.sum(-1) ** 2
    return np.sqrt(np.where(n_clusters > 1, variance, np.nan)), n_clusters - 1


def _bootstrap(sums: ClusterSums, level: float, draws: int, seed: int, method: str) -> Interval:
    n_clusters = sums.sums.shape[-1]
    weights = _resample_counts(np.random.default_rng(seed), n_clusters, draws)  # (draws, G)
    draw_means = _ratio(sums.sums @ weights.T, sums.counts @ weights.T)  # (..., draws)
    if method == "bca":
        low, high = _bca(sums, draw_means, level)
    else:
        low, high = _quantiles(draw_means, level)
    enough = sums.n_clusters >= MINIMUM_CLUSTERS
    return Interval(
        sums.mean, np.where(enough, low, np.nan), np.where(enough, high, np.nan), sums.n, sums.n_clusters, f"cluster bootstrap, {method}"
    )


def _bca(sums: ClusterSums, draw_means: Floats, level: float) -> tuple[Floats, Floats]:
    """Efron 1987, equations 6.5 and 6.6: bias from the draws below the estimate, acceleration from the jackknife over clusters."""
    draws = draw_means.shape[-1]
    estimate = sums.mean[..., None]
    # A resample of the same clusters in another order differs from the estimate by rounding alone and is a tie.
    tie = np.abs(draw_means - estimate) <= 1e-12 * (1 + np.abs(estimate))
    below = ((draw_means < estimate) & ~tie).sum(-1) + 0.5 * tie.sum(-1)
    bias = special.ndtri(np.clip(below / draws, 0.5 / draws, 1 - 0.5 / draws))
    left_out = _ratio(sums.sums.sum(-1, keepdims=True) - sums.sums, sums.counts.sum(-1, keepdims=True) - sums.counts)  # (..., G)
    spread = left_out.mean(-1, keepdims=True) - left_out
    denominator = 6 * ((spread**2).sum(-1)) ** 1.5
    acceleration = np.where(denominator > 0, (spread**3).sum(-1) / np.where(denominator > 0, denominator, 1), 0.0)
    bounds = []
    ordered = np.sort(draw_means, axis=-1)
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + special.ndtri(tail)
        adjusted = special.ndtr(bias + z / (1 - acceleration * z))
        bounds.append(_quantile_of_sorted(ordered, adjusted))
    return bounds[0], bounds[1]


def _quantile_of_sorted(ordered: Floats, q: Floats) -> Floats:
    """Linear-interpolation quantile with a different q per leading index."""
    at = np.clip(q, 0, 1) * (ordered.shape[-1] - 1)
    lower = np.floor(at).astype(np.int64)
    upper = np.minimum(lower + 1, ordered.shape[-1] - 1)
    pick = [np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0] for index in (lower, upper)]
    result: Floats = pick[0] + (pick[1] - pick[0]) * (at - lower)
    return result


def _quantiles(draws: Floats, level: float) -> tuple[Floats, Floats]:
    # A draw without any row (unbalanced designs) says nothing about the mean.
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def _resample_counts(generator: np.random.Generator, n: int, draws: int) -> Floats:
    return generator.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)


def _known(alternative: str) -> str:
    if alternative not in ("two-sided", "greater", "less"):
        raise UsageError(f"Unknown alternative {alternative!r}.", hint="One of: two-sided, greater, less.")
    return alternative
