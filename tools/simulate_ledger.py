"""What the ledger's rules do on made-up errors: the real `judge`, pages of cifar100-cpu, seeded.

    python tools/simulate_ledger.py [--pages N] [--write docs/statistics.md]

Every row's error is its planted mean plus a seed's own effect plus noise. Printed: how often a page
has any false verdict, how often an interval covers, what is found of what is there.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from senet_ablate.analysis.claims.errors import Differ, ErrorCheck
from senet_ablate.analysis.evidence import Evidence
from senet_ablate.analysis.verdicts import Case, Look, Verdict, judge
from senet_ablate.spec.paper import published
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.spec import Run, margins

PLAIN = 48.26
Draw = Callable[[Run, np.random.Generator], float]


@dataclass(frozen=True)
class Made:
    """As much of a record as the ledger reads."""

    run: Run
    top1: float
    diverged: int | None = None

    classes, train_images, tested, answered, majority = 100, 50_000, 10_000, 100, 100
    params, macs, gates, epochs = 1, 1, {}, ()
    correct, wrong_top5 = "", 0
    provenance = SimpleNamespace(data="0" * 64)

    @property
    def top5(self) -> float:
        """As far from the plain network's as the paper's top-5 gain is, of the same noise."""
        return 18.78 + (self.top1 - PLAIN) * 18.78 / PLAIN

    @property
    def throughout(self) -> float:
        """The same."""
        return self.top1

    @property
    def wrong_top1(self) -> int:
        """Counted."""
        return round(self.top1 * 100)


def planted(plan: Plan) -> dict[str, float]:
    """The mean error of each row where the paper's relative effects are true, by row id; rows that
    the paper does not have err as the plain network.
    """
    means: dict[str, float] = {}
    for name, experiment in plan.experiments.items():
        plain = published(experiment, experiment.control).get("top1_err")
        for variant, value in experiment.variants.items():
            error = published(experiment, variant).get("top1_err")
            relative = error / plain if error and plain else 1.0
            means.setdefault(plan.run(value, 0).row_id, PLAIN * relative)
            if relative != 1:
                means[plan.run(value, 0).row_id] = PLAIN * relative
    return means


def page(
    plan: Plan,
    draw: Callable[[str, int], tuple[float, bool]],
    seeds: int,
    reference: int,
) -> dict[str, Case]:
    """Every default table with made-up errors, `draw(row id, seed)` -> error and whether it failed."""
    made: dict[str, list[Made]] = {}
    cases = {}
    for name, experiment in plan.experiments.items():
        rows: dict[str, list[Any]] = {}
        ids = {}
        for variant, value in experiment.variants.items():
            if f"{name}/{variant}" in plan.recipe.cannot_host:
                rows[variant] = []
                ids[variant] = plan.run(value, 0).row_id
                continue
            row_id = ids[variant] = plan.run(value, 0).row_id
            if row_id not in made:
                count = reference if len(plan.seeds_of(name, value)) > 5 else seeds
                made[row_id] = [
                    Made(plan.run(value, seed), error, 1 if failed else None)
                    for seed in range(2, 2 + count)
                    for error, failed in [draw(row_id, seed)]
                ]
            rows[variant] = made[row_id]
        evidence = Evidence(
            rows=rows,
            variants=experiment.variants,
            margins=margins(plan.recipe.plan.expected_gain),
            cannot_host={v: "no place" for v in rows if f"{name}/{v}" in plan.recipe.cannot_host},
        )
        cases[name] = Case(experiment, evidence, (rows,), "", ids)
    return cases


def verdicts_on_errors(cases: dict[str, Case], own: bool = False) -> list[Verdict]:
    """The verdicts of one look at 5%, each claim once."""
    judged = judge(cases, [Look(0.05)], shared=not own, block=not own)
    return [v for made in judged.values() for v in made if v.ledger == "error"]


def drawing(
    means: dict[str, float],
    sd: Callable[[str], float],
    icc: float,
    rng: np.random.Generator,
    failing: tuple[str, float] = ("", 0.0),
) -> Callable[[str, int], tuple[float, bool]]:
    """Errors with a share `icc` of the variance from the seed."""
    of_seed: dict[int, float] = {}

    def draw(row: str, seed: int) -> tuple[float, bool]:
        block = of_seed.setdefault(seed, rng.normal())
        noise = math.sqrt(icc) * block + math.sqrt(1 - icc) * rng.normal()
        if row == failing[0] and rng.random() < failing[1]:
            return 99.0, True
        return means[row] + sd(row) * noise, False

    return draw


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    full = read_plan("cifar100-cpu")
    plan = replace(full, experiments={k: v for k, v in full.experiments.items() if k != "schedule"})
    truth = planted(plan)
    null = dict.fromkeys(truth, PLAIN)
    for sd in (0.15, 0.25):
        for n, reference in ((5, 15), (5, 5)):
            for own in (False, True):
                counts = Counter()
                for _ in range(options.pages // 4):
                    cases = page(
                        plan, drawing(truth, lambda row: sd * PLAIN / 23.3, 0.1, rng), n, reference
                    )
                    for v in verdicts_on_errors(cases, own):
                        counts[v.outcome] += 1
                print(
                    "paper's truth",
                    sd,
                    n,
                    reference,
                    "own" if own else "model",
                    {k: round(c / (options.pages // 4), 2) for k, c in counts.items()},
                )
    for n in (3, 5, 10):
        for icc in (0.0, 0.2):
            wrong = 0
            for _ in range(options.pages):
                cases = page(plan, drawing(null, lambda row: 0.5, icc, rng), n, n)
                wrong += any(false_if_equal(plan, v) for v in verdicts_on_errors(cases))
            print("null", n, icc, wrong / options.pages)


def false_if_equal(plan: Plan, verdict: Verdict) -> bool:
    """Whether a verdict is wrong where all rows have one mean."""
    claims = {c.id: c for one in plan.experiments.values() for c in one.claims}
    alike = all(
        check.by_margin and getattr(check, "side", "") != "below_zero"
        for check in claims[verdict.claim].checks
        if isinstance(check, ErrorCheck)
    )
    kinds = {type(check) for check in claims[verdict.claim].checks}
    if alike or kinds == {Differ}:
        return verdict.outcome == ("contradicted" if alike else "supported")
    return verdict.outcome in ("supported", "contradicted")


if __name__ == "__main__":
    main()
