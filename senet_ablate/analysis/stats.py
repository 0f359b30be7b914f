"""Statistics of a few seeds: pure functions of arrays.

Values are test errors in percent, one a seed, so differences are in percentage points. Seeds are
independent repeats (Bouthillier et al. 2021, arXiv:2103.03098). Where data cannot carry a test the
answer is NaN, never a number that looks certain: one value has no spread, and a comparison whose
two sides both have zero spread has seen no noise to be held against.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
NAN = float("nan")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean error in %, or a difference of mean errors in points: standard error, degrees of
    freedom, 95% interval and two-sided p-value. What is not known is NaN, where no test can be made
    all but `value`.
    """

    value: float
    stderr: float = NAN
    df: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN

    @classmethod
    def of(cls, value: float, stderr: float, df: float) -> "Estimate":
        """With Student's t distribution."""
        half = float(special.stdtrit(df, (1 + LEVEL) / 2)) * stderr
        p = 2 * float(special.stdtr(df, -abs(value) / stderr))
        return cls(value, stderr, df, value - half, value + half, p)

    def below(self, bound: float) -> float:
        """One-sided p-value of "the true difference is `bound` or more": small speaks against."""
        return float(special.stdtr(self.df, (self.value - bound) / self.stderr))

    def above(self, bound: float) -> float:
        """One-sided p-value of "the true difference is `bound` or less": small speaks against."""
        return float(special.stdtr(self.df, (bound - self.value) / self.stderr))


def variance(values: Sequence[float]) -> float:
    """NaN below two values, and exactly 0 for equal ones, whatever rounding says."""
    if len(values) < 2:
        return NAN
    return 0.0 if min(values) == max(values) else float(np.var(values, ddof=1))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of test errors in % (n,) with a 95% interval that stays between 0 and 100.

    Student's t on the scale log(e / (100 - e)) by the delta method. Fewer than two values, or
    values without any spread, give NaN ends: no noise was seen, so none can be stated.
    """
    n, squared = len(values), variance(values)
    mean = float(np.mean(values)) if n else NAN
    if not squared > 0 or not 0 < mean < 100:
        return Estimate(mean)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(squared / n)
    ends = special.logit(mean / 100) + half * 100 / (mean * (100 - mean)) * np.array([-1, 1])
    low, high = 100 * special.expit(ends)
    return Estimate(mean, low=float(low), high=float(high))


def failure_interval(failed: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of a failure rate in %: C. J. Clopper & E. S. Pearson, Biometrika 26
    (1934).
    """
    interval = stats.binomtest(failed, n).proportion_ci(LEVEL, method="exact")
    return 100 * float(interval.low), 100 * float(interval.high)


def image_stderr(
    right: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_] | None = None
) -> float:
    """Standard error over test images, in points, of the mean error of trained networks, or of its
    difference to the mean error of `others`.

    right, others: (seeds, images). It says what other test images would change for these networks,
    not what other seeds would.
    """
    per_image = 100 * right.mean(axis=0)
    if others is not None:
        per_image = per_image - 100 * others.mean(axis=0)
    return float(per_image.std(ddof=1)) / math.sqrt(len(per_image))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values (n,), to be held against alpha as they are; a NaN (no test made) stays NaN
    and is not counted.

    The family-wise error stays at alpha however the tests depend on each other: S. Holm,
    Scandinavian Journal of Statistics 6 (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), NAN)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def holm_of_pairs(p_values: npt.ArrayLike, exclusive: Sequence[bool]) -> Floats:
    """Adjusted p-values (n, 2) of n questions with a hypothesis on either side; NaN counts as 1.

    As `holm`, but no more hypotheses are counted than can be true at once: one of a question whose
    hypotheses exclude each other, or of which one was rejected already (J. P. Shaffer, JASA 81,
    1986). With two hypotheses a question that may both be true it is Holm's.
    """
    p = np.nan_to_num(np.asarray(p_values, dtype=np.float64).reshape(-1, 2), nan=1.0)
    can_be_true = np.where(exclusive, 1, 2)
    rejected = np.zeros(len(p), int)
    adjusted, largest = np.ones_like(p), 0.0
    for index in np.argsort(p, axis=None, kind="stable"):
        question, side = divmod(int(index), 2)
        largest = max(largest, min(1.0, float(can_be_true.sum()) * p[question, side]))
        adjusted[question, side] = largest
        rejected[question] += 1
        can_be_true[question] = 2 - rejected[question]
    return adjusted


def probability_of_improvement(a: Sequence[float], b: Sequence[float]) -> float:
    """P(a < b) over all pairs of a seed of `a` and one of `b`, ties counting half.

    With errors, the probability that a fresh run of `a` beats one of `b` (Agarwal et al. 2021,
    arXiv:2108.13264).
    """
    return float(stats.mannwhitneyu(b, a).statistic) / (len(a) * len(b))


def pooled_std(groups: Iterable[Sequence[float]]) -> float:
    """The standard deviation within groups of seeds, weighted by degrees of freedom; NaN if no
    group has two seeds.
    """
    counted = [(len(group) - 1, variance(group)) for group in groups if len(group) > 1]
    df = sum(df for df, _ in counted)
    return math.sqrt(sum(df * squared for df, squared in counted) / df) if df else NAN


def std_interval(std: float, df: int) -> tuple[float, float]:
    """The ends of the 95% chi-squared interval of a standard deviation."""
    low, high = (stats.chi2.ppf(share, df) for share in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return std * math.sqrt(df / low), std * math.sqrt(df / high)


def power(difference: float, stderr: float, df: float, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t-test sees a true `difference` of which it knows the standard error
    with `df` degrees of freedom.

    Exact, from the noncentral t distribution (J. Cohen, Statistical Power Analysis, 1988, Section
    2.5). NaN without degrees of freedom or spread.
    """
    if not df > 0 or not stderr > 0:
        return NAN
    if difference == 0:
        return alpha
    critical = float(special.stdtrit(df, 1 - alpha / 2))
    # Both tails at once: t squared is a noncentral F. SciPy's noncentral t turns NaN in its far
    # tail.
    return float(stats.ncf.sf(critical**2, 1, df, (difference / stderr) ** 2))


def detectable(stderr: float, df: float, alpha: float = ALPHA) -> float:
    """The smallest true difference that such a test sees in 4 of 5 tries; NaN without spread."""
    if not df > 0 or not stderr > 0:
        return NAN
    high = 1.0
    while power(high, 1.0, df, alpha) < POWER:
        high *= 2
    found = optimize.brentq(lambda size: power(size, 1.0, df, alpha) - POWER, 0.0, high, xtol=1e-10)
    return stderr * float(found)


def detectable_by(tests: Sequence[tuple[float, float]], alpha: float = ALPHA) -> float:
    """The smallest true difference that one of several tests, picked at random, sees in 4 of 5
    tries, from their standard errors as estimated and their degrees of freedom; NaN without a test.

    The estimates differ by chance, and with them what it takes to be significant; differences
    scatter by the median standard error.
    """
    if not tests:
        return NAN
    critical = np.array([special.stdtrit(df, 1 - alpha / 2) * stderr for stderr, df in tests])
    spread = float(np.median([stderr for stderr, _ in tests]))

    def missing(size: float) -> float:
        return POWER - float(special.ndtr((size - critical) / spread).mean())

    return float(optimize.brentq(missing, 0.0, float(critical.max()) + 5 * spread, xtol=1e-10))


def seeds_needed(difference: float, std: float) -> int | None:
    """The fewest seeds a side with which a t-test sees a true `difference` in 4 of 5 tries; None if
    that takes more than MOST_SEEDS. std: above 0.
    """
    n = bisect_left(
        range(MOST_SEEDS + 1),
        POWER,
        lo=2,
        key=lambda n: power(difference, std * math.sqrt(2 / n), 2 * n - 2),
    )
    return n if n <= MOST_SEEDS else None


def mcnemar(
    right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]
) -> tuple[int, int, float]:
    """Two networks on the same test images, (images,) flags each: how many only the one and only
    the other got right, and the exact two-sided p-value of an even split (Q. McNemar, Psychometrika
    12, 1947).

    It compares two trained networks, not two variants: call it for each seed, and do not pool
    seeds, since the same images return. Raises ValueError for different numbers of images.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return only_a, only_b, p
