"""Do the records hold, and do the generated files follow from them?"""

from pathlib import Path

from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.reproduction import read_reproduction, reproduction_files
from senet_ablate.analysis.tables import read_reported
from senet_ablate.records.bench import read_timing, timing_files
from senet_ablate.records.gate_facts import facts_path, read_gates
from senet_ablate.records.store import Record, read_record, runs_folder, unfinished
from senet_ablate.report.pages import stale
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput


def verify(recipe: str, results: Path) -> list[str]:
    """What does not hold in a recipe's results, one sentence each with what to do; empty if all is
    sound.
    """
    problems = []
    records: dict[str, Record] = {}
    paths = sorted(path for path in runs_folder(results, recipe).glob("*") if not unfinished(path))
    if not paths:
        return [f"{runs_folder(results, recipe)}: no records"]
    for path in paths:
        try:
            record = read_record(path)
            records[record.id] = record
        except BadInput as error:
            problems.append(f"{error}; restore the file, or delete it and run again")
    try:
        plan = read_reported(recipe, results, begun=True)
    except BadInput as error:
        return [*problems, str(error)]
    rebuild = f"`python -m senet_ablate report --recipe {recipe}`"
    for reason, ids in strangers(recipe, records).items():
        listed = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        problems.append(
            f"{results / recipe}: {len(ids)} records belong to no row of the recipe as it stands"
            f" ({reason}): {listed}; put the recipe back, or take them away"
        )
    problems += _gates(plan, results, records) + _timings(plan, results)
    problems += _reproductions(results, recipe)
    return problems + stale(
        results / recipe, report_files(plan, results, records), "the records", rebuild
    )


def _gates(plan: Plan, results: Path, records: dict[str, Record]) -> list[str]:
    """What does not hold in the facts on the gates of the trained network, if there are any."""
    if not facts_path(results, plan.recipe_name).exists():
        return []
    try:
        read_gates(plan, results, records)
    except BadInput as error:
        again = f"`python -m senet_ablate excitation --recipe {plan.recipe_argument}`"
        return [f"{error}; {again} writes it anew"]
    return []


def _reproductions(results: Path, recipe: str) -> list[str]:
    """What does not hold in the facts of reproductions that were contributed."""
    problems = []
    for path in reproduction_files(results, recipe):
        try:
            read_reproduction(path)
        except BadInput as error:
            problems.append(f"{error}; restore the file, or delete it")
    return problems


def _timings(plan: Plan, results: Path) -> list[str]:
    """What does not hold in the files of times."""
    problems = []
    for path in timing_files(results, plan.recipe_name):
        try:
            read_timing(path, plan)
        except BadInput as error:
            again = f"`python -m senet_ablate bench timing --recipe {plan.recipe_argument}`"
            problems.append(f"{error}; delete the file, and time again by {again}")
    return problems
