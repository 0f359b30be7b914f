"""Claims on test errors, judged against the noise between seeds.

`quantity`: top1, top5, or throughout (the top-1 error averaged over all of training). Margins are
the analysis plan's. A row with failed runs is compared by ranks, which can say "better" and
"different", not "alike".
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from senet_ablate.analysis.evidence import Comparison, Evidence, Finding, not_tested
from senet_ablate.spec.claim import Ledger, RowCheck, RowPairs, TwoRows
from senet_ablate.spec.schema import Flag, Number, Text

if TYPE_CHECKING:
    from senet_ablate.analysis.model import Errors
    from senet_ablate.analysis.stats import Estimate

Weights = dict[str, float]
Label = Callable[[str], str]
Side = Literal["below_zero", "below_margin", "within_margin", "apart"]
NO_VALUE = {
    "top1": "no image was tested",
    "top5": "a data set of 5 classes or fewer has no top-5 error",
    "throughout": "the error was read at the last epoch alone",
}


class ErrorCheck(RowCheck):
    """Comparisons of mean errors. needs, without: rows that the recipe's network must be able to
    host, or not, for the check to make sense. asks: where a difference must lie.
    """

    ledger: ClassVar[Ledger] = "error"
    asks: ClassVar[Side] = "below_zero"
    quantity: Literal["top1", "top5", "throughout"] = "top1"
    needs: tuple[Text, ...] = ()
    without: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _rows_are_distinct(self) -> Self:
        if len(set(self.named)) < len(self.named):
            raise ValueError(f"a check of kind {self.kind!r} names a row twice")
        return self

    @property
    def by_margin(self) -> bool:
        """Whether the check is about a margin; where it is not, equal errors speak for neither
        side, so that the hypotheses on both can be true at once.
        """
        return self.asks in ("below_margin", "within_margin")

    @property
    def mentioned(self) -> tuple[str, ...]:
        return (*self.named, *self.needs, *self.without)

    def contrasts(self) -> Sequence[Weights]:
        """The weighted sums of mean errors that the check is about."""
        raise NotImplementedError

    def written(self, weights: Weights, label: Label = str) -> str:
        """How one of them is written; label: what a row is called there."""
        return " ".join(f"{weight:+g} × {label(name)}" for name, weight in weights.items())

    def inapplicable(self, evidence: Evidence) -> Finding | None:
        """Why the check makes no sense for a network, whatever its errors are."""
        for name in self.without:
            if name not in evidence.cannot_host:
                return not_tested(f"stated for a network that has no place for {name}", False)
        for name in (*self.needs, *self.named):
            if name in evidence.cannot_host:
                return not_tested(f"{name}: {evidence.cannot_host[name]}", False)
        return None

    def examine(self, evidence: Evidence) -> Finding:
        """Every comparison by the model of errors. All must hold (intersection-union test, R. L.
        Berger, Technometrics 24, 1982); one speaks against it (Bonferroni over them). Of rows that
        are claimed to lie apart one pair is enough, and all speak against it.
        """
        if finding := self.inapplicable(evidence):
            return finding
        for name in self.named:
            if not evidence.rows.get(name):
                return not_tested(f"{name} has no records yet")
        model, margin = evidence.models[self.quantity], evidence.margins[self.quantity]
        rows = {name: model.rows[evidence.ids[name]] for name in self.named}
        for name, row in rows.items():
            if any(map(math.isnan, row.sound)):
                return not_tested(NO_VALUE[self.quantity], False)
            if len(row.by_seed) < 2:
                return not_tested(f"{name} has fewer than 2 seeds")
        failed, apart = [name for name, row in rows.items() if row.failed], self.asks == "apart"
        have = f"{', '.join(failed)} has failed runs, and ranks"
        if failed and self.by_margin:
            return not_tested(f"{have} cannot tell whether rows are alike within a margin")
        if self.by_margin and math.isnan(margin):
            why = "the analysis plan expects no such error of plain, or plain has no sound run yet"
            return not_tested(f"no margin is known: {why}")
        found = []
        for weights in self.contrasts():
            sums: dict[str, float] = {}  # two rows may be one network under this recipe
            for which, weight in weights.items():
                sums[evidence.ids[which]] = sums.get(evidence.ids[which], 0.0) + weight
            name, alone, difference = self.written(weights), math.nan, model.contrast(sums)
            if not weights.keys() & {*failed}:
                sides = self._sides(difference, margin)
            elif len(weights) > 2:
                return not_tested(f"{have} compare two rows, no more: {name}")
            else:
                pair = [evidence.ids[row] for row in sorted(weights, key=lambda row: -weights[row])]
                less, more = model.ranks(*pair)
                sides = (min(1.0, 2 * min(less, more)), math.nan) if apart else (less, more)
                alone = model.failures_alone(*pair)
            label = self.written(weights, evidence.label)
            n = min(len(rows[row].by_seed) for row in weights)
            found.append(Comparison(name, label, weights, difference, n, *sides, alone))
        join_for, join_against = (_some, _every) if apart else (_every, _some)
        p_for, weakest = join_for(found, "p_for")
        p_against, opposed = join_against(found, "p_against")
        return Finding(
            self._summary({evidence.label(name): row for name, row in rows.items()}, margin),
            p_for=p_for,
            p_against=p_against,
            weakest=weakest,
            opposed=opposed,
            exclusive=apart or self.by_margin,
        )

    def _sides(self, d: "Estimate", margin: float) -> tuple[float, float]:
        """p-values for and against the check by one difference. Alike: two one-sided tests (D. J.
        Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987). Rows that are equal bit for
        bit are alike, and neither is better.
        """
        if d.stderr == 0:
            return (1.0, 0.0) if self.asks == "apart" else (0.0 if self.by_margin else 1.0, 1.0)
        inside = max(d.below(margin), d.above(-margin))
        if self.asks == "apart":
            return d.p, inside
        if self.asks == "within_margin":
            outside = 2 * min(d.above(margin), d.below(-margin))
            return inside, outside if math.isnan(outside) else min(1.0, outside)
        bound = margin if self.by_margin else 0.0
        return d.below(bound), d.above(bound)

    def _summary(self, rows: "dict[str, Errors]", margin: float) -> str:
        """The mean error of each row over all its seeds."""
        parts = []
        for name, row in rows.items():
            failed = (
                f" ({len(row.failed)} of {len(row.by_seed)} seeds failed)" if row.failed else ""
            )
            parts.append(f"{name} {row.estimate.value:.2f}{failed}")
        counts = {len(row.by_seed) for row in rows.values()}
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        quantity = {"top1": "top-1", "top5": "top-5", "throughout": "mean of all epochs' top-1"}
        alike = f"; alike means within {margin:.2f} points" if self.by_margin else ""
        return f"{quantity[self.quantity]} error in %, {seeds} seeds: {', '.join(parts)}{alike}"


class DifferenceCheck(ErrorCheck):
    """Differences of two rows each."""

    def written(self, weights: Weights, label: Label = str) -> str:
        return " − ".join(map(label, weights))


class Pairs(DifferenceCheck, RowPairs):
    """Each of `rows` against each of `than`; paired: against the one in its place."""

    paired: Flag = False

    def contrasts(self) -> Sequence[Weights]:
        pairs = zip(self.rows, self.than, strict=True) if self.paired else None
        return [{one: 1, other: -1} for one, other in pairs or product(self.rows, self.than)]


class Better(Pairs):
    """Each of `rows` has a lower error than each of `than`."""


class NoWorse(Pairs):
    """The error of each of `rows` is higher by less than the margin than that of each of `than`, or
    lower.
    """

    asks: ClassVar[Side] = "below_margin"


class Similar(DifferenceCheck):
    """Any two of `rows` differ by less than the margin."""

    asks: ClassVar[Side] = "within_margin"
    rows: TwoRows

    def contrasts(self) -> Sequence[Weights]:
        return [{one: 1, other: -1} for one, other in combinations(self.rows, 2)]


class Differ(Similar, RowPairs):
    """Two of `rows` differ; with `than`, two of the differences between `rows` and `than`, in
    pairs, do. Contradicted where all certainly lie within the margin and none is certainly a
    difference.
    """

    asks: ClassVar[Side] = "apart"
    rows: TwoRows
    than: tuple[Text, ...] = ()

    def contrasts(self) -> Sequence[Weights]:
        if not self.than:
            return super().contrasts()
        pairs = combinations(zip(self.rows, self.than, strict=True), 2)
        return [{a: 1, b: -1, c: -1, d: 1} for (a, b), (c, d) in pairs]

    def written(self, weights: Weights, label: Label = str) -> str:
        if not self.than:
            return super().written(weights, label)
        a, b, c, d = map(label, weights)
        return f"({a} − {b}) − ({c} − {d})"


class Contrast(ErrorCheck):
    """The sum of mean errors times `weights` lies on its `side`."""

    weights: dict[Text, Number]
    side: Literal["below_zero", "below_margin", "within_margin"]

    @field_validator("weights")
    @classmethod
    def _adds_up(cls, weights: Weights) -> Weights:
        if abs(sum(weights.values())) > 1e-9:
            raise ValueError("the weights of a contrast add up to 0")
        if not weights or not all(weights.values()):
            raise ValueError("a weight of 0 says nothing of its row")
        return weights

    def __hash__(self) -> int:
        return hash((self.kind, *self.weights.items(), self.side, self.quantity))

    @property
    def asks(self) -> Side:  # type: ignore[override]
        return self.side

    def contrasts(self) -> Sequence[Weights]:
        return [self.weights]


def _every(found: list[Comparison], side: str) -> tuple[float, Comparison]:
    """p-value of "not every comparison speaks so", NaN if one is missing, and the one that does
    least.
    """
    least = max(found, key=lambda one: _nan_last(getattr(one, side)))
    return getattr(least, side), least


def _some(found: list[Comparison], side: str) -> tuple[float, Comparison]:
    """p-value of "no comparison speaks so", by Bonferroni over those with one, and the one that
    does most.
    """
    most = min(found, key=lambda one: _nan_last(getattr(one, side)))
    p, known = getattr(most, side), sum(not math.isnan(getattr(one, side)) for one in found)
    return (min(1.0, known * p) if known else p), most


def _nan_last(p: float) -> tuple[bool, float]:
    return math.isnan(p), p
