"""What the seeds of an analysis plan can settle, said before anything is trained.

Pages of made-up errors about the paper's relative effects, judged by the real judge. A design that
is written down this way can be checked by others, and no advice comes from an effect already seen.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from senet_ablate.analysis.evidence import Evidence
from senet_ablate.analysis.exclusions import health
from senet_ablate.analysis.stats import POWER, detectable, pooled_std
from senet_ablate.analysis.verdicts import Case, Look, Verdict, judge
from senet_ablate.records.store import Record
from senet_ablate.spec.paper import published
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.spec import AnalysisPlan, Run

RELATIVE_SPREAD = 0.006
"""Standard deviation between seeds as a share of the error, where none was measured: 0.14 points at
the paper's 23.3%, 0.29 at 48%."""
Draw = Callable[[str, int], tuple[float, bool]]
"""Row id and seed -> top-1 error in % and whether the run failed."""


@dataclass(frozen=True)
class MadeUp:
    """As much of a record as the judge reads."""

    run: Run
    top1: float
    top5: float
    diverged: int | None = None
    classes: ClassVar[int] = 100
    train_images: ClassVar[int] = 50_000
    tested: ClassVar[int] = 10_000
    answered: ClassVar[int] = 100
    majority: ClassVar[int] = 100
    params: ClassVar[int] = 1
    macs: ClassVar[int] = 1
    gates: ClassVar[Mapping[str, Any]] = {}
    epochs: ClassVar[tuple[Any, ...]] = ()
    correct: ClassVar[str] = ""
    wrong_top5: ClassVar[int] = 0
    provenance: ClassVar[Any] = SimpleNamespace(data="0" * 64, device="", versions={}, compute=None)

    @property
    def throughout(self) -> float:
        """As at the end."""
        return self.top1

    def right(self) -> Any:
        """No images."""
        return np.zeros(2)

    @property
    def wrong_top1(self) -> int:
        """A count that is no chance result."""
        return round(self.top1 * 100)


def expected_errors(plan: Plan, plain: float, quantity: str = "top1_err") -> dict[str, float]:
    """The error of each row in % by row id if the paper's relative effects hold; rows of which the
    paper gives no number are left out.
    """
    found: dict[str, float] = {}
    for experiment in plan.experiments.values():
        control = published(experiment, experiment.control).get(quantity)
        for variant, value in experiment.variants.items():
            error = published(experiment, variant).get(quantity)
            if control and error:
                found[plan.run(value, 0).row_id] = plain * error / control
    return found


def made_up_page(
    plan: Plan, rules: AnalysisPlan, top1: Draw, top5: Draw, looks: int | None = None
) -> dict[str, Case]:
    """Every table of a plan with made-up errors, as the judge wants it.

    looks: how many of the plan's looks have been reached; None: all.
    """
    made: dict[tuple[str, int], MadeUp] = {}

    def record(run: Run) -> Any:
        key = run.row_id, run.seed
        if key not in made:
            error, failed = top1(*key)
            made[key] = MadeUp(run, error, top5(*key)[0], 1 if failed else None)
        return made[key]

    cases = {}
    for name, experiment in plan.experiments.items():
        unhosted = {
            variant: plan.recipe.cannot_host[f"{name}/{variant}"]
            for variant in experiment.variants
            if f"{name}/{variant}" in plan.recipe.cannot_host
        }
        by_look = []
        for look in rules.looks[:looks]:
            by_look.append(
                {
                    variant: []
                    if variant in unhosted
                    else [
                        record(plan.run(value, seed)) for seed in plan.seeds_of(name, value, look)
                    ]
                    for variant, value in experiment.variants.items()
                }
            )
        evidence = Evidence(
            rows=by_look[-1],
            variants=experiment.variants,
            margins=rules.margins,
            cannot_host=unhosted,
        )
        ids = {v: plan.run(value, 0).row_id for v, value in experiment.variants.items()}
        later = (None,) * (len(rules.looks) - len(by_look))
        cases[name] = Case(experiment, evidence, (*by_look, *later), "its look", ids)
    return cases


def judge_made_up(plan: Plan, rules: AnalysisPlan, cases: Mapping[str, Case]) -> list[Verdict]:
    """The verdicts on errors by the rules of a plan."""
    looks = [Look(look.alpha) for look in rules.looks]
    judged = judge(cases, looks, rules.spread == "shared", rules.block == "seed")
    return [one for verdicts in judged.values() for one in verdicts if one.ledger == "error"]


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


def what_can_be_settled(plan: Plan, spread: float | None = None, pages: int = 40) -> pd.DataFrame:
    """Each claim on errors with the chance that the plan settles it if the paper is right.

    Index claim; columns experiment, says, chance (share of `pages` made-up pages on which it is
    supported; NaN where the paper has no numbers for its rows), expected (points: what the paper's
    relative effect makes of its weakest comparison), needed (the difference that is found in 4 of 5
    tries; NaN for claims that rows are alike). spread: standard deviation between seeds in points.
    Seeded: the same plan, the same table. Raises ValueError for a recipe without an analysis plan.
    """
    rules = plan.recipe.plan
    if rules is None:
        raise ValueError(f"recipe {plan.recipe_name!r} has no analysis plan")
    spread = RELATIVE_SPREAD * rules.plain_top1 if spread is None else spread
    known = expected_errors(plan, rules.plain_top1)
    everyone = {
        plan.run(value, 0).row_id
        for experiment in plan.experiments.values()
        for value in experiment.variants.values()
    }
    means = dict.fromkeys(everyone, rules.plain_top1) | known
    of_top5 = dict.fromkeys(everyone, rules.plain_top5) | expected_errors(
        plan, rules.plain_top5, "top5_err"
    )
    rng = np.random.default_rng(0)
    narrower = spread * math.sqrt(rules.plain_top5 / rules.plain_top1)
    verdicts: dict[str, list[Verdict]] = {}
    for _ in range(pages):
        cases = made_up_page(
            plan,
            rules,
            normal_errors(means, lambda row: spread, 0.1, rng),
            normal_errors(of_top5, lambda row: narrower, 0.1, rng),
        )
        for verdict in judge_made_up(plan, rules, cases):
            verdicts.setdefault(verdict.claim, []).append(verdict)
    rows = []
    for name, experiment in plan.experiments.items():
        ids = {v: plan.run(value, 0).row_id for v, value in experiment.variants.items()}
        for claim in experiment.claims:
            found = verdicts.get(claim.id, [])
            named = {row for check in claim.checks for row in check.named}
            told = bool(named) and all(ids[row] in known for row in named)
            if not found:
                continue
            alike = any(getattr(check, "by_margin", False) for check in claim.checks)
            deciding = [v.deciding.difference for v in found if v.deciding and told]
            alpha = rules.looks[-1].alpha / max(len(verdicts), 1)
            rows.append(
                {
                    "claim": claim.id,
                    "experiment": name,
                    "says": claim.says,
                    "chance": (
                        sum(v.outcome == "supported" for v in found) / len(found)
                        if told
                        else math.nan
                    ),
                    "expected": float(np.mean([d.value for d in deciding]))
                    if deciding
                    else math.nan,
                    "needed": (
                        float(np.median([detectable(d.stderr, d.df, alpha) for d in deciding]))
                        if deciding and not alike
                        else math.nan
                    ),
                }
            )
    return pd.DataFrame(rows).set_index("claim")


def judged_by(plan: Plan, rules: AnalysisPlan) -> Plan:
    """The same plan judged by other rules."""
    return replace(plan, recipe=plan.recipe.model_copy(update={"plan": rules}))


def measured_spread(records: Mapping[str, Record]) -> float | None:
    """The standard deviation between sound seeds of a row, in points, over all rows with two or
    more; None where there are none.
    """
    rows: dict[str, list[float]] = {}
    for record in records.values():
        if not health(record):
            rows.setdefault(record.run.row_id, []).append(record.top1)
    spread = pooled_std(rows.values())
    return spread if spread > 0 else None


def sentences(plan: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    """What the plan's seeds can settle, in lines; none for a recipe without an analysis plan."""
    if plan.recipe.plan is None:
        return
    spread = measured_spread(records)
    found = what_can_be_settled(plan, spread)
    stated = found.dropna(subset=["chance"])
    sure = stated[stated["chance"] >= POWER]
    where = "measured" if spread else "assumed"
    points = spread or RELATIVE_SPREAD * plan.recipe.plan.plain_top1
    yield (
        f"if the paper's relative effects are true, {len(sure)} of {len(stated)} claims on errors"
        f" come out supported in 4 of 5 tries or more (standard deviation between seeds"
        f" {points:.2f} points, {where}):"
    )
    yield f"  {', '.join(map(str, sure.index))}"
    for claim, row in stated.drop(sure.index).iterrows():
        short = (
            "alike within the margin takes a smaller spread or more seeds"
            if math.isnan(row["needed"])
            else f"expected {row['expected']:+.2f} points, found from {row['needed']:.2f} on"
        )
        yield f"  {claim}: {100 * row['chance']:.0f}% ({short})"
    if others := [str(claim) for claim in found.index if claim not in stated.index]:
        yield f"  the paper has no numbers for {', '.join(others)}"
