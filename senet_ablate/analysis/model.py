"""One statistical model of a recipe's errors: row fixed, seed as a block, spread shared.

The error of row v with seed s is mean_v + block_s + noise. The seed sets initial weights and the
order of the images, so runs that share it are alike; blocks are random (variance by the method of
moments, means by generalised least squares: C. E. McCulloch & S. R. Searle, "Generalized, Linear,
and Mixed Models", chapter 6). Rows that train for another number of epochs or at another rate have
a model of their own. A row whose own spread exceeds that of the others (F test, one-sided, 25%)
does not share theirs: its part of a contrast has its own variance, as in Welch's test, and degrees
of freedom by Satterthwaite; of those that share it, one whose own variance is larger counts with
its own. That is for tests; intervals, which would cover too much, take the shared spread up to 10%.
A row with failed runs is compared by ranks over all its seeds. Of rows that are equal
bit for bit, one counts.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special, stats

from senet_ablate.analysis.stats import NAN, Estimate, Floats, estimate, variance

OWN_SPREAD_ALPHA, SHOWN_ALPHA, OUTLIER_ALPHA = 0.25, 0.1, 0.05


@dataclass(frozen=True)
class Errors:
    """One row: error in % by seed, and which of the seeds failed. schedule: rows with equal ones
    share a model.
    """

    by_seed: Mapping[int, float]
    failed: frozenset[int] = frozenset()
    schedule: Hashable = None

    @property
    def values(self) -> list[float]:
        return [*self.by_seed.values()]

    @property
    def sound(self) -> list[float]:
        """The errors of runs that did not fail."""
        return [error for seed, error in self.by_seed.items() if seed not in self.failed]

    @property
    def worst_failed(self) -> list[float]:
        """All, with infinity for failed runs: the worst, and all alike."""
        return self.sound + [math.inf] * len(self.failed)

    @property
    def estimate(self) -> Estimate:
        """The mean over all seeds, with an interval unless some failed."""
        got = estimate(self.values)
        return Estimate(got.value) if self.failed else got


@dataclass(frozen=True, eq=False)
class Fit:
    """Means of rows, their covariance, the degrees of freedom of its scale, and the variance of an
    error; excess: what a row's own adds to the variance of its mean.
    """

    rows: Sequence[str]
    means: Floats
    covariance: Floats
    df: float
    variance: float
    excess: Mapping[str, float] = field(default_factory=dict)


class ErrorModel:
    """The errors of all rows of a page.

    shared: rows share one spread where the F test does not object; else each has its own. block:
    the seed is a block (needs `shared`). equal: groups of rows that are equal bit for bit; one of
    each counts in a shared spread.
    """

    def __init__(
        self,
        rows: Mapping[str, Errors],
        shared: bool = True,
        block: bool = True,
        equal: Sequence[Sequence[str]] = (),
    ) -> None:
        self.rows, self._shared, self._block = rows, shared, block
        self._equal = equal
        self._fits: dict[frozenset[str], tuple[dict[str, Fit], dict[str, Fit]]] = {}
        how = f"spread shared{', seed as block' * block}"
        self.test = f"the page's model of errors ({how})" if shared else "Welch's test"

    def contrast(self, weights: Mapping[str, float]) -> Estimate:
        """The weighted sum of the rows' mean errors, in points; NaN where no spread was seen.

        Of equal rows the one counts that is named, or else the first that has not failed; one that
        is named beside it adds its weight. What these leave nothing of is 0 without any error.
        """
        weights, counted = dict(weights), set(self.rows)
        for group in self._equal:
            named = [row for row in group if row in weights]
            sound = [row for row in group if not self.rows[row].failed]
            first = next(iter([*named, *sound, *group]))
            counted -= {row for row in group if row != first}
            for other in named[1:]:
                weights[first] += weights.pop(other)
        if not any(weights.values()):
            return Estimate(0.0, 0.0, low=0.0, high=0.0)
        tested, shown = self._fitted(frozenset(counted))
        if any(name not in tested for name in weights):  # no runs, or failed ones
            means = {name: self.rows[name].estimate.value for name in weights}
            return Estimate(sum(weight * means[name] for name, weight in weights.items()))
        found, interval = _sum(weights, tested), _sum(weights, shown)
        if math.isnan(found.stderr):
            return found
        interval = Estimate.of(found.value, interval.stderr, interval.df)
        most = 100 * sum(weight for weight in weights.values() if weight > 0)  # errors are in %
        return replace(found, low=max(interval.low, -most), high=min(interval.high, most))

    def _fitted(self, counted: frozenset[str]) -> tuple[dict[str, Fit], dict[str, Fit]]:
        """The fit of each row that counts and has not failed: for tests, and for intervals."""
        if counted in self._fits:
            return self._fits[counted]
        sound = {
            name: row
            for name, row in self.rows.items()
            if name in counted and row.by_seed and not row.failed
        }
        tested = {name: _alone(name, row) for name, row in sound.items()}
        shown = dict(tested)
        for schedule in {row.schedule for row in sound.values()} if self._shared else ():
            alike = {name: row for name, row in sound.items() if row.schedule == schedule}
            p_values = _sharing({name: tested[name] for name in alike})
            if len(p_values) < 2:
                continue
            fit = _two_way({name: alike[name] for name in p_values}, self._block)
            shown |= {name: fit for name, p in p_values.items() if p >= SHOWN_ALPHA}
            excess = {
                name: max(0.0, tested[name].variance - fit.variance) / len(row.by_seed)
                for name, row in alike.items()
                if p_values.get(name, 0.0) >= OWN_SPREAD_ALPHA
            }
            tested |= dict.fromkeys(excess, replace(fit, excess=excess))
        self._fits[counted] = tested, shown
        return tested, shown

    def difference(self, one: str, other: str) -> Estimate:
        """Between two rows; where runs failed, its p-value is by ranks, which must speak for the
        side that the means speak for.
        """
        found = self.contrast({one: 1, other: -1})
        if self.rows[one].failed or self.rows[other].failed:
            p = min(1.0, 2 * self.ranks(one, other)[found.value > 0])
            return replace(found, p=p)
        return found

    def ranks(self, one: str, other: str) -> tuple[float, float]:
        """One-sided p-values that `one` errs less, and more, than `other`, by the exact
        permutation distribution of the rank sum over all seeds; failed runs are the worst, and tie.
        """
        mine = len(self.rows[one].by_seed)
        errors = [*self.rows[one].worst_failed, *self.rows[other].worst_failed]
        ranks = np.rint(2 * stats.rankdata(errors)).astype(int)
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
        rows = self.rows[one], self.rows[other]
        counts = np.array([[len(row.failed), len(row.by_seed) - len(row.failed)] for row in rows])
        return min(float(stats.fisher_exact(counts, side).pvalue) for side in ("less", "greater"))


def _spread_p_values(rows: Mapping[str, Fit]) -> dict[str, float]:
    """p-value of each row's spread being no larger than that of the others (one-sided F test)."""
    known = {name: row for name, row in rows.items() if row.df > 0}
    df = sum(row.df for row in known.values())
    squares = sum(row.df * row.variance for row in known.values())
    found = {}
    for name, row in known.items():
        others = df - row.df
        pooled = (squares - row.df * row.variance) / max(others, 1)
        p = special.fdtrc(row.df, others, row.variance / pooled) if pooled > 0 else 1.0
        found[name] = float(p)
    return found


def _sum(weights: Mapping[str, float], fits: Mapping[str, Fit]) -> Estimate:
    """A weighted sum of means; without a standard error where no spread was seen."""
    value, parts = 0.0, []
    for fit in dict.fromkeys(fits[name] for name in weights):
        own = np.array([weights.get(row, 0.0) * (fits[row] is fit) for row in fit.rows])
        more = np.array([fit.excess.get(row, 0.0) for row in fit.rows])
        value += float(own @ fit.means)
        parts.append((float(own @ fit.covariance @ own + own**2 @ more), fit.df))
    total = sum(part for part, _ in parts)
    if not total > 0:  # also where it is NaN
        return Estimate(value)
    df = total**2 / sum(part**2 / df for part, df in parts if part)
    return Estimate.of(value, math.sqrt(total), df)


def _sharing(rows: Mapping[str, Fit]) -> dict[str, float]:
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
    values, own = row.values, variance(row.values)
    n = len(values)
    return Fit([name], np.array([np.mean(values)]), np.array([[own / n]]), n - 1, own)


def _two_way(rows: Mapping[str, Errors], block: bool) -> Fit:
    cells = [(name, seed, e) for name, row in rows.items() for seed, e in row.by_seed.items()]
    of_row, of_seed, y = map(np.array, zip(*cells, strict=True))
    names = np.unique(of_row)
    x, z = ((of[:, None] == np.unique(of)).astype(float) for of in (of_row, of_seed))
    one_way, df = _left(y, x)
    noise, of_seeds = one_way / df, 0.0
    two_way, df_of_both = _left(y, np.hstack([x, z])) if block else (0.0, 0)
    if df_of_both:
        noise = two_way / df_of_both
        of_seeds = max(0.0, (one_way - df * noise) / _left(z, x)[0])
        df = df_of_both
    if not noise > 1e-18:  # equal errors: rounding is no spread
        means = np.array([np.mean(rows[name].values) for name in names])
        return Fit(list(names), means, np.full((len(names), len(names)), NAN), df, NAN)
    weight = np.linalg.inv(noise * np.eye(len(y)) + of_seeds * z @ z.T)
    covariance = np.linalg.inv(x.T @ weight @ x)
    return Fit(list(names), covariance @ x.T @ weight @ y, covariance, df, noise + of_seeds)


def _left(y: Floats, x: Floats) -> tuple[float, int]:
    """The sum of squares that is left of `y` when it is regressed on the columns of `x`, and its
    degrees of freedom.
    """
    coefficients, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    return float(((y - x @ coefficients) ** 2).sum()), len(y) - int(rank)
