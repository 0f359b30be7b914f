"""What the seeds of an analysis plan can settle, said before anything is trained, and how many a
difference needs.

Pages of made-up errors about the paper's relative effects, judged by the real judge. A design that
is written down this way can be checked by others, and no advice comes from an effect already seen.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from senet_ablate.analysis.claims.errors import ErrorCheck
from senet_ablate.analysis.evidence import Evidence
from senet_ablate.analysis.stats import (
    MOST_SEEDS,
    POWER,
    detectable,
    pooled_std,
    seeds_needed,
    std_interval,
)
from senet_ablate.analysis.tables import Table, by_row, case_of, families, tables
from senet_ablate.analysis.verdicts import Verdict, equal_rows, errors_of, judge
from senet_ablate.records import Epoch, Record
from senet_ablate.spec import AnalysisPlan, BadInput, Plan, Run
from senet_ablate.spec.paper import published

RELATIVE_SPREAD = 0.006
"""Standard deviation between seeds as a share of the error, where none was measured: 0.14 points at
the paper's 23.3%, 0.29 at 48%."""
Draw = Callable[[str, int], tuple[float, bool]]
"""Row id and seed -> top-1 error in % and whether the run failed."""


def made_up_page(plan: Plan, top1: Draw, top5: Draw) -> dict[str, Evidence]:
    """Every table of a plan with made-up errors at all its looks, as the judge wants it."""
    runs = {run.id: run for row in plan.rows() for run in row.runs}
    made = {name: _record(run, top1, top5) for name, run in runs.items()}
    return {name: case_of(plan, name, by_row(made)) for name in plan.experiments}


def _record(run: Run, top1: Draw, top5: Draw) -> Record:
    """As much of a record as tables and their judge read, of 100 images: errors are not rounded."""
    (error, failed), (error_of_5, _) = (draw(run.row_id, run.seed) for draw in (top1, top5))
    epoch = Epoch.model_construct(train_loss=0.0, test_top1=error)
    return Record.model_construct(
        id=run.id,
        run=run,
        classes=100,
        train_images=1,
        tested=100,
        wrong_top1=error,
        wrong_top5=error_of_5,
        correct="",
        majority=1,
        answered=100,
        params=1,
        macs=1,
        epochs=(epoch, epoch),
        gates={},
        diverged=1 if failed else None,
        provenance=SimpleNamespace(data="", device="", versions={}, compute=None),
    )


def judge_made_up(plan: Plan, top1: Draw, top5: Draw) -> list[Verdict]:
    """The verdicts on errors of such a page."""
    page = families(plan, made_up_page(plan, top1, top5))
    judged = [judge(family, plan.recipe.plan) for family in page]
    verdicts = [one for tables in judged for table in tables.values() for one in table]
    return [one for one in verdicts if one.ledger == "error"]


def expected_errors(plan: Plan, plain: float, quantity: str = "top1") -> dict[str, float]:
    """The error of each row in % by row id if the paper's relative effects hold; rows of which the
    paper gives no number are left out.
    """
    found: dict[str, float] = {}
    for name, experiment in plan.experiments.items():
        control = published(experiment, experiment.control).get(quantity)
        for variant, row_id in plan.row_ids(name).items():
            error = published(experiment, variant).get(quantity)
            if control and error:
                found[row_id] = plain * error / control
    return found


def normal_errors(
    means: Mapping[str, float],
    spread: Callable[[str], float],
    seed_share: float,
    rng: np.random.Generator,
    failing: Mapping[str, float] | None = None,
) -> Draw:
    """Errors about `means` with standard deviation `spread(row)` in points, of whose variance
    `seed_share` is the seed's own; failing: row -> chance that a run fails.
    """
    of_seed: dict[int, float] = {}

    def draw(row: str, seed: int) -> tuple[float, bool]:
        block = of_seed.setdefault(seed, rng.normal())
        noise = math.sqrt(seed_share) * block + math.sqrt(1 - seed_share) * rng.normal()
        failed = bool(failing and rng.random() < failing.get(row, 0))
        return (99.0 if failed else means[row] + spread(row) * noise), failed

    return draw


def if_the_paper_is_right(
    plan: Plan, rules: AnalysisPlan, spread: float, pages: int = 40
) -> dict[str, list[Verdict]]:
    """The verdicts on each claim on errors, on so many pages about the paper's relative effects.

    spread: standard deviation between seeds in points. Seeded: the same plan, the same answer.
    """
    plan, rng = replace(plan, most=None), np.random.default_rng(0)
    rows = [row_id for name in plan.experiments for row_id in plan.row_ids(name).values()]
    plain = {"top1": rules.plain_top1, "top5": rules.plain_top5 or math.nan}
    means = {q: dict.fromkeys(rows, e) | expected_errors(plan, e, q) for q, e in plain.items()}
    narrower = spread * math.sqrt((rules.plain_top5 or 0) / rules.plain_top1)
    found: dict[str, list[Verdict]] = {}
    for _ in range(pages):
        top1 = normal_errors(means["top1"], lambda row: spread, 0.1, rng)
        top5 = normal_errors(means["top5"], lambda row: narrower, 0.1, rng)
        for verdict in judge_made_up(plan, top1, top5):
            found.setdefault(verdict.claim, []).append(verdict)
    return found


def sentences(plan: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    """What the plan's seeds can settle if the paper is right, and by how much the other claims fall
    short; nothing for a recipe without an analysis plan, or of made-up images, nor of experiments
    that its plan is not for.
    """
    rules = plan.recipe.plan
    of_plan = {n: one for n, one in plan.experiments.items() if n not in plan.apart}
    plan = replace(plan, experiments=of_plan)
    if rules is None or plan.recipe.images == "made up":
        return
    measured = pooled_std(_sound(by_row(records)))
    spread = measured if measured > 0 else RELATIVE_SPREAD * rules.plain_top1
    found = {
        claim: verdicts
        for claim, verdicts in if_the_paper_is_right(plan, rules, spread).items()
        if any(one.outcome != "not tested" for one in verdicts)
    }
    known = expected_errors(plan, rules.plain_top1)
    alpha = rules.looks[-1].alpha / max(len(found), 1)
    sure, short, unknown = list[str](), list[str](), list[str]()
    for name, experiment in plan.experiments.items():
        case = case_of(plan, name, {})
        for claim in (claim for claim in experiment.claims if claim.id in found):
            verdicts = found[claim.id]
            checks = [one for one in claim.checks if isinstance(one, ErrorCheck)]
            checks = [one for one in checks if not one.inapplicable(case)]
            chance = sum(one.outcome == "supported" for one in verdicts) / len(verdicts)
            deciding = [one.deciding.difference for one in verdicts if one.deciding]
            rows = {case.ids[row] for check in checks for row in check.named}
            if not rows <= known.keys() or any(check.without for check in checks):
                unknown.append(claim.id)
                continue
            if chance >= POWER:
                sure.append(claim.id)
                continue
            more = "alike within the margin takes a smaller spread or more seeds"
            if deciding and not any(check.by_margin for check in checks):
                expected = np.mean([d.value for d in deciding])
                needed = np.median([detectable(d.stderr, d.df, alpha) for d in deciding])
                more = f"expected {expected:+.2f} points, found from {needed:.2f} on"
            short.append(f"  {claim.id}: {100 * chance:.0f}% ({more})")
    yield (
        f"if the paper's relative effects are true, {len(sure)} of {len(sure + short)} claims on"
        f" errors come out supported in 4 of 5 tries or more (standard deviation between seeds"
        f" {spread:.2f} points, {'measured' if measured > 0 else 'assumed'}):"
    )
    yield f"  {', '.join(sure)}"
    yield from short
    if unknown:
        yield f"  the paper has no numbers for {', '.join(unknown)}"


def needs(plan: Plan, records: Mapping[str, Record], points: float) -> Iterator[str]:
    """A line a table: the seeds a row with which a two-sided test at 5% sees a true difference of
    `points` in 4 of 5 tries. Raises BadInput unless that is a positive number.
    """
    if not 0 < points < math.inf:
        raise BadInput(f"--for wants a positive number of points, found {points:g}")
    for name, table in tables(plan, records).items():
        yield f"{name}: {_need(table, points)}"


def _sound(rows: Mapping[str, Sequence[Record]]) -> list[list[float]]:
    """The errors of the runs that did not fail, by row; of rows that are equal, of one."""
    repeated = {row for group in equal_rows(rows) for row in group[1:]}
    return [errors_of(have).sound for name, have in rows.items() if name not in repeated]


def _need(table: Table, points: float) -> str:
    """By the spread pooled over the rows with two sound seeds or more, and at the ends of its 95%
    interval.
    """
    if table.refused:
        return f"cannot be said: the table is withheld: {table.refused}"
    rows = [errors for errors in _sound(table.records) if len(errors) > 1]
    if not rows:
        return "cannot be said: no row has two sound seeds yet, so no spread is known"
    runs, std = sum(map(len, rows)), pooled_std(rows)
    if not std > 0:
        return "cannot be said: no two seeds of a row differ, so no spread was seen"
    low, high = std_interval(std, runs - len(rows))
    seeds, fewest, most = (
        f"more than {MOST_SEEDS:,}" if needed is None else str(needed)
        for needed in (seeds_needed(points, spread) for spread in (std, low, high))
    )
    return (
        f"{seeds} seeds a row for {points:g} points (if the spread is at the ends of its interval:"
        f" {fewest}, {most}); spread {std:.2f} points [{low:.2f}, {high:.2f}], from {runs} runs in"
        f" {len(rows)} row{'s' * (len(rows) > 1)}"
    )
