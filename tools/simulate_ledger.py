"""What the ledger's rules do on made-up errors, by the real `judge`: the table of docs/statistics.md.

    python tools/simulate_ledger.py [--pages 1000] [--seed 0] [--write docs/statistics.md]

Pages are all default tables of cifar100-cpu. An error is its row's mean plus the seed's own effect
plus noise.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import ttest_ind

from senet_ablate.analysis.claims.errors import Contrast, Differ, ErrorCheck
from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.settle import (
    Draw,
    expected_errors,
    judge_made_up,
    made_up_page,
    normal_errors,
)
from senet_ablate.analysis.stats import estimate
from senet_ablate.analysis.tables import Table, tables_of_cases
from senet_ablate.analysis.verdicts import Verdict
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.spec import AnalysisPlan, Look

PLAIN, POINTS = 48.26, 48.26 / 23.30  # this recipe's plain error; points here for one of the paper
Cell = tuple[float, bool]
SETTLED = ("supported", "contradicted")
BEGIN, END = "<!-- simulated -->", "<!-- end -->"


def rules_of(plan: Plan, seeds: int, reference: int, shared: bool = True) -> AnalysisPlan:
    """One look at so many seeds, at 5%."""
    rules = plan.recipe.plan
    assert rules is not None
    return rules.model_copy(
        update={
            "seeds": tuple(range(2, 2 + seeds)),
            "reference_seeds": tuple(range(2, 2 + reference)),
            "experiment_seeds": {},
            "looks": (Look(seeds=seeds, reference_seeds=reference, alpha=0.05),),
            "spread": "shared" if shared else "own",
            "block": "seed" if shared else "none",
        }
    )


class Simulation:
    """Pages of all default tables under one set of rules."""

    def __init__(self, rng: np.random.Generator, pages: int) -> None:
        full = read_plan("cifar100-cpu")
        default = {k: v for k, v in full.experiments.items() if not v.on_request}
        self.plan, self.rng, self.pages = replace(full, experiments=default), rng, pages
        self.checks = {c.id: c.checks for one in default.values() for c in one.claims}
        self.rows = {
            self.plan.run(value, 0).row_id: f"{name}/{variant}"
            for name, one in default.items()
            for variant, value in one.variants.items()
        }

    def under(self, rules: AnalysisPlan) -> Plan:
        """The same plan judged by other rules."""
        recipe = self.plan.recipe.model_copy(update={"plan": rules})
        return replace(self.plan, recipe=recipe)

    def verdicts(
        self, rules: AnalysisPlan, draw: Callable[[], Draw], pages: int
    ) -> Iterator[list[Verdict]]:
        """The verdicts on errors of so many pages."""
        plan = self.under(rules)
        for _ in range(pages):
            one = draw()
            yield judge_made_up(plan, one, one)

    def alike(self, spread: Callable[[str], float], failing: Mapping[str, float] = {}) -> Draw:
        """All rows with one mean."""
        means = dict.fromkeys(self.rows, PLAIN)
        return normal_errors(means, spread, 0.1, self.rng, failing)

    def false_if_equal(self, verdict: Verdict) -> bool:
        """Whether a verdict is wrong where all rows have one mean."""
        checks = [c for c in self.checks[verdict.claim] if isinstance(c, ErrorCheck)]
        if all(isinstance(check, Differ) for check in checks):
            return verdict.outcome == "supported"
        to_zero = [isinstance(c, Contrast) and c.side == "below_zero" for c in checks]
        if all(check.by_margin for check in checks) and not any(to_zero):
            return verdict.outcome == "contradicted"
        return verdict.outcome in SETTLED

    def row(self, name: str) -> str:
        """The id of a row `experiment/variant`."""
        return next(row for row, known in self.rows.items() if known == name)


def false_verdicts(simulation: Simulation) -> Iterator[tuple[str, str, str]]:
    """Any false verdict on a page where all rows have one mean."""
    noisy = simulation.row("excitation/ReLU")
    spreads = {
        "equal spreads": lambda row: 0.3,
        "one row 3 times as noisy": lambda row: 0.9 if row == noisy else 0.3,
        "spreads from 0.2 to 0.4": lambda row: 0.2 + 0.2 * (int(row[:8], 16) / 16**8),
    }
    for n in (3, 5, 10):
        rules = rules_of(simulation.plan, n, n)
        for name, spread in spreads.items():
            found = simulation.verdicts(
                rules, lambda s=spread: simulation.alike(s), simulation.pages
            )
            wrong = np.mean([any(map(simulation.false_if_equal, page)) for page in found])
            yield (
                f"any false verdict on a page, {name}, {n} seeds",
                "at most 5%",
                f"{100 * wrong:.1f}%",
            )


def failing_rows(simulation: Simulation) -> Iterator[tuple[str, str, str]]:
    """A row whose runs fail now and then, of equal mean otherwise, and one that mostly fails."""
    row = simulation.row("excitation/ReLU")
    named = {"T12.2", "T12.1"}
    for share in (0.1, 0.25):
        rules = rules_of(simulation.plan, 5, 15)
        draws = lambda share=share: simulation.alike(lambda _: 0.3, {row: share})  # noqa: E731
        found = simulation.verdicts(rules, draws, simulation.pages)
        wrong = np.mean([any(v.claim in named and v.outcome in SETTLED for v in p) for p in found])
        yield (
            f"a row of which {100 * share:.0f}% of the seeds fail called better or worse",
            "at most 5%",
            f"{100 * wrong:.1f}%",
        )
    for n in (5, 10, 15):
        rules = rules_of(simulation.plan, n, 15)
        draws = lambda: simulation.alike(lambda _: 0.3, {row: 0.6})  # noqa: E731
        found = list(simulation.verdicts(rules, draws, simulation.pages // 4))
        seen = np.mean(
            [any(v.claim == "T12.2" and v.outcome == "supported" for v in p) for p in found]
        )
        yield (
            f"a row of which 60% fail, {n} seeds, called worse than plain (15 seeds)",
            "at least 50%",
            f"{100 * seen:.0f}%",
        )


def intervals(simulation: Simulation) -> Iterator[tuple[str, str, str]]:
    """Coverage of the 95% intervals."""
    rng = simulation.rng
    for n, reference in ((3, 3), (5, 5), (5, 15)):
        for share in (0.0, 0.3):
            hits = []
            for _ in range(4 * simulation.pages):
                draw = normal_errors(
                    dict.fromkeys(map(str, range(12)), 50.0), lambda _: 0.3, share, rng
                )
                model = ErrorModel(
                    {
                        str(row): Errors(
                            {
                                seed: draw(str(row), seed)[0]
                                for seed in range(reference if row < 2 else n)
                            }
                        )
                        for row in range(12)
                    }
                )
                d = model.contrast({"5": 1, "0": -1})
                hits.append(d.low <= 0 <= d.high)
            yield (
                f"interval of a difference covers, {n} beside {reference} seeds, seed's share of the"
                f" variance {share:g}",
                "93 to 97%",
                f"{100 * np.mean(hits):.1f}%",
            )
    hits = []
    for _ in range(4 * simulation.pages):
        got = estimate(list(48 + 0.3 * rng.normal(size=5)))
        hits.append(got.low <= 48 <= got.high)
    yield "interval of a mean error covers, 5 seeds", "93 to 97%", f"{100 * np.mean(hits):.1f}%"
    hits = []
    for _ in range(4 * simulation.pages):
        values = np.where(rng.random(5) < 0.25, 99.0, 48 + 0.3 * rng.normal(size=5))
        got = estimate(list(values))
        hits.append(got.low <= 0.75 * 48 + 0.25 * 99 <= got.high)
    yield (
        "the same where 25% of the seeds fail (so no interval is printed)",
        "",
        f"{100 * np.mean(hits):.1f}%",
    )


def printed_difference(simulation: Simulation) -> Iterator[tuple[str, str, str]]:
    """A row apart from its control by the difference that stands under its table."""
    row = simulation.row("squeeze/Max")
    for n, reference in ((3, 3), (5, 5), (5, 15)):
        rules = rules_of(simulation.plan, n, reference)
        plan = simulation.under(rules)

        def table(draw: Draw, plan: Plan = plan) -> Table:
            return tables_of_cases(plan, made_up_page(plan, draw, draw))["squeeze"]

        printed, seen = [], []
        for _ in range(simulation.pages):
            drawn = cache(simulation.alike(lambda _: 0.3))
            apart = table(drawn).resolution  # by the spreads of this very page

            def moved(name: str, seed: int, drawn: Draw = drawn, by: float = apart) -> Cell:
                error, failed = drawn(name, seed)
                return (error - by if name == row else error), failed

            printed.append(apart)
            seen.append(bool(table(moved).rows.loc["Max", "differs"]))
        yield (
            f"a row apart by the difference under its table ({np.median(printed):.2f} points), {n}"
            f" beside"
            f" {reference} seeds, found",
            "75 to 85%",
            f"{100 * np.mean(seen):.0f}%",
        )


def settled(simulation: Simulation) -> Iterator[tuple[str, str, str]]:
    """Claims that come out supported where the paper is right."""
    plain = dict.fromkeys(simulation.rows, PLAIN)
    top1 = plain | expected_errors(simulation.plan, PLAIN)
    for spread in (0.15, 0.25):
        for n, reference, shared in ((5, 15, True), (5, 15, False), (5, 5, True), (5, 5, False)):
            rules = rules_of(simulation.plan, n, reference, shared)
            draws = lambda s=spread: normal_errors(  # noqa: E731
                top1, lambda _: s * POINTS, 0.1, simulation.rng
            )
            found = list(simulation.verdicts(rules, draws, simulation.pages // 10))
            mean = np.mean([sum(v.outcome == "supported" for v in page) for page in found])
            goal = (
                {0.15: "at least 18", 0.25: "at least 12"}[spread]
                if (reference, shared) == (15, True)
                else ""
            )
            test = "shared spread" if shared else "Welch"
            yield (
                f"claims on errors supported, of {len(found[0])}, at the paper's truth, SD {spread},"
                f" {n} beside {reference} seeds, {test}",
                goal,
                f"{mean:.1f}",
            )


def a_a(errors: Mapping[int, float], rng: np.random.Generator, splits: int = 1000) -> float:
    """The share of random splits of one row's seeds into two in which the halves differ at 5%."""
    seeds = list(errors)
    found = []
    for _ in range(splits):
        order = rng.permutation(seeds)
        half = len(order) // 2
        one, other = ([errors[seed] for seed in side] for side in (order[:half], order[half:]))
        found.append(ttest_ind(one, other, equal_var=False).pvalue < 0.05)
    return float(np.mean(found))


def plain_digits(folder: Path, count: int = 20) -> dict[int, float]:
    """Errors of so many plain networks of digits, trained here."""
    from senet_ablate.spec.plan import read_recipe
    from senet_ablate.train.numerics import set_numerics

    train_spec = read_recipe("digits").train
    set_numerics(train_spec)  # before torch is loaded
    import torch

    from senet_ablate.data import load_images
    from senet_ablate.spec.spec import Run
    from senet_ablate.train.loop import train

    torch.set_num_threads(1)
    images = load_images(train_spec, folder)
    runs = [Run(train_spec, None, seed) for seed in range(100, 100 + count)]
    return {run.seed: train(run, images, torch.device("cpu")).top1 for run in runs}


def real_runs(rng: np.random.Generator, folder: Path) -> Iterator[tuple[str, str, str]]:
    """An A/A test: one network against itself."""
    share = a_a(plain_digits(folder), rng)
    yield (
        "20 plain networks of digits, trained, split at random 1,000 times: the halves differ",
        "at most 5%",
        f"{100 * share:.1f}%",
    )


def main() -> None:
    """Simulate and print, or write into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    simulation = Simulation(np.random.default_rng(options.seed), options.pages)
    lines = ["| what | wanted | found |", "|:--|--:|--:|"]
    for part in (false_verdicts, failing_rows, intervals, printed_difference, settled):
        for what, wanted, found in part(simulation):
            lines.append(f"| {what} | {wanted} | {found} |")
            print(lines[-1], flush=True)
    for what, wanted, found in real_runs(simulation.rng, options.data):
        lines.append(f"| {what} | {wanted} | {found} |")
        print(lines[-1], flush=True)
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        table = "\n".join(lines)
        options.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
