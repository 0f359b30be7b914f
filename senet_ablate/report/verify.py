"""Do the records hold, and do the generated files follow from them?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.reproduction import read_reproduction, reproduction_files
from senet_ablate.analysis.tables import read_reported
from senet_ablate.records.bench import read_timing, timing_files
from senet_ablate.records.gate_facts import facts_path, read_gates
from senet_ablate.records.store import read_record, runs_folder, unfinished
from senet_ablate.report.pages import stale
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec.registry import BadInput

T = TypeVar("T")


def verify(recipe: str, results: Path) -> list[str]:
    """What does not hold in a recipe's results, one sentence each with what to do; empty if all is
    sound.
    """
    problems = list[str]()

    def sound(paths: Sequence[Path], read: Callable[[Path], T], advice: str) -> list[T]:
        found = []
        for path in paths:
            try:
                found.append(read(path))
            except BadInput as error:
                problems.append(f"{error}; {advice}")
        return found

    runs = runs_folder(results, recipe)
    paths = sorted(path for path in runs.glob("*") if not unfinished(path))
    if not paths:
        return [f"{runs}: no records"]
    read = sound(paths, read_record, "restore the file, or delete it and run again")
    records = {record.id: record for record in read}
    try:
        plan = read_reported(recipe, records, begun=True)
    except BadInput as error:
        return [*problems, str(error)]
    for reason, ids in strangers(recipe, records).items():
        listed = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        problems.append(
            f"{results / recipe}: {len(ids)} records belong to no row of the recipe as it stands"
            f" ({reason}): {listed}; put the recipe back, or take them away"
        )
    gates = [path for path in [facts_path(results, recipe)] if path.exists()]
    again = f"`python -m senet_ablate excitation --recipe {recipe}` writes it anew"
    sound(gates, lambda path: read_gates(plan, results, records), again)
    again = f"`python -m senet_ablate bench timing --recipe {recipe}`"
    again = f"delete the file, and time again by {again}"
    sound(timing_files(results, recipe), lambda path: read_timing(path, plan), again)
    again = "restore the file, or delete it"
    sound(reproduction_files(results, recipe), read_reproduction, again)
    files = report_files(plan, results, records)
    rebuild = f"`python -m senet_ablate report --recipe {recipe}`"
    return problems + stale(results / recipe, files, "the records", rebuild)
