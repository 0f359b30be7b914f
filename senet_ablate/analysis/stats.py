"""Statistics of a few seeds: pure functions of arrays.

Values are test errors in percent, one a seed, so differences are in percentage points. Seeds are
independent repeats (Bouthillier et al. 2021, arXiv:2103.03098). Where data cannot carry a test the
answer is NaN, never a number that looks certain: one value has no spread, and a comparison whose
two sides both have zero spread has seen no noise to be held against.
"""

import math
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
    """A mean error over n seeds in %, the sample standard deviation, and a 95% interval."""

    mean: float
    std: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference of mean errors in points: standard error, degrees of freedom, 95% interval and
    two-sided p-value. Everything but `value` is NaN where no test can be made.
    """

    value: float
    stderr: float
    df: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, value: float, stderr: float, df: float) -> "Difference":
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


@dataclass(frozen=True)
class Discordance:
    """How many test images only one of two networks got right, and the exact two-sided p-value of
    an even split.
    """

    only_a: int
    only_b: int
    p: float


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of test errors in % (n,) with a 95% interval that stays between 0 and 100.

    Student's t on the scale log(e / (100 - e)) by the delta method. Fewer than two values, or
    values without any spread, give NaN ends: no noise was seen, so none can be stated.
    """
    x = np.asarray(values, dtype=np.float64)
    mean, std = _mean(x), _std(x)
    if not std > 0 or not 0 < mean < 100:
        return Estimate(mean, std, len(x), NAN, NAN)
    half = float(special.stdtrit(len(x) - 1, (1 + LEVEL) / 2)) * std / math.sqrt(len(x))
    ends = special.logit(mean / 100) + half * 100 / (mean * (100 - mean)) * np.array([-1, 1])
    return Estimate(mean, std, len(x), *(float(end) for end in 100 * special.expit(ends)))


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


def welch(a: Sequence[float], b: Sequence[float]) -> Difference:
    """mean(a) - mean(b) of two groups of seeds, spreads not taken as equal.

    B. L. Welch, "The generalization of Student's problem", Biometrika 34 (1947); degrees of freedom
    by Satterthwaite.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in (a, b)]
    value = _mean(groups[0]) - _mean(groups[1])
    parts = [_std(x) ** 2 / max(len(x), 1) for x in groups]
    if not sum(parts) > 0:  # also where one of them is NaN
        return Difference(value, NAN, NAN, NAN, NAN, NAN)
    df = sum(parts) ** 2 / sum(
        part**2 / (len(x) - 1) for part, x in zip(parts, groups, strict=True)
    )
    return Difference.of(value, math.sqrt(sum(parts)), df)


def holm(p_values: Sequence[float]) -> Floats:
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
    """P(a < b) over all pairs of a seed of `a` and one of `b`, ties counting half; NaN if a side is
    empty.

    With errors, the probability that a fresh run of `a` beats one of `b` (Agarwal et al. 2021,
    arXiv:2108.13264).
    """
    if not len(a) or not len(b):
        return NAN
    return float(stats.mannwhitneyu(b, a).statistic) / (len(a) * len(b))


def pooled_std(groups: Iterable[Sequence[float]]) -> float:
    """The standard deviation within groups of seeds, weighted by degrees of freedom; NaN if no
    group has two seeds.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    counted = [(len(x) - 1, _std(x) ** 2) for x in arrays if len(x) > 1]
    if not counted:
        return NAN
    return math.sqrt(sum(df * v for df, v in counted) / sum(df for df, _ in counted))


def std_interval(std: float, df: int) -> tuple[float, float]:
    """The ends of the 95% chi-squared interval of a standard deviation with `df` degrees of
    freedom; NaN for none.
    """
    if df < 1:
        return NAN, NAN
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
    tries, from their standard errors as estimated and their degrees of freedom.

    The estimates differ by chance, and with them what it takes to be significant; differences
    scatter by the median standard error.
    """
    known = [(stderr, df) for stderr, df in tests if df > 0 and stderr > 0]
    if not known:
        return NAN
    critical = np.array([special.stdtrit(df, 1 - alpha / 2) * stderr for stderr, df in known])
    spread = float(np.median([stderr for stderr, _ in known]))

    def missing(size: float) -> float:
        return POWER - float(special.ndtr((size - critical) / spread).mean())

    return float(optimize.brentq(missing, 0.0, float(critical.max()) + 5 * spread, xtol=1e-10))


def seeds_needed(difference: float, std: float, alpha: float = ALPHA) -> int | None:
    """The fewest seeds a side with which a t-test sees a true `difference` in 4 of 5 tries.

    None where no spread was seen, where the difference is 0, or where it would take more than
    MOST_SEEDS.
    """
    if not std > 0 or difference == 0:
        return None
    quantiles = float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER))
    normal = 2 * (quantiles * std / difference) ** 2  # always a few seeds too hopeful
    if normal > MOST_SEEDS:
        return None
    n = max(2, math.floor(normal))
    while power(difference, std * math.sqrt(2 / n), 2 * n - 2, alpha) < POWER:
        n += 1
    return n


def mcnemar(right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> Discordance:
    """Two networks on the same test images, (images,) flags each: the exact form of McNemar's test.

    Q. McNemar, Psychometrika 12 (1947). It compares two trained networks, not two variants: call it
    for each seed, and do not pool seeds, since the same images return. Raises ValueError for
    different numbers of images.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Discordance(only_a, only_b, p)


def _mean(x: Floats) -> float:
    return float(x.mean()) if len(x) else NAN


def _std(x: Floats) -> float:
    """Sample standard deviation; NaN below two values, and exactly 0 for equal ones, whatever
    rounding says.
    """
    if len(x) < 2:
        return NAN
    return 0.0 if x.min() == x.max() else float(x.std(ddof=1))
