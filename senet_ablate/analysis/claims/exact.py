"""Claims that are exact: costs are arithmetic, equal bits are equal."""

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from senet_ablate.analysis.evidence import ORDER, Evidence, Finding, Outcome, not_tested
from senet_ablate.analysis.exclusions import outcome, shared_seeds
from senet_ablate.records.cost import PAPERS_NETWORK
from senet_ablate.spec.claim import Check, Ledger, RowCheck, RowPairs, TwoRows
from senet_ablate.spec.schema import Number, Text


class Identical(RowCheck):
    """`rows` are equal bit for bit in every seed that they share; that is not tested, but seen."""

    ledger: ClassVar[Ledger] = "arithmetic"
    rows: TwoRows

    def examine(self, evidence: Evidence) -> Finding:
        first, *others = (evidence.rows.get(name, ()) for name in self.rows)
        shared = [pair for other in others for pair in shared_seeds(first, other)]
        pairs = [(a, b) for a, b in shared if a.diverged != 0 or b.diverged != 0]
        if not pairs:
            return not_tested(f"{', '.join(map(evidence.label, self.rows))} share no seed yet")
        same = sum(outcome(a) == outcome(b) for a, b in pairs)
        sentence = f"{same} of {len(pairs)} pairs of runs with the same seed are equal bit for bit"
        return Finding(sentence, "supported" if same == len(pairs) else "contradicted")


class Bounded(Check):
    """Something lies in [`low`, `high`], which may be open on one side."""

    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError(f"a check of kind {self.kind!r} needs low or high")
        return self

    def of_range(self, low: float, high: float) -> Outcome:
        """The outcome where it lies somewhere from `low` to `high`; NaN says nothing."""
        least = -math.inf if self.low is None else self.low
        most = math.inf if self.high is None else self.high
        if least <= low and high <= most:
            return "supported"
        return "contradicted" if low > most or high < least else "unresolved"

    @property
    def wanted(self) -> str:
        if self.low is None:
            return f"(wanted: at most {self.high:g})"
        if self.high is None:
            return f"(wanted: at least {self.low:g})"
        return f"(wanted: {self.low:g} to {self.high:g})"


class Ratio(Bounded, RowPairs):
    """Each of `rows` over the one of `than` in its place lies in [`low`, `high`].

    network: `paper` is stated for ResNet-50, or the row's own network, at 224 pixels and 1,000
    classes, and counted there, whatever the recipe trains.
    """

    ledger: ClassVar[Ledger] = "arithmetic"
    quantity: Literal["params", "macs"]
    network: Literal["any", "paper"] = "any"

    def examine(self, evidence: Evidence) -> Finding:
        for name in self.named if self.network == "any" else ():
            if name in evidence.cannot_host:
                return not_tested(f"{name}: {evidence.cannot_host[name]}", False)
        count = {}
        for name in self.named:
            if self.network == "paper":
                variant = evidence.experiment.variants[name]
                counted: Any = evidence.costs.get((variant.backbone or PAPERS_NETWORK, variant.se))
                missing = "its network's cost was not counted yet (python -m senet_ablate cost)"
            else:  # the cost of a network does not depend on its seed
                counted = next(iter(evidence.rows.get(name, ())), None)
                missing = f"{name} has no records yet"
            if counted is None:
                return not_tested(missing)
            count[name] = getattr(counted, self.quantity)
        what = "parameters" if self.quantity == "params" else "multiply-adds"
        own = any(evidence.experiment.variants[name].backbone for name in self.named)
        at = " at 224 pixels and 1,000 classes" if own else " in ResNet-50"
        where = at if self.network == "paper" else ""
        sentences, outcomes = [], list[Outcome]()
        for one, other in zip(self.rows, self.than, strict=True):
            ratio = count[one] / count[other]
            outcomes.append(self.of_range(ratio, ratio))
            both = f"{evidence.label(one)} / {evidence.label(other)}{where}"
            values = f"{count[one]:,} / {count[other]:,} = {ratio:.4g}"
            sentences.append(f"{what} of {both}: {values}")
        return Finding(f"{'; '.join(sentences)} {self.wanted}", min(outcomes, key=ORDER.index))


class Untestable(Check):
    """The paper gives nothing that could be tested here; `statement` says why."""

    statement: Text

    def examine(self, evidence: Evidence) -> Finding:
        return not_tested(self.statement)
