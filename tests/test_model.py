"""The model of errors against statsmodels and SciPy, and how often its intervals cover."""

import math
from collections.abc import Mapping
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import Estimate, estimate

WEIGHTS = [{"a": 1, "b": -1}, {"a": 1, "b": 1, "c": -2}, {"a": 0.5, "b": -1.5, "c": 2, "d": -1}]


def drawn(
    sizes: Mapping[str, int], draw: np.random.Generator, of_seed: float = 0.5, noise: float = 1.0
) -> dict[str, Errors]:
    """Rows of the first so many seeds, of standard deviation `noise` beside the seeds' own."""
    seeds = of_seed * draw.normal(size=max(sizes.values()))
    return {
        name: Errors({s: 40 + k + seeds[s] + noise * draw.normal() for s in range(n)})
        for k, (name, n) in enumerate(sizes.items())
    }


def designed(rows: Mapping[str, Errors]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, and dummies of rows and seeds."""
    cells = [(name, s, e) for name, row in rows.items() for s, e in row.by_seed.items()]
    seeds = sorted({s for _, s, _ in cells})
    x = np.array([[float(name == row) for row in rows] for name, _, _ in cells])
    z = np.array([[float(s == seed) for seed in seeds] for _, s, _ in cells])
    return np.array([e for _, _, e in cells]), x, z


def vector(rows: Mapping[str, Errors], weights: Mapping[str, float]) -> np.ndarray:
    return np.array([weights.get(name, 0.0) for name in rows])


def agrees(ours: Estimate, value: float, stderr: float, df: float, excess: float = 0) -> None:
    """Value, degrees of freedom, and interval by Student's t; p-values by a standard error with
    what rows that scatter more than the shared spread add to the variance.
    """
    interval = scipy_stats.t.interval(0.95, df, value, stderr)
    assert (ours.value, ours.df) == pytest.approx((value, df), rel=1e-7)
    assert (ours.low, ours.high) == pytest.approx(interval, rel=1e-7)
    stderr = math.sqrt(stderr**2 + excess)
    t, p = scipy_stats.t(df, loc=value, scale=stderr), 2 * scipy_stats.t.sf(abs(value) / stderr, df)
    assert (ours.stderr, ours.p) == pytest.approx((stderr, p), rel=1e-6)
    assert ours.below(0.3) == pytest.approx(t.cdf(2 * value - 0.3), rel=1e-6)
    assert ours.below(0.3) + ours.above(0.3) == pytest.approx(1)


def components(rows: Mapping[str, Errors]) -> tuple[float, float, float]:
    """Variance of the noise and of the seeds, by Henderson's third method with statsmodels' sums of
    squares, and degrees of freedom of the noise.
    """
    y, x, z = designed(rows)
    both, one_way = sm.OLS(y, np.hstack([x, z[:, 1:]])).fit(), sm.OLS(y, x).fit()
    trace = sum(sm.OLS(column, x).fit().ssr for column in z.T)
    of_seeds = (one_way.ssr - one_way.df_resid * both.mse_resid) / trace
    return both.mse_resid, max(0.0, of_seeds), both.df_resid


def excess(rows: Mapping[str, Errors], weights: Mapping[str, float], shared: float) -> float:
    """What rows whose own variance is above the shared one add to that of a contrast."""
    return sum(
        weight**2 * max(0.0, np.var(rows[name].values, ddof=1) - shared) / len(rows[name].values)
        for name, weight in weights.items()
    )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_balanced_page_is_statsmodels_two_way_analysis(
    seeds: int, weights: dict[str, float]
) -> None:
    rows = drawn(dict.fromkeys("abcd", seeds), np.random.default_rng(8))
    y, x, z = designed(rows)
    fixed = sm.OLS(y, np.hstack([x, z[:, 1:]])).fit()
    test = fixed.t_test(np.concatenate([vector(rows, weights), np.zeros(seeds - 1)]))
    agrees(
        ErrorModel(rows).contrast(weights),
        float(np.squeeze(test.effect)),
        float(np.squeeze(test.sd)),
        fixed.df_resid,
        excess(rows, weights, sum(components(rows)[:2])),
    )


def test_a_balanced_page_is_statsmodels_mixed_model() -> None:
    rows = drawn(dict.fromkeys("abcd", 6), np.random.default_rng(1), of_seed=2.0)
    y, x, z = designed(rows)
    mixed = sm.MixedLM(y, x, groups=z.argmax(axis=1)).fit(reml=True)
    for weights in WEIGHTS:
        w, ours = vector(rows, weights), ErrorModel(rows).contrast(weights)
        stderr = math.sqrt(w @ np.asarray(mixed.cov_params())[:4, :4] @ w)
        half = scipy_stats.t.ppf(0.975, 3 * 5) * stderr
        assert ours.value == pytest.approx(w @ mixed.fe_params)
        assert ours.high - ours.value == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("of_seed", [0.0, 1.0])
def test_unequal_seeds_are_generalised_least_squares_with_the_components_of_variance(
    of_seed: float, weights: dict[str, float]
) -> None:
    draw = np.random.default_rng(54)  # where no row's own spread stands out
    rows = drawn({"a": 12, "b": 12, "c": 4, "d": 4, "e": 3}, draw, of_seed)
    (y, x, z), (noise, of_seeds, df) = designed(rows), components(rows)
    assert (of_seeds > 0.1) == (of_seed > 0)
    fit = sm.GLS(y, x, sigma=noise * np.eye(len(y)) + of_seeds * z @ z.T).fit()
    w = vector(rows, weights)
    stderr = math.sqrt(w @ fit.normalized_cov_params @ w)
    more = excess(rows, weights, noise + of_seeds)
    agrees(ErrorModel(rows).contrast(weights), float(w @ fit.params), stderr, df, more)


numbers = st.lists(st.floats(0, 100).map(lambda x: round(x, 3)), min_size=2, max_size=6)
groups = st.lists(numbers.filter(lambda x: np.ptp(x) > 0), min_size=4, max_size=4)
MANY = settings(max_examples=50, deadline=None, derandomize=True)


def of_lists(lists: list[list[float]]) -> dict[str, Errors]:
    return {name: Errors(dict(enumerate(x))) for name, x in zip("abcd", lists, strict=True)}


def by_hand(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and Satterthwaite's degrees of freedom of a sum of independent variances."""
    total = sum(variance for variance, _ in parts)
    return math.sqrt(total), total**2 / sum(variance**2 / df for variance, df in parts)


@MANY
@given(groups)
def test_own_spreads_are_scipys_welch_test_and_satterthwaites_formula(
    lists: list[list[float]],
) -> None:
    rows = of_lists(lists)
    model = ErrorModel(rows, shared=False)
    theirs = scipy_stats.ttest_ind(lists[0], lists[1], equal_var=False)
    ours, interval = model.contrast({"a": 1, "b": -1}), theirs.confidence_interval()
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df), rel=1e-6)
    wanted = max(interval.low, -100), min(interval.high, 100)  # no difference of errors is beyond
    assert (ours.low, ours.high) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    for weights in WEIGHTS:
        w = vector(rows, weights)
        parts = [
            (weight**2 * np.var(x, ddof=1) / len(x), len(x) - 1)
            for weight, x in zip(w, lists, strict=True)
            if weight
        ]
        value = float(w @ [np.mean(x) for x in lists])
        got = model.contrast(weights)
        assert (got.stderr, got.df) == pytest.approx(by_hand(parts), rel=1e-6)
        assert got.value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 9)])
def test_two_rows_of_equal_spread_without_blocks_are_the_pooled_t_test(
    sizes: tuple[int, int],
) -> None:
    rows = drawn(dict(zip("ab", sizes, strict=True)), np.random.default_rng(2))
    a, b = (row.values for row in rows.values())
    interval = scipy_stats.ttest_ind(a, b, equal_var=True).confidence_interval()
    ours = ErrorModel(rows, block=False).contrast({"a": 1, "b": -1})
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    shift = a[0] - b[0]
    same = {"a": Errors(dict(enumerate(a))), "b": Errors(dict(enumerate(x - shift for x in a)))}
    theirs = scipy_stats.ttest_ind(*(row.values for row in same.values()), equal_var=True)
    ours = ErrorModel(same, block=False).contrast({"a": 1, "b": -1})
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df), abs=1e-12)


def test_a_row_that_scatters_more_has_its_own_part_of_a_contrast() -> None:
    draw = np.random.default_rng(6)
    rows = drawn(dict.fromkeys("abc", 5), draw, 0.0) | drawn({"wild": 5}, draw, 0.0, noise=20)
    model, quiet = ErrorModel(rows), ErrorModel({name: rows[name] for name in "abc"})
    alike = quiet.contrast({"a": 1, "b": -1})
    assert model.contrast({"a": 1, "b": -1}) == alike, "it is no part of what the others share"
    assert alike.df == 2 * 4
    wild, (noise, of_seeds, _) = rows["wild"].values, components({n: rows[n] for n in "abc"})
    shared = ((noise + of_seeds) / 5 + excess(rows, {"a": 1}, noise + of_seeds), 8)
    stderr, df = by_hand([(np.var(wild, ddof=1) / 5, 4), shared])
    ours = model.contrast({"wild": 1, "a": -1})
    assert ours.value == pytest.approx(np.mean(wild) - np.mean(rows["a"].values))
    assert (ours.stderr, ours.df) == pytest.approx((stderr, df))


def test_of_rows_that_are_one_network_one_counts() -> None:
    rows = drawn(dict.fromkeys("abc", 5), np.random.default_rng(7))
    few = Errors({seed: rows["a"].by_seed[seed] for seed in sorted(rows["a"].by_seed)[:3]})
    alone, pair = ErrorModel(rows), {"a": 1.0, "b": -1.0}
    fewer = Errors({seed: few.by_seed[seed] for seed in sorted(few.by_seed)[:2]})
    more = rows | {"again": few, "fewer": fewer}
    model = ErrorModel(more, equal=[["a", "again", "fewer"]])
    assert model.contrast(pair) == alone.contrast(pair) and alone.contrast(pair).df == 2 * 4
    assert ErrorModel(more).contrast(pair).df > 8
    other = ErrorModel({"again": few, "b": rows["b"], "c": rows["c"]})
    failed = ErrorModel(
        more | {"a": Errors(rows["a"].by_seed, frozenset([0]))}, equal=[["a", "again", "fewer"]]
    )
    for weights in ({"again": 1, "b": -1}, {"again": 1, "b": -0.5, "c": -0.5}):
        wanted = pytest.approx(astuple(other.contrast(weights)))
        assert astuple(model.contrast(weights)) == wanted, "it takes the other's place"
        assert astuple(failed.contrast(weights)) == wanted, "the other one failed"
    others = {"b": 1.0, "c": -1.0}
    wanted = pytest.approx(astuple(other.contrast(others)))
    assert astuple(failed.contrast(others)) == wanted, "the first that did not fail counts"
    both = {"a": 0.5, "again": 0.5, "b": -1.0}
    assert model.contrast(both) == alone.contrast(pair), "what is equal is one row, named twice"
    itself = model.contrast({"a": 1, "again": -1})
    assert math.isnan(itself.p), "and is not held against itself"
    assert (itself.value, itself.stderr, itself.low, itself.high) == (0, 0, 0, 0)


def test_rows_of_another_schedule_share_no_spread() -> None:
    rows = drawn(dict.fromkeys("abc", 5), np.random.default_rng(5))
    other = {name: Errors(row.by_seed, schedule="long") for name, row in rows.items()}
    both = ErrorModel(rows | {f"{name}2": row for name, row in other.items()})
    alone = ErrorModel(rows).contrast({"a": 1, "b": -1})
    assert both.contrast({"a": 1, "b": -1}) == alone == both.contrast({"a2": 1, "b2": -1})
    assert alone.df == 2 * 4


NO_TEST = [
    {"a": Errors({}), "b": Errors({0: 1.0, 1: 2.0})},
    {"a": Errors({0: 1.0}), "b": Errors({0: 3.0})},
    {"a": Errors({0: 1.0, 1: 1.0}), "b": Errors(dict.fromkeys(range(7), 100 / 3))},
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rows", NO_TEST)
def test_nothing_is_certain_where_no_spread_was_seen(rows: dict[str, Errors], shared: bool) -> None:
    ours = ErrorModel(rows, shared, shared).contrast({"a": 1, "b": -1})
    assert all(map(math.isnan, (ours.stderr, ours.low, ours.high, ours.p, ours.below(0))))
    known = rows["a"].values
    assert math.isnan(ours.value) if not known else ours.value == known[0] - rows["b"].values[0]


def test_one_constant_row_is_tested_with_the_spread_of_the_other() -> None:
    rows = {"a": Errors(dict.fromkeys(range(3), 1.0)), "b": Errors({0: 2.0, 1: 2.1, 2: 2.3})}
    ours = ErrorModel(rows, shared=False).contrast({"a": 1, "b": -1})
    assert ours.p == pytest.approx(scipy_stats.ttest_1samp([2.0, 2.1, 2.3], 1.0).pvalue)


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(3, 3), (5, 5), (5, 15)])
def test_intervals_of_contrasts_cover_the_truth_in_95_of_100_cases(
    sizes: tuple[int, int], share: float
) -> None:
    draw, hits, pages = np.random.default_rng(sizes[1]), [], 150
    counts = dict(zip("abcdefgh", [sizes[1]] * 2 + [sizes[0]] * 6, strict=True))
    for _ in range(pages):
        rows = drawn(counts, draw, math.sqrt(share), math.sqrt(1 - share))
        model = ErrorModel(rows)
        for one, other in pairwise(counts):  # all pairs would be of few more independent errors
            truth = ord(one) - ord(other)
            found = model.contrast({one: 1, other: -1})
            hits.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("n", [3, 5, 15])
@pytest.mark.parametrize(("mean", "std"), [(22.3, 0.2), (3.0, 0.6), (97.0, 0.5)])
def test_the_interval_of_an_error_covers_the_truth_and_stays_inside_the_scale(
    n: int, mean: float, std: float
) -> None:
    draws = np.random.default_rng(n).normal(mean, std, (3000, n))
    found = [estimate(values) for values in draws]
    assert 0.93 <= np.mean([e.low <= mean <= e.high for e in found]) <= 0.97
    assert all(0 < e.low < e.value < e.high < 100 for e in found)


def ranked(a: list[float], b: list[float]) -> tuple[float, float]:
    """By ErrorModel; inf is a failed run, whatever error it has."""
    rows = {
        name: Errors(
            {seed: 50.0 if math.isinf(e) else e for seed, e in enumerate(x)},
            frozenset(seed for seed, e in enumerate(x) if math.isinf(e)),
        )
        for name, x in (("a", a), ("b", b))
    }
    return ErrorModel(rows).ranks("a", "b")


INF = math.inf


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([70.0, 71.0, 72.0], [73.0, 74.0, 75.0]),
        ([70.0, 71.5, 74.5, INF], [71.0, 73.0, 75.0, 76.0]),
        ([60.0, INF, INF], [40.0, 41.0, 42.0, 43.0, 44.0]),
        ([60.0, 61.0, INF], [62.0, INF, INF]),
        ([INF, INF], [INF, INF, INF]),
    ],
)
def test_ranks_are_scipys_exact_permutation_test(a: list[float], b: list[float]) -> None:
    ranks = scipy_stats.rankdata([*a, *b])
    for side, ours in zip(("less", "greater"), ranked(a, b), strict=True):
        theirs = scipy_stats.permutation_test(
            (ranks[: len(a)], ranks[len(a) :]),
            lambda x, y: x.sum() - y.sum(),
            alternative=side,
            n_resamples=np.inf,
        )
        assert ours == pytest.approx(theirs.pvalue)
        if len(set(ranks)) == len(ranks):
            exact = scipy_stats.mannwhitneyu(a, b, alternative=side, method="exact")
            assert ours == pytest.approx(exact.pvalue)


def test_ranks_of_many_seeds_are_drawn_and_agree_with_mann_whitney() -> None:
    draw = np.random.default_rng(0)
    a, b = list(draw.normal(22, 1, 15)), list(draw.normal(22.6, 1, 15))
    for side, ours in zip(("less", "greater"), ranked(a, b), strict=True):
        theirs = scipy_stats.mannwhitneyu(a, b, alternative=side, method="exact").pvalue
        assert ours == pytest.approx(theirs, abs=4 * math.sqrt(theirs * (1 - theirs) / 20_000))


def test_a_row_with_failed_runs_has_a_difference_and_no_interval() -> None:
    rows = {"a": Errors({0: 20.0, 1: 90.0}, frozenset({1})), "b": Errors({0: 30.0, 1: 31.0})}
    model = ErrorModel(rows)
    ours = model.contrast({"a": 1, "b": -1})
    assert ours.value == pytest.approx(24.5) and math.isnan(ours.low) and math.isnan(ours.p)
    assert model.difference("a", "b").p == pytest.approx(1.0), "by ranks: 1 and 4 against 2 and 3"
    assert model.failures_alone("a", "b") == pytest.approx(0.5), "one of four, in either row"


def test_ranks_say_nothing_against_the_means_that_they_stand_beside() -> None:
    sound, plain = {s: 10 + 0.01 * s for s in range(14)}, {s: 12 + 0.01 * s for s in range(15)}
    rows = {"a": Errors(sound | {14: 99.0}, frozenset({14})), "b": Errors(plain)}
    model = ErrorModel(rows)
    assert model.contrast({"a": 1, "b": -1}).value > 0 and model.ranks("a", "b")[0] < 0.001
    assert model.difference("a", "b").p == model.difference("b", "a").p == 1, (
        "the mean is worse, the ranks are better"
    )
