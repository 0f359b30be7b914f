"""Claims on test errors, judged against the noise between seeds.

`quantity`: top1, top5, or throughout (the top-1 error averaged over all of training). Margins are
the analysis plan's. A row with failed runs is compared by ranks, which can say "better" and
"different", not "alike".
"""

import math
from collections.abc import Iterator
from itertools import combinations, product
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from senet_ablate.analysis.evidence import Comparison, Evidence, Finding, not_tested
from senet_ablate.spec.claim import Check, Ledger
from senet_ablate.spec.schema import Flag, Number, Text

if TYPE_CHECKING:
    from senet_ablate.analysis.model import ErrorModel
    from senet_ablate.analysis.stats import Difference

Rows = tuple[Text, ...]
Weights = dict[str, float]
NO_VALUE = {
    "top1": "no image was tested",
    "top5": "a data set of 5 classes or fewer has no top-5 error",
    "throughout": "the error was read at the last epoch alone",
}
BY_RANKS_NOT = "has failed runs, and ranks cannot tell whether rows are alike within a margin"
RANKS_ARE_OF_TWO = "has failed runs, and ranks compare two rows, no more"


class ErrorCheck(Check):
    """Comparisons of mean errors. needs, without: rows that the recipe's network must be able to
    host, or not, for the check to make sense.
    """

    ledger: ClassVar[Ledger] = "error"
    quantity: Literal["top1", "top5", "throughout"] = "top1"
    needs: Rows = ()
    without: Rows = ()

    @property
    def by_margin(self) -> bool:
        """Whether the check is about a margin; where it is not, equal errors speak for neither
        side, so that the hypotheses on both can be true at once.
        """
        return True

    @property
    def mentioned(self) -> tuple[str, ...]:
        return (*self.named, *self.needs, *self.without)

    def contrasts(self) -> Iterator[tuple[str, Weights]]:
        """The weighted sums of mean errors that the check is about, by how they are written."""
        raise NotImplementedError

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        """p-values for and against the check by one difference."""
        raise NotImplementedError

    def examine(self, evidence: Evidence) -> Finding:
        """Every comparison by the model of errors. All must hold (intersection-union test, R. L.
        Berger, Technometrics 24, 1982); one speaks against it (Bonferroni over them).
        """
        for name in self.without:
            if name not in evidence.cannot_host:
                return not_tested(f"stated for a network that has no place for {name}", False)
        for name in (*self.needs, *self.named):
            if name in evidence.cannot_host:
                return not_tested(f"{name}: {evidence.cannot_host[name]}", False)
        for name in self.named:
            if not evidence.rows.get(name):
                return not_tested(f"{name} has no records yet")
        ids = {name: evidence.row_id(name) for name in self.named}
        model, margin = evidence.models[self.quantity], evidence.margins[self.quantity]
        for name, row in ids.items():
            if any(map(math.isnan, model.rows[row].values)):
                return not_tested(NO_VALUE[self.quantity], False)
            if len(model.rows[row].values) < 2:
                return not_tested(f"{name} has fewer than 2 seeds")
        failed = [name for name, row in ids.items() if model.rows[row].failed]
        if failed and self.by_margin:
            return not_tested(f"{', '.join(failed)} {BY_RANKS_NOT}")
        for name, weights in self.contrasts():
            if len(weights) > 2 and set(failed) & set(weights):
                return not_tested(f"{', '.join(failed)} {RANKS_ARE_OF_TWO}: {name}")
        if self.by_margin and math.isnan(margin):
            return not_tested("no margin is known: the plain network has no sound run yet")
        comparisons = []
        for name, weights in self.contrasts():
            of_rows = {ids[row]: weight for row, weight in weights.items()}
            difference = model.contrast(of_rows)
            if model.failed(of_rows):
                one, other = sorted(of_rows, key=lambda row: -of_rows[row])
                sides = self.by_ranks(model, one, other)
                alone = model.failures_alone(one, other)
                comparisons.append(Comparison(name, difference, *sides, alone))
            else:
                comparisons.append(Comparison(name, difference, *self.sides(difference, margin)))
        return self.joined(self.summary(evidence, model, margin), comparisons)

    def by_ranks(self, model: "ErrorModel", one: str, other: str) -> tuple[float, float]:
        """As `sides`, where a row has failed runs: p-values that `one` errs less, and more."""
        return model.ranks(one, other)

    def joined(self, ours: str, comparisons: list[Comparison]) -> Finding:
        """The finding of comparisons that must all hold."""
        return Finding(
            ours,
            p_for=_largest([one.p_for for one in comparisons]),
            p_against=_bonferroni([one.p_against for one in comparisons]),
            weakest=max(comparisons, key=lambda one: _or_1(one.p_for)),
            opposed=min(comparisons, key=lambda one: _or_1(one.p_against)),
            exclusive=self.by_margin,
        )

    def summary(self, evidence: Evidence, model: "ErrorModel", margin: float) -> str:
        """The mean error of each row over all its seeds."""
        parts, counts = [], set()
        for name in self.named:
            row = model.rows[evidence.row_id(name)]
            counts.add(len(row.values))
            failed = f" ({len(row.failed)} of {len(row.values)} seeds failed)" if row.failed else ""
            parts.append(f"{name} {sum(row.values) / len(row.values):.2f}{failed}")
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        quantity = {"throughout": "mean of all epochs' top-1"}.get(
            self.quantity, self.quantity.replace("top", "top-")
        )
        alike = f"; alike means within {margin:.2f} points" if self.by_margin else ""
        return f"{quantity} error in %, {seeds} seeds: {', '.join(parts)}{alike}"


class Pairs(ErrorCheck):
    """Each of `rows` against each of `than`; paired: against the one in its place."""

    rows: Rows
    than: Rows
    paired: Flag = False

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.rows, *self.than)

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        _distinct(self, self.named)
        if not self.rows or not self.than:
            raise ValueError(f"a check of kind {self.kind!r} needs rows and than")
        if self.paired and len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        return self

    def contrasts(self) -> Iterator[tuple[str, Weights]]:
        found = (
            zip(self.rows, self.than, strict=True) if self.paired else product(self.rows, self.than)
        )
        return ((f"{one} − {other}", {one: 1, other: -1}) for one, other in found)


class Better(Pairs):
    """Each of `rows` has a lower error than each of `than`."""

    @property
    def by_margin(self) -> bool:
        return False

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        return difference.below(0), difference.above(0)


class NoWorse(Pairs):
    """The error of each of `rows` is higher by less than the margin than that of each of `than`, or
    lower.
    """

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        return difference.below(margin), difference.above(margin)


class Similar(ErrorCheck):
    """Any two of `rows` differ by less than the margin: two one-sided tests (D. J. Schuirmann, J.
    Pharmacokinetics and Biopharmaceutics 15, 1987).
    """

    rows: Rows

    @property
    def named(self) -> tuple[str, ...]:
        return self.rows

    @model_validator(mode="after")
    def _two_rows(self) -> Self:
        _distinct(self, self.rows, 2)
        return self

    def contrasts(self) -> Iterator[tuple[str, Weights]]:
        return (
            (f"{one} − {other}", {one: 1, other: -1}) for one, other in combinations(self.rows, 2)
        )

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        return _alike(difference, margin), _beyond(difference, margin)


class Differ(ErrorCheck):
    """Two of `rows` differ; with `than`, two of the differences between `rows` and `than`, in
    pairs, do. Contradicted where all certainly lie within the margin.
    """

    rows: Rows
    than: Rows = ()

    @property
    def by_margin(self) -> bool:
        return False

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.rows, *self.than)

    @model_validator(mode="after")
    def _two_rows(self) -> Self:
        _distinct(self, self.rows, 2)
        _distinct(self, self.named)
        if self.than and len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        return self

    def contrasts(self) -> Iterator[tuple[str, Weights]]:
        if self.than:
            for (a, b), (c, d) in combinations(zip(self.rows, self.than, strict=True), 2):
                yield f"({a} − {b}) − ({c} − {d})", {a: 1, b: -1, c: -1, d: 1}
        else:
            for one, other in combinations(self.rows, 2):
                yield f"{one} − {other}", {one: 1, other: -1}

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        return difference.p, _alike(difference, margin)

    def by_ranks(self, model: "ErrorModel", one: str, other: str) -> tuple[float, float]:
        return min(1.0, 2 * min(model.ranks(one, other))), math.nan

    def joined(self, ours: str, comparisons: list[Comparison]) -> Finding:
        """One is enough for it, all speak against it."""
        return Finding(
            ours,
            p_for=_bonferroni([one.p_for for one in comparisons]),
            p_against=_largest([one.p_against for one in comparisons]),
            weakest=min(comparisons, key=lambda one: _or_1(one.p_for)),
            opposed=max(comparisons, key=lambda one: _or_1(one.p_against)),
            exclusive=True,
        )


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
    def by_margin(self) -> bool:
        return self.side != "below_zero"

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def contrasts(self) -> Iterator[tuple[str, Weights]]:
        text = " ".join(f"{weight:+g} {name}" for name, weight in self.weights.items())
        return iter([(text, self.weights)])

    def sides(self, difference: "Difference", margin: float) -> tuple[float, float]:
        if self.side == "within_margin":
            return _alike(difference, margin), _beyond(difference, margin)
        bound = margin if self.side == "below_margin" else 0.0
        return difference.below(bound), difference.above(bound)


def _alike(difference: "Difference", margin: float) -> float:
    return max(difference.below(margin), difference.above(-margin))


def _beyond(difference: "Difference", margin: float) -> float:
    p = 2 * min(difference.above(margin), difference.below(-margin))
    return p if math.isnan(p) else min(1.0, p)


def _distinct(check: Check, names: tuple[str, ...], least: int = 0) -> None:
    if len(names) < least:
        raise ValueError(f"a check of kind {check.kind!r} compares two rows or more")
    if len(set(names)) < len(names):
        raise ValueError(f"a check of kind {check.kind!r} names a row twice")


def _or_1(p: float) -> float:
    return 1.0 if math.isnan(p) else p


def _largest(p_values: list[float]) -> float:
    """p-value of "not all of them hold"; NaN if one is missing."""
    return math.nan if any(map(math.isnan, p_values)) else max(p_values)


def _bonferroni(p_values: list[float]) -> float:
    """p-value of "none of them holds"."""
    known = [p for p in p_values if not math.isnan(p)]
    return min(1.0, len(known) * min(known)) if known else math.nan
