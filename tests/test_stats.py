"""Known answers from SciPy, statsmodels and printed tables; properties that must hold for any data;
measured rates.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats import multitest, power, weightstats

from senet_ablate.analysis import stats

errors = st.floats(0, 100).map(lambda value: round(value, 3))
seeds = st.lists(errors, min_size=2, max_size=8)
unequal = seeds.filter(lambda values: min(values) < max(values))
MANY = settings(max_examples=50, deadline=None, derandomize=True)


def within_binomial_noise(hits: int, trials: int, rate: float) -> bool:
    """Whether `hits` out of `trials` is a likely outcome of `rate`:

    five standard deviations either way.
    """
    return abs(hits / trials - rate) <= 5 * math.sqrt(rate * (1 - rate) / trials)


def test_the_interval_is_students() -> None:
    values = [22.29, 22.25, 22.26, 22.28, 22.72]
    ours = stats.estimate(values)
    low, high = scipy_stats.t.interval(0.95, 4, np.mean(values), scipy_stats.sem(values))
    assert (ours.mean, ours.std, ours.n) == pytest.approx(
        (np.mean(values), np.std(values, ddof=1), 5)
    )
    assert (ours.low, ours.high) == pytest.approx((low, high))


def textbook(
    groups: Sequence[Sequence[float]], weights: Sequence[float]
) -> tuple[float, float, float, float]:
    """Value, standard error, Satterthwaite's degrees of freedom and two-sided p of a contrast, in
    plain Python.
    """
    value = squares = below = 0.0
    for x, weight in zip(groups, weights, strict=True):
        mean = math.fsum(x) / len(x)
        variance = math.fsum((one - mean) ** 2 for one in x) / (len(x) - 1)
        value += weight * mean
        squares += weight**2 * variance / len(x)
        below += (weight**2 * variance / len(x)) ** 2 / (len(x) - 1)
    df = squares**2 / below
    return value, math.sqrt(squares), df, 2 * scipy_stats.t.sf(abs(value) / math.sqrt(squares), df)


def test_students_1908_sleep_data_give_the_textbook_welch_test() -> None:
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    ours = stats.welch(first, second)  # R's documentation of t.test prints these
    assert ours.df == pytest.approx(17.776, abs=5e-4)
    assert ours.p == pytest.approx(0.07939, abs=5e-6)
    assert (ours.low, ours.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


@MANY
@given(seeds, seeds, st.floats(0.01, 5))
def test_welch_and_tost_agree_with_scipy_and_statsmodels(
    a: list[float], b: list[float], margin: float
) -> None:
    if min(np.ptp(a), np.ptp(b)) == 0:  # SciPy warns; the tests below ask what happens
        return
    ours, theirs = stats.welch(a, b), scipy_stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval()
    assert (ours.p, ours.df, ours.low, ours.high) == pytest.approx(
        (theirs.pvalue, theirs.df, interval.low, interval.high), rel=1e-6, abs=1e-9
    )
    tost, _, _ = weightstats.ttost_ind(a, b, -margin, margin, usevar="unequal")
    assert stats.equivalence(a, b, margin) == pytest.approx(tost, rel=1e-6, abs=1e-9)


@MANY
@given(unequal, unequal, st.floats(0.1, 10))
def test_a_contrast_of_two_groups_is_scipys_welch_test_in_the_unit_of_its_weight(
    a: list[float], b: list[float], weight: float
) -> None:
    ours, theirs = (
        stats.contrast([a, b], [weight, -weight]),
        scipy_stats.ttest_ind(a, b, equal_var=False),
    )
    interval = theirs.confidence_interval()
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df), rel=1e-6, abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx(
        (weight * interval.low, weight * interval.high), rel=1e-6, abs=1e-9
    )
    assert stats.contrast([a, b], [1, -1]) == stats.welch(a, b)


@MANY
@given(
    st.lists(
        st.tuples(unequal, st.floats(-3, 3).filter(lambda weight: abs(weight) > 0.01)),
        min_size=3,
        max_size=6,
    )
)
def test_a_contrast_of_more_groups_is_welchs_and_satterthwaites_formula(
    weighed: list[tuple[list[float], float]],
) -> None:
    groups, weights = zip(*weighed, strict=True)
    ours, (value, stderr, df, p) = stats.contrast(groups, weights), textbook(groups, weights)
    assert (ours.value, ours.stderr, ours.df, ours.p) == pytest.approx(
        (value, stderr, df, p), rel=1e-6, abs=1e-9
    )
    half = scipy_stats.t.ppf(0.975, df) * stderr
    assert (ours.low, ours.high) == pytest.approx((value - half, value + half), rel=1e-6, abs=1e-6)
    lower = scipy_stats.t.cdf((value - 0.5) / stderr, df)
    assert (ours.below(0.5), ours.above(0.5)) == pytest.approx(
        (lower, 1 - lower), rel=1e-6, abs=1e-9
    )
    narrow = stats.contrast(groups, weights, level=0.5)
    assert narrow.high - narrow.value == pytest.approx(
        scipy_stats.t.ppf(0.75, df) * stderr, rel=1e-6, abs=1e-9
    )


def test_a_contrast_by_hand() -> None:
    """Means 2, 5, 4 and 7, variances 1, 4, 2 and 0.5 of 3, 3, 2 and 2 values; weights 1, -1, -1 and
    1.
    """
    groups = [[1.0, 2.0, 3.0], [3.0, 5.0, 7.0], [3.0, 5.0], [6.5, 7.5]]
    ours = stats.contrast(groups, [1, -1, -1, 1])
    squares = 1 / 3 + 4 / 3 + 2 / 2 + 0.5 / 2
    assert ours.value == pytest.approx(0.0) and ours.p == pytest.approx(1.0)
    assert ours.stderr == pytest.approx(math.sqrt(squares))
    assert ours.df == pytest.approx(
        squares**2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2 + 1**2 + 0.25**2)
    )
    doubled = stats.contrast(groups, [2, -2, -2, 2])
    assert (doubled.stderr, doubled.df) == pytest.approx((2 * ours.stderr, ours.df))


@MANY
@given(st.lists(seeds, min_size=2, max_size=5), st.floats(-20, 20))
def test_what_all_groups_share_is_no_part_of_a_contrast(
    groups: list[list[float]], shift: float
) -> None:
    weights = [1.0] * (len(groups) - 1) + [1.0 - len(groups)]
    one = stats.contrast(groups, weights)
    other = stats.contrast([[value + shift for value in x] for x in groups][::-1], weights[::-1])
    assert other.value == pytest.approx(one.value, abs=1e-9)
    assert (other.stderr, other.df) == pytest.approx((one.stderr, one.df), rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("n", [2, 5])
def test_the_spread_of_a_contrast_is_that_of_two_groups_with_its_standard_error(n: int) -> None:
    groups = np.random.default_rng(n).normal(22, 0.2, (4, n))
    ours = stats.contrast(groups, [1, -1, -0.5, 0.5])
    assert ours.std == pytest.approx(ours.stderr / math.sqrt(2 / n))
    first, second = groups[:2]
    assert stats.welch(first, second).std == pytest.approx(
        math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    )


def test_a_contrast_wants_a_weight_for_each_group() -> None:
    with pytest.raises(ValueError):
        stats.contrast([[1.0, 2.0], [2.0, 3.0]], [1.0])


@MANY
@given(seeds, seeds)
def test_swapping_the_sides_flips_the_difference_and_nothing_else(
    a: list[float], b: list[float]
) -> None:
    one, other = stats.welch(a, b), stats.welch(b, a)
    assert one.value == -other.value
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.low == pytest.approx(-other.high, nan_ok=True)
    assert stats.probability_of_improvement(a, b) + stats.probability_of_improvement(
        b, a
    ) == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [22.3], [0.2, 0.2, 0.2], [100 / 3] * 7])
def test_nothing_is_certain_without_spread(values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, against = stats.estimate(values), stats.welch(values, [1.0, 1.0, 1.0])
        assert math.isnan(ours.low) and math.isnan(ours.high)
        assert math.isnan(against.p) and math.isnan(against.low)
        assert math.isnan(against.below(5)) and math.isnan(
            stats.equivalence(values, [1.0, 1.0], 0.5)
        )
        assert math.isnan(stats.minimal_detectable(ours.std, ours.n))
        same = stats.contrast([values, [1.0, 1.0], [2.0, 2.0]], [1, -0.5, -0.5])
        assert math.isnan(same.p) and math.isnan(same.high) and math.isnan(same.above(0))
        assert stats.seeds_needed(0.3, ours.std) is None


@pytest.mark.parametrize("few", [[], [22.3]])
def test_a_group_of_fewer_than_two_leaves_a_contrast_without_a_test(few: list[float]) -> None:
    ours = stats.contrast([[1.0, 2.0, 4.0], few, [3.0, 5.0]], [1, -2, 1])
    assert math.isnan(ours.p) and math.isnan(ours.stderr) and math.isnan(ours.df)
    assert math.isnan(ours.value) if not few else ours.value == pytest.approx(7 / 3 - 44.6 + 4)


def test_one_constant_side_is_tested_with_the_spread_of_the_other() -> None:
    ours = stats.welch([1.0, 1.0, 1.0], [2.0, 2.1, 2.3])
    assert ours.df == pytest.approx(2)
    assert ours.p == pytest.approx(scipy_stats.ttest_1samp([2.0, 2.1, 2.3], 1.0).pvalue)
    three = stats.contrast([[1.0, 1.0], [0.5, 0.5, 0.5], [2.0, 2.1, 2.3]], [1, 1, -2])
    assert three.df == pytest.approx(2)
    assert three.p == pytest.approx(scipy_stats.ttest_1samp([2.0, 2.1, 2.3], 0.75).pvalue)


@MANY
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_statsmodels(p: list[float]) -> None:
    if p:
        assert stats.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    else:
        assert len(stats.holm(p)) == 0


def test_holm_does_not_count_a_test_that_was_not_made() -> None:
    adjusted = stats.holm([0.01, float("nan"), 0.04])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04]) and math.isnan(adjusted[1])


@MANY
@given(seeds, seeds)
def test_probability_of_improvement_is_mann_whitneys_share(a: list[float], b: list[float]) -> None:
    share = scipy_stats.mannwhitneyu(b, a).statistic / (len(a) * len(b))
    assert stats.probability_of_improvement(a, b) == pytest.approx(share)


def test_probability_of_improvement_counts_a_tie_half_and_knows_nothing_of_nothing() -> None:
    assert stats.probability_of_improvement([1, 2], [2, 3]) == pytest.approx(3.5 / 4)
    assert math.isnan(stats.probability_of_improvement([], [1.0]))


@pytest.mark.parametrize(("effect", "n"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_seeds_for_cohens_small_medium_and_large_effect(effect: float, n: int) -> None:
    assert (
        stats.seeds_needed(effect, 1.0) == n
    )  # Cohen 1988, table 2.4.1, alpha 0.05 two-sided, power 0.80 (0.2: 393)
    assert stats.minimal_detectable(1.0, n) == pytest.approx(effect, rel=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_the_smallest_difference_agrees_with_statsmodels(n: int, alpha: float) -> None:
    tests = power.TTestIndPower()
    ours = stats.minimal_detectable(0.25, n, alpha) / 0.25
    upper_tail = scipy_stats.nct.sf(
        scipy_stats.t.isf(alpha / 2, 2 * n - 2), 2 * n - 2, ours * math.sqrt(n / 2)
    )
    assert upper_tail == pytest.approx(0.8, abs=1e-6)
    if alpha == 0.05:  # statsmodels loses the other tail below this
        assert tests.power(ours, n, alpha) == pytest.approx(0.8, abs=1e-6)
    assert stats.power(0, 1, n, alpha) == pytest.approx(alpha)
    normal = (scipy_stats.norm.isf(alpha / 2) + scipy_stats.norm.isf(0.2)) * math.sqrt(2 / n)
    assert ours > normal  # the normal approximation is too hopeful, grossly so for few seeds


@MANY
@given(st.floats(0.1, 5), st.floats(0.05, 2))
def test_seeds_needed_is_the_first_number_that_resolves_the_difference(
    difference: float, std: float
) -> None:
    n = stats.seeds_needed(difference, std)
    assert n is not None
    assert stats.minimal_detectable(std, n) <= difference * (1 + 1e-6)
    assert n == 2 or stats.minimal_detectable(std, n - 1) > difference * (1 - 1e-6)


def test_no_number_of_seeds_resolves_no_difference() -> None:
    assert stats.seeds_needed(0.0, 0.3) is None
    assert stats.seeds_needed(1e-4, 0.3) is None


def test_pooled_spread_is_the_root_of_the_anova_residual() -> None:
    groups = [[1.0, 2.0, 4.0], [5.0, 5.5], [9.0]]
    residual = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / 3
    assert stats.pooled_std(groups) == pytest.approx(math.sqrt(residual))
    assert math.isnan(stats.pooled_std([[1.0], []]))


def test_mcnemar_counts_the_images_on_which_two_networks_differ() -> None:
    a = np.array([1] * 12 + [0] * 3 + [1] * 50 + [0] * 35, dtype=bool)
    b = np.array([0] * 12 + [1] * 3 + [1] * 50 + [0] * 35, dtype=bool)
    ours = stats.mcnemar(a, b)
    assert (ours.only_a, ours.only_b) == (12, 3)
    assert ours.p == pytest.approx(2 * sum(math.comb(15, k) for k in range(4)) / 2**15)
    assert stats.mcnemar(a, a).p == 1.0


def test_image_views_refuse_what_is_not_the_same_images() -> None:
    with pytest.raises(ValueError, match="4 and 5 images"):
        stats.mcnemar(np.ones(4, bool), np.ones(5, bool))
    with pytest.raises(ValueError, match="2 dimension"):
        stats.image_bootstrap(np.ones(4, bool), np.ones(4, bool))


def test_image_bootstrap_agrees_with_scipys() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random((3, 400)) < 0.8, draw.random((2, 400)) < 0.7
    value, low, high = stats.image_bootstrap(a, b)
    per_image = 100 * (b.mean(0) - a.mean(0))
    assert value == pytest.approx(per_image.mean())
    theirs = scipy_stats.bootstrap(
        (per_image,), np.mean, method="percentile", rng=np.random.default_rng(2)
    )
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.3)
    assert stats.image_bootstrap(a, b) == (value, low, high), "the same seed draws the same images"
    assert stats.image_bootstrap(a, a[:, :]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_students_interval_covers_the_truth_in_95_of_100_cases(n: int) -> None:
    trials, draw = 4000, np.random.default_rng(n)
    estimates = [stats.estimate(values) for values in draw.normal(22.3, 0.2, (trials, n))]
    assert within_binomial_noise(sum(e.low <= 22.3 <= e.high for e in estimates), trials, 0.95)


def test_image_bootstrap_covers_the_truth() -> None:
    trials, draw, hits = 1000, np.random.default_rng(0), 0
    for _ in range(trials):
        a, b = draw.random((2, 300)) < 0.8, draw.random((2, 300)) < 0.75
        _, low, high = stats.image_bootstrap(a, b, draws=1000)
        hits += low <= -5.0 <= high
    assert within_binomial_noise(hits, trials, 0.95)


@pytest.mark.parametrize(("n", "spreads"), [(3, (0.2, 0.2)), (5, (0.2, 0.2)), (5, (0.1, 0.4))])
def test_welchs_interval_covers_the_truth_and_misses_on_both_sides_alike(
    n: int, spreads: tuple[float, float]
) -> None:
    trials, draw = 4000, np.random.default_rng(n)
    pairs = zip(
        draw.normal(22.3, spreads[0], (trials, n)),
        draw.normal(23.3, spreads[1], (trials, n)),
        strict=True,
    )
    differences = [stats.welch(a, b) for a, b in pairs]
    hits = sum(d.low <= -1.0 <= d.high for d in differences)
    # Satterthwaite's degrees of freedom are an approximation: cautious for equal spreads, a little
    # short otherwise.
    assert 0.935 <= hits / trials <= 0.975
    over, under = sum(d.low > -1.0 for d in differences), sum(d.high < -1.0 for d in differences)
    assert within_binomial_noise(over, over + under, 0.5)


@pytest.mark.parametrize("spreads", [(0.2, 0.2, 0.2, 0.2), (0.1, 0.4, 0.2, 0.1)])
def test_the_interval_of_a_contrast_covers_the_truth_and_misses_on_both_sides_alike(
    spreads: tuple[float, ...],
) -> None:
    trials, draw, weights = 4000, np.random.default_rng(0), [1, -1, -1, 1]
    drawn = [draw.normal(22.0 + mean, spread, (trials, 5)) for mean, spread in enumerate(spreads)]
    found = [
        stats.contrast(groups, weights) for groups in zip(*drawn, strict=True)
    ]  # the truth is 0
    hits = sum(d.low <= 0 <= d.high for d in found)
    assert 0.935 <= hits / trials <= 0.975  # as for two groups
    over, under = sum(d.low > 0 for d in found), sum(d.high < 0 for d in found)
    assert within_binomial_noise(over, over + under, 0.5)


def test_seeds_needed_are_enough_when_the_difference_is_really_there() -> None:
    n, trials, draw = stats.seeds_needed(0.5, 0.25), 2000, np.random.default_rng(0)
    assert n is not None
    pairs = zip(
        draw.normal(22.0, 0.25, (trials, n)), draw.normal(22.5, 0.25, (trials, n)), strict=True
    )
    hits = sum(stats.welch(a, b).p < 0.05 for a, b in pairs)
    assert within_binomial_noise(hits, trials, stats.power(0.5, 0.25, n)) and hits / trials > 0.77


def test_equivalence_is_claimed_of_unlike_variants_in_at_most_5_of_100_cases() -> None:
    trials, draw = 3000, np.random.default_rng(0)
    pairs = zip(
        draw.normal(22.0, 0.1, (trials, 5)), draw.normal(22.5, 0.1, (trials, 5)), strict=True
    )
    hits = sum(stats.equivalence(a, b, 0.5) < 0.05 for a, b in pairs)
    assert hits / trials <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / trials)
    with pytest.raises(ValueError, match="positive"):
        stats.equivalence([1, 2], [1, 2], 0)


@pytest.mark.parametrize("truth", ["all equal", "one differs"])
def test_holm_keeps_the_family_wise_error_of_a_table_at_5_of_100(truth: str) -> None:
    trials, rows, draw, wrong = 1000, 5, np.random.default_rng(0), 0
    for _ in range(trials):
        control, *variants = draw.normal(22.0, 0.2, (rows + 1, 5))
        if truth == "one differs":
            variants[0] = variants[0] - 3.0
        adjusted = stats.holm([stats.welch(variant, control).p for variant in variants])
        wrong += bool((adjusted[truth == "one differs" :] < 0.05).any())
    assert wrong / trials <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / trials)
