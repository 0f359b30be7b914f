"""One statistical model of a recipe's errors: row fixed, seed as a block, spread shared.

The error of row v with seed s is mean_v + block_s + noise. The seed sets initial weights and the
order of the images, so runs that share it are alike; blocks are random (variance by the method of
moments, means by generalised least squares: C. E. McCulloch & S. R. Searle, "Generalized, Linear,
and Mixed Models", chapter 6). Rows that train for another number of epochs or at another rate have
a model of their own. A row whose own spread exceeds that of the others (F test, one-sided, 25%)
does not share theirs: its part of a contrast has its own variance, as in Welch's test, and degrees
of freedom by Satterthwaite; of those that share it, one whose own variance is larger counts with
its own. That is for tests; intervals, which would cover too much, take the shared spread up to 10%.
A row with failed runs is compared by ranks over all its seeds.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from senet_ablate.analysis.stats import NAN, Difference

OWN_SPREAD_ALPHA, SHOWN_ALPHA, OUTLIER_ALPHA = 0.25, 0.1, 0.05


@dataclass(frozen=True)
class Errors:
    """One row: error in % by seed, and which of the seeds failed. schedule: rows with equal ones
    share a model.
    """

    by_seed: Mapping[int, float]
    failed: frozenset[int] = frozenset()
    schedule: str = ""

    @property
    def values(self) -> list[float]:
        """The errors by seed."""
        return [self.by_seed[seed] for seed in sorted(self.by_seed)]


@dataclass(frozen=True)
class Fit:
    """Means of rows, their covariance, and the degrees of freedom of its scale."""

    means: Mapping[str, float]
    covariance: Mapping[tuple[str, str], float]
    df: float
    variance: float = NAN


class ErrorModel:
    """The errors of all rows of a page.

    shared: rows share one spread where the F test does not object; else each has its own. block:
    the seed is a block (needs `shared`).
    """

    def __init__(self, rows: Mapping[str, Errors], shared: bool = True, block: bool = True) -> None:
        self.rows = rows
        how = "spread shared, seed as block" if block else "spread shared"
        self.test = f"the page's model of errors ({how})" if shared else "Welch's test"
        self._fits: dict[str, Fit] = {}  # for tests
        self._shown: dict[str, Fit] = {}  # for intervals
        self._excess: dict[str, float] = {}
        sound = {name: row for name, row in rows.items() if row.by_seed and not row.failed}
        for schedule in {row.schedule for row in sound.values()}:
            alike = {name: row for name, row in sound.items() if row.schedule == schedule}
            p_values = _sharing(alike) if shared else {}
            alone = {name: _alone(name, row) for name, row in alike.items()}
            self._fits, self._shown = self._fits | alone, self._shown | alone
            if len(p_values) < 2:
                continue
            fit = _two_way({name: alike[name] for name in p_values}, block)
            for name, p in p_values.items():
                if p >= SHOWN_ALPHA:
                    self._shown[name] = fit
                if p >= OWN_SPREAD_ALPHA:
                    self._fits[name], values = fit, alike[name].values
                    more = _variance(values) - fit.variance
                    self._excess[name] = max(0.0, more) / len(values)

    def contrast(self, weights: Mapping[str, float]) -> Difference:
        """The weighted sum of the rows' mean errors, in points; NaN where no spread was seen."""
        if any(name not in self._fits for name in weights):  # no runs, or failed ones
            means = [
                weight * float(np.mean(self.rows[name].values or [NAN]))
                for name, weight in weights.items()
            ]
            return Difference(sum(means), NAN, NAN, NAN, NAN, NAN)
        value = sum(weight * self._fits[name].means[name] for name, weight in weights.items())
        variance, df = _of_sum(weights, self._fits, self._excess)
        if not variance > 0:  # also where it is NaN
            return Difference(value, NAN, NAN, NAN, NAN, NAN)
        tested = Difference.of(value, math.sqrt(variance), df)
        variance, df = _of_sum(weights, self._shown, {})
        shown = Difference.of(value, math.sqrt(variance), df)
        return replace(tested, low=shown.low, high=shown.high)

    def failed(self, names: Iterable[str]) -> list[str]:
        """Those of the rows that have failed runs."""
        return [name for name in names if self.rows[name].failed]

    def ranks(self, one: str, other: str) -> tuple[float, float]:
        """One-sided p-values that `one` errs less, and more, than `other`, by the exact
        permutation distribution of the rank sum over all seeds; failed runs are the worst, and tie.
        """
        sides = [
            [math.inf if seed in row.failed else error for seed, error in row.by_seed.items()]
            for row in (self.rows[one], self.rows[other])
        ]
        ranks = np.rint(2 * stats.rankdata(np.concatenate(sides))).astype(int)
        mine = len(sides[0])
        ways = np.zeros((mine + 1, int(ranks.sum()) + 1))  # to choose so many ranks of such a sum
        ways[0, 0] = 1
        for rank in ranks:
            ways[1:, rank:] += ways[:-1, :-rank]
        shares, seen = ways[mine] / ways[mine].sum(), int(ranks[:mine].sum())
        return float(shares[: seen + 1].sum()), float(shares[seen:].sum())

    def failures_alone(self, one: str, other: str) -> float:
        """One-sided p-value of one row's runs failing more often than the other's (Fisher's exact
        test): what ranks are left with where the sound runs err alike.
        """
        counts = np.array(
            [
                [len(row.failed), len(row.by_seed) - len(row.failed)]
                for row in (self.rows[one], self.rows[other])
            ]
        )
        return min(float(stats.fisher_exact(counts, side).pvalue) for side in ("less", "greater"))


def _variance(values: Sequence[float]) -> float:
    """NaN below two values, and exactly 0 for equal ones, whatever rounding says."""
    if len(values) < 2:
        return NAN
    return 0.0 if min(values) == max(values) else float(np.var(values, ddof=1))


def _spread_p_values(rows: Mapping[str, Errors]) -> dict[str, float]:
    """p-value of each row's spread being no larger than that of the others (one-sided F test)."""
    found = {
        name: (len(row.values) - 1, _variance(row.values))
        for name, row in rows.items()
        if len(row.values) > 1
    }
    p_values = {}
    for name, (df, variance) in found.items():
        others = [pair for other, pair in found.items() if other != name]
        df_others = sum(df for df, _ in others)
        pooled = sum(df * variance for df, variance in others) / df_others if df_others else 0.0
        p_values[name] = float(special.fdtrc(df, df_others, variance / pooled)) if pooled else 1.0
    return p_values


def _of_sum(
    weights: Mapping[str, float], fits: Mapping[str, Fit], excess: Mapping[str, float]
) -> tuple[float, float]:
    """Variance and degrees of freedom of a weighted sum of means; excess: what a row adds."""
    parts = []
    for fit in {id(fits[name]): fits[name] for name in weights}.values():
        own = {name: weight for name, weight in weights.items() if fits[name] is fit}
        variance = sum(
            own[one] * own[other] * fit.covariance[one, other]
            for one, other in itertools.product(own, own)
        )
        variance += sum(weight**2 * excess.get(name, 0) for name, weight in own.items())
        parts.append((variance, fit.df))
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        return NAN, NAN
    return variance, variance**2 / sum(part**2 / df for part, df in parts if part)


def _sharing(rows: Mapping[str, Errors]) -> dict[str, float]:
    """The rows that the shared spread is taken from, with the p-value of each one's own.

    Out of the first are outliers, one after another (5% over all rows), since one of them hides the
    next; a row of which the others differ at 25% keeps its own spread. Leaving all of these out of
    the first, too, would make what is left too small: any false verdict in 10% of pages in place of
    5, at 3 seeds.
    """
    kept = dict(rows)
    while p_values := _spread_p_values(kept):
        worst = min(p_values, key=lambda name: p_values[name])
        if p_values[worst] >= OUTLIER_ALPHA / len(p_values):
            break
        del kept[worst]
    return p_values


def _alone(name: str, row: Errors) -> Fit:
    values = row.values
    variance = _variance(values) / len(values)
    return Fit({name: float(np.mean(values))}, {(name, name): variance}, len(values) - 1)


def _two_way(rows: Mapping[str, Errors], block: bool) -> Fit:
    names = list(rows)
    cells = [(name, seed, error) for name in names for seed, error in rows[name].by_seed.items()]
    seeds = sorted({seed for _, seed, _ in cells})
    y = np.array([error for _, _, error in cells])
    x = np.array([[float(name == row) for row in names] for name, _, _ in cells])
    z = np.array([[float(seed == one) for one in seeds] for _, seed, _ in cells])
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    one_way, df = float(residuals @ residuals), len(y) - len(names)
    noise, of_seeds = one_way / df, 0.0
    if block:
        both = np.hstack([x, z])
        coefficients, _, rank, _ = np.linalg.lstsq(both, y, rcond=None)
        rest = y - both @ coefficients
        if len(y) > rank:
            df = len(y) - int(rank)
            noise = float(rest @ rest) / df
            within_rows = z - x @ np.linalg.lstsq(x, z, rcond=None)[0]
            scale = float((within_rows**2).sum())
            of_seeds = max(0.0, (one_way - (len(y) - len(names)) * noise) / scale)
    if not noise > 1e-18:  # equal errors: rounding is no spread
        means = {name: float(np.mean(rows[name].values)) for name in names}
        return Fit(means, dict.fromkeys(itertools.product(names, names), NAN), df)
    weight = np.linalg.inv(noise * np.eye(len(y)) + of_seeds * z @ z.T)
    covariance = np.linalg.inv(x.T @ weight @ x)
    means = covariance @ x.T @ weight @ y
    return Fit(
        dict(zip(names, map(float, means), strict=True)),
        {
            (names[i], names[j]): float(covariance[i, j])
            for i, j in itertools.product(range(len(names)), repeat=2)
        },
        df,
        noise + of_seeds,
    )
