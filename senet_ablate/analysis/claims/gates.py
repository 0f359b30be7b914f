"""Claims on the gates of trained networks by class (paper, Section 7.2), judged by the mean over
the networks of all seeds and its 95% interval.
"""

import math
from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from senet_ablate.analysis.evidence import Evidence, Finding, bounds, not_tested, within
from senet_ablate.records.class_gates import find
from senet_ablate.spec.claim import Check, Ledger
from senet_ablate.spec.schema import Number, Text


class GateCheck(Check):
    """`rows` name blocks as in the paper, SE_4_6, or by their part: early, middle, late,
    next_to_last, last (see class_gates.find); `quantity` is a measure of ClassGates.
    """

    ledger: ClassVar[Ledger] = "observation"
    rows: tuple[Text, ...]
    quantity: Literal[
        "between_class_std",
        "centred_between_class_std",
        "within_class_std",
        "correlation",
        "share_high",
        "share_low",
        "centred_share",
        "mean",
    ]

    def measured(self, evidence: Evidence) -> dict[str, list[float]] | Finding:
        """The measure of each block, a value a network."""
        if not evidence.networks:
            return not_tested("no gates by class were recorded yet (senet-ablate excitation)")
        values: dict[str, list[float]] = {}
        for network in evidence.networks:
            blocks = [block for name in self.rows if (block := find(network, name))]
            if len({block.name for block in blocks}) < len(self.rows):
                blocks_wanted = ", ".join(self.rows)
                return not_tested(
                    f"this network has not the blocks {blocks_wanted}, all different", False
                )
            for block in blocks:
                value = getattr(block, self.quantity)
                values.setdefault(block.name, []).append(math.nan if value is None else value)
        return values

    def sentence(self, values: dict[str, list[float]]) -> str:
        """Means over the networks."""
        n = len(next(iter(values.values())))
        shown = ", ".join(f"{sum(v) / len(v):.3f} ({name})" for name, v in values.items())
        return f"{self.quantity.replace('_', ' ')} {shown} [{n} network{'s' * (n > 1)}]"


class GatesRise(GateCheck):
    """The measure rises from the first of `rows` to the last."""

    @model_validator(mode="after")
    def _two_rows(self) -> Self:
        if len(self.rows) < 2:
            raise ValueError(f"a check of kind {self.kind!r} compares two rows or more")
        return self

    def examine(self, evidence: Evidence) -> Finding:
        values = self.measured(evidence)
        if isinstance(values, Finding):
            return values
        steps = [
            _interval([b - a for a, b in zip(one, other, strict=True)])
            for one, other in pairwise(values.values())
        ]
        rises, ends = all(low > 0 for low, _ in steps), [*values.values()]
        _, whole = _interval([b - a for a, b in zip(ends[0], ends[-1], strict=True)])
        return Finding(
            self.sentence(values),
            "supported" if rises else "contradicted" if whole <= 0 else "unresolved",
        )


class GatesWithin(GateCheck):
    """The measure lies in [`low`, `high`] in every one of `rows`."""

    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError(f"a check of kind {self.kind!r} needs low or high")
        return self

    def examine(self, evidence: Evidence) -> Finding:
        values = self.measured(evidence)
        if isinstance(values, Finding):
            return values
        intervals = [_interval(one) for one in values.values()]
        inside = [[within(end, self.low, self.high) for end in ends] for ends in intervals]
        outside = any(
            (self.high is not None and low > self.high)
            or (self.low is not None and high < self.low)
            for low, high in intervals
        )
        return Finding(
            f"{self.sentence(values)} (wanted: {bounds(self.low, self.high)})",
            "supported" if all(map(all, inside)) else "contradicted" if outside else "unresolved",
        )


def _interval(values: list[float]) -> tuple[float, float]:
    """Student's 95% interval of the mean over networks; NaN ends, which settle nothing, for one."""
    from scipy import special

    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return math.nan, math.nan
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return mean - half, mean + half
