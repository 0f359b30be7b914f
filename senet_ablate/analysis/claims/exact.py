"""Claims that are exact: costs are arithmetic, equal bits are equal."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from senet_ablate.analysis.evidence import Evidence, Finding, bounds, not_tested, within
from senet_ablate.analysis.exclusions import outcome, shared_seeds
from senet_ablate.spec.claim import Check, Ledger
from senet_ablate.spec.schema import Number, Text

PAPERS_NETWORK = "resnet50"


class Identical(Check):
    """`rows` are equal bit for bit in every seed that they share; that is not tested, but seen."""

    ledger: ClassVar[Ledger] = "arithmetic"
    rows: tuple[Text, ...]

    @property
    def named(self) -> tuple[str, ...]:
        return self.rows

    @model_validator(mode="after")
    def _two_rows(self) -> Self:
        if len(self.rows) < 2:
            raise ValueError(f"a check of kind {self.kind!r} compares two rows or more")
        return self

    def examine(self, evidence: Evidence) -> Finding:
        first, *others = (evidence.rows.get(name, ()) for name in self.rows)
        pairs = [pair for other in others for pair in shared_seeds(first, other)]
        if not pairs:
            return not_tested(f"{', '.join(self.rows)} share no seed yet")
        same = sum(outcome(a) == outcome(b) for a, b in pairs)
        sentence = f"{same} of {len(pairs)} pairs of runs with the same seed are equal bit for bit"
        return Finding(sentence, "supported" if same == len(pairs) else "contradicted")


class Ratio(Check):
    """Each of `rows` over the one of `than` in its place lies in [`low`, `high`].

    network: `paper` is stated for ResNet-50 at 224 pixels and 1,000 classes, and counted there,
    whatever the recipe trains.
    """

    ledger: ClassVar[Ledger] = "arithmetic"
    rows: tuple[Text, ...]
    than: tuple[Text, ...]
    quantity: Literal["params", "macs"]
    low: Number | None = None
    high: Number | None = None
    network: Literal["any", "paper"] = "any"

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.rows, *self.than)

    @model_validator(mode="after")
    def _pairs_and_bounds(self) -> Self:
        if not self.rows or len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        if self.low is None and self.high is None:
            raise ValueError(f"a check of kind {self.kind!r} needs low or high")
        return self

    def examine(self, evidence: Evidence) -> Finding:
        for name in self.named:
            if self.network == "any" and name in evidence.cannot_host:
                return not_tested(f"{name}: {evidence.cannot_host[name]}", False)
        counts = {name: self._count(evidence, name) for name in self.named}
        missing = [name for name, count in counts.items() if count is None]
        if missing and self.network == "paper":
            return not_tested("its network's cost was not counted yet (senet-ablate cost)")
        if missing:
            return not_tested(f"{missing[0]} has no records yet")
        known = {name: count for name, count in counts.items() if count is not None}
        what = "parameters" if self.quantity == "params" else "multiply-adds"
        where = " in ResNet-50" if self.network == "paper" else ""
        sentences, holds = [], True
        for one, other in zip(self.rows, self.than, strict=True):
            ratio = known[one] / known[other]
            holds &= within(ratio, self.low, self.high)
            sentences.append(
                f"{what} of {one} / {other}{where}: {known[one]:,} / {known[other]:,} = {ratio:.4g}"
            )
        return Finding(
            f"{'; '.join(sentences)} (wanted: {bounds(self.low, self.high)})",
            "supported" if holds else "contradicted",
        )

    def _count(self, evidence: Evidence, name: str) -> int | None:
        """The cost of a network does not depend on its seed."""
        if self.network == "paper":
            cost = evidence.costs.get((PAPERS_NETWORK, evidence.variants[name].se))
            return None if cost is None else getattr(cost, self.quantity)
        records = evidence.rows.get(name)
        return getattr(records[0], self.quantity) if records else None


class Untestable(Check):
    """The paper gives nothing that could be tested here; `statement` says why."""

    statement: Text

    def examine(self, evidence: Evidence) -> Finding:
        return not_tested(self.statement)
