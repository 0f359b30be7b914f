"""Error against cost:

every distinct network of a recipe, and which of them another one makes pointless.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import ALPHA, estimate, holm
from senet_ablate.analysis.tables import Table, difference_p
from senet_ablate.analysis.verdicts import errors_of
from senet_ablate.records.bench import WORK, Part
from senet_ablate.records.store import Record
from senet_ablate.spec.spec import SESpec


def tradeoffs(tables: Iterable[Table], timings: Sequence[Part] = ()) -> pd.DataFrame:
    """Every distinct network of a recipe once, cheapest first.

    Index network (the first row that trained it, `experiment/variant`); columns label, also (its
    other rows), params, macs, step (median training step in ms on the device that timed most
    networks; missing where it did not), n (seeds), top1, top1_low, top1_high (error, %, 95%
    interval over the seeds), beaten_by (the best network that has no more parameters and
    multiply-adds and is better by more than the noise: Welch's test with Holm's correction over all
    such pairs; empty if there is none). Rows that train another backbone, or with settings of their
    own, are left out: their error is another recipe's.
    """
    timing = max(timings, key=lambda part: len(part.rows), default=None)
    step_of = {
        row.run: row.median
        for row in (timing.rows if timing else ())
        if row.group == WORK["training_step"]
    }
    rows, networks = [], _networks(tables)
    for (name, *others), (label, records) in networks.items():
        got, run = estimate([record.top1 for record in records]), records[0].run
        step = step_of.get(replace(run, seed=0).id, float("nan"))
        cost = {"params": records[0].params, "macs": records[0].macs, "step": step}
        error = {"n": got.n, "top1": got.mean, "top1_low": got.low, "top1_high": got.high}
        label = "plain" if run.se is None else "SE" if run.se == SESpec() else label
        rows.append({"network": name, "label": label, "also": ", ".join(others), **cost, **error})
    columns = [
        "network",
        "label",
        "also",
        "params",
        "macs",
        "step",
        "n",
        "top1",
        "top1_low",
        "top1_high",
    ]
    frame = pd.DataFrame(rows, columns=columns).sort_values(
        ["params", "macs", "top1"], kind="stable"
    )
    frame = frame.set_index("network")
    rows_of = {names[0]: errors_of(records) for names, (_, records) in networks.items()}
    frame["beaten_by"] = _beaten(frame, rows_of)
    return frame


def _beaten(frame: pd.DataFrame, errors: dict[str, Errors]) -> list[str]:
    """For each row the best network that is no more expensive and better by more than the noise, or
    nothing.
    """
    model = ErrorModel(errors, shared=False)
    # equal whatever the order
    means = {str(name): round(estimate(errors[str(name)].values).mean, 9) for name in frame.index}
    better = [
        (name, other)
        for name in means
        for other in _no_more_expensive(frame, name)
        if means[other] < means[name]
    ]
    p_values = holm([difference_p(model, other, name) for name, other in better])
    beaten: dict[str, str] = {}
    for (name, other), p in zip(better, p_values, strict=True):
        if p < ALPHA and (name not in beaten or means[other] < means[beaten[name]]):
            beaten[name] = other
    return [beaten.get(name, "") for name in means]


def _networks(tables: Iterable[Table]) -> dict[tuple[str, ...], tuple[str, list[Record]]]:
    """The rows that share their runs -> label and runs; rows without any are left out, as are
    withheld tables.
    """
    found: dict[tuple[str, ...], tuple[list[str], str, list[Record]]] = {}
    for table in tables:
        for variant, records in table.records.items():
            if records and not table.refused and not table.experiment.variants[variant].own:
                name, label = f"{table.name}/{variant}", str(table.rows.loc[variant, "label"])
                label = name if label.isdigit() else label  # 16 says little without its table
                names, _, _ = found.setdefault(
                    tuple(record.id for record in records), ([], label, records)
                )
                names.append(name)
    return {tuple(names): (label, records) for names, label, records in found.values()}


def _no_more_expensive(frame: pd.DataFrame, name: str) -> list[str]:
    cheap = (frame["params"] <= frame.loc[name, "params"]) & (
        frame["macs"] <= frame.loc[name, "macs"]
    )
    return [str(other) for other in frame.index[cheap] if other != name]
