"""Error against cost: every distinct network of a recipe, and which another makes pointless."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import permutations

import pandas as pd

from senet_ablate.analysis.stats import ALPHA, holm
from senet_ablate.analysis.tables import Table
from senet_ablate.records import Part
from senet_ablate.records.bench import WORK
from senet_ablate.spec import SESpec

NUMBERS = ("params", "macs", "step", "n", "top1", "top1_low", "top1_high")


def tradeoffs(tables: Collection[Table], timings: Sequence[Part] = ()) -> pd.DataFrame:
    """Every distinct network of a recipe once, cheapest first.

    Index network (the first row that trained it, `experiment/variant`); columns label, also (its
    other rows), params, macs, step (median training step in ms on the device that timed most
    networks; missing where it did not), n (seeds), top1, top1_low, top1_high (error, %, mean over
    all seeds, 95% interval unless some failed), beaten_by (the best network that has no more
    parameters and multiply-adds and is better by more than the noise: by the model of errors of the
    page, with Holm's correction over all such pairs; empty if there is none, and of networks that
    are judged apart). Rows that train another backbone, or with settings of their own, are left
    out: their error is another recipe's.
    """
    timing = max(timings, key=lambda part: len(part.rows), default=None)
    steps = timing.rows if timing else ()
    step_of = {row.run: row.median for row in steps if row.group == WORK["training_step"]}
    rows = []
    for table in tables:
        for variant, row in table.rows.iterrows():
            if not row["n"] or table.experiment.variants[str(variant)].own:
                continue
            run, name = table.records[str(variant)][0].run, f"{table.name}/{variant}"
            label = name if row["label"].isdigit() else row["label"]  # 16 says little by itself
            if run.se in (None, SESpec()):
                label = "SE" if run.se else "plain"
            step = step_of.get(replace(run, seed=0).id)
            own = {"row": run.row_id, "network": name, "label": label, "step": step}
            rows.append(row.to_dict() | own | {"beaten_by": ""})
    columns = ["row", "network", "label", "also", *NUMBERS, "beaten_by"]
    found = pd.DataFrame(rows, columns=columns)
    also = found.groupby("row")["network"].agg(lambda names: ", ".join(names[1:]))
    found = found.drop_duplicates("row").set_index("row").assign(also=also)
    cheap, means = found[["params", "macs"]], found["top1"].round(9)  # equal whatever the order
    models = {  # of a pair: the first that has both
        (one, other): model
        for model in reversed([table.model for table in tables])
        for one, other in permutations(model.rows, 2)
    }
    better = [
        (one, other)
        for other in found.sort_values(["top1", "params"]).index
        for one in found.index
        if (one, other) in models
        and means[other] < means[one]
        and (cheap.loc[other] <= cheap.loc[one]).all()
    ]
    p_values = holm([models[pair].difference(*pair).p for pair in better])
    for (one, other), p in zip(better, p_values, strict=True):
        if p < ALPHA and not found.loc[one, "beaten_by"]:
            found.loc[one, "beaten_by"] = found.loc[other, "network"]
    found = found.astype(
        dict.fromkeys(NUMBERS, float) | dict.fromkeys(("params", "macs", "n"), int)
    )
    return found.sort_values(["params", "macs", "top1"], kind="stable").set_index("network")
