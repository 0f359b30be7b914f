"""Known answers from SciPy, statsmodels and printed tables; properties that must hold for any data;
measured rates.
"""

import itertools
import math
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats import multitest, power

from senet_ablate.analysis import stats
from senet_ablate.analysis.model import ErrorModel, Errors

errors = st.floats(0, 100).map(lambda value: round(value, 3))
seeds = st.lists(errors, min_size=2, max_size=8)
unequal = seeds.filter(lambda values: min(values) < max(values))
MANY = settings(max_examples=50, deadline=None, derandomize=True)


def welch(a: Sequence[float], b: Sequence[float]) -> stats.Estimate:
    """The difference of two rows of which each has its own spread."""
    rows = {name: Errors(dict(enumerate(side))) for name, side in (("a", a), ("b", b))}
    return ErrorModel(rows, shared=False).contrast({"a": 1, "b": -1})


def within_binomial_noise(hits: int, trials: int, rate: float) -> bool:
    """Whether `hits` out of `trials` is a likely outcome of `rate`:

    five standard deviations either way.
    """
    return abs(hits / trials - rate) <= 5 * math.sqrt(rate * (1 - rate) / trials)


def test_the_interval_is_students_on_the_scale_of_the_logit() -> None:
    """The delta method: d logit(e) = de / (e (1 - e))."""
    values = [22.29, 22.25, 22.26, 22.28, 22.72]
    ours, mean = stats.estimate(values), np.mean(values) / 100
    assert ours.value == pytest.approx(np.mean(values))
    assert stats.variance(values) == pytest.approx(np.var(values, ddof=1))
    stderr = scipy_stats.sem(values) / 100 / (mean * (1 - mean))
    ends = scipy_stats.t.interval(0.95, 4, np.log(mean / (1 - mean)), stderr)
    assert (ours.low, ours.high) == pytest.approx([100 / (1 + math.exp(-end)) for end in ends])
    few = stats.estimate([0.0, 0.2, 1.0])
    assert 0 < few.low < few.value < few.high < 100


def test_students_1908_sleep_data_give_the_textbook_welch_test() -> None:
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    ours = welch(first, second)  # R's documentation of t.test prints these
    assert ours.df == pytest.approx(17.776, abs=5e-4)
    assert ours.p == pytest.approx(0.07939, abs=5e-6)
    assert (ours.low, ours.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


@MANY
@given(unequal, unequal)
def test_welch_agrees_with_scipy(a: list[float], b: list[float]) -> None:
    ours, theirs = welch(a, b), scipy_stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval()
    ends = max(interval.low, -100), min(interval.high, 100)  # errors are between 0 and 100%
    assert (ours.p, ours.df, ours.low, ours.high) == pytest.approx(
        (theirs.pvalue, theirs.df, *ends), rel=1e-6, abs=1e-9
    )
    for bound in (-0.5, 0.0, 3.0):
        less = scipy_stats.ttest_ind(
            np.array(a) - bound, b, equal_var=False, alternative="less"
        ).pvalue
        assert (ours.below(bound), ours.above(bound)) == pytest.approx(
            (less, 1 - less), rel=1e-6, abs=1e-9
        )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[], [22.3], [0.2, 0.2, 0.2], [100 / 3] * 7])
def test_nothing_is_certain_without_spread(values: list[float]) -> None:
    ours, against = stats.estimate(values), welch(values, [1.0, 1.0, 1.0])
    unknown = (ours.low, ours.high, against.p, against.low, against.below(5), against.above(5))
    assert all(map(math.isnan, unknown))
    assert not stats.variance(values) > 0
    assert math.isnan(stats.detectable(math.sqrt(stats.variance(values)), len(values) - 1))


@MANY
@given(seeds, seeds)
def test_swapping_the_sides_flips_the_difference_and_nothing_else(
    a: list[float], b: list[float]
) -> None:
    one, other = welch(a, b), welch(b, a)
    assert one.value == -other.value
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.low == pytest.approx(-other.high, nan_ok=True)
    assert stats.probability_of_improvement(a, b) + stats.probability_of_improvement(
        b, a
    ) == pytest.approx(1)


@MANY
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_statsmodels(p: list[float]) -> None:
    if p:
        with mock.patch("gc.collect"):  # which statsmodels calls each time: half a second
            theirs = multitest.multipletests(p, method="holm")[1]
        assert stats.holm(p) == pytest.approx(theirs)
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


def test_probability_of_improvement_counts_a_tie_half() -> None:
    assert stats.probability_of_improvement([1, 2], [2, 3]) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_seeds_for_cohens_small_medium_and_large_effect(effect: float, n: int) -> None:
    """Cohen 1988, table 2.4.1, alpha 0.05 two-sided, power 0.80 (0.2: 393)."""
    assert stats.seeds_needed(effect, 1.0) == n
    assert stats.detectable(math.sqrt(2 / n), 2 * n - 2) == pytest.approx(effect, rel=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_the_smallest_difference_agrees_with_statsmodels(n: int, alpha: float) -> None:
    tests, stderr, df = power.TTestIndPower(), 0.25 * math.sqrt(2 / n), 2 * n - 2
    found = stats.detectable(stderr, df, alpha)
    assert stats.power(found, stderr, df, alpha) == pytest.approx(0.8, abs=1e-6)
    upper_tail = scipy_stats.nct.sf(scipy_stats.t.isf(alpha / 2, df), df, found / stderr)
    assert upper_tail == pytest.approx(0.8, abs=1e-6)
    if alpha == 0.05:  # statsmodels loses the other tail below this
        assert tests.power(found / 0.25, n, alpha) == pytest.approx(0.8, abs=1e-6)
    assert stats.power(0, stderr, df, alpha) == pytest.approx(alpha)
    normal = scipy_stats.norm.isf(alpha / 2) + scipy_stats.norm.isf(0.2)
    assert found > normal * stderr, "the normal approximation is too hopeful for few seeds"


@MANY
@given(st.floats(0.1, 5), st.floats(0.05, 2))
def test_seeds_needed_is_the_first_number_that_resolves_the_difference(
    difference: float, std: float
) -> None:
    def detectable(n: int) -> float:
        return stats.detectable(std * math.sqrt(2 / n), 2 * n - 2)

    n = stats.seeds_needed(difference, std)
    assert n is not None and detectable(n) <= difference * (1 + 1e-6)
    assert n == 2 or detectable(n - 1) > difference * (1 - 1e-6)


def test_no_number_of_seeds_resolves_no_difference() -> None:
    assert stats.seeds_needed(0.0, 0.3) is None
    assert stats.seeds_needed(1e-4, 0.3) is None


def closed(p: np.ndarray, exclusive: list[bool]) -> np.ndarray:
    """The closed test, by brute force: a hypothesis is rejected where every set of hypotheses with
    it that can be true together is, by Bonferroni. One of a question whose two exclude each other.
    """
    flat, sides = p.ravel(), [[(), (0,), (1,)] + [(0, 1)] * (not one) for one in exclusive]
    found = np.zeros(flat.size)
    for chosen in itertools.product(*sides):
        held = [2 * question + side for question, both in enumerate(chosen) for side in both]
        if held:
            found[held] = np.maximum(found[held], min(1.0, len(held) * flat[held].min()))
    return found.reshape(p.shape)


questions = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0, 1), min_size=2 * n, max_size=2 * n),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(questions)
def test_two_sided_questions_are_never_judged_less_strictly_than_by_the_closed_test(
    drawn: tuple[list[float], list[bool]],
) -> None:
    p, exclusive = np.reshape(drawn[0], (-1, 2)), drawn[1]
    ours, strictest = stats.holm_of_pairs(p, exclusive), stats.holm(p.ravel()).reshape(p.shape)
    assert (ours >= closed(p, exclusive) - 1e-12).all()
    assert (ours <= strictest + 1e-12).all(), "and never more strictly than by Holm's correction"
    together = sum(1 if one else 2 for one in exclusive)
    assert ours.min() == pytest.approx(min(1.0, together * p.min()))
    assert stats.holm_of_pairs(p, [False] * len(p)) == pytest.approx(strictest)


def test_a_question_without_a_test_counts_and_stays_open() -> None:
    ours = stats.holm_of_pairs([(0.01, 0.99), (math.nan, math.nan)], [True, False])
    assert ours[0, 0] == pytest.approx(0.03) and ours[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("failed", "n"), [(1, 5), (5, 5), (3, 15)])
def test_the_interval_of_a_failure_rate_is_the_beta_quantiles(failed: int, n: int) -> None:
    low, high = stats.failure_interval(failed, n)
    assert low == pytest.approx(100 * scipy_stats.beta.ppf(0.025, failed, n - failed + 1))
    upper = 1.0 if failed == n else scipy_stats.beta.ppf(0.975, failed + 1, n - failed)
    assert high == pytest.approx(100 * upper)


def test_the_error_over_images_is_that_of_the_mean_of_what_each_image_gets() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random((3, 400)) < 0.8, draw.random((2, 400)) < 0.7
    per_image = 100 * a.mean(axis=0)
    assert stats.image_stderr(a) == pytest.approx(scipy_stats.sem(per_image))
    theirs = scipy_stats.bootstrap(
        (per_image - 100 * b.mean(axis=0),), np.mean, rng=np.random.default_rng(2)
    )
    assert stats.image_stderr(a, b) == pytest.approx(theirs.standard_error, rel=0.03)
    assert stats.image_stderr(a, a) == 0


def test_pooled_spread_is_the_root_of_the_anova_residual() -> None:
    groups = [[1.0, 2.0, 4.0], [5.0, 5.5], [9.0]]
    residual = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / 3
    assert stats.pooled_std(groups) == pytest.approx(math.sqrt(residual))
    assert math.isnan(stats.pooled_std([[1.0], []]))


def test_mcnemar_counts_the_images_on_which_two_networks_differ() -> None:
    a = np.array([1] * 12 + [0] * 3 + [1] * 50 + [0] * 35, dtype=bool)
    b = np.array([0] * 12 + [1] * 3 + [1] * 50 + [0] * 35, dtype=bool)
    ours = stats.mcnemar(a, b)
    p_value = 2 * sum(math.comb(15, k) for k in range(4)) / 2**15
    assert ours == (12, 3, pytest.approx(p_value))
    assert stats.mcnemar(a, a) == (0, 0, 1.0)
    with pytest.raises(ValueError):
        stats.mcnemar(a, b[:-1])


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
    differences = [welch(a, b) for a, b in pairs]
    hits = sum(d.low <= -1.0 <= d.high for d in differences)
    # Satterthwaite's degrees of freedom are an approximation: cautious for equal spreads, a little
    # short otherwise.
    assert 0.935 <= hits / trials <= 0.975
    over, under = sum(d.low > -1.0 for d in differences), sum(d.high < -1.0 for d in differences)
    assert within_binomial_noise(over, over + under, 0.5)


@pytest.mark.parametrize("truth", ["all equal", "one differs"])
def test_holm_keeps_the_family_wise_error_of_a_table_at_5_of_100(truth: str) -> None:
    trials, rows, draw, wrong = 1000, 5, np.random.default_rng(0), 0
    for _ in range(trials):
        control, *variants = draw.normal(22.0, 0.2, (rows + 1, 5))
        if truth == "one differs":
            variants[0] = variants[0] - 3.0
        adjusted = stats.holm([welch(variant, control).p for variant in variants])
        wrong += bool((adjusted[truth == "one differs" :] < 0.05).any())
    assert wrong / trials <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / trials)
