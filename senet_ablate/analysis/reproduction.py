"""How far records trained anew agree with committed ones: by record, by row, by verdict.

A row agrees where the 95% interval of the difference of its means (Welch) lies within the margin
that the ledger uses for "alike", and differs where it lies outside; in between, too few seeds were
trained to say. Rows whose records are all equal bit for bit need no interval.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.model import ErrorModel, Errors
from senet_ablate.analysis.stats import Estimate
from senet_ablate.analysis.tables import Table, tables
from senet_ablate.analysis.verdicts import errors_of
from senet_ablate.records import Record, read_record
from senet_ablate.records.facts import read_facts, readable
from senet_ablate.records.store import runs_folder
from senet_ablate.spec import BadInput, Plan
from senet_ablate.spec.schema import Frozen

Agreement = Literal["bit for bit", "agrees", "differs", "too few seeds to say"]


class RowAgreement(Frozen):
    """One distinct row. Errors are means of top-1 in %, differences (ours - committed) in points.

    low, high: 95% interval of the difference; None without a spread, or where all are equal. equal:
    records that are equal bit for bit, of `seeds`. failed: runs that failed, committed and ours.
    """

    experiment: str
    variant: str
    seeds: int
    equal: int
    failed: tuple[int, int]
    committed: float
    ours: float
    low: float | None
    high: float | None
    margin: float | None
    outcome: Agreement


class VerdictAgreement(Frozen):
    """The verdict on one claim from the committed records, and from ours of the same runs."""

    experiment: str
    claim: str
    says: str
    committed: str
    ours: str


class Reproduction(Frozen):
    """What came of training a recipe's committed runs again.

    equal, other: ids of the runs whose records are equal bit for bit (times aside), and of those
    whose are not. devices, instructions: what ours were trained on; settings: environment variables
    that choose a CPU's instructions.
    """

    recipe: str
    date: str
    command: str
    commit: str
    devices: tuple[str, ...]
    instructions: tuple[str, ...]
    settings: dict[str, str]
    versions: dict[str, str]
    equal: tuple[str, ...]
    other: tuple[str, ...]
    rows: tuple[RowAgreement, ...]
    verdicts: tuple[VerdictAgreement, ...]


def committed_records(plan: Plan, results: Path) -> dict[str, Record]:
    """The records of a recipe. Raises BadInput if one is unsound or belongs to no row of it."""
    paths = sorted(runs_folder(results, plan.recipe_name).glob("*.json"))
    if not paths:
        raise BadInput(f"{results}: no records of recipe {plan.recipe_name!r} to compare with")
    records = {record.id: record for record in map(read_record, paths)}
    for reason, ids in strangers(plan.recipe_name, records).items():
        raise BadInput(
            f"{results / plan.recipe_name}: {len(ids)} records belong to no row of the recipe as"
            f" it stands ({reason}): {', '.join(ids[:3])}"
        )
    return records


def compare_records(
    plan: Plan, committed: Mapping[str, Record], ours: Mapping[str, Record], command: str
) -> Reproduction:
    """The agreement of those runs of a plan that have a record on both sides.

    Raises BadInput if there is none.
    """
    both = [run.id for run in plan.runs() if run.id in committed and run.id in ours]
    if not both:
        raise BadInput("no committed run was trained again")
    theirs, mine = ({run: records[run] for run in both} for records in (committed, ours))
    where = [record.provenance for record in mine.values()]
    equal = [run for run in both if _equal(theirs[run], mine[run])]
    a, b = (tables(plan, records) for records in (theirs, mine))
    pairs = (
        (name, *pair) for name in a for pair in zip(a[name].verdicts, b[name].verdicts, strict=True)
    )
    return Reproduction(
        recipe=plan.recipe_name,
        date=max(one.started for one in where)[:10],
        command=command,
        commit=", ".join(sorted({one.commit[:12] + " + changes" * one.dirty for one in where})),
        devices=tuple(sorted({one.device for one in where})),
        instructions=tuple(sorted({one.instructions for one in where} - {""})),
        settings=where[0].settings,
        versions=where[0].versions,
        equal=tuple(equal),
        other=tuple(run for run in both if run not in equal),
        rows=tuple(_rows(a, b, equal)),
        verdicts=tuple(
            VerdictAgreement(
                experiment=name,
                claim=one.claim,
                says=one.says,
                committed=one.words,
                ours=other.words,
            )
            for name, one, other in pairs
            if {one.outcome, other.outcome} != {"not tested"}  # records of runs can settle it
        ),
    )


def _equal(one: Record, other: Record) -> bool:
    """But for times and place, and for gates by class where one was not asked for them."""
    free = {"provenance"}
    if not (one.class_gates and other.class_gates):
        free |= {"class_gates", "class_curves"}
    return one.model_copy(update={name: getattr(other, name) for name in free}) == other


def _rows(
    theirs: Mapping[str, Table], mine: Mapping[str, Table], equal: Collection[str]
) -> Iterator[RowAgreement]:
    seen = set()
    for name, table in theirs.items():
        for variant, records in table.records.items():
            ids = tuple(record.id for record in records)
            if not ids or ids in seen:
                continue
            seen.add(ids)
            same = sum(run in equal for run in ids)
            a, b = (errors_of(one.records[variant]) for one in (table, mine[name]))
            # Welch's test with the errors that failed runs were left with, as the means are
            model = ErrorModel({"a": Errors(a.by_seed), "b": Errors(b.by_seed)}, shared=False)
            d = Estimate(math.nan) if same == len(ids) else model.contrast({"b": 1, "a": -1})
            yield RowAgreement(
                experiment=name,
                variant=variant,
                seeds=len(ids),
                equal=same,
                failed=(len(a.failed), len(b.failed)),
                committed=a.estimate.value,
                ours=b.estimate.value,
                low=_finite(d.low),
                high=_finite(d.high),
                margin=_finite(table.margin),
                outcome="bit for bit" if same == len(ids) else _outcome(d, table.margin, len(ids)),
            )


def _outcome(d: Estimate, margin: float, seeds: int) -> Agreement:
    """Where an interval lies; every comparison with NaN is false. Rows that err alike in every seed
    have no interval, and agree.
    """
    if seeds > 1 and d.value == 0 and math.isnan(d.low):
        return "agrees"
    if -margin < d.low and d.high < margin:
        return "agrees"
    return "differs" if d.low > margin or d.high < -margin else "too few seeds to say"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def reproductions(results: Path, recipe: str) -> list[Reproduction]:
    """The sound fact files that were contributed; an unsound one is named in a warning."""
    return readable(reproduction_files(results, recipe), read_reproduction)


def reproduction_files(results: Path, recipe: str) -> list[Path]:
    """Files of facts, one a machine."""
    return sorted((results / recipe / "reproductions").glob("*.json"))


def read_reproduction(path: Path) -> Reproduction:
    """The facts in a file. Raises BadInput if they are not sound."""
    return read_facts(path, Reproduction)


def summary(found: Sequence[Reproduction], records: Mapping[str, Record]) -> str:
    """On how many machines the records that there are were reproduced; empty for none."""
    machines: dict[str, bool] = {}
    for one in found:
        if {*one.equal, *one.other} <= set(records):
            name = ", ".join(one.devices)
            machines[name] = machines.get(name, True) and not one.other
    if not machines:
        return ""
    count = len(machines)
    return (
        f"reproduced on {count} machine{'s' * (count > 1)}, bit for bit on"
        f" {sum(machines.values())} ({'; '.join(sorted(machines))})"
    )
