"""Any two rows held against each other: over seeds, over test images, and by what they cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from senet_ablate.analysis.escape import markdown_cell, markdown_table
from senet_ablate.analysis.exclusions import mixed, one_network, shared_seeds
from senet_ablate.analysis.model import Errors
from senet_ablate.analysis.stats import (
    ALPHA,
    Estimate,
    image_stderr,
    mcnemar,
    probability_of_improvement,
)
from senet_ablate.analysis.tables import Table, read_reported, tables
from senet_ablate.records import Record, read_records
from senet_ablate.records.store import check_recorded
from senet_ablate.spec import BadInput, nearest
from senet_ablate.spec.plan import recipe_name

Found = Iterator[tuple[str, Estimate, str]]
"""What is asked, the answer, and that in words."""


@dataclass(frozen=True)
class RowComparison:
    """Two rows, in one sentence and in numbers.

    rows: index what is asked; columns value, low, high (95% interval), p (two-sided, as it is: one
    pair that was chosen beforehand needs no correction, the best of many does), says. Errors are in
    percent, differences in points of a - b.
    """

    sentence: str
    rows: pd.DataFrame

    def _repr_markdown_(self) -> str:
        cells = [
            {
                "": what,
                "value": _number(row["value"]),
                "95% interval": ""
                if np.isnan(row["low"])
                else f"{row['low']:.2f} to {row['high']:.2f}",
                "p": _number(row["p"], 3),
                "in words": row["says"],
            }
            for what, row in self.rows.iterrows()
        ]
        return f"{markdown_cell(self.sentence)}\n\n{markdown_table(pd.DataFrame(cells))}"


def compare(results: str | Path, recipe: str, a: str, b: str) -> RowComparison:
    """Two rows of a recipe (its name, or the path of its file), named `experiment/variant` or by a
    variant's name alone where that is clear.

    Raises BadInput for an unknown or ambiguous name, for a row without a run, and for rows that
    were not tested on the same images.
    """
    folder, name = Path(results), recipe_name(recipe)
    check_recorded(folder, name)
    records = read_records(folder, name)
    plan = read_reported(recipe, records, folder, begun=True)
    return compare_rows(tables(plan, records), a, b)


def compare_rows(tables: Mapping[str, Table], a: str, b: str) -> RowComparison:
    """As `compare`, of tables that are at hand, by the model of errors of their page."""
    names = find(tables, a), find(tables, b)
    one, other = sides = [runs(tables, name) for name in names]
    for name, records in zip(names, sides, strict=True):
        if not records:
            raise BadInput(f"row {name!r} has no run")
    if one == other:
        raise BadInput(f"{names[0]} and {names[1]} are the same runs")
    if unfair := mixed(dict(zip(names, sides, strict=True))):
        raise BadInput(f"the two rows cannot be compared: {unfair}")
    rows = [records[0].run.row_id for records in sides]
    models = [table.model for table in tables.values() if {*rows} <= table.model.rows.keys()]
    if not models:
        raise BadInput(
            f"{names[0]} and {names[1]} stand in no table together: judged apart, or withheld"
        )
    model = models[0]
    errors = {"a": model.rows[rows[0]], "b": model.rows[rows[1]]}
    failed = " and ".join(side for side, row in errors.items() if row.failed)
    sentence = f"a = {names[0]}, b = {names[1]}."
    if count := one_network(one, other):  # what is certain is not tested
        difference, test = Estimate(0.0), "equal bit for bit"
        sentence += f" They are one network: equal bit for bit in {count} of {count} seeds."
    else:
        difference = model.difference(*rows)
        test = "ranks over all seeds, failed ones the worst" if failed else model.test
        sentence += _said(len(one), len(other), difference)
        sentence += f" {failed} has failed runs: compared by ranks." if failed else ""
    train = other[0].run.train
    if keys := sorted(key for key, value in one[0].run.train if value != getattr(train, key)):
        sentence += f" Mind: they differ in {', '.join(keys)} too, not in SE alone."
    found = [
        *_over_seeds(errors, difference, test),
        *_over_images(one, other),
        *_costs(one[0], other[0]),
    ]
    cells = [(what, d.value, d.low, d.high, d.p, says) for what, d, says in found]
    columns = ["", "value", "low", "high", "p", "says"]
    return RowComparison(sentence, pd.DataFrame(cells, columns=columns).set_index(""))


def find(tables: Mapping[str, Table], name: str) -> str:
    """The row `experiment/variant` that a name means. Raises BadInput."""
    rows = [f"{table.name}/{variant}" for table in tables.values() for variant in table.records]
    if name in rows:
        return name
    meant = [row for row in rows if row.partition("/")[2] == name]
    if not meant:
        raise BadInput(f"unknown row {name!r}; {nearest(name, rows)}")
    if len({tuple(record.id for record in runs(tables, row)) for row in meant}) > 1:
        raise BadInput(f"row {name!r} means several networks: {', '.join(meant)}")
    return meant[0]


def runs(tables: Mapping[str, Table], name: str) -> list[Record]:
    """All runs of the row `experiment/variant`, by seed."""
    experiment, _, variant = name.partition("/")
    return tables[experiment].records[variant]


def _over_seeds(errors: Mapping[str, Errors], difference: Estimate, test: str) -> Found:
    """What new seeds would give."""
    for side, row in errors.items():
        yield f"error of {side}, %", row.estimate, f"mean of {len(row.by_seed)} seeds"
    says = test if np.isnan(difference.p) else f"{test}: would new seeds show it again?"
    yield "difference of the means, points", difference, says
    chance = Estimate(probability_of_improvement(*(row.worst_failed for row in errors.values())))
    yield "probability of improvement", chance, "how often a run of a beats a run of b"


def _over_images(a: Sequence[Record], b: Sequence[Record]) -> Found:
    """What other test images would give, for these trained networks."""
    right_a, right_b = (np.array([one.right() for one in side]) for side in (a, b))
    value = 100 * float(right_b.mean() - right_a.mean())
    half = 1.96 * image_stderr(right_a, right_b)
    difference = Estimate(value, low=value - half, high=value + half)
    yield "difference on the images, points", difference, "these networks, test images drawn anew"
    for one, other in shared_seeds(a, b):
        only_a, only_b, p = mcnemar(one.right(), other.right())
        points = Estimate(100 * (only_b - only_a) / one.tested, p=p)
        says = f"McNemar: only a is right on {only_a} images, only b on {only_b}"
        yield f"seed {one.run.seed}: difference, points", points, says


def _costs(a: Record, b: Record) -> Found:
    for what, one, other in (("parameters", a.params, b.params), ("multiply-adds", a.macs, b.macs)):
        yield f"{what}, a over b", Estimate(one / other), f"{one:,} against {other:,}"


def _said(n_a: int, n_b: int, d: Estimate) -> str:
    """What the seeds allow to be said."""
    alike = f"{n_a} seeds each" if n_a > 1 else "one seed each"
    seeds = alike if n_a == n_b else f"{n_a} and {n_b} seeds"
    more = "more" if d.value > 0 else "less"
    gap = f" Over {seeds} a errs by {abs(d.value):.2f} points {more} than b"
    if np.isnan(d.p):
        return f"{gap}; without a spread between seeds nothing can be said about new runs."
    interval = "p < 0.001" if d.p < 0.001 else f"p = {d.p:.3f}"
    if not np.isnan(d.low):
        interval = f"95% interval {d.low:+.2f} to {d.high:+.2f}, {interval}"
    if d.p < ALPHA:
        return f"{gap}, and that is more than the noise between seeds ({interval})."
    cautious = "; the test allows for rows that scatter more" if d.low * d.high > 0 else ""
    return f"{gap}, which the noise between seeds can explain ({interval}{cautious})."


def _number(value: float, digits: int = 2) -> str:
    if np.isnan(value):
        return ""
    least = 10**-digits
    return f"< {least:g}" if 0 < abs(value) < least else f"{value:.{digits}f}"
