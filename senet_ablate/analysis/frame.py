"""Records as a pandas table, one row a run: what a notebook starts from."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from senet_ablate.analysis.exclusions import health
from senet_ablate.records import Record, read_records
from senet_ablate.records.store import check_recorded
from senet_ablate.spec import SESpec, list_recipes, read_recipe
from senet_ablate.spec.plan import fitting_plans
from senet_ablate.spec.schema import field_names

log = logging.getLogger(__name__)
FIELDS = tuple(field_names(SESpec))


def load_records(results_dir: str | Path, recipe: str) -> pd.DataFrame:
    """A tidy table of a recipe's records, one row a run.

    Columns: id, seed, backbone, dataset, epochs, lr, plain (no SE), the fields of SESpec (missing
    for the plain network and where the block does not depend on them; stages as text), top1 and
    top5 (test error, %), left_out (why the run has failed; empty for a sound one), params, macs,
    train_loss, diverged, wall_s, device, data, commit. The means of the tables are over all rows;
    those that they mark as conditional are over the rows with `left_out == ""`. Ask for the column
    of squeezes as d["squeeze"]: d.squeeze is a method of pandas. Records that belong to no row of
    the recipe are named in a warning. Raises BadInput, naming what is there, if the folder has no
    records of the recipe.
    """
    results = Path(results_dir)
    check_recorded(results, recipe)
    records = read_records(results, recipe)
    if recipe in list_recipes():
        for reason, ids in strangers(recipe, records).items():
            count = len(ids)
            log.warning(
                "%s: %d records belong to no row of recipe %r: %s", results, count, recipe, reason
            )
    return tidy(records.values())


OF_TRAINING = ("backbone", "dataset", "epochs", "lr")
OF_RECORD = ("id", "top1", "top5", "params", "macs", "diverged")
OF_ORIGIN = ("wall_s", "device", "data", "commit")
COLUMNS = (
    *("id", "seed", *OF_TRAINING, "plain", *FIELDS, "top1", "top5", "left_out"),
    *("params", "macs", "train_loss", "diverged", *OF_ORIGIN),
)


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a table, one row a run; see `load_records`."""
    rows = []
    for record in records:
        run = record.run
        row = {"seed": run.seed, "plain": run.se is None, "left_out": health(record)}
        row["train_loss"] = record.epochs[-1].train_loss if record.epochs else math.nan
        sources = (run.train, OF_TRAINING), (record, OF_RECORD), (record.provenance, OF_ORIGIN)
        for source, names in sources:
            row |= {name: getattr(source, name) for name in names}
        rows.append(row | _block(run.se))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"reduction": "Int64", "bias": "boolean", "diverged": "Int64"})


def _block(se: SESpec | None) -> dict[str, Any]:
    """The fields of a block, None where they do not count."""
    if se is None:
        return dict.fromkeys(FIELDS)
    return asdict(se) | {"stages": str(se.stages)} | dict.fromkeys(se.inert())


def strangers(recipe: str, records: Mapping[str, Record]) -> dict[str, list[str]]:
    """Ids of the records that belong to no row of any experiment under a recipe as it stands, by
    the reason.
    """
    read_recipe(recipe)  # which says what is wrong with it
    runs = [row.runs[0] for plan in fitting_plans(recipe).values() for row in plan.rows()]
    rows = {run.row_id for run in runs}
    trains = dict.fromkeys(run.train for run in runs)
    found: dict[str, list[str]] = {}
    for record in records.values():
        if record.run.row_id in rows:
            continue
        differing = (
            [f"{key} {value}" for key, value in record.run.train if value != getattr(train, key)]
            for train in trains
        )
        fewest: list[str] = min(differing, key=len)
        named = ", ".join(fewest)
        reason = f"the recipe differs: {named}" if named else "no experiment has such a block"
        found.setdefault(reason, []).append(record.id)
    return found
