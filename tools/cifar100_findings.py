"""Print the numbers of docs/cifar100.md from the committed records of cifar100-cpu and cifar100.

    python tools/cifar100_findings.py

They describe; no verdict hangs on them. Intervals are 95%, Student's t over pairs of runs with the
same seed, uncorrected.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from scipy import special

from senet_ablate.analysis.stats import pooled_std
from senet_ablate.records import Record, read_records
from senet_ablate.spec.plan import read_plan

RESULTS = Path(__file__).resolve().parent.parent / "results"
BUDGETS = {"2 epochs": ", 2 epochs", "4 epochs": ", 4 epochs", "8 epochs": ", 8 epochs", "16": ""}
RATES = ("rate / 4", "rate / 2", "rate x 2")
Rows = Mapping[str, Mapping[int, Record]]
"""By `experiment/variant` and seed."""


def rows_of(recipe: str) -> Rows:
    """The records of every row that has any."""
    records = read_records(RESULTS, recipe)
    found: dict[str, dict[int, Record]] = {}
    for row in read_plan(recipe).rows():
        mine = {run.seed: records[run.id] for run in row.runs if run.id in records}
        if mine:
            found[f"{row.experiment}/{row.variant}"] = mine
    return found


def train_error(record: Record) -> float:
    """Error in % on the augmented training images of the last epoch, as they were trained on."""
    return record.epochs[-1].train_top1


def differences(
    rows: Rows, one: str, other: str, value: Callable[[Record], float] = lambda run: run.top1
) -> list[float]:
    """One minus other, points, for the seeds that both have."""
    shared = sorted(rows[one].keys() & rows[other].keys())
    return [value(rows[one][seed]) - value(rows[other][seed]) for seed in shared]


def said(values: Iterable[float]) -> str:
    """Mean and interval of differences, and how many are below zero."""
    found = list(values)
    mean, below = statistics.mean(found), sum(value < 0 for value in found)
    half = float(special.stdtrit(len(found) - 1, 0.975)) * statistics.stdev(found)
    half /= math.sqrt(len(found))
    ends = f"[{mean - half:+.2f}, {mean + half:+.2f}]"
    return f"{mean:+.2f} {ends}, below zero in {below} of {len(found)}"


def pooled(rows: Rows, one: str, other: str) -> list[float]:
    """Differences over the budgets, at the recipe's rate, for the seeds that all budgets have."""
    names = [[f"schedule/{name}{end}" for name in (one, other)] for end in BUDGETS.values()]
    seeds = set.intersection(*(set(rows[name]) for pair in names for name in pair))
    return [rows[a][seed].top1 - rows[b][seed].top1 for a, b in names for seed in sorted(seeds)]


def gates(rows: Rows, name: str, what: str = "std") -> None:
    """A measure of every block's gates by epoch, mean over seeds."""
    records = list(rows[name].values())
    print(f"{name}: {what} of the gates by epoch, mean of {len(records)} networks")
    for block in records[0].gates:
        read = [
            f"{number}: {statistics.mean(getattr(one[block], what) for one in every):.3f}"
            for number, every in enumerate(zip(*map(by_epoch, records), strict=True), start=1)
            if block in every[0]
        ]
        print(f"  {block}  {'  '.join(read)}")


def by_epoch(record: Record) -> list[Mapping[str, object]]:
    """Gates where they were read, those of the record at the end."""
    return [*(epoch.gates for epoch in record.epochs[:-1]), record.gates]


def main() -> None:
    """Print."""
    rows, larger = rows_of("cifar100-cpu"), rows_of("cifar100")
    print("SE - plain, test error, points")
    for budget, end in BUDGETS.items():
        print(f"  {budget}: {said(differences(rows, f'schedule/SE{end}', f'schedule/plain{end}'))}")
    for rate in RATES:
        pair = (f"schedule/{name}, 8 epochs, {rate}" for name in ("SE", "plain"))
        print(f"  8 epochs, {rate}: {said(differences(rows, *pair))}")
    for one, other in (("SE", "plain"), ("SE", "Static gate"), ("Static gate", "plain")):
        print(f"{one} - {other}, all four budgets: {said(pooled(rows, one, other))}")
    for name, of in (("cifar100-cpu", rows), ("cifar100", larger)):
        print(f"{name}, last epoch")
        pair = ("role_of_squeeze/SE", "role_of_squeeze/ResNet-50")  # the plain network's row
        for row in pair:
            trained = statistics.mean(map(train_error, of[row].values()))
            tested = statistics.mean(record.top1 for record in of[row].values())
            print(f"  {row}: training error {trained:.2f}, test error {tested:.2f}")
        print(f"  their difference in training error: {said(differences(of, *pair, train_error))}")
    softmax = ("excitation/Softmax", "excitation/plain")
    if softmax[0] in rows:
        print(f"softmax - plain, training error: {said(differences(rows, *softmax, train_error))}")
    for pair in (("SE-POST", "SE"), ("SE-POST", "SE-PRE"), ("SE-Identity", "SE")):
        one, other = (f"integration/{name}" for name in pair)
        print(f"{' - '.join(pair)}: {said(differences(rows, one, other))}")
    full = [records for name, records in rows.items() if not name.startswith("schedule/")]
    distinct = {min(run.id for run in of.values()): list(of.values()) for of in full}.values()
    for epoch in (4, 8, 12, 16):
        read = ([run.epochs[epoch - 1].test_top1 or math.nan for run in of] for of in distinct)
        spread = pooled_std(read)
        print(f"test error at epoch {epoch}: standard deviation between seeds {spread:.2f} points")
    gates(rows, "role_of_squeeze/NoSqueeze")
    gates(rows, "role_of_squeeze/SE")
    gates(rows, "role_of_squeeze/SE", "mean")
    gates(larger, "role_of_squeeze/NoSqueeze")


if __name__ == "__main__":
    main()
