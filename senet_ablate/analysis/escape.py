"""Text written into a place that reads some characters as markup: Markdown, LaTeX, links, plots,
shells.

HTML is escaped by the page's template (`autoescape`), shell words by `shlex.quote`.
"""

import re
from collections.abc import Collection
from urllib.parse import quote

import pandas as pd

LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
MARKDOWN = re.compile(
    r"[|`$]"
    r"|\\(?=[!-/:-@\[-`{-~])"  # would escape what follows
    r"|[*~](?=\S)|(?<![^\W_])_(?=\S)"  # could open emphasis
    r"|<(?=[A-Za-z/!?])|&(?=\w+;|#)|\](?=[(\[:])"  # tags, entities, links
)
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2212": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "\u03bc": "\u00b5",  # of the two letters mu the one that pdflatex knows
    "„": ",,",  # the low quotes, by a ligature where the font has them
    "‚": ",",
}


def markdown_cell(text: object) -> str:
    """Text as it is, in a cell of a Markdown table (GFM): on one line, no character is markup."""
    return MARKDOWN.sub(r"\\\g<0>", LINE_BREAKS.sub(" ", str(text)))


def markdown_code(text: object) -> str:
    """Text as it is, as code in a line of Markdown."""
    line = LINE_BREAKS.sub(" ", str(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " * ("`" in line)
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown_table(rows: pd.DataFrame, markup: Collection[str] = ()) -> str:
    """A table of texts in Markdown; the cells of the columns `markup` are Markdown already."""
    columns = [
        [
            markdown_cell(heading),
            *(str(one) if heading in markup else markdown_cell(one) for one in column),
        ]
        for heading, column in rows.items()
    ]
    first, *others = (
        "|" + "|".join(f" {cell.strip()} " if cell.strip() else " " for cell in line) + "|"
        for line in zip(*columns, strict=True)
    )
    return "\n".join([first, "|" + ":---|" * len(columns), *others])


def latex_text(text: object) -> str:
    """Text as it is, in LaTeX; a bracket or star in front is no option of the row before."""
    line = LINE_BREAKS.sub(" ", str(text)).lstrip()
    first, rest = (f"{{{line[0]}}}", line[1:]) if line[:1] in ("[", "*") else ("", line)
    return first + "".join(LATEX.get(character, character) for character in rest)


def latex_table(rows: pd.DataFrame, columns: str | None = None) -> str:
    """A table of texts in LaTeX with booktabs rules; columns: how they stand, by default left."""
    cells = rows.map(latex_text).set_axis([latex_text(heading) for heading in rows], axis=1)
    return cells.style.hide(axis="index").to_latex(hrules=True, column_format=columns)


def link_target(path: str) -> str:
    """A path in the destination of a Markdown or HTML link."""
    return quote(path)


def plot_text(text: str) -> str:
    """Text as it is, in a plot: dollars open no formula, an underscore in front hides no curve."""
    shown = text.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown
