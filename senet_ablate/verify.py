"""Do the records hold, and do the generated files follow from them?"""

from pathlib import Path

from senet_ablate.gate_facts import misfit, read_excitation
from senet_ablate.plan import Plan, read_plan
from senet_ablate.registry import BadInput
from senet_ablate.report import report_files
from senet_ablate.store import Record, read_record, runs_folder


def verify(recipe: str, results: Path) -> list[str]:
    """What does not hold in a recipe's results, one sentence each with what to do; empty if all is sound."""
    problems = []
    records: dict[str, Record] = {}
    paths = sorted(runs_folder(results, recipe).glob("*"))
    if not paths:
        return [f"{runs_folder(results, recipe)}: no records"]
    for path in paths:
        try:
            record = read_record(path)
            records[record.id] = record
        except BadInput as error:
            problems.append(f"{error}; restore the file or delete it and run again")
    try:
        plan = read_plan(recipe)
    except BadInput as error:
        return [*problems, str(error)]
    problems += _excitation(plan, results, records)
    for name, content in report_files(plan, results).items():
        path = results / recipe / name
        if not path.is_file():
            problems.append(f"{path}: is missing; `python -m senet_ablate report --recipe {recipe}` writes it")
        elif path.read_bytes() != content:
            rebuild = f"`python -m senet_ablate report --recipe {recipe}` rebuilds it"
            problems.append(f"{path}: does not follow from the records; {rebuild}")
    return problems


def _excitation(plan: Plan, results: Path, records: dict[str, Record]) -> list[str]:
    """What does not hold in the facts on the gates of the trained network, if there are any."""
    again = f"`python -m senet_ablate excitation --recipe {plan.recipe_name}` writes it anew"
    try:
        facts = read_excitation(results, plan.recipe_name)
    except BadInput as error:
        return [f"{error}; {again}"]
    problem = misfit(plan, results, records, facts) if facts else ""
    return [f"{problem}; {again}"] if problem else []
