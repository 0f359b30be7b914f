"""How many seeds a difference of so many points would need, from the spread between seeds that was
seen.
"""

from collections.abc import Iterator
from pathlib import Path

from senet_ablate.analysis.stats import MOST_SEEDS, pooled_std, seeds_needed, std_interval
from senet_ablate.analysis.tables import Table, tables
from senet_ablate.analysis.verdicts import errors_of
from senet_ablate.records.store import read_records
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput


def needs(plan: Plan, results: Path, points: float) -> Iterator[str]:
    """A line a table: the seeds a row with which a two-sided test at 5% sees a true difference of
    `points` in 4 of 5 tries. Raises BadInput unless that is a positive number.
    """
    if not 0 < points < float("inf"):
        raise BadInput(f"--for wants a positive number of points, found {points:g}")
    for name, table in tables(plan, read_records(results, plan.recipe_name)).items():
        yield f"{name}: {_need(table, points)}"


def _need(table: Table, points: float) -> str:
    """By the spread pooled over the rows with two sound seeds or more, and at the ends of its 95%
    interval.
    """
    if table.refused:
        return f"cannot be said: the table is withheld: {table.refused}"
    sound = [errors_of(have).sound for have in table.records.values()]
    rows = [errors for errors in sound if len(errors) > 1]
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
