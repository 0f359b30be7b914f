"""Do the records hold, and do the generated files follow from them?"""

from pathlib import Path

from senet_ablate.registry import BadInput
from senet_ablate.report import read_reported, report_files, same
from senet_ablate.store import read_record, runs_folder


def verify(recipe: str, results: Path) -> list[str]:
    """What does not hold in a recipe's results, one sentence each with what to do; empty if all is sound."""
    problems = []
    paths = sorted(runs_folder(results, recipe).glob("*"))
    if not paths:
        return [f"{runs_folder(results, recipe)}: no records"]
    for path in paths:
        try:
            read_record(path)
        except BadInput as error:
            problems.append(f"{error}; restore the file or delete it and run again")
    try:
        plan = read_reported(recipe, results)
    except BadInput as error:
        return [*problems, str(error)]
    for name, content in report_files(plan, results).items():
        path = results / recipe / name
        if not path.is_file():
            problems.append(f"{path}: is missing; `python -m senet_ablate report --recipe {recipe}` writes it")
        elif not same(path, content):
            rebuild = f"`python -m senet_ablate report --recipe {recipe}` rebuilds it"
            problems.append(f"{path}: does not follow from the records; {rebuild}")
    return problems
