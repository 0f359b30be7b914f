"""A page as data: written once, rendered as Markdown, as HTML and in a notebook."""

import html
import logging
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, get_args

import matplotlib.figure
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt

from senet_ablate.analysis.escape import link_target, markdown_cell, markdown_code, markdown_table
from senet_ablate.analysis.evidence import Outcome
from senet_ablate.analysis.verdicts import outcome_words
from senet_ablate.records.facts import write_whole
from senet_ablate.report import plots

P = ParamSpec("P")
log = logging.getLogger(__name__)
WEB = Path(__file__).parent / "web"
SCRIPTS = ("sortable.min.js", "sortable.a11y.min.js", "panzoom.min.js", "report.js")
GLYPHS: dict[str, str] = {
    words: sign
    for outcome, sign in zip(get_args(Outcome), "✓✗?–", strict=True)
    for words in (outcome, outcome_words(outcome, True))
}
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def badge(outcome: str, more: str = "") -> str:
    """A verdict as a sign and words, in Markdown; on a page it is coloured."""
    return f"`{GLYPHS[outcome]} {outcome}{', ' * bool(more)}{more}`"


def _code(self: Any, tokens: Sequence[Any], place: int, options: Any, env: Any) -> str:
    """Code in a line; a badge has the colour of its verdict."""
    text = html.escape(tokens[place].content)
    outcome = text[2:].partition(",")[0]
    if GLYPHS.get(outcome) != text[:1]:
        return f"<code>{text}</code>"
    return f'<span class="badge {outcome.replace(" ", "-")}">{text}</span>'


MARKDOWN.add_render_rule("code_inline", _code)


class Text(str):
    """Paragraphs, lists and headings in Markdown."""

    def markdown(self) -> str:
        return str(self)

    def html(self) -> str:
        """Without the HTML that it may hold."""
        return str(MARKDOWN.render(self))

    _repr_markdown_ = markdown


@dataclass(frozen=True)
class Grid:
    """A table of texts. markup: the columns whose cells are Markdown. folded: what to click on to
    see the table; in Markdown such a table is left out.
    """

    label: str
    cells: pd.DataFrame
    markup: tuple[str, ...] = ()
    folded: str = ""

    def markdown(self) -> str:
        return "" if self.folded else markdown_table(self.cells, self.markup)

    def html(self) -> str:
        """The table, to be sorted by the numbers in it, by its first column as it was."""
        heads, columns = list[str](), list[list[str]]()
        for place, (heading, column) in enumerate(self.cells.items()):
            texts = [str(text) for text in column]
            keys: Sequence[object] = [sort_key(text) for text in texts]
            style = "number" if {type(key) for key in keys if key != ""} == {float} else "text"
            role = ""
            if place == 0:
                keys, style, role = range(len(texts)), "name", ' role="rowheader"'
            name = html.escape(str(heading)) or "row"
            heads.append(f'<th scope="col" class="{style}">{name}</th>')
            shown = texts if heading in self.markup else map(markdown_cell, texts)
            columns.append(
                [
                    f'<td{role} class="{style}" data-sort="{html.escape(str(key))}">'
                    f"{MARKDOWN.renderInline(text)}</td>"
                    for key, text in zip(keys, shown, strict=True)
                ]
            )
        rows = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*columns, strict=True))
        label = html.escape(self.label)
        table = (
            f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table'
            f' class="sortable n-last asc" aria-label="{label}"><thead><tr>{"".join(heads)}</tr>'
            f"</thead><tbody>\n{rows}\n</tbody></table></div>\n"
        )
        if not self.folded:
            return table
        return f"<details><summary>{html.escape(self.folded)}</summary>\n{table}</details>\n"

    _repr_markdown_ = markdown


def sort_key(text: str) -> str | float:
    """What a cell is sorted by: the number that it begins with (`33.47 [28.53, 38.40]` is 33.47),
    else its text.
    """
    number = re.match(r"[+\-]?\d+(\.\d+)?(?=$|[\s*\[])", text)
    return float(number[0]) if number else text


@dataclass(frozen=True)
class Tiles:
    """How often each verdict occurs in the table below; on a page each tile filters it."""

    name: str
    counts: Mapping[str, int]

    def markdown(self) -> str:
        return ", ".join(f"{badge(outcome)} {count}" for outcome, count in self.counts.items())

    def html(self) -> str:
        """A radio button a verdict; the style sheet hides the rows of the others."""
        tiles = []
        for outcome, count in {"all": sum(self.counts.values()), **self.counts}.items():
            style, glyph = outcome.replace(" ", "-"), GLYPHS.get(outcome, "")
            checked = " checked" if outcome == "all" else ""
            tiles.append(
                f'<label class="tile {style}"><input type="radio" name="{self.name}"'
                f' value="{style}"{checked}><b>{count}</b> {glyph} {outcome}</label>'
            )
        return (
            f'<div class="filter" role="radiogroup" aria-label="{self.name}: show by verdict">'
            f"{''.join(tiles)}</div>\n"
        )

    _repr_markdown_ = markdown


@dataclass(frozen=True)
class Figure:
    """A plot in a file of its own, `path` from the page; `title` stands in for it."""

    path: str
    title: str
    svg: bytes = field(repr=False)
    caption: str = ""

    def markdown(self) -> str:
        image = f"![{markdown_cell(self.title)}]({link_target(self.path)})"
        return f"{self.caption}\n\n{image}" if self.caption else image

    def html(self) -> str:
        """The plot itself, with a button that enlarges it."""
        title = html.escape(self.title)
        return (
            f'<figure class="plot" data-title="{title}"><div class="canvas">{inline(self)}<button'
            f' type="button" class="quiet enlarge" aria-label="Enlarge: {title}">Enlarge</button>'
            f"</div><figcaption>{MARKDOWN.renderInline(self.caption)}</figcaption></figure>\n"
        )

    def _repr_svg_(self) -> str:
        return self.svg.decode()


def inline(figure: Figure) -> str:
    """A plot's SVG inside a page: ids that no other plot has, no style that reaches beyond it, a
    name.
    """
    text = figure.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    prefix = re.sub(r"[^\w\-]", "-", figure.path.removesuffix(".svg"))
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}.", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    name = html.escape(figure.title)
    return text.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def drawn(
    path: str,
    title: str,
    caption: str,
    draw: Callable[P, matplotlib.figure.Figure | None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[Figure]:
    """A plot in the look of all plots; none where `draw`, called with the arguments, finds nothing
    to be drawn, or fails: no table is lost by a plot.
    """
    try:
        with plots.style():
            figure = draw(*args, **kwargs)
            return [] if figure is None else [Figure(path, title, plots.svg(figure), caption)]
    except Exception:  # plots can fail in many ways
        log.exception("%s: this plot could not be drawn, and is left out", path)
        return []


Block = Text | Grid | Tiles | Figure
Files = Mapping[str, pd.DataFrame | str]


def anchor(title: str) -> str:
    """The link target that code hosts give a heading; a page gives the same."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading. files: what is written beside the page, by path (a table as
    CSV, with its index where that has a name), and linked below the section, with the command that
    makes it again.
    """

    title: str
    blocks: Sequence[Block]
    files: Files = field(default_factory=dict, repr=False)
    command: str = ""

    def all_blocks(self) -> list[Block]:
        """The blocks, and the line of links."""
        links = ", ".join(
            f"[{path.rpartition('/')[2]}]({link_target(path)})" for path in self.files
        )
        again = f"again by {markdown_code(self.command)}" if self.command else ""
        return [*self.blocks, Text("; ".join(filter(None, (links, again))))]

    def markdown(self) -> str:
        parts = [f"## {markdown_cell(self.title)}", *(one.markdown() for one in self.all_blocks())]
        return "\n\n".join(part.strip("\n") for part in parts if part)

    def html(self) -> str:
        return "".join(block.html() for block in self.all_blocks())

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for block in self.blocks:  # links to files lead nowhere from a notebook
            display(block)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Document:
    """A page. lead: what it is about. warning: what a reader must know before all else."""

    title: str
    lead: str
    sections: Sequence[Section] = ()
    warning: str = ""

    def markdown(self, more: str = "") -> str:
        """The page for a code host; more: a line that only this form has."""
        warning = f"> **{markdown_cell(self.warning)}**" if self.warning else ""
        parts = [f"# {markdown_cell(self.title)}" if self.title else "", warning, self.lead, more]
        parts += [section.markdown() for section in self.sections]
        return "\n\n".join(part for part in parts if part) + "\n"

    def html(self) -> str:
        """The page in one file that asks the network for nothing."""
        template, style, *scripts = (
            (WEB / name).read_text(encoding="utf-8")
            for name in ("report.html.j2", "report.css", *SCRIPTS)
        )
        return (
            Environment(autoescape=True, undefined=StrictUndefined)
            .from_string(template)
            .render(
                page=self,
                lead=Text(self.lead),
                style=style,
                scripts=scripts,
                hashes=[b64encode(sha256(one.encode()).digest()).decode() for one in scripts],
                anchor=anchor,
            )
        )

    def files(self, path: str, more: str = "") -> dict[str, bytes]:
        """The page as Markdown in `path`, and beside it every plot and file of its sections."""
        folder, found = Path(path).parent, {path: self.markdown(more).encode()}
        for section in self.sections:
            for name, file in section.files.items():
                if isinstance(file, pd.DataFrame):
                    named = file.index.name is not None
                    file = file.to_csv(index=named, lineterminator="\n", float_format="%.10g")
                found[str(folder / name)] = file.encode()
            for block in section.blocks:
                if isinstance(block, Figure):
                    found[str(folder / block.path)] = block.svg
        return found


def outdated(folder: Path, files: Mapping[str, bytes]) -> dict[Path, bytes]:
    """Of generated files, by their path in `folder`, those that differ from what is there."""
    paths = {folder / name: content for name, content in files.items()}
    return {
        path: content
        for path, content in paths.items()
        if not path.is_file() or path.read_bytes() != content
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write generated files by their path in `folder`, where they are outdated."""
    for path, content in outdated(folder, files).items():
        write_whole(path, content)


def stale(folder: Path, files: Mapping[str, bytes], source: str, rebuild: str) -> list[str]:
    """A sentence for each generated file that is missing or differs."""
    return [
        f"{path}: {f'does not follow from {source}' if path.is_file() else 'is missing'};"
        f" {rebuild} rebuilds it"
        for path in outdated(folder, files)
    ]
