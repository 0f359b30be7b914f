"""The claims ledger: each claim, the paper's evidence, ours, and whether ours supports it.

How errors are judged. One model of errors for all rows of a recipe (see model.py) gives the
comparisons that a check asks for. A check is supported when every one of them speaks for it, and
contradicted when one of them speaks against it. "Alike" is never the absence of a difference: it is
an equivalence test with the plan's margin, contradicted only by a difference that certainly exceeds
the margin. The p-values of all distinct checks on errors of the page, both sides, are one family:
at each look of the analysis plan the chance of any false verdict among them is at most its alpha
(Holm, counting only hypotheses that can be true together), and the looks' alphas add up to 5%. What
a look has settled stays settled once every table has reached it. Before the first look no error is
judged.

Costs and equal bits are arithmetic; gates and times are observations. The three ledgers are counted
apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from senet_ablate.analysis.claims.errors import ErrorCheck
from senet_ablate.analysis.evidence import (
    ORDER,
    Comparison,
    Evidence,
    Finding,
    Outcome,
    Rows,
    not_tested,
)
from senet_ablate.analysis.exclusions import health, mixed, one_network, outcome
from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import ALPHA, estimate, holm_of_pairs
from senet_ablate.records import Record
from senet_ablate.spec import AnalysisPlan
from senet_ablate.spec.claim import Check, Claim, Ledger
from senet_ablate.spec.spec import Look, margins

Key = tuple[str, Check]
"""Experiment and check."""
QUANTITIES = ("top1", "top5", "throughout")
MADE_UP_WORDS: dict[Outcome, str] = {"supported": "mechanism seen", "contradicted": "opposite seen"}


def outcome_words(outcome: Outcome, made_up: bool) -> str:
    """How pages print an outcome: made-up images neither support nor contradict the paper."""
    return MADE_UP_WORDS.get(outcome, outcome) if made_up else outcome


@dataclass(frozen=True)
class Verdict:
    """A claim, the paper's evidence, ours in one sentence, and the outcome.

    reason: why it was not tested, or not in every part, or what is still to come. partly: whether a
    part of the claim makes no sense here. provisional: as a finding is. deciding: the comparison
    that decides it, where errors do. margin: points within which rows count as alike. words: the
    outcome as pages print it. ours_alone: whether the paper does not say it.
    """

    claim: str
    says: str
    paper: str
    ours: str
    outcome: Outcome
    reason: str
    ledger: Ledger
    words: str
    partly: bool
    provisional: bool
    deciding: Comparison | None
    margin: float
    ours_alone: bool

    @property
    def marks(self) -> str:
        """What stands behind the outcome: in part, provisional; empty where it holds as it is."""
        early = self.provisional and self.outcome in ("supported", "contradicted")
        marks = {"in part": self.partly, "provisional": early}
        return ", ".join(mark for mark, holds in marks.items() if holds)


def looks_of(rules: AnalysisPlan | None) -> Sequence[Look]:
    """When errors are judged; without an analysis plan, once, with all seeds that there are."""
    return rules.looks if rules else (Look(seeds=1, reference_seeds=1, alpha=ALPHA),)


def error_model(
    tables: Iterable[Rows], rules: AnalysisPlan | None, quantity: str = "top1"
) -> ErrorModel:
    """The model of the distinct rows of several tables by the rules of an analysis plan; without
    one, each row has its own spread.
    """
    found: dict[str, Sequence[Record]] = {}
    for rows in tables:
        for records in filter(None, rows.values()):
            row_id = records[0].run.row_id
            found[row_id] = max(found.get(row_id, ()), records, key=len)
    return ErrorModel(
        {row_id: errors_of(records, quantity) for row_id, records in found.items()},
        shared=rules is not None and rules.spread == "shared",
        block=rules is not None and rules.block == "seed",
        equal=equal_rows(found),
    )


def equal_rows(rows: Mapping[str, Sequence[Record]]) -> list[list[str]]:
    """Groups of two rows and more that are equal bit for bit, that of most seeds first."""
    found: list[list[str]] = []
    groups_with: dict[Any, list[list[str]]] = {}  # by a run: the groups whose first row has it
    for row in sorted(rows, key=lambda row: -len(rows[row])):
        runs = [(record.run.seed, outcome(record)) for record in rows[row]]
        alike = (group for run in runs for group in groups_with.get(run, ()))
        group = next((one for one in alike if one_network(rows[one[0]], rows[row])), [])
        group.append(row)
        if len(group) == 1:
            found.append(group)
            for run in runs:
                groups_with.setdefault(run, []).append(group)
    return [group for group in found if len(group) > 1]


def errors_of(records: Sequence[Record], quantity: str = "top1") -> Errors:
    """A row for the model; rows that train alike share a schedule."""
    return Errors(
        {record.run.seed: getattr(record, quantity) for record in records},
        frozenset(record.run.seed for record in records if health(record)),
        records[0].run.train if records else None,
    )


def judge(
    cases: Mapping[str, Evidence], rules: AnalysisPlan | None = None
) -> dict[str, tuple[Verdict, ...]]:
    """The verdicts on every claim of a page, by experiment, in the order of its file."""
    findings: dict[Key, Finding] = {}
    waiting: dict[Key, Finding] = {}  # checks on errors, before their first look
    for name, case in cases.items():
        unfair = mixed(case.rows)
        for check in (check for claim in case.experiment.claims for check in claim.checks):
            if isinstance(check, ErrorCheck):
                why = not_tested(unfair or case.waiting)
                waiting[name, check] = check.inapplicable(case) or why
            elif unfair:
                findings[name, check] = not_tested(unfair)
            else:
                findings[name, check] = check.examine(case)
    findings |= waiting
    for number in range(len(looks_of(rules))):
        for key, finding in _at_look(cases, waiting, rules, number).items():
            if findings[key].outcome not in ("supported", "contradicted"):
                findings[key] = finding
    return {name: _verdicts(name, case, findings) for name, case in cases.items()}


def reached(cases: Mapping[str, Evidence], number: int) -> dict[str, Rows]:
    """The rows of those tables that have the seeds of a look and are not withheld."""
    return {
        name: rows
        for name, case in cases.items()
        if (rows := case.looks[number]) is not None and not mixed(case.rows)
    }


def _at_look(
    cases: Mapping[str, Evidence],
    waiting: Mapping[Key, Finding],
    rules: AnalysisPlan | None,
    number: int,
) -> dict[Key, Finding]:
    """What a look says of the tables that have reached it; the family is every check on errors of
    the page that applies, judged at this look or not.
    """
    rows, looks = reached(cases, number), looks_of(rules)[number:]
    models = {name: error_model(rows.values(), rules, name) for name in QUANTITIES}
    seen = {name: replace(cases[name], rows=have, models=models) for name, have in rows.items()}
    fair = sum(not mixed(case.rows) for case in cases.values())
    late = fair - len(rows)  # whose spread the model does not know yet
    waits = f"provisional: {late} of {len(cases)} tables are not there yet" if late else ""
    asked = {(name, c): c.examine(seen[name]) for name, c in waiting if name in seen}
    questions = {(name, check): _question(check, cases[name].ids) for name, check in waiting}
    later = {key: finding for key, finding in waiting.items() if key not in asked}
    family = {questions[key]: one for key, one in {**later, **asked}.items() if one.applies}
    sides = [(one.p_for, one.p_against) for one in family.values()]
    corrected = holm_of_pairs(sides, [one.exclusive for one in family.values()]).tolist()
    by_question = dict(zip(family, corrected, strict=True))
    hypotheses = sum(1 if one.exclusive else 2 for one in family.values())
    for key, finding in asked.items():
        if finding.outcome is None:
            p_values = by_question[questions[key]]
            asked[key] = _settled(finding, p_values, looks, hypotheses, waits)
    return asked


def _question(check: Any, ids: Mapping[str, str]) -> Any:
    """What a check asks, whichever table it stands in: the same question is asked once."""
    contrasts = tuple(
        tuple(sorted((ids[name], weight) for name, weight in weights.items()))
        for weights in check.contrasts()
    )
    rows = {"rows", "than", "weights", "needs", "without", "paired"}  # in `contrasts`, by id
    return check.model_dump_json(exclude=rows), contrasts


def _settled(
    finding: Finding, p_values: Sequence[float], looks: Sequence[Look], hypotheses: int, waits: str
) -> Finding:
    """The outcome of a check on errors by its corrected p-values, for and against it, at the first
    of `looks`.
    """
    (p_for, p_against), (look, *left) = p_values, looks
    known = not math.isnan(finding.p_for)
    outcome: Outcome = "unresolved"
    if p_for < look.alpha:
        outcome = "supported"
    elif p_against < look.alpha:
        outcome = "contradicted"
    leaning = outcome == "unresolved" and known
    against = outcome == "contradicted" or (
        leaning and (p_against, finding.p_against) < (p_for, finding.p_for)
    )
    p, decider = (p_against, finding.opposed) if against else (p_for, finding.weakest)
    if decider is None:  # of a user's own kind
        reason = "; ".join(filter(None, (finding.reason, waits)))
        return replace(finding, outcome=outcome, reason=reason, provisional=bool(waits))
    reasons = []
    if outcome == "unresolved":
        if not known and math.isnan(finding.p_against):
            reasons.append("no spread between seeds was seen on either side")
        elif not known:
            reasons.append(f"{decider.name}: no spread between seeds was seen, so it is not tested")
        elif left:
            reasons.append(f"the plan looks again at {left[0].words}")
        if decider.failures * hypotheses >= look.alpha:
            alone = f"(p = {decider.failures:.3f})"
            reasons.append(f"so few seeds cannot show it by failures alone {alone}")
    d = decider.difference
    interval = "" if math.isnan(d.low) else f" [{d.low:+.2f}, {d.high:+.2f}]"
    ours = f"{finding.ours}; deciding: {decider.label} = {d.value:+.2f} points{interval}"
    if outcome != "unresolved" or known:
        by = "by ranks, " if math.isnan(d.low) and not math.isnan(decider.p_for) else ""
        side = " against it" * against
        ours += f", {by}corrected p{side} {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    return replace(
        finding,
        ours=ours,
        outcome=outcome,
        reason="; ".join([*reasons, waits] if waits else reasons),
        weakest=decider,
        provisional=bool(waits),
    )


def _verdicts(name: str, case: Evidence, findings: Mapping[Key, Finding]) -> tuple[Verdict, ...]:
    made: dict[str, Verdict] = {}
    for claim in sorted(case.experiment.claims, key=lambda claim: bool(claim.follows)):
        found = [findings[name, check] for check in claim.checks]
        made[claim.id] = _verdict(claim, found, [made[one] for one in claim.follows], case)
    return tuple(made[claim.id] for claim in case.experiment.claims)


def _verdict(
    claim: Claim, findings: Sequence[Finding], others: Sequence[Verdict], evidence: Evidence
) -> Verdict:
    """One contradicted check contradicts a claim; it takes all that apply to support it. A claim
    that follows from others stands as they do.
    """
    followed = [
        Finding(f"{one.claim}: {one.words}", one.outcome, provisional=one.provisional)
        for one in others
    ]
    findings = [*findings, *followed]
    applying = [finding for finding in findings if finding.applies]
    outcomes = [finding.outcome for finding in applying if finding.outcome]
    outcome: Outcome = min(outcomes, key=ORDER.index, default="not tested")
    # a check that stands in where the network has no place for a row is no part where it has one
    asked = [
        finding
        for part, finding in zip((*claim.checks, *others), findings, strict=True)
        if finding.applies or not applying or not getattr(part, "without", ())
    ]
    partly = 0 < len(applying) < len(asked) or any(one.partly for one in others)
    partly = partly and outcome != "not tested"
    reason = "; ".join({finding.reason: None for finding in asked if finding.reason})
    quantity = next((getattr(check, "quantity", "") for check in claim.checks), "")
    return Verdict(
        claim=claim.id,
        says=claim.says,
        paper="" if evidence.made_up else claim.paper,
        ours="; ".join(finding.ours for finding in findings if finding.ours),
        outcome=outcome,
        reason=f"judged in part: {reason}" if partly and reason else reason,
        ledger=others[0].ledger if others else claim.ledger,
        partly=partly,
        provisional=any(finding.provisional for finding in applying),
        deciding=next((f.weakest for f in findings if f.outcome == outcome and f.weakest), None),
        margin=evidence.margins.get(quantity, math.nan),
        words=outcome_words(outcome, evidence.made_up),
        ours_alone=claim.paper.startswith(("not in the paper", "no such row")),
    )


def observed_margins(plain: Sequence[Record]) -> dict[str, float]:
    """Without an analysis plan: what the plain network's own errors give, but for failed runs."""
    return margins(*(estimate(errors_of(plain, name).sound).value for name in ("top1", "top5")))
