"""Every claim of the paper on errors as one effect, relative to the plain network's error."""

import math
from collections.abc import Mapping

import pandas as pd

from senet_ablate.analysis.claims.errors import ErrorCheck
from senet_ablate.analysis.stats import Estimate
from senet_ablate.analysis.tables import Table
from senet_ablate.analysis.verdicts import Verdict
from senet_ablate.spec import Plan
from senet_ablate.spec.paper import published

COLUMNS = (
    *("claim", "text", "quantity", "recipe", "runs", "warned", "contrast"),
    *("paper_effect", "effect", "low", "high", "margin", "holds_low", "holds_high"),
    *("n", "verdict", "marks"),
)


def effects(plan: Plan, tables: Mapping[str, Table]) -> pd.DataFrame:
    """One row a claim on top-1 or top-5 errors that the paper's tables have numbers for.

    Columns: claim, text, quantity (top1, top5), recipe, runs (how many of those planned are there),
    warned (whether the recipe says nothing about the paper), contrast (the
    difference of rows that decides, or, before anything is judged, that the paper's numbers
    support least), paper_effect, effect, low, high (95% interval over seeds), margin (all in
    percent of the plain network's error, for two rows that of the control of the first; below 0 is
    better), holds_low, holds_high (where the claim holds; all but 0 if both are 0), n (seeds of the
    row that has fewest, at the look that decided), verdict, marks (in part, provisional,
    exploratory). Missing where there is no run.
    """
    rows, of_plan = (
        [],
        {v.claim for one in tables.values() if one.name not in plan.apart for v in one.verdicts},
    )
    for table in tables.values():
        checks = {one.id: one.checks for one in table.experiment.claims}
        for verdict in table.verdicts:
            if table.name in plan.apart and verdict.claim in of_plan:  # a copy's
                continue
            asked = [one for one in checks[verdict.claim] if isinstance(one, ErrorCheck)]
            asked = [one for one in asked if one.quantity != "throughout"]
            decides = verdict.deciding and verdict.deciding.weights
            asked.sort(
                key=lambda check: (
                    decides not in check.contrasts(),
                    not all(check.quantity in published(table.experiment, r) for r in check.named),
                )
            )
            rows += [_effect(plan, table, verdict, check) for check in asked[:1]]
    planned = {run.id for run in plan.runs()}
    have = {one.id for table in tables.values() for of in table.records.values() for one in of}
    runs = f"{len(planned & have)} of {len(planned)}"
    found = pd.DataFrame(rows, columns=list(COLUMNS)).assign(runs=runs)
    return found[found["paper_effect"].notna()].reset_index(drop=True)


def _effect(plan: Plan, table: Table, verdict: Verdict, check: ErrorCheck) -> dict[str, object]:
    rules, experiment = plan.recipe.plan, table.experiment
    printed = {
        row: published(experiment, row).get(check.quantity, math.nan) for row in experiment.variants
    }

    def paper_effect(weights: Mapping[str, float]) -> float:
        return sum(weight * printed[row] for row, weight in weights.items())

    two_sided, decided = check.asks in ("within_margin", "apart"), verdict.deciding
    if decided and decided.weights not in check.contrasts():
        decided = None
    least = max(
        check.contrasts(),
        key=lambda one: abs(paper_effect(one)) if two_sided else paper_effect(one),
    )
    weights = dict(decided.weights) if decided else least
    first, *others = weights
    control = experiment.control_of(first) if len(others) == 1 else experiment.control
    plain = float(table.rows[check.quantity][control]) / 100
    if math.isnan(plain) and rules:  # what the plan expects, until it is measured
        plain = (getattr(rules, f"plain_{check.quantity}") or math.nan) / 100
    plain = plain or math.nan  # nothing is a share of 0
    warned = bool(plan.recipe.warning) or plan.recipe.images == "made up"
    exploratory = "exploratory" * bool(table.exploratory and not warned)
    margin, seen = verdict.margin / plain, decided.difference if decided else Estimate(math.nan)
    low, high = {  # between which effects the claim holds; but for 0 where both are 0
        "below_zero": (-math.inf, 0.0),
        "below_margin": (-math.inf, margin),
        "within_margin": (-margin, margin),
        "apart": (0.0, 0.0),
    }[check.asks]
    return {
        "claim": verdict.claim.removesuffix("/top-5"),
        "text": verdict.says.replace(" (top-5 error)", ""),
        "quantity": check.quantity,
        "recipe": plan.recipe_name,
        "warned": warned,
        "contrast": check.written(weights),
        # the paper's numbers are of a network that can host every row
        "paper_effect": math.nan
        if check.without
        else 100 * paper_effect(weights) / printed[control],
        "effect": seen.value / plain,
        "low": seen.low / plain,
        "high": seen.high / plain,
        "margin": margin,
        "holds_low": low,
        "holds_high": high,
        "n": decided.n if decided else min(int(table.rows["n"][row]) for row in weights),
        "verdict": verdict.outcome,
        "marks": ", ".join(filter(None, (verdict.marks, exploratory))),
    }
