"""Claims on what is observed: gates of trained networks by class, and times."""

import math
from itertools import pairwise
from statistics import fmean
from typing import ClassVar, Literal

import numpy as np
from scipy import special

from senet_ablate.analysis.claims.exact import Bounded
from senet_ablate.analysis.evidence import ORDER, Evidence, Finding, Outcome, not_tested
from senet_ablate.analysis.stats import Floats
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

    @property
    def wanted(self) -> str:
        return ""

    def judged(self, measured: Floats) -> Outcome:
        """The outcome, from the measures (blocks, networks)."""
        raise NotImplementedError

    def examine(self, evidence: Evidence) -> Finding:
        if not evidence.networks:
            return not_tested(
                "no gates by class were recorded yet (the recipe's `keep_weights` names the rows)"
            )
        networks = [
            {block.name: block for name in self.rows if (block := find(network, name))}
            for network in evidence.networks
        ]
        if any(len(blocks) < len(self.rows) for blocks in networks):
            named = ", ".join(self.rows).replace("_", " ")
            listed = f"block{'s' * (len(self.rows) > 1)} {named}"
            return not_tested(f"this network has no distinct {listed}", False)
        measured = np.array(  # NaN for None
            [[getattr(one[name], self.quantity) for one in networks] for name in networks[0]], float
        )
        limits = LIMITS.get(self.quantity, (-math.inf, math.inf))
        shown = zip(measured, networks[0], strict=True)
        parts = (f"{_shown(values, *limits)} ({name})" for values, name in shown)
        n, planned = len(evidence.networks), evidence.networks_planned
        said = f"{SENTENCES.get(self.quantity, MEASURES[self.quantity])}: {', '.join(parts)}"
        said = f"{said} [{n} network{'s' * (n > 1)}]"
        reasons = ["it takes the networks of two seeds"] if n == 1 else []
        if n < planned:
            reasons.append(f"provisional: {n} of {planned} networks are there")
        ours = " ".join(filter(None, (said, self.wanted)))
        return Finding(ours, self.judged(measured), "; ".join(reasons), provisional=n < planned)


class GatesRise(GateCheck):
    """The measure rises from the first of `rows` to the last."""

    rows: TwoRows

    def judged(self, measured: Floats) -> Outcome:
        if all(_interval(other - one)[0] > 0 for one, other in pairwise(measured)):
            return "supported"
        _, whole = _interval(measured[-1] - measured[0])
        return "contradicted" if whole <= 0 else "unresolved"


class GatesWithin(Bounded, GateCheck):
    """The measure lies in [`low`, `high`] in every one of `rows`."""

    def judged(self, measured: Floats) -> Outcome:
        return min((self.of_range(*_interval(one)) for one in measured), key=ORDER.index)


def _interval(values: Floats) -> tuple[float, float]:
    """Student's 95% interval of the mean over networks; NaN ends, which settle nothing, for one."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(n)
    return fmean(values) - half, fmean(values) + half


def _shown(values: Floats, least: float, most: float) -> str:
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
