"""Error against cost: every distinct network of a recipe, and which another makes pointless."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from senet_ablate.analysis.stats import ALPHA, holm
from senet_ablate.analysis.tables import Table
from senet_ablate.records import Part
from senet_ablate.records.bench import WORK
from senet_ablate.spec import SESpec

NUMBERS = ("params", "macs", "step", "n", "top1", "top1_low", "top1_high")


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
    rows = []
    for table in tables:
        for variant, records in table.records.items():
            if not records or table.refused or table.experiment.variants[variant].own:
                continue
            model, run, name = table.model, records[0].run, f"{table.name}/{variant}"
            row = {str(key): value for key, value in table.rows.loc[variant].items()}
            if row["label"].isdigit():  # 16 says little without its table
                row["label"] = name
            if run.se in (None, SESpec()):
                row["label"] = "SE" if run.se else "plain"
            step = step_of.get(replace(run, seed=0).id)
            rows.append(row | {"network": name, "row": run.row_id, "step": step, "beaten_by": ""})
    columns = ["row", "network", "label", "also", *NUMBERS, "beaten_by"]
    found = pd.DataFrame(rows, columns=columns)
    also = found.groupby("row")["network"].agg(lambda names: ", ".join(names[1:]))
    found = found.drop_duplicates("row").set_index("row").assign(also=also)
    cheap, means = found[["params", "macs"]], found["top1"].round(9)  # equal whatever the order
    better = [
        (one, other)
        for other in found.sort_values(["top1", "params"]).index
        for one in found.index
        if means[other] < means[one] and (cheap.loc[other] <= cheap.loc[one]).all()
    ]
    for (one, other), p in zip(better, holm([model.p(*pair) for pair in better]), strict=True):
        if p < ALPHA and not found.loc[one, "beaten_by"]:
            found.loc[one, "beaten_by"] = found.loc[other, "network"]
    found = found.astype(
        dict.fromkeys(NUMBERS, float) | dict.fromkeys(("params", "macs", "n"), int)
    )
    return found.sort_values(["params", "macs", "top1"], kind="stable").set_index("network")
