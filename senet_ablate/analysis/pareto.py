"""Error against cost: every distinct network of a recipe, and which another makes pointless."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import ALPHA, holm
from senet_ablate.analysis.tables import Table
from senet_ablate.analysis.verdicts import errors_of
from senet_ablate.records.bench import WORK, Part
from senet_ablate.spec.spec import SESpec

COLUMNS = (
    *("network", "label", "also", "params", "macs", "step"),
    *("n", "top1", "top1_low", "top1_high"),
)


def tradeoffs(tables: Iterable[Table], timings: Sequence[Part] = ()) -> pd.DataFrame:
    """Every distinct network of a recipe once, cheapest first.

    Index network (the first row that trained it, `experiment/variant`); columns label, also (its
    other rows), params, macs, step (median training step in ms on the device that timed most
    networks; missing where it did not), n (seeds), top1, top1_low, top1_high (error, %, mean over
    all seeds, 95% interval unless some failed), beaten_by (the best network that has no more
    parameters and multiply-adds and is better by more than the noise: Welch's test, or ranks where
    runs failed, with Holm's correction over all such pairs; empty if there is none). Rows that
    train another backbone, or with settings of their own, are left out: their error is another
    recipe's.
    """
    timing = max(timings, key=lambda part: len(part.rows), default=None)
    steps = timing.rows if timing else ()
    step_of = {row.run: row.median for row in steps if row.group == WORK["training_step"]}
    networks: dict[tuple[str, ...], dict[str, Any]] = {}
    errors: dict[str, Errors] = {}
    for table in tables:
        for variant, records in table.records.items():
            if not records or table.refused or table.experiment.variants[variant].own:
                continue
            name, label = f"{table.name}/{variant}", str(table.rows.loc[variant, "label"])
            same = networks.setdefault(tuple(record.id for record in records), {})
            if same:
                same["also"] = ", ".join(filter(None, (same["also"], name)))
                continue
            run, errors[name] = records[0].run, errors_of(records)
            label = "plain" if run.se is None else "SE" if run.se == SESpec() else label
            label = name if label.isdigit() else label  # 16 says little without its table
            same |= {"network": name, "label": label, "also": ""}
            same |= {"params": records[0].params, "macs": records[0].macs}
            got, step = errors[name].estimate, step_of.get(replace(run, seed=0).id, math.nan)
            same |= {"step": step, "n": got.n, "top1": got.mean}
            same |= {"top1_low": got.low, "top1_high": got.high}
    frame = pd.DataFrame([*networks.values()], columns=COLUMNS)
    frame = frame.sort_values(["params", "macs", "top1"], kind="stable").set_index("network")
    frame["beaten_by"] = _beaten(frame, errors)
    return frame


def _beaten(frame: pd.DataFrame, errors: Mapping[str, Errors]) -> list[str]:
    """For each row the best network that is no more expensive and better by more than the noise, or
    nothing.
    """
    model, costs = ErrorModel(errors, shared=False), frame[["params", "macs"]]
    names, means = list(map(str, frame.index)), frame["top1"].round(9)  # equal whatever the order
    better = [
        (name, other)
        for other in sorted(names, key=lambda name: means[name])
        for name in names
        if means[other] < means[name] and (costs.loc[other] <= costs.loc[name]).all()
    ]
    beaten: dict[str, str] = {}
    for pair, p in zip(better, holm([model.p(*pair) for pair in better]), strict=True):
        if p < ALPHA:
            beaten.setdefault(*pair)
    return [beaten.get(name, "") for name in names]
