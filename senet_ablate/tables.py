"""Tables as data: one row a variant, our numbers over the seeds beside the paper's."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from senet_ablate.paper import published
from senet_ablate.plan import Plan
from senet_ablate.spec import Experiment, Variant, digest
from senet_ablate.stats import estimate
from senet_ablate.store import Record


@dataclass(frozen=True)
class Table:
    """One experiment under one recipe.

    rows: index variant; columns label, n, top1, top1_low, top1_high, top5, top5_low, top5_high (test error, %, mean
    and 95% Student-t interval over seeds), params, macs, paper_top1, paper_top5 (%), paper_params (M), paper_gflops,
    remark.
    records: by variant, in the order of the seeds. missing: variant -> seeds that the recipe asks for and nobody ran.
    refused: why the numbers are withheld, empty if they are not.
    """

    name: str
    experiment: Experiment
    rows: pd.DataFrame
    records: dict[str, list[Record]]
    missing: dict[str, list[int]]
    refused: str = ""


def table(plan: Plan, name: str, records: dict[str, Record]) -> Table:
    """The table of an experiment, from whatever records there are."""
    experiment = plan.experiments[name]
    by_run = _by_seedless_run(records)
    found = {
        variant: [] if _unhosted(plan, name, variant) else by_run.get(_seedless(plan, value), [])
        for variant, value in experiment.variants.items()
    }
    missing = {
        variant: [seed for seed in range(plan.seeds) if seed not in {record.run["seed"] for record in have}]
        for variant, have in found.items()
        if not _unhosted(plan, name, variant)
    }
    copies = sorted({record.provenance.data for have in found.values() for record in have})
    refused = f"records come from different copies of the data: {', '.join(copies)}" if len(copies) > 1 else ""
    rows = [_row(plan, name, variant, [] if refused else have) for variant, have in found.items()]
    return Table(
        name,
        experiment,
        pd.DataFrame(rows).set_index("variant"),
        found,
        {variant: seeds for variant, seeds in missing.items() if seeds},
        refused,
    )


def _row(plan: Plan, name: str, variant: str, records: list[Record]) -> dict[str, object]:
    value = plan.experiments[name].variants[variant]
    paper = published(plan.experiments[name], variant)
    row: dict[str, object] = {"variant": variant, "label": value.label or variant, "n": len(records)}
    for quantity in ("top1", "top5"):
        got = estimate(np.array([getattr(record, quantity) for record in records]))
        row |= {quantity: got.mean, f"{quantity}_low": got.low, f"{quantity}_high": got.high}
    row |= {key: getattr(records[0], key) if records else None for key in ("params", "macs")}
    row |= {
        f"paper_{ours}": paper.get(theirs)
        for ours, theirs in (("top1", "top1_err"), ("top5", "top5_err"), ("params", "params"), ("gflops", "gflops"))
    }
    return row | {"remark": _remark(plan, name, variant, value, records)}


def _remark(plan: Plan, name: str, variant: str, value: Variant, records: list[Record]) -> str:
    unhosted = _unhosted(plan, name, variant)
    remarks = [value.note, f"not hosted: {unhosted}" if unhosted else ""]
    remarks += [f"seed {record.run['seed']} diverged" for record in records if record.diverged is not None]
    return "; ".join(filter(None, remarks))


def _unhosted(plan: Plan, name: str, variant: str) -> str:
    return plan.recipe.cannot_host.get(f"{name}/{variant}", "")


def _seedless(plan: Plan, variant: Variant) -> str:
    return digest({key: field for key, field in plan.run(variant, 0).fields.items() if key != "seed"})


def _by_seedless_run(records: dict[str, Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in sorted(records.values(), key=lambda record: record.run["seed"]):
        key = digest({key: field for key, field in record.run.items() if key != "seed"})
        groups.setdefault(key, []).append(record)
    return groups
