"""Statistics against SciPy, against brute force, and against their own promises under the null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from atlas import stats
from atlas.errors import InputError, UsageError

RNG = np.random.default_rng


def clustered(n_clusters: int, rows: int, *, seed: int = 0, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = RNG(seed)
    labels = np.repeat(np.arange(n_clusters), rows)
    return generator.normal(mean, 1, n_clusters)[labels] + generator.normal(0, 0.5, labels.size), labels


def test_cluster_t_equals_scipy_on_cluster_means() -> None:
    values, labels = clustered(9, 4, mean=0.7)
    means = values.reshape(9, 4).mean(1)
    expected = scipy.stats.ttest_1samp(means, 0.0)
    bounds = expected.confidence_interval(0.95)
    got = stats.cluster_t(values, labels)
    assert got.mean == pytest.approx(means.mean())
    assert (got.low, got.high) == pytest.approx((bounds.low, bounds.high))
    for alternative in ("two-sided", "greater", "less"):
        expected = scipy.stats.ttest_1samp(means, 0.0, alternative=alternative)
        assert stats.cluster_t_p(values, labels, alternative=alternative) == pytest.approx(expected.pvalue)


def test_one_row_a_cluster_is_the_plain_mean() -> None:
    values = RNG(1).normal(size=20)
    got = stats.cluster_t(values, np.arange(20))
    assert got.high - got.low == pytest.approx(2 * scipy.stats.t.ppf(0.975, 19) * scipy.stats.sem(values))


def test_percentile_and_bca_agree_with_scipy() -> None:
    values = RNG(2).exponential(size=40)
    for method in ("percentile", "BCa"):
        expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method=method, rng=RNG(3)).confidence_interval
        got = stats.cluster_bootstrap(values, np.arange(40), method="bca" if method == "BCa" else "percentile", draws=20000)
        assert got.low == pytest.approx(expected.low, abs=0.02)
        assert got.high == pytest.approx(expected.high, abs=0.02)


def test_bootstrap_resamples_whole_clusters() -> None:
    values, labels = clustered(35, 1)
    repeated = stats.cluster_bootstrap(np.repeat(values, 10), np.repeat(labels, 10), draws=500)
    once = stats.cluster_bootstrap(values, labels, draws=500)
    assert repeated.low == pytest.approx(once.low)
    assert repeated.high == pytest.approx(once.high)


def test_mask_equals_leaving_rows_out() -> None:
    values, labels = clustered(10, 5)
    present = RNG(4).random(50) < 0.6
    for function in (stats.cluster_t, stats.cluster_bootstrap):
        masked = function(np.where(present, values, np.nan), labels, present)
        short = function(values[present], labels[present])
        assert np.stack([masked.mean, masked.low, masked.high]) == pytest.approx(np.stack([short.mean, short.low, short.high]))
        assert masked.n == present.sum()


def test_leading_axes_are_vectorised() -> None:
    values = RNG(5).normal(size=(3, 4, 36))
    labels = np.repeat(np.arange(36), 1)
    for got in (stats.interval(values, labels), stats.cluster_t(values, labels)):
        assert got.low.shape == (3, 4)
    single = stats.interval(values[1, 2], labels)
    assert stats.interval(values, labels).low[1, 2] == pytest.approx(single.low)
    assert stats.sign_flip_p(values, labels, draws=99)[1, 2] == stats.sign_flip_p(values[1, 2], labels, draws=99)


def test_interval_switches_method_at_thirty_clusters_and_is_null_below_three() -> None:
    assert stats.interval(*clustered(29, 2)).method == "cluster t"
    assert stats.interval(*clustered(30, 2)).method.startswith("cluster bootstrap")
    few = stats.interval([1.0, 2.0], ["a", "b"])
    assert np.isnan(few.low)
    assert few.mean == 1.5


def test_sign_flips_equal_scipy_and_brute_force() -> None:
    values, labels = clustered(8, 3, mean=0.6)
    sums = values.reshape(8, 3).sum(1)
    brute = [np.dot(signs, sums) for signs in itertools.product((1, -1), repeat=8)]
    expected = np.mean(np.array(brute) >= sums.sum() - 1e-9)
    assert stats.sign_flip_p(values, labels, alternative="greater") == pytest.approx(expected)
    against = scipy.stats.permutation_test((sums,), np.sum, permutation_type="samples", alternative="less", n_resamples=np.inf)
    assert stats.sign_flip_p(values, labels, alternative="less") == pytest.approx(against.pvalue)


def test_smallest_p_of_sign_flips_is_attained() -> None:
    assert stats.sign_flip_p(np.ones(8), np.arange(8)) == stats.smallest_attainable_p(n_clusters=8) == 0.0078125
    assert stats.smallest_attainable_p(draws=20, alternative="greater") == pytest.approx(1 / 21)
    with pytest.raises(UsageError):
        stats.smallest_attainable_p()


def test_many_clusters_use_monte_carlo_flips() -> None:
    values, labels = clustered(24, 2, mean=0.3, seed=6)
    got = stats.sign_flip_p(values, labels, draws=4999)
    means = values.reshape(24, 2).mean(1)
    assert got == pytest.approx(scipy.stats.ttest_1samp(means, 0).pvalue, abs=0.03)


def test_pigeonhole_is_wider_than_one_factor() -> None:
    generator = RNG(7)
    rows, columns = np.divmod(np.arange(12 * 8), 8)
    values = generator.normal(size=12)[rows] + generator.normal(size=8)[columns]
    two = stats.pigeonhole_bootstrap(values, rows, columns)
    one = stats.cluster_bootstrap(values, rows)
    assert two.high - two.low > one.high - one.low
    assert two.low < values.mean() < two.high


def test_empirical_p_counts_one_for_the_observed() -> None:
    assert stats.empirical_p(10.0, np.zeros(99)) == 0.01
    assert stats.empirical_p(-1.0, np.zeros(99)) == 1.0
    assert stats.empirical_p(-1.0, np.zeros(99), alternative="less") == 0.01
    assert stats.empirical_p(-1.0, np.zeros(99), alternative="two-sided") == 0.02
    with pytest.raises(InputError, match="at least one control"):
        stats.empirical_p(1.0, np.zeros(0))


def test_permutations_stay_within_groups() -> None:
    labels, groups = np.arange(12), np.array(list("abcabcabcabc"))
    null = stats.permutation_null(lambda permuted: permuted.astype(float), labels, within=groups, draws=50)
    assert null.shape == (12, 50)
    for group in "abc":
        here = groups == group
        assert all(sorted(null[here, draw]) == sorted(labels[here]) for draw in range(50))
    assert len({tuple(null[:, draw]) for draw in range(50)}) > 40


def test_permutation_p_equals_scipy() -> None:
    generator = RNG(8)
    values = np.concatenate([generator.normal(0.6, 1, 12), generator.normal(0, 1, 12)])
    labels = np.repeat([1, 0], 12)

    def difference(permuted: np.ndarray) -> np.ndarray:
        return np.asarray(values[permuted == 1].mean() - values[permuted == 0].mean())

    null = stats.permutation_null(difference, labels, draws=4000)
    got = stats.empirical_p(difference(labels), null)
    expected = scipy.stats.permutation_test(
        (values[:12], values[12:]), lambda a, b: a.mean() - b.mean(), n_resamples=4000, alternative="greater", rng=RNG(9)
    )
    assert got == pytest.approx(expected.pvalue, abs=0.03)


def test_benjamini_hochberg_equals_scipy_and_passes_over_missing() -> None:
    p = RNG(10).random(200) ** 2
    assert stats.benjamini_hochberg(p) == pytest.approx(scipy.stats.false_discovery_control(p))
    with_missing = np.insert(p, 50, np.nan)
    assert np.isnan(stats.benjamini_hochberg(with_missing)[50])
    assert np.delete(stats.benjamini_hochberg(with_missing), 50) == pytest.approx(scipy.stats.false_discovery_control(p))
    with pytest.raises(InputError):
        stats.benjamini_hochberg([0.5, 1.5])


def test_intersection_union_is_the_larger_p() -> None:
    assert stats.intersection_union([[0.01, 0.2], [0.03, 0.02]]) == pytest.approx([0.2, 0.03])
    assert np.isnan(stats.intersection_union([0.01, np.nan]))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (48, 96)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high))


def test_wilson_of_nothing_is_everything() -> None:
    assert stats.wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(InputError):
        stats.wilson(3, 2)


def test_p_values_are_uniform_under_the_null() -> None:
    generator = RNG(11)
    p = stats.randomised_p(generator.normal(size=4000), generator.normal(size=(4000, 19)))
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    effects = generator.standard_t(4, size=(3000, 8))
    exact = stats.sign_flip_p(effects, np.arange(8))
    jittered = exact - generator.random(3000) * 2 / 2**8
    assert scipy.stats.kstest(jittered, "uniform").pvalue > 0.01


def test_type_one_error_and_coverage_at_eight_clusters() -> None:
    # The figures of METHODS section 8: cluster t near .95, percentile bootstrap .89, rows treated as independent .69.
    generator = RNG(12)
    labels = np.repeat(np.arange(8), 12)
    values = generator.normal(size=(2000, 8))[:, labels] * 0.5 + generator.normal(size=(2000, 96))

    def covered(got: stats.Interval) -> float:
        return float(np.mean((got.low <= 0) & (got.high >= 0)))

    assert 0.93 <= covered(stats.cluster_t(values, labels)) <= 0.97
    assert covered(stats.cluster_bootstrap(values, labels, draws=400)) < 0.93
    assert covered(stats.cluster_t(values, np.arange(96))) < 0.80
    assert 0.035 <= np.mean(stats.cluster_t_p(values, labels) <= 0.05) <= 0.065
    assert np.mean(stats.sign_flip_p(values, labels) <= 0.05) <= 0.06


def test_smallest_detectable_effect_has_the_stated_power() -> None:
    effect = stats.smallest_detectable_effect(8, sd=2.0)
    samples = RNG(13).normal(effect, 2.0, size=(20000, 8))
    power = np.mean(scipy.stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert power == pytest.approx(0.8, abs=0.01)
    with pytest.raises(InputError, match="at least 2"):
        stats.smallest_detectable_effect(1)


def test_smallest_detectable_effect_falls_with_every_further_cluster() -> None:
    effects = np.array([stats.smallest_detectable_effect(n) for n in range(2, 41)])
    assert np.isfinite(effects).all()
    assert (np.diff(effects) < 0).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="not finite, the first at index \\(1,\\)"):
        stats.cluster_t([1.0, np.nan], ["a", "b"])
    with pytest.raises(InputError, match="do not fit"):
        stats.interval([1.0, 2.0], ["a"])
    with pytest.raises(InputError, match="2 concepts are too few"):
        stats.require_clusters(2)
    with pytest.raises(UsageError, match="sideways"):
        stats.sign_flip_p([1.0], ["a"], alternative="sideways")  # type: ignore[arg-type]


def test_a_design_is_described_in_numbers() -> None:
    lines = stats.describe_design(8, 999)
    assert "0.0078" in lines[0]
    assert "0.001" in lines[1]
    assert "standard deviations" in lines[2]
