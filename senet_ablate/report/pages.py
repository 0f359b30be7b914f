"""The pages beside those of recipes: `report` and `verify` share this list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from senet_ablate.records.facts import Page, read_facts, write_whole
from senet_ablate.report import bench_page, cost_page, forest
from senet_ablate.report.document import Document
from senet_ablate.spec.registry import BadInput


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
    facts = sorted(results.glob("*.json"))
    texts = {path.with_suffix(".md").name: read_facts(path, Page).page for path in facts}
    return {name: Document("", "", text.rstrip("\n"), []) for name, text in texts.items()}


PAGES = {
    "cost": PageKind("cost/facts.json", cost_page.pages, "python -m senet_ablate cost"),
    "bench": PageKind("bench/*.json", bench_page.pages, "python -m senet_ablate bench"),
    "forest": PageKind("*/effects.csv", forest.pages, "python -m senet_ablate report"),
    "tools": PageKind("*.json", _tool_pages, "python tools/faults.py"),
}


def measured_pages(results: Path) -> list[str]:
    """The names of the pages that have facts in a results folder."""
    return [name for name, page in PAGES.items() if any(results.glob(page.facts))]


def write_page(name: str, results: Path) -> list[Path]:
    """Write the files of a page; returns those to be read. Raises BadInput for unsound facts."""
    pages = PAGES[name].pages(results)
    for path, page in pages.items():
        write_files(results, page.files(path))
    return [results / path for path in pages]


def verify_page(name: str, results: Path) -> list[str]:
    """What does not hold on a page, one sentence each with what to do; empty if all is sound."""
    again = PAGES[name].again
    try:
        pages = PAGES[name].pages(results)
    except BadInput as error:
        return [f"{error}; restore the file, or delete it and measure again: `{again}`"]
    files = {
        key: content for path, page in pages.items() for key, content in page.files(path).items()
    }
    return stale(results, files, "its facts", "`python -m senet_ablate report`")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write generated files by their path in `folder`, those that differ from what is there."""
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)


def stale(folder: Path, files: Mapping[str, bytes], source: str, rebuild: str) -> list[str]:
    """A sentence for each generated file that is missing or differs."""
    problems = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is missing; {rebuild} writes it")
        elif path.read_bytes() != content:
            problems.append(f"{path}: does not follow from {source}; {rebuild} rebuilds it")
    return problems
