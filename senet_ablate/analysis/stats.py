"""Statistics of a few seeds: pure functions of arrays.

Values are test errors in percent, one a seed, so differences are in percentage points; nothing here
depends on the unit. Seeds are independent repeats (Bouthillier et al. 2021, arXiv:2103.03098).
Where data cannot carry a test the answer is NaN, never a number that looks certain: one value has
no spread, and a comparison whose two sides both have zero spread has seen no noise to be held
against (equal counts of wrong images are a sign of a coarse scale, not of a certain result). A
comparison in which only one side is constant is made with the spread of the other.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from scipy import stats as distributions

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
NAN = float("nan")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds, the sample standard deviation, and the ends of a Student-t interval for
    the mean.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """mean(a) - mean(b) with its standard error, Welch's degrees of freedom, interval and two-sided
    p-value.

    std: root mean square of the two standard deviations. Everything but `value` is NaN where no
    test can be made.
    """

    value: float
    std: float
    stderr: float
    df: float
    low: float
    high: float
    p: float

    def below(self, bound: float) -> float:
        """One-sided p-value of "the true difference is `bound` or more":

        small speaks for a difference below it.
        """
        return (
            float(special.stdtr(self.df, (self.value - bound) / self.stderr))
            if self.df > 0
            else NAN
        )

    def above(self, bound: float) -> float:
        """One-sided p-value of "the true difference is `bound` or less":

        small speaks for a difference above it.
        """
        return (
            float(special.stdtr(self.df, (bound - self.value) / self.stderr))
            if self.df > 0
            else NAN
        )


@dataclass(frozen=True)
class Discordance:
    """How many test images only one of two networks got right, and the exact two-sided p-value of
    an even split.
    """

    only_a: int
    only_b: int
    p: float


def estimate(values: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean and Student-t interval of `values` (n,).

    Fewer than two values, or values without any spread, give NaN ends: no noise was seen, so none
    can be stated. A percentile bootstrap is not used, because with five values its "95%" covers
    about 84%.
    """
    x = _vector(values)
    mean, std = _mean(x), _std(x)
    half = (
        float(special.stdtrit(len(x) - 1, (1 + level) / 2)) * std / math.sqrt(len(x))
        if std > 0
        else NAN
    )
    return Estimate(mean, std, len(x), mean - half, mean + half)


def welch(a: npt.ArrayLike, b: npt.ArrayLike, level: float = LEVEL) -> Difference:
    """mean(a) - mean(b) of two groups of seeds (n_a,) and (n_b,), spreads not taken as equal.

    B. L. Welch, "The generalization of Student's problem", Biometrika 34 (1947); degrees of freedom
    by Satterthwaite.
    """
    return contrast([a, b], [1, -1], level)


def contrast(
    groups: Sequence[npt.ArrayLike], weights: Sequence[float], level: float = LEVEL
) -> Difference:
    """The weighted sum of the means of groups of seeds, spreads not taken as equal; Welch's test
    for two and more.

    std: of the `Difference`, such that the standard error is std * sqrt(2 / n) for groups of n, as
    for two of them.
    """
    found = [_vector(group) for group in groups]
    value = sum(weight * _mean(x) for weight, x in zip(weights, found, strict=True))
    parts = [
        (weight * _std(x)) ** 2 / max(len(x), 1) for weight, x in zip(weights, found, strict=True)
    ]
    if not sum(parts) > 0:  # also where one of them is NaN
        return Difference(value, NAN, NAN, NAN, NAN, NAN, NAN)
    stderr = math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, found, strict=True))
    half = float(special.stdtrit(df, (1 + level) / 2)) * stderr
    p = 2 * float(special.stdtr(df, -abs(value) / stderr))
    std = math.sqrt(
        sum((weight * _std(x)) ** 2 for weight, x in zip(weights, found, strict=True)) / 2
    )
    return Difference(value, std, stderr, df, value - half, value + half, p)


def equivalence(a: npt.ArrayLike, b: npt.ArrayLike, margin: float) -> float:
    """p-value of "the means differ by `margin` or more": two one-sided Welch tests (TOST), NaN
    where none can be made.

    D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987). Raises ValueError for a
    margin of 0 or less.
    """
    if not margin > 0:
        raise ValueError(f"a margin is a positive number of points, found {margin}")
    difference = welch(a, b)
    return max(difference.below(margin), difference.above(-margin))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values (n,), to be held against alpha as they are; a NaN (no test made) stays NaN
    and is not counted.

    The family-wise error stays at alpha however the tests depend on each other: S. Holm,
    Scandinavian Journal of Statistics 6 (1979).
    """
    p = _vector(p_values)
    adjusted = np.full(len(p), NAN)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """P(a < b) over all pairs of a seed of `a` and one of `b`, ties counting half; NaN if a side is
    empty.

    With errors, the probability that a fresh run of `a` beats one of `b` (Agarwal et al. 2021,
    arXiv:2108.13264).
    """
    x, y = _vector(a), _vector(b)
    pairs = (np.sign(y[None, :] - x[:, None]) + 1) / 2
    return float(pairs.mean()) if pairs.size else NAN


def pooled_std(groups: Iterable[npt.ArrayLike]) -> float:
    """The standard deviation within groups of seeds, weighted by degrees of freedom; NaN if no
    group has two seeds.
    """
    arrays = [_vector(group) for group in groups]
    counted = [(len(x) - 1, _std(x) ** 2) for x in arrays if len(x) > 1]
    return (
        math.sqrt(sum(df * v for df, v in counted) / sum(df for df, _ in counted))
        if counted
        else NAN
    )


def std_interval(std: float, df: int, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the chi-squared interval of a standard deviation with `df` degrees of freedom;
    NaN for none.
    """
    if df < 1:
        return NAN, NAN
    low, high = (distributions.chi2.ppf(share, df) for share in ((1 + level) / 2, (1 - level) / 2))
    return std * math.sqrt(df / low), std * math.sqrt(df / high)


def power(difference: float, std: float, n: int, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t-test of n seeds a side sees a true `difference` when both sides
    scatter by `std`.

    Exact, from the noncentral t distribution with 2n - 2 degrees of freedom (J. Cohen, Statistical
    Power Analysis, 1988, Section 2.5); Welch's test comes close to it where the two spreads are
    equal. NaN for n < 2 or no spread.
    """
    if n < 2 or not std > 0:
        return NAN
    if difference == 0:
        return alpha
    df, shift = 2 * n - 2, difference / std * math.sqrt(n / 2)
    critical = float(special.stdtrit(df, 1 - alpha / 2))
    # Both tails at once: t squared is a noncentral F. SciPy's noncentral t turns NaN in its far
    # tail.
    return float(distributions.ncf.sf(critical**2, 1, df, shift**2))


def minimal_detectable(std: float, n: int, alpha: float = ALPHA, wanted: float = POWER) -> float:
    """The smallest true difference that n seeds a side see with the `wanted` power; NaN for n < 2
    or without spread.
    """
    if n < 2 or not std > 0:
        return NAN
    high = 1.0
    while power(high, 1.0, n, alpha) < wanted:
        high *= 2
    return std * float(
        optimize.brentq(lambda size: power(size, 1.0, n, alpha) - wanted, 0.0, high, xtol=1e-10)
    )


def seeds_needed(
    difference: float, std: float, alpha: float = ALPHA, wanted: float = POWER
) -> int | None:
    """The fewest seeds a side that see a true `difference` with the `wanted` power.

    None where no spread was seen, where the difference is 0, or where it would take more than
    MOST_SEEDS.
    """
    if not std > 0 or difference == 0:
        return None
    quantiles = float(special.ndtri(1 - alpha / 2) + special.ndtri(wanted))
    normal = (
        2 * (quantiles * std / difference) ** 2
    )  # the normal approximation: always a few seeds too hopeful
    if normal > MOST_SEEDS:
        return None
    n = max(2, math.floor(normal))
    while power(difference, std, n, alpha) < wanted:
        n += 1
    return n


def mcnemar(right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> Discordance:
    """Two networks on the same test images, (images,) flags each: the exact form of McNemar's test.

    Q. McNemar, Psychometrika 12 (1947). It compares two trained networks, not two variants: call it
    for each seed, and do not pool seeds, since the same images return. Raises ValueError for
    different shapes.
    """
    a, b = _flags(right_a, 1), _flags(right_b, 1)
    _same_images(a, b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(distributions.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Discordance(only_a, only_b, p)


def image_bootstrap(
    right_a: npt.NDArray[np.bool_],
    right_b: npt.NDArray[np.bool_],
    draws: int = 10_000,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Error of a minus error of b in points, averaged over seeds, and the ends of its bootstrap
    percentile interval.

    right_a, right_b: (seeds, images) flags over the same images; the numbers of seeds may differ.
    Images are drawn with replacement, the same ones for both sides (B. Efron, Annals of Statistics
    7, 1979). The interval holds these trained networks fixed: it says what other test images would
    change, not what other seeds would. Raises ValueError for different images or none.
    """
    a, b = _flags(right_a, 2), _flags(right_b, 2)
    _same_images(a, b)
    per_image = 100 * (b.mean(axis=0) - a.mean(axis=0))
    levels, counts = np.unique(per_image, return_counts=True)
    # Drawing images one by one and counting how often each level came up is this multinomial draw.
    drawn = np.random.default_rng(seed).multinomial(
        len(per_image), counts / len(per_image), size=draws
    )
    low, high = np.quantile(drawn @ levels / len(per_image), [(1 - level) / 2, (1 + level) / 2])
    return float(per_image.mean()), float(low), float(high)


def _vector(values: npt.ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"one value a seed is wanted, found an array of shape {x.shape}")
    return x


def _mean(x: Floats) -> float:
    return float(x.mean()) if len(x) else NAN


def _std(x: Floats) -> float:
    """Sample standard deviation; NaN below two values, and exactly 0 for equal ones, whatever
    rounding says.
    """
    if len(x) < 2:
        return NAN
    return 0.0 if x.min() == x.max() else float(x.std(ddof=1))


def _flags(right: npt.NDArray[np.bool_], ndim: int) -> npt.NDArray[np.bool_]:
    flags = np.asarray(right, dtype=bool)
    if flags.ndim != ndim or not flags.size:
        raise ValueError(
            f"flags of {ndim} dimension(s), not empty, are wanted, found shape {flags.shape}"
        )
    return flags


def _same_images(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> None:
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"the two sides were judged on {a.shape[-1]} and {b.shape[-1]} images")
