"""The results of a recipe as one web page that needs no network:

ledger, sortable tables, zoomable plots, origin.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from senet_ablate.analysis.evidence import Outcome
from senet_ablate.analysis.exclusions import health
from senet_ablate.analysis.tables import Table
from senet_ablate.analysis.verdicts import Verdict, outcome_words
from senet_ablate.records.store import Record
from senet_ablate.spec.plan import Plan

WEB = Path(__file__).parent / "web"
SCRIPTS = ("sortable.min.js", "sortable.a11y.min.js", "panzoom.min.js", "report.js")
GLYPHS: dict[Outcome, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "unresolved": "?",
    "not tested": "–",
}
TITLES = {"curves": "Training", "pareto": "Error against cost"}
RUN_NUMBERS = ("seed", "top-1 error, %", "training, s")
CAPTIONS = {
    "curves": (
        "Plain network and standard SE network: mean and range over the seeds, by epoch. The"
        " training loss is the one that was minimised, label smoothing included."
    ),
    "pareto": (
        "Mean error with its 95% interval against what a network costs. Beaten: another network has"
        " no more parameters and multiply-adds and is better by more than the noise."
    ),
}


@dataclass(frozen=True)
class Head:
    """A column's heading; numbers stand on the right."""

    text: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows and what it is sorted by; an empty key is sorted last."""

    text: str
    key: str | float
    style: str = ""
    link: str = ""
    badge: bool = False


@dataclass(frozen=True)
class Row:
    """A row of any table of the page; `outcome` lets the ledger be filtered."""

    cells: tuple[Cell, ...]
    outcome: str = ""


@dataclass(frozen=True)
class Plot:
    """An inline plot."""

    name: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Grid:
    """A sortable table with sentences above it, with `code` and **bold**."""

    title: str
    notes: tuple[str, ...]
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """One experiment:

    its table, notes, plots, claims, further tables, and the files beside the page.
    """

    name: str
    title: str
    question: str
    withheld: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    plots: tuple[Plot, ...]
    verdicts: tuple[Verdict, ...]
    grids: tuple[Grid, ...]
    links: tuple[str, ...]
    command: str


def grid(title: str, notes: Sequence[str], cells: pd.DataFrame) -> Grid:
    """A table of text cells with what is to be said about it."""
    return Grid(title, tuple(notes), _heads(cells), tuple(_rows(cells)))


def section(
    table: Table,
    cells: pd.DataFrame,
    notes: Sequence[str],
    command: str,
    files: Mapping[str, bytes],
    grids: Sequence[Grid] = (),
) -> Section:
    """A table's part of the page.

    cells: the table as text. notes: sentences under it, with `code` and **bold**. files: every
    generated file by its path; each plot in the table's folder is shown. grids: what follows.
    """
    own = {path: content for path, content in files.items() if path.startswith(f"{table.name}/")}
    title = table.experiment.title
    plots = [
        Plot(
            _name(path),
            title if _name(path).endswith("plot") else _spoken(path),
            _caption(table),
            inline(path, svg),
        )
        for path, svg in own.items()
        if path.endswith(".svg")
    ]
    return Section(
        name=table.name,
        title=title,
        question=table.experiment.question,
        withheld=table.refused,
        heads=_heads(cells),
        rows=tuple(_rows(cells)),
        notes=tuple(notes),
        plots=tuple(plots),
        verdicts=table.verdicts,
        grids=tuple(grids),
        links=tuple(path for path in own if path.endswith((".csv", ".tex", ".svg"))),
        command=command,
    )


def html(
    plan: Plan,
    tables: Sequence[Table],
    records: Mapping[str, Record],
    sections: Sequence[Section],
    summary: str,
    facts: Mapping[str, str],
    files: Mapping[str, bytes],
    grids: Sequence[Grid] = (),
) -> str:
    """The page. summary and facts:

    what was run, and with what; plots and grids that belong to no table come first.
    """
    verdicts = [(one, verdict) for one in tables for verdict in one.verdicts]
    counts = Counter[str](verdict.outcome for _, verdict in verdicts)
    made_up = plan.recipe.images == "made up"
    return _template().render(
        title=plan.recipe.title,
        about=plan.recipe.about,
        warning=plan.recipe.warning,
        style=Markup((WEB / "report.css").read_text(encoding="utf-8")),
        scripts=[Markup((WEB / name).read_text(encoding="utf-8")) for name in SCRIPTS],
        glyphs=GLYPHS,
        words={one: outcome_words(one, made_up) for one in get_args(Outcome)},
        counts={outcome: counts[outcome] for outcome in get_args(Outcome)},
        claim_heads=(
            Head("claim"),
            Head("verdict"),
            Head("the paper says"),
            Head("ledger"),
            Head("table"),
        ),
        claims=[_claim(place, one, verdict) for place, (one, verdict) in enumerate(verdicts)],
        summary=summary,
        facts=facts,
        overview=[
            Plot(
                _name(path),
                TITLES.get(_name(path), _spoken(path)),
                CAPTIONS.get(_name(path), ""),
                inline(path, svg),
            )
            for path, svg in files.items()
            if path.endswith(".svg") and "/" not in path
        ],
        grids=grids,
        sections=sections,
        run_heads=[
            Head(text, text in RUN_NUMBERS)
            for text in ("rows", *RUN_NUMBERS, "record", "left out because")
        ],
        runs=list(_runs(tables, records)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["inline"] = _inline_markdown
    return environment.get_template("report.html.j2")


def _inline_markdown(text: str) -> Markup:
    """Text with `code` and **bold** as HTML, everything else escaped."""
    parts = re.split(r"`([^`]*)`", text)
    for place, part in enumerate(parts):
        safe = str(escape(part))
        parts[place] = (
            f"<code>{safe}</code>"
            if place % 2
            else re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
        )
    return Markup("".join(parts))


def inline(path: str, svg: bytes) -> Markup:
    """A plot's SVG for use inside a page:

    ids that no other plot has, no style that reaches beyond it, a name.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    prefix = f"{_name(path)}."
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    return Markup(
        text.replace("<svg ", f'<svg role="img" aria-label="{escape(_spoken(path))}" ', 1)
    )


def sort_key(text: str) -> str | float:
    """What a cell is sorted by:

    the number that it begins with (`33.47 [28.53, 38.40]` is 33.47), else its text.
    """
    number = re.match(r"[+\-]?\d+(\.\d+)?(?=$|[\s*\[])", text)
    return float(number[0]) if number else text


def _heads(cells: pd.DataFrame) -> tuple[Head, ...]:
    return tuple(Head(str(head) or "variant", _numeric(cells[head])) for head in cells)


def _numeric(cells: pd.Series) -> bool:
    keys = [sort_key(text) for text in map(str, cells) if text]
    return bool(keys) and all(isinstance(key, float) for key in keys)


def _rows(cells: pd.DataFrame) -> Iterator[Row]:
    """The rows of a table; by its first column it is sorted as the paper has it."""
    styles = ["number" if _numeric(cells[head]) else "long" for head in cells]
    for place, values in enumerate(cells.itertuples(index=False)):
        first, *others = map(str, values)
        row = [Cell(first, place, "name")]
        for text, style in zip(others, styles[1:], strict=True):
            row.append(Cell(text, sort_key(text), f"{style} differs" if "* [" in text else style))
        yield Row(tuple(row))


def _claim(place: int, table: Table, verdict: Verdict) -> Row:
    return Row(
        (
            Cell(verdict.claim, place, "name", link=f"#{table.name}-{verdict.claim}"),
            Cell(verdict.outcome, list(GLYPHS).index(verdict.outcome), badge=True),
            Cell(verdict.says, verdict.says, "long"),
            Cell(verdict.ledger, verdict.ledger),
            Cell(table.experiment.title, table.experiment.title, link=f"#{table.name}"),
        ),
        verdict.outcome,
    )


def _runs(tables: Sequence[Table], records: Mapping[str, Record]) -> Iterator[Row]:
    rows: dict[str, list[str]] = {}
    for table in tables:
        for variant, found in table.records.items():
            for record in found:
                rows.setdefault(record.id, []).append(f"{table.name}/{variant}")
    order = [name for name in rows if name in records] + [
        name for name in records if name not in rows
    ]
    for place, name in enumerate(order):
        record, reasons = records[name], "; ".join(health(records[name]))
        named = ", ".join(rows.get(name, ["none"]))
        yield Row(
            (
                Cell(named, place, "long"),
                Cell(str(record.run.seed), float(record.run.seed), "number"),
                Cell(f"{record.top1:.2f}", record.top1, "number"),
                Cell(f"{record.provenance.train_s:.0f}", record.provenance.train_s, "number"),
                Cell(name, name, link=f"runs/{name}.json"),
                Cell(reasons, reasons, "long"),
            )
        )


def _caption(table: Table) -> str:
    return f"{table.experiment.title}: {table.experiment.question}"


def _name(path: str) -> str:
    """A plot's path as a name that is unique in the page and can be an id."""
    return re.sub(r"[^\w\-]", "-", path.removesuffix(".svg"))


def _spoken(path: str) -> str:
    """A plot's path in words."""
    return re.sub(r"[_/\-]+", " ", path.removesuffix(".svg")).capitalize()
