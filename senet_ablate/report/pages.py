"""The pages beside those of recipes, which `report` and `verify` share, and what `verify` finds."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.reproduction import read_reproduction, reproduction_files
from senet_ablate.analysis.tables import read_reported
from senet_ablate.records import read_record
from senet_ablate.records.bench import read_timing, timing_files
from senet_ablate.records.facts import Page, read_facts, readable
from senet_ablate.records.first_page import first_page_path, read_first_page
from senet_ablate.records.store import runs_folder
from senet_ablate.report import bench_page, cost_page, forest
from senet_ablate.report.document import Document, stale, write_files
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec import BadInput
from senet_ablate.spec.plan import RESULTS_DIR

T = TypeVar("T")


@dataclass(frozen=True)
class PageKind:
    """Pages that follow from fact files.

    facts: pattern of these files in the results folder. pages: each by the path of its Markdown in
    the results folder; raises BadInput for unsound facts. again: the command that measures.
    """

    facts: str
    pages: Callable[[Path], Mapping[str, Document]]
    again: str


def _tool_pages(results: Path) -> dict[str, Document]:
    return {
        f"{path.stem}.md": Document("", read_facts(path, Page).page.rstrip("\n"))
        for path in sorted(results.glob("*.json"))
    }


PAGES = {
    "cost": PageKind("cost/facts.json", cost_page.pages, "python -m senet_ablate cost"),
    "bench": PageKind("bench/*.json", bench_page.pages, "python -m senet_ablate bench"),
    "forest": PageKind("*/effects.csv", forest.pages, "python -m senet_ablate report"),
    "tools": PageKind("*.json", _tool_pages, "python tools/faults.py"),
}


def measured_pages(results: Path) -> list[str]:
    """The names of the pages that have facts in a results folder."""
    return [name for name, page in PAGES.items() if any(results.glob(page.facts))]


def page_files(name: str, results: Path) -> dict[str, bytes]:
    """Every generated file of a page by its path. Raises BadInput for unsound facts."""
    return {
        path: content
        for markdown, page in PAGES[name].pages(results).items()
        for path, content in page.files(markdown).items()
    }


def write_page(name: str, results: Path) -> list[Path]:
    """Write the files of a page; returns those to be read. Raises BadInput for unsound facts."""
    files = page_files(name, results)
    write_files(results, files)
    return [results / path for path in files if path.endswith(".md")]


def verify_page(name: str, results: Path) -> list[str]:
    """What does not hold on a page, one sentence each with what to do; empty if all is sound."""
    try:
        files = page_files(name, results)
    except BadInput as error:
        again = PAGES[name].again
        return [f"{error}; restore the file, or delete it and measure again: `{again}`"]
    return stale(results, files, "its facts", "`python -m senet_ablate report`")


def verify_recipe(recipe: str, results: Path) -> list[str]:
    """What does not hold in a recipe's results, one sentence each with what to do; empty if all is
    sound.
    """
    problems = list[str]()

    def sound(paths: Iterable[Path], read: Callable[[Path], T], advice: str) -> list[T]:
        return readable(paths, read, lambda error: problems.append(f"{error}; {advice}"))

    runs = runs_folder(results, recipe)
    # others were set aside, or are just being written
    paths = [one for one in runs.glob("*") if one.suffix != ".tmp" and ".json.bad" not in one.name]
    read = sound(paths, read_record, "restore the file, or delete it and run again")
    records = {record.id: record for record in read}
    shown = first_page_path(results, recipe)
    put_back = "restore the file, or delete it"
    if not sound([shown], lambda _: read_first_page(results, recipe), put_back):
        return problems  # what the pages hold is not known
    try:
        plan = read_reported(recipe, records, results, begun=True)
    except BadInput as error:
        return [*problems, f"{results / recipe}: {error}"]
    for reason, ids in strangers(recipe, records).items():
        listed = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        problems.append(
            f"{results / recipe}: {len(ids)} records belong to no row of the recipe as it stands"
            f" ({reason}): {listed}; put the recipe back, or take them away"
        )
    asked = ["--recipe", plan.recipe_argument]
    asked += ["--results", str(results)] * (results.absolute() != RESULTS_DIR.absolute())
    this = shlex.join(asked)
    again = f"delete the file, and time again by `python -m senet_ablate bench timing {this}`"
    sound(timing_files(results, recipe), lambda path: read_timing(path, plan), again)
    sound(reproduction_files(results, recipe), read_reproduction, put_back)
    files = report_files(plan, results, records)
    rebuild = f"`python -m senet_ablate report {this}`"
    return problems + stale(results / recipe, files, "the records", rebuild)
