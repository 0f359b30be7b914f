"""How many seeds a difference of so many points would need, from the spread between seeds that was
seen.
"""

from dataclasses import dataclass
from pathlib import Path

from senet_ablate.analysis.exclusions import health
from senet_ablate.analysis.stats import MOST_SEEDS, pooled_std, seeds_needed, std_interval
from senet_ablate.analysis.tables import Table, tables
from senet_ablate.records.store import read_records
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput


@dataclass(frozen=True)
class Need:
    """What one table's spread says.

    seeds: a row, None where it cannot be said; fewest and most: the same at the ends of the 95%
    interval of the spread, None at more than MOST_SEEDS. std: points, pooled over the rows with two
    sound seeds or more; runs: how many there are in these rows. reason: why nothing can be said.
    """

    name: str
    seeds: int | None = None
    fewest: int | None = None
    most: int | None = None
    std: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    rows: int = 0
    runs: int = 0
    reason: str = ""


def needs(plan: Plan, results: Path, points: float) -> list[Need]:
    """One answer a table. Raises BadInput unless `points` is a positive number."""
    if not 0 < points < float("inf"):
        raise BadInput(f"--for wants a positive number of points, found {points:g}")
    records = read_records(results, plan.recipe_name)
    return [need(one, points) for one in tables(plan, records).values()]


def need(one: Table, points: float) -> Need:
    """The seeds a row with which a two-sided test at 5% sees a true difference of `points` in 4 of
    5 tries.
    """
    if one.refused:
        return Need(one.name, reason=f"the table is withheld: {one.refused}")
    sound = [
        [record.top1 for record in have if not health(record)] for have in one.records.values()
    ]
    groups = [errors for errors in sound if len(errors) > 1]
    if not groups:
        return Need(one.name, reason="no row has two sound seeds yet, so no spread is known")
    runs, std = sum(map(len, groups)), pooled_std(groups)
    if not std > 0:
        return Need(
            one.name,
            rows=len(groups),
            runs=runs,
            reason="no two seeds of a row differ, so no spread was seen",
        )
    low, high = std_interval(std, runs - len(groups))
    seeds, fewest, most = (seeds_needed(points, spread) for spread in (std, low, high))
    return Need(one.name, seeds, fewest, most, std, low, high, len(groups), runs)


def sentence(one: Need, points: float) -> str:
    """The answer in one line."""
    if one.reason:
        return f"{one.name}: cannot be said: {one.reason}"
    return (
        f"{one.name}: {_count(one.seeds)} seeds a row for {points:g} points (if the spread is at"
        f" the ends of its interval: {_count(one.fewest)}, {_count(one.most)}); spread"
        f" {one.std:.2f} points [{one.low:.2f}, {one.high:.2f}], from {one.runs} runs in {one.rows}"
        f" row{'s' * (one.rows > 1)}"
    )


def _count(seeds: int | None) -> str:
    return f"more than {MOST_SEEDS:,}" if seeds is None else str(seeds)
