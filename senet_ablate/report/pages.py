"""The pages beside those of recipes: `report` and `verify` share this list."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from senet_ablate.records.bench import bench_files
from senet_ablate.records.cost import facts_path
from senet_ablate.records.facts import Page, read_facts
from senet_ablate.report.bench_page import bench_pages
from senet_ablate.report.cost_page import cost_files
from senet_ablate.report.forest import effects_files, forest_files
from senet_ablate.report.recipe_page import write_files
from senet_ablate.spec.registry import BadInput


@dataclass(frozen=True)
class PageKind:
    """A page that follows from fact files.

    facts: the files, none where nothing was measured. files: every generated file by its path in
    the results folder; raises BadInput for unsound facts. again: the command that measures.
    """

    facts: Callable[[Path], list[Path]]
    files: Callable[[Path], dict[str, bytes]]
    again: str


def _tool_pages(results: Path) -> dict[str, bytes]:
    return {
        path.with_suffix(".md").name: read_facts(path, Page).page.encode()
        for path in _tool_facts(results)
    }


def _tool_facts(results: Path) -> list[Path]:
    return sorted(results.glob("*.json"))


PAGES = {
    "cost": PageKind(
        lambda results: [path for path in [facts_path(results)] if path.is_file()],
        cost_files,
        "python -m senet_ablate cost",
    ),
    "bench": PageKind(bench_files, bench_pages, "python -m senet_ablate bench"),
    "forest": PageKind(effects_files, forest_files, "python -m senet_ablate report"),
    "tools": PageKind(_tool_facts, _tool_pages, "python tools/faults.py"),
}


def measured_pages(results: Path) -> list[str]:
    """The names of the pages that have facts in a results folder."""
    return [name for name, page in PAGES.items() if page.facts(results)]


def write_page(name: str, results: Path) -> list[Path]:
    """Write the files of a page; returns those to be read. Raises BadInput for unsound facts."""
    files = PAGES[name].files(results)
    write_files(results, files)
    return [results / path for path in files if path.endswith(".md")]


def verify_page(name: str, results: Path) -> list[str]:
    """What does not hold on a page, one sentence each with what to do; empty if all is sound."""
    page = PAGES[name]
    try:
        files = page.files(results)
    except BadInput as error:
        return [f"{error}; restore the file, or delete it and measure again: `{page.again}`"]
    return stale(results, files, "its facts", "`python -m senet_ablate report`")


def stale(folder: Path, files: dict[str, bytes], source: str, rebuild: str) -> list[str]:
    """A sentence for each generated file that is missing or differs."""
    problems = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is missing; {rebuild} writes it")
        elif path.read_bytes() != content:
            problems.append(f"{path}: does not follow from {source}; {rebuild} rebuilds it")
    return problems
