"""Claims on what is observed: gates of trained networks by class, and times."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import ClassVar, Literal

import numpy as np
from scipy import special

from senet_ablate.analysis.claims.exact import Bounded
from senet_ablate.analysis.evidence import ORDER, Evidence, Finding, Outcome, not_tested
from senet_ablate.records.bench import WORK
from senet_ablate.records.class_gates import MEASURES, find
from senet_ablate.spec.claim import Check, Ledger, Rows, TwoRows

# what a measure can be, whatever the interval over a few networks says
LIMITS = {
    **dict.fromkeys(("between_class_std", "centred_between_class_std"), (0.0, math.inf)),
    **dict.fromkeys(("within_class_std", "centred_share"), (0.0, math.inf)),
    **dict.fromkeys(("share_high", "share_low"), (0.0, 1.0)),
    "correlation": (-1.0, 1.0),
}

SENTENCES = {  # where a heading leans on the column beside it
    "centred_between_class_std": "spread between classes, class means removed",
    "centred_share": "spread between classes, class means removed, over that with them",
}


class GateCheck(Check):
    """A measure of gates by class (paper, Section 7.2), judged by its mean over the networks of all
    seeds and the 95% interval of that.

    `rows` name blocks as in the paper, SE_4_6, or by their part: early, middle, late, next_to_last,
    last (see class_gates.find); `quantity` is a measure of ClassGates.
    """

    ledger: ClassVar[Ledger] = "observation"
    wanted: ClassVar[str] = ""
    rows: Rows
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

    def judged(self, measured: Sequence[Sequence[float]]) -> Outcome:
        """The outcome, from the measures of each block in every network."""
        raise NotImplementedError

    def examine(self, evidence: Evidence) -> Finding:
        if not evidence.networks:
            return not_tested(
                "no gates by class were recorded yet (python -m senet_ablate excitation)"
            )
        values: dict[str, list[float]] = {}
        for network in evidence.networks:
            blocks = {block.name: block for name in self.rows if (block := find(network, name))}
            if len(blocks) < len(self.rows):
                named = ", ".join(self.rows).replace("_", " ")
                listed = f"block{'s' * (len(self.rows) > 1)} {named}"
                return not_tested(f"this network has no distinct {listed}", False)
            for name, block in blocks.items():
                value = getattr(block, self.quantity)
                values.setdefault(name, []).append(math.nan if value is None else value)
        limits = LIMITS.get(self.quantity, (-math.inf, math.inf))
        parts = (f"{_shown(measured, *limits)} ({name})" for name, measured in values.items())
        n, planned = len(evidence.networks), evidence.networks_planned
        said = f"{SENTENCES.get(self.quantity, MEASURES[self.quantity])}: {', '.join(parts)}"
        said = f"{said} [{n} network{'s' * (n > 1)}]"
        reasons = ["it takes the networks of two seeds"] if n == 1 else []
        if n < planned:
            reasons.append(f"provisional: {n} of {planned} networks are there")
        ours = " ".join(filter(None, (said, self.wanted)))
        outcome = self.judged([*values.values()])
        return Finding(ours, outcome, "; ".join(reasons), provisional=n < planned)


class GatesRise(GateCheck):
    """The measure rises from the first of `rows` to the last."""

    rows: TwoRows

    def judged(self, measured: Sequence[Sequence[float]]) -> Outcome:
        def rise(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
            return _interval([b - a for a, b in zip(one, other, strict=True)])

        if all(rise(one, other)[0] > 0 for one, other in pairwise(measured)):
            return "supported"
        _, whole = rise(measured[0], measured[-1])
        return "contradicted" if whole <= 0 else "unresolved"


class GatesWithin(Bounded, GateCheck):
    """The measure lies in [`low`, `high`] in every one of `rows`."""

    def judged(self, measured: Sequence[Sequence[float]]) -> Outcome:
        return min((self.of_range(*_interval(one)) for one in measured), key=ORDER.index)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval of the mean over networks; NaN ends, which settle nothing, for one."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(n)
    return fmean(values) - half, fmean(values) + half


def _shown(values: Sequence[float], least: float, most: float) -> str:
    low, high = _interval(values)
    interval = f" [{max(low, least):.3f}, {min(high, most):.3f}]"
    return f"{fmean(values):.3f}{'' if math.isnan(low) else interval}"


class Time(Bounded):
    """SE-ResNet-50 over ResNet-50 at 224 pixels, as `bench overhead` measured them:
    the quartiles of the rounds' ratios decide, on every device of the kind.
    """

    ledger: ClassVar[Ledger] = "observation"
    quantity: Literal["training_step", "inference"]
    device: Literal["gpu", "cpu"]

    def examine(self, evidence: Evidence) -> Finding:
        outcomes: set[Outcome] = set()
        work, sentences = WORK[self.quantity], []
        for bench in evidence.benches:
            on_cpu, part = bench.device.startswith("cpu: "), bench.parts.get("overhead")
            if part is None or on_cpu != (self.device == "cpu"):
                continue
            row = part.row(work, "SE")
            quartiles = part.ratio(row) if row else None
            if quartiles is None:
                return not_tested(f"bench overhead of {bench.device} has no {work}")
            low, middle, high = quartiles
            outcomes.add(self.of_range(low, high))
            sentences.append(f"SE / plain: {middle:.3f} [{low:.3f}, {high:.3f}] on {bench.device}")
        if not sentences:
            kind = self.device.upper()
            return not_tested(f"no {kind} was timed yet (python -m senet_ablate bench overhead)")
        return Finding(
            f"{work}, {'; '.join(sentences)} {self.wanted}",
            outcomes.pop() if len(outcomes) == 1 else "unresolved",
        )
