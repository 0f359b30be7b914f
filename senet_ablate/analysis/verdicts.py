"""The claims ledger: each claim of an experiment, the paper's evidence, ours, and whether ours
supports it.

How a claim is judged. A check on errors makes Welch comparisons between rows. It is supported when
every one of them speaks for it (an intersection-union test, so the weakest decides), and
contradicted when one of them speaks against it (Bonferroni over them). "Alike" is never the absence
of a difference: it is an equivalence test with the plan's margin, contradicted only by a difference
that certainly exceeds the margin. These two p-values of every distinct check of the table are one
family, and Holm's correction keeps the chance of any false verdict in the table at 5%; for a single
check that is the ordinary two-sided 5%. Under an analysis plan the chance is the alpha of its look,
shared evenly by the tables of the page, so that it holds for the page; before the first look no
error is judged. Whatever does not clear it is unresolved, with the seeds it would take.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from senet_ablate.analysis.checks import Comparison, Finding, Outcome, examine, not_tested
from senet_ablate.analysis.exclusions import Rows, health, mixed
from senet_ablate.analysis.stats import ALPHA, holm
from senet_ablate.records.bench import Bench
from senet_ablate.records.class_gates import ClassGates
from senet_ablate.records.store import Record
from senet_ablate.spec.claim import Check, Claim
from senet_ablate.spec.spec import Experiment, expected_gain
from senet_ablate.spec.spec import margins as margins_of

ORDER: tuple[Outcome, ...] = (
    "contradicted",
    "not tested",
    "unresolved",
    "supported",
)  # the first one seen decides


@dataclass(frozen=True)
class Verdict:
    """A claim, the paper's evidence, ours in one sentence, and the outcome.

    seeds_needed: seeds a row that would settle an unresolved claim with 80% power if the
    differences seen are the true ones; None where that cannot be said. reason: why it was not
    tested, or not in every part, or cannot be resolved.
    """

    claim: str
    says: str
    paper: str
    ours: str
    outcome: Outcome
    seeds_needed: int | None
    reason: str


def judge(
    experiment: Experiment,
    rows: Rows,
    cannot_host: Mapping[str, str] | None = None,
    networks: Sequence[Sequence[ClassGates]] = (),
    benches: Sequence[Bench] = (),
    margins: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    waiting: str = "",
) -> tuple[Verdict, ...]:
    """The verdict on each claim of `experiment`, in the order of its file.

    rows: the records of each variant, one a seed; a row may be empty or missing. cannot_host:
    variant -> why this recipe's backbone has no place for it. networks: gates by class of trained
    networks, for claims about gates. benches: benchmark results by device, for claims about time.
    margins: within which rows count as alike, in points by quantity; without an analysis plan,
    those that the plain network's own errors give. alpha: the chance of any false verdict on
    errors. waiting: why no claim on errors is judged yet; empty if they are.
    """
    margins = margins or _observed_margins(rows.get(experiment.control, ()))
    checks = list(dict.fromkeys(check for claim in experiment.claims for check in claim.checks))
    findings = dict(
        zip(
            checks,
            _findings(
                experiment,
                checks,
                rows,
                cannot_host or {},
                networks,
                benches,
                margins,
                alpha,
                waiting,
            ),
            strict=True,
        )
    )
    made = {
        claim.id: _verdict(claim, [findings[check] for check in claim.checks])
        for claim in experiment.claims
    }
    return tuple(
        (
            _following(claim, [made[name] for name in claim.follows])
            if claim.follows
            else made[claim.id]
        )
        for claim in experiment.claims
    )


def _observed_margins(plain: Sequence[Record]) -> dict[str, float]:
    sound = [record for record in plain if not health(record)]  # a failed run would widen them
    errors = [
        [getattr(record, name) for record in sound] or [math.nan] for name in ("top1", "top5")
    ]
    return margins_of(expected_gain(*(sum(values) / len(values) for values in errors)))


def _following(claim: Claim, others: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim that holds where `others` hold."""
    outcomes = {verdict.outcome for verdict in others}
    outcome: Outcome = next(outcome for outcome in ORDER if outcome in outcomes)
    listed = "; ".join(f"{verdict.claim} is {verdict.outcome}" for verdict in others)
    return Verdict(claim.id, claim.says, claim.paper, listed, outcome, None, "")


def _findings(
    experiment: Experiment,
    checks: Sequence[Check],
    rows: Rows,
    cannot_host: Mapping[str, str],
    networks: Sequence[Sequence[ClassGates]],
    benches: Sequence[Bench],
    margins: Mapping[str, float],
    alpha: float,
    waiting: str,
) -> list[Finding]:
    """What each check of the table found, settled with Holm's correction over all of them."""
    unfair = mixed(rows)
    if unfair:
        return [not_tested("; ".join(unfair)) for _ in checks]
    findings = [
        (
            not_tested(waiting)
            if waiting and check.on_errors
            else examine(check, rows, margins, cannot_host, networks, benches)
        )
        for check in checks
    ]
    p_values = np.array([(finding.p_for, finding.p_against) for finding in findings]).reshape(-1)
    tests = int((~np.isnan(p_values)).sum())
    corrected = holm(p_values).reshape(
        -1, 2
    )  # one-sided, but both sides are in the family: no factor 2 is missing
    return [
        (
            finding
            if finding.outcome
            else _settled(finding, float(p_for), float(p_against), tests, alpha)
        )
        for finding, (p_for, p_against) in zip(findings, corrected, strict=True)
    ]


def _settled(finding: Finding, p_for: float, p_against: float, tests: int, alpha: float) -> Finding:
    """The outcome of a check on errors by its corrected p-values."""
    if p_for < alpha:
        return replace(
            finding, outcome="supported", ours=_with_decider(finding, finding.weakest, p_for)
        )
    if p_against < alpha:
        return replace(
            finding, outcome="contradicted", ours=_with_decider(finding, finding.opposed, p_against)
        )
    return replace(
        finding,
        outcome="unresolved",
        ours=_with_decider(finding, finding.weakest, p_for),
        seeds=finding.seeds_needed(alpha / max(tests, 1)),
        reason="no spread between seeds was seen on either side" if np.isnan(p_for) else "",
    )


def _with_decider(finding: Finding, decider: Comparison | None, p: float) -> str:
    """The sentence of a check with the comparison that decides it."""
    if decider is None:
        return finding.ours
    d = decider.difference
    interval = "no interval" if np.isnan(d.low) else f"[{d.low:+.2f}, {d.high:+.2f}]"
    corrected = (
        "no test" if np.isnan(p) else f"corrected p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    )
    return (
        f"{finding.ours}; deciding: {decider.name} = {d.value:+.2f} points {interval}, {corrected}"
    )


def _verdict(claim: Claim, findings: Sequence[Finding]) -> Verdict:
    """One contradicted check contradicts a claim; all that apply must be supported to support
    it.
    """
    applying = [finding for finding in findings if finding.applies]
    outcomes = {finding.outcome for finding in applying}
    outcome: Outcome = next((outcome for outcome in ORDER if outcome in outcomes), "not tested")
    needed = [finding.seeds for finding in applying if finding.outcome == "unresolved"]
    known = [seeds for seeds in needed if seeds is not None]
    asked = findings
    # a check that stands in where the network has no place for a row is no part where it has one
    if applying:
        asked = [
            f
            for check, f in zip(claim.checks, findings, strict=True)
            if f.applies or not check.without
        ]
    reason = "; ".join({finding.reason: None for finding in asked if finding.reason})
    if applying and len(applying) < len(asked):
        reason = f"judged in part: {reason}"
    return Verdict(
        claim=claim.id,
        says=claim.says,
        paper=claim.paper,
        ours="; ".join(finding.ours for finding in findings if finding.ours),
        outcome=outcome,
        seeds_needed=(
            max(known) if outcome == "unresolved" and known and len(known) == len(needed) else None
        ),
        reason=reason,
    )
