"""Error against cost: every distinct network of a recipe, and which another makes pointless."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from senet_ablate.analysis.stats import ALPHA, holm
from senet_ablate.analysis.tables import Table
from senet_ablate.analysis.verdicts import errors_of
from senet_ablate.records.bench import WORK, Part
from senet_ablate.spec.spec import SESpec

COLUMNS = (
    *("network", "label", "also", "params", "macs", "step"),
    *("n", "top1", "top1_low", "top1_high", "beaten_by"),
)


def tradeoffs(tables: Iterable[Table], timings: Sequence[Part] = ()) -> pd.DataFrame:
    """Every distinct network of a recipe once, cheapest first.

    Index network (the first row that trained it, `experiment/variant`); columns label, also (its
    other rows), params, macs, step (median training step in ms on the device that timed most
    networks; missing where it did not), n (seeds), top1, top1_low, top1_high (error, %, mean over
    all seeds, 95% interval unless some failed), beaten_by (the best network that has no more
    parameters and multiply-adds and is better by more than the noise: by the model of errors of the
    page, with Holm's correction over all such pairs; empty if there is none). Rows that train
    another backbone, or with settings of their own, are left out: their error is another recipe's.
    """
    timing = max(timings, key=lambda part: len(part.rows), default=None)
    steps = timing.rows if timing else ()
    step_of = {row.run: row.median for row in steps if row.group == WORK["training_step"]}
    networks: dict[str, dict[str, Any]] = {}  # by row id
    for table in tables:
        for variant, records in table.records.items():
            if not records or table.refused or table.experiment.variants[variant].own:
                continue
            run, first = records[0].run, records[0]
            name, label = f"{table.name}/{variant}", str(table.rows.loc[variant, "label"])
            if same := networks.get(run.row_id):
                same["also"] = ", ".join(filter(None, (same["also"], name)))
                continue
            label = "plain" if run.se is None else "SE" if run.se == SESpec() else label
            label = name if label.isdigit() else label  # 16 says little without its table
            got, step = errors_of(records).estimate, step_of.get(replace(run, seed=0).id, math.nan)
            row = {"network": name, "label": label, "also": "", "beaten_by": "", "step": step}
            row |= {"params": first.params, "macs": first.macs, "n": got.n, "top1": got.mean}
            networks[run.row_id] = row | {"top1_low": got.low, "top1_high": got.high}
            model = table.model
    means = {row: round(one["top1"], 9) for row, one in networks.items()}  # whatever the order
    better = [
        (one, other)
        for other in sorted(means, key=lambda row: (means[row], networks[row]["params"]))
        for one in means
        if means[other] < means[one]
        and all(networks[other][cost] <= networks[one][cost] for cost in ("params", "macs"))
    ]
    p_values = holm([model.p(*pair) for pair in better])
    for (one, other), p in zip(better, p_values, strict=True):
        if p < ALPHA:
            networks[one]["beaten_by"] = networks[one]["beaten_by"] or networks[other]["network"]
    frame = pd.DataFrame([*networks.values()], columns=COLUMNS)
    return frame.sort_values(["params", "macs", "top1"], kind="stable").set_index("network")
