"""Do the records hold, and do the generated files follow from them?"""

from pathlib import Path

from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.tables import read_reported
from senet_ablate.records.faults import markdown, read_faults
from senet_ablate.records.gate_facts import misfit, read_excitation
from senet_ablate.records.store import Record, read_record, runs_folder, unfinished
from senet_ablate.records.timing import read_timing, timing_files
from senet_ablate.report.bench_page import bench_pages, verify_bench
from senet_ablate.report.cost_page import cost_files
from senet_ablate.report.recipe_page import report_files, same
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
        plan = read_reported(recipe, results)
    except BadInput as error:
        return [*problems, str(error)]
    rebuild = f"`python -m senet_ablate report --recipe {recipe}`"
    for reason, ids in strangers(recipe, records).items():
        listed = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        problems.append(
            f"{results / recipe}: {len(ids)} records belong to no row of the recipe as it stands"
            f" ({reason}): {listed}; put the recipe back, or take them away"
        )
    problems += _excitation(plan, results, records) + _timings(plan, results)
    return problems + _stale(results / recipe, report_files(plan, results), "the records", rebuild)


def _excitation(plan: Plan, results: Path, records: dict[str, Record]) -> list[str]:
    """What does not hold in the facts on the gates of the trained network, if there are any."""
    again = f"`python -m senet_ablate excitation --recipe {plan.recipe_name}` writes it anew"
    try:
        facts = read_excitation(results, plan.recipe_name)
    except BadInput as error:
        return [f"{error}; {again}"]
    problem = misfit(plan, results, records, facts) if facts else ""
    return [f"{problem}; {again}"] if problem else []


def _timings(plan: Plan, results: Path) -> list[str]:
    """What does not hold in the files of times."""
    problems = []
    for path in timing_files(results, plan.recipe_name):
        try:
            read_timing(path, plan)
        except BadInput as error:
            again = f"`python -m senet_ablate bench timing --recipe {plan.recipe_name}`"
            problems.append(f"{error}; delete the file, and time again by {again}")
    return problems


def verify_costs(results: Path) -> list[str]:
    """What does not hold on the page of costs, as `verify` says it."""
    try:
        files = cost_files(results)
    except BadInput as error:
        return [str(error)]
    return _stale(results / "cost", files, "facts.json", "`python -m senet_ablate report`")


def verify_speed(results: Path) -> list[str]:
    """What does not hold on the pages of `bench`, as `verify` says it."""
    problems = verify_bench(results)
    again = "`python -m senet_ablate report`"
    return problems or _stale(results / "bench", bench_pages(results), "its facts", again)


def verify_faults(results: Path) -> list[str]:
    """What does not hold in the figures on faults, as `verify` says it."""
    try:
        page = {"faults.md": markdown(read_faults(results)).encode()}
    except BadInput as error:
        return [f"{error}; `python -m senet_ablate bench faults` measures again"]
    return _stale(results, page, "faults.json", "`python -m senet_ablate bench faults`")


def _stale(folder: Path, files: dict[str, bytes], source: str, rebuild: str) -> list[str]:
    """A sentence for each generated file that is missing or another."""
    problems = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is missing; {rebuild} writes it")
        elif not same(path, content):
            problems.append(f"{path}: does not follow from {source}; {rebuild} rebuilds it")
    return problems
