"""Claims on time: SE-ResNet-50 over ResNet-50 at 224 pixels, as `senet-ablate bench overhead`
measured them.
"""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from senet_ablate.analysis.evidence import Evidence, Finding, Outcome, bounds, not_tested, within
from senet_ablate.records.bench import WORK
from senet_ablate.spec.claim import Check, Ledger
from senet_ablate.spec.schema import Number


class Time(Check):
    """The ratio lies in [`low`, `high`]: the quartiles of its rounds decide, on every device of the
    kind.
    """

    ledger: ClassVar[Ledger] = "observation"
    quantity: Literal["training_step", "inference"]
    device: Literal["gpu", "cpu"]
    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError(f"a check of kind {self.kind!r} needs low or high")
        return self

    def examine(self, evidence: Evidence) -> Finding:
        on = [
            one
            for one in evidence.benches
            if one.device.startswith("cpu: ") == (self.device == "cpu") and "overhead" in one.parts
        ]
        if not on:
            return not_tested(
                f"no {self.device.upper()} was timed yet (senet-ablate bench overhead)"
            )
        outcomes: set[Outcome] = set()
        sentences = []
        for bench in on:
            part = bench.parts["overhead"]
            row = part.row(WORK[self.quantity], "SE")
            quartiles = part.ratio(row) if row else None
            if quartiles is None:
                return not_tested(f"bench overhead of {bench.device} has no {WORK[self.quantity]}")
            low, middle, high = quartiles
            inside = [within(value, self.low, self.high) for value in (low, high)]
            apart = not any(inside) and (self.low is None or low > self.low or high < self.low)
            outcomes.add("supported" if all(inside) else "contradicted" if apart else "unresolved")
            sentences.append(f"SE / plain: {middle:.3f} [{low:.3f}, {high:.3f}] on {bench.device}")
        wanted = bounds(self.low, self.high)
        return Finding(
            f"{WORK[self.quantity]}, {'; '.join(sentences)} (wanted: {wanted})",
            outcomes.pop() if len(outcomes) == 1 else "unresolved",
        )
