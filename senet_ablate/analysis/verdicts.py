"""The claims ledger: each claim, the paper's evidence, ours, and whether ours supports it.

How errors are judged. One model of errors for all rows of a recipe (see model.py) gives the
comparisons that a check asks for. A check is supported when every one of them speaks for it, and
contradicted when one of them speaks against it. "Alike" is never the absence of a difference: it is
an equivalence test with the plan's margin, contradicted only by a difference that certainly exceeds
the margin. The p-values of all distinct checks on errors of the page, both sides, are one family:
at each look of the analysis plan the chance of any false verdict among them is at most its alpha
(Holm, counting only hypotheses that can be true together), and the looks' alphas add up to 5%. What
a look has settled stays settled. Before the first look no error is judged.

Costs and equal bits are arithmetic; gates and times are observations. The three ledgers are counted
apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from senet_ablate.analysis.claims.errors import ErrorCheck
from senet_ablate.analysis.evidence import (
    Comparison,
    Evidence,
    Finding,
    Outcome,
    Rows,
    not_tested,
)
from senet_ablate.analysis.exclusions import health, mixed
from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import ALPHA, holm_of_pairs
from senet_ablate.records.store import Record
from senet_ablate.spec.claim import Check, Claim, Ledger
from senet_ablate.spec.spec import Experiment
from senet_ablate.spec.spec import margins as margins_of

QUANTITIES = ("top1", "top5", "throughout")
ORDER: tuple[Outcome, ...] = ("contradicted", "not tested", "unresolved", "supported")
"""Of a claim's checks the first one seen here decides."""
MADE_UP_WORDS: dict[Outcome, str] = {"supported": "mechanism seen", "contradicted": "not seen"}


def outcome_words(outcome: Outcome, made_up: bool) -> str:
    """How pages print an outcome: made-up images neither support nor contradict the paper."""
    return MADE_UP_WORDS.get(outcome, outcome) if made_up else outcome


@dataclass(frozen=True)
class Verdict:
    """A claim, the paper's evidence, ours in one sentence, and the outcome.

    reason: why it was not tested, or not in every part, or what is still to come. partly: whether a
    part of the claim makes no sense here. deciding: the comparison that decides it, where errors
    do. margin: points within which rows count as alike. made_up: whether the images are.
    """

    claim: str
    says: str
    paper: str
    ours: str
    outcome: Outcome
    reason: str
    ledger: Ledger
    partly: bool = False
    deciding: Comparison | None = None
    margin: float = math.nan
    made_up: bool = False

    @property
    def words(self) -> str:
        """The outcome as pages print it."""
        return outcome_words(self.outcome, self.made_up)


@dataclass(frozen=True)
class Look:
    """A time at which errors are judged: the chance of a false verdict that it spends, and how to
    call it.
    """

    alpha: float
    name: str = ""


@dataclass(frozen=True)
class Case:
    """One experiment before the judge.

    evidence: with all records that there are. looks: the rows with the seeds of each look, None
    where they are not all there yet. waiting: what the next look waits for.
    """

    experiment: Experiment
    evidence: Evidence
    looks: tuple[Rows | None, ...]
    waiting: str = ""
    rows_by_id: Mapping[str, str] = field(default_factory=dict)


def error_models(
    rows: Sequence[Rows], shared: bool, block: bool, least: int = 1
) -> dict[str, ErrorModel]:
    """The model of each quantity over the distinct rows of several tables."""
    found: dict[str, Sequence[Record]] = {}
    for table in rows:
        for records in table.values():
            if len(records) >= least:
                row_id = records[0].run.row_id
                found[row_id] = max(found.get(row_id, ()), records, key=len)
    return {
        quantity: ErrorModel(
            {name: errors_of(records, quantity) for name, records in found.items()}, shared, block
        )
        for quantity in QUANTITIES
    }


def errors_of(records: Sequence[Record], quantity: str = "top1") -> Errors:
    """A row for the model; rows that train alike share a schedule."""
    return Errors(
        {record.run.seed: getattr(record, quantity) for record in records},
        frozenset(record.run.seed for record in records if health(record)),
        records[0].run.train.model_dump_json() if records else "",
    )


def judge(
    cases: Mapping[str, Case],
    looks: Sequence[Look] = (Look(ALPHA),),
    shared: bool = False,
    block: bool = False,
) -> dict[str, tuple[Verdict, ...]]:
    """The verdicts on every claim of a page, by experiment, in the order of its file.

    shared, block: see ErrorModel. Without an analysis plan there is one look at all seeds, and each
    row has its own spread.
    """
    findings: dict[str, dict[Check, Finding]] = {name: {} for name in cases}
    for name, case in cases.items():
        unfair = "; ".join(mixed(case.evidence.rows))
        for check in _checks(case.experiment):
            if unfair:
                findings[name][check] = not_tested(unfair)
            elif not isinstance(check, ErrorCheck):
                findings[name][check] = check.examine(case.evidence)
            elif all(rows is None for rows in case.looks):
                findings[name][check] = _unjudged(check, case)
    for number, look in enumerate(looks):
        _judge_errors(cases, findings, number, look, looks, shared, block)
    return {name: _verdicts(case, findings[name]) for name, case in cases.items()}


def _checks(experiment: Experiment) -> list[Check]:
    return list(dict.fromkeys(check for claim in experiment.claims for check in claim.checks))


def _unjudged(check: ErrorCheck, case: Case) -> Finding:
    """A check on errors before the first look."""
    return _inapplicable(check, case) or not_tested(case.waiting)


def _inapplicable(check: ErrorCheck, case: Case) -> Finding | None:
    """Why a check is no part of the family, whatever the errors are."""
    hosts = case.evidence.cannot_host
    if any(name not in hosts for name in check.without) or any(
        name in hosts for name in (*check.needs, *check.named)
    ):
        return check.examine(case.evidence)
    return None


def _judge_errors(
    cases: Mapping[str, Case],
    findings: dict[str, dict[Check, Finding]],
    number: int,
    look: Look,
    looks: Sequence[Look],
    shared: bool,
    block: bool,
) -> None:
    """Settle what this look settles; the family is every check on errors of the page that applies,
    judged at this look or not.
    """
    reached = {
        name: rows for name, case in cases.items() if (rows := case.looks[number]) is not None
    }
    models = error_models(list(reached.values()), shared, block)
    family: dict[Any, Finding] = {}
    asked: dict[tuple[str, ErrorCheck], Finding] = {}
    for name, case in cases.items():
        for check in _checks(case.experiment) if not mixed(case.evidence.rows) else ():
            if not isinstance(check, ErrorCheck):
                continue
            if name in reached:
                evidence = replace(case.evidence, rows=reached[name], models=models)
                finding = asked[name, check] = check.examine(evidence)
            else:
                finding = _unjudged(check, case)
            key = _key(check, case)  # asked by a table that waits and by one that is ready
            if finding.applies and (name in reached or key not in family):
                family[key] = finding
    corrected = dict(
        zip(
            family,
            holm_of_pairs(
                [(one.p_for, one.p_against) for one in family.values()],
                [one.exclusive for one in family.values()],
            ).tolist(),
            strict=True,
        )
    )
    for (name, check), finding in asked.items():
        settled = findings[name].get(check)
        if settled is not None and settled.outcome in ("supported", "contradicted"):
            continue
        if finding.outcome is None:
            p_for, p_against = corrected[_key(check, cases[name])]
            left = looks[number + 1 :]
            finding = _settled(finding, p_for, p_against, look, left, len(family))
        findings[name][check] = finding


def _key(check: ErrorCheck, case: Case) -> Any:
    """What a check asks, whichever table it stands in: the same question is asked once."""
    ids = case.rows_by_id
    contrasts = tuple(
        tuple(sorted((ids.get(name, name), weight) for name, weight in weights.items()))
        for _, weights in check.contrasts()
    )
    return type(check), getattr(check, "side", ""), check.quantity, contrasts


def _settled(
    finding: Finding,
    p_for: float,
    p_against: float,
    look: Look,
    left: Sequence[Look],
    questions: int,
) -> Finding:
    """The outcome of a check on errors by its corrected p-values."""
    if p_for < look.alpha:
        return replace(
            finding, outcome="supported", ours=_deciding(finding, finding.weakest, p_for)
        )
    if p_against < look.alpha:
        ours = _deciding(finding, finding.opposed, p_against)
        return replace(finding, outcome="contradicted", ours=ours, weakest=finding.opposed)
    reason = ""
    if math.isnan(finding.p_for) and math.isnan(finding.p_against):
        reason = "no spread between seeds was seen on either side"
    elif left and left[0].name:
        reason = f"the plan looks again at {left[0].name}"
    alone = math.nan if finding.weakest is None else finding.weakest.failures
    if alone * questions >= look.alpha:
        few = f"so few seeds cannot show it by failures alone (p = {alone:.3f})"
        reason = "; ".join(filter(None, (reason, few)))
    ours = _deciding(finding, finding.weakest, p_for)
    return replace(finding, outcome="unresolved", ours=ours, reason=reason)


def _deciding(finding: Finding, decider: Comparison | None, p: float) -> str:
    """The sentence of a check with the comparison that decides it."""
    if decider is None:
        return finding.ours
    d = decider.difference
    interval = "" if math.isnan(d.low) else f" [{d.low:+.2f}, {d.high:+.2f}]"
    by = "by ranks, " if math.isnan(d.low) and not math.isnan(decider.p_for) else ""
    shown = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    return (
        f"{finding.ours}; deciding: {decider.name} = {d.value:+.2f} points{interval}, {by}corrected"
        f" p {shown}"
    )


def _verdicts(case: Case, findings: Mapping[Check, Finding]) -> tuple[Verdict, ...]:
    made: dict[str, Verdict] = {}
    claims = case.experiment.claims
    for claim in claims:
        if not claim.follows:
            made[claim.id] = _verdict(claim, [findings[c] for c in claim.checks], case.evidence)
    for claim in claims:
        if claim.follows:
            made[claim.id] = _following(claim, [made[name] for name in claim.follows])
    return tuple(made[claim.id] for claim in claims)


def _following(claim: Claim, others: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim that holds where `others` hold."""
    outcomes = {verdict.outcome for verdict in others}
    outcome: Outcome = next(outcome for outcome in ORDER if outcome in outcomes)
    listed = "; ".join(f"{verdict.claim} is {verdict.words}" for verdict in others)
    made_up, ledger = others[0].made_up, others[0].ledger
    paper = "" if made_up else claim.paper
    return Verdict(claim.id, claim.says, paper, listed, outcome, "", ledger, made_up=made_up)


def _verdict(claim: Claim, findings: Sequence[Finding], evidence: Evidence) -> Verdict:
    """One contradicted check contradicts a claim; it takes all that apply to support it."""
    applying = [finding for finding in findings if finding.applies]
    outcomes = {finding.outcome for finding in applying}
    outcome: Outcome = next((outcome for outcome in ORDER if outcome in outcomes), "not tested")
    asked = list(findings)
    # a check that stands in where the network has no place for a row is no part where it has one
    if applying:
        asked = [
            finding
            for check, finding in zip(claim.checks, findings, strict=True)
            if finding.applies or not getattr(check, "without", ())
        ]
    partly = bool(applying) and len(applying) < len(asked)
    reason = "; ".join({finding.reason: None for finding in asked if finding.reason})
    quantity = getattr(claim.checks[0], "quantity", "")
    return Verdict(
        claim=claim.id,
        says=claim.says,
        paper="" if evidence.made_up else claim.paper,
        ours="; ".join(finding.ours for finding in findings if finding.ours),
        outcome=outcome,
        reason=f"judged in part: {reason}" if partly else reason,
        ledger=claim.ledger,
        partly=partly,
        deciding=next((f.weakest for f in findings if f.outcome == outcome and f.weakest), None),
        margin=evidence.margins.get(quantity, math.nan) if claim.ledger == "error" else math.nan,
        made_up=evidence.made_up,
    )


def observed_margins(plain: Sequence[Record]) -> dict[str, float]:
    """Without an analysis plan: what the plain network's own errors give."""
    sound = [record for record in plain if not health(record)]  # a failed run would widen them
    errors = [
        [getattr(record, name) for record in sound] or [math.nan] for name in ("top1", "top5")
    ]
    return margins_of(*(sum(values) / len(values) for values in errors))
