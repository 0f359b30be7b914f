"""Records as a pandas table, one row a run: what a notebook starts from."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from senet_ablate.analysis.exclusions import health
from senet_ablate.records.store import Record, check_recorded, read_records
from senet_ablate.spec.plan import fitting_plans, list_recipes
from senet_ablate.spec.spec import SESpec

log = logging.getLogger(__name__)
FIELDS = tuple(TypeAdapter(SESpec).dump_python(SESpec()))


def load_records(results_dir: str | Path, recipe: str) -> pd.DataFrame:
    """A tidy table of a recipe's records, one row a run.

    Columns: id, seed, backbone, dataset, epochs, lr, plain (no SE), the fields of SESpec (missing
    for the plain network and where the block does not depend on them), top1 and top5 (test error,
    %), left_out (why the tables do not average the run in; empty for a sound one), params, macs,
    train_loss, diverged, wall_s, device, data, commit. The means of the tables are those of the
    rows with `left_out == ""`. Ask for the column of squeezes as d["squeeze"]: d.squeeze is a
    method of pandas. Records that belong to no row of the recipe are named in a warning. Raises
    BadInput, naming what is there, if the folder has no records of the recipe.
    """
    results = Path(results_dir)
    check_recorded(results, recipe)
    records = read_records(results, recipe)
    if recipe in list_recipes():
        for reason, ids in strangers(recipe, records).items():
            log.warning(
                "%s: %d records belong to no row of recipe %r: %s",
                results,
                len(ids),
                recipe,
                reason,
            )
    return tidy(records.values())


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a table, one row a run; see `load_records`."""
    rows = []
    for record in records:
        run = record.run
        train = {name: getattr(run.train, name) for name in ("backbone", "dataset", "epochs", "lr")}
        rows.append(
            {"id": record.id, "seed": run.seed, **train, "plain": run.se is None, **_block(run.se)}
            | {"top1": record.top1, "top5": record.top5, "left_out": "; ".join(health(record))}
            | {"params": record.params, "macs": record.macs}
            | {"train_loss": record.epochs[-1].train_loss if record.epochs else float("nan")}
            | {
                "diverged": record.diverged,
                "wall_s": record.provenance.wall_s,
                "device": record.provenance.device,
            }
            | {"data": record.provenance.data, "commit": record.provenance.commit}
        )
    columns = [
        "id",
        "seed",
        "backbone",
        "dataset",
        "epochs",
        "lr",
        "plain",
        *FIELDS,
        "top1",
        "top5",
        "left_out",
    ]
    columns += ["params", "macs", "train_loss", "diverged", "wall_s", "device", "data", "commit"]
    return pd.DataFrame(rows, columns=columns).astype({"reduction": "Int64", "diverged": "Int64"})


def _block(se: SESpec | None) -> dict[str, Any]:
    """The fields of a block, None where they do not count."""
    if se is None:
        return dict.fromkeys(FIELDS)
    fields = TypeAdapter(SESpec).dump_python(se) | dict.fromkeys(se.inert())
    return fields | {"stages": None if fields["stages"] is None else str(fields["stages"])}


def strangers(recipe: str, records: Mapping[str, Record]) -> dict[str, list[str]]:
    """Ids of the records that belong to no row of any experiment under a recipe as it stands, by
    the reason.
    """
    runs = [row.runs[0] for plan in fitting_plans(recipe).values() for row in plan.rows()]
    rows = {run.row_id for run in runs}
    trains = {run.train.model_dump_json(): run.train.model_dump(mode="json") for run in runs}
    found: dict[str, list[str]] = {}
    for record in records.values():
        if record.run.row_id in rows:
            continue
        mine = record.run.train.model_dump(mode="json")
        differing = [
            {key: mine[key] for key in mine if mine[key] != theirs[key]}
            for theirs in trains.values()
        ]
        least = min(differing, key=len)
        named = ", ".join(f"{key} {value}" for key, value in least.items())
        found.setdefault(
            f"the recipe differs: {named}" if named else "no experiment has such a block", []
        ).append(record.id)
    return found
