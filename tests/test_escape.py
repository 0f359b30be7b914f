"""Names come out of Markdown, LaTeX, links, plots and shells as they went in."""

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import (
    latex_table,
    latex_text,
    link_target,
    markdown_table,
    plot_text,
)

ROOT = Path(__file__).parent.parent
GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NAMES = [
    "a|b",
    r"a\|b",
    "[18] max|avg",
    "*SE* (ours)",
    "<b>plain</b>",
    "two\nlines",
    "_cat",
    "50% & $x_1$",
    "$x_{$",
    "`x`",
    "~~a~~",
    "a &lt; b",
    "[a](b)",
    "![a][b]",
    "\\",
    "__init__",
    "SE_All",
    "-1.00* [-2.00, 0.00]",
    "<!-- -->",
    "&#124;",
]
characters = st.sampled_from("|`$\\*~_<>&#;![]()ab1 \n\r.{}^'\"") | st.characters(codec="utf-8")
texts = st.sampled_from(NAMES) | st.text(characters, max_size=12)


def cells(table: str) -> list[list[Any]]:
    """The inline tokens of each cell, by row."""
    rows: list[list[Any]] = []
    for token in GFM.parse(table):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token)
    return rows


def words(text: str) -> str:
    return " ".join(text.replace("\0", "\ufffd").split())


@given(name=texts, heading=texts)
@example(name="a|b", heading="a|b")
@example(name="x\\", heading="\\")
def test_a_cell_of_a_markdown_table_shows_its_text_and_stays_one_cell(
    name: str, heading: str
) -> None:
    table = pd.DataFrame([[name, "1", name]], columns=["", heading, "n"])
    rows = cells(markdown_table(table))
    assert [len(row) for row in rows] == [3, 3], "each row has as many cells as the heading"
    for token, text in zip([*rows[0], *rows[1]], ["", heading, "n", name, "1", name], strict=True):
        assert {child.type for child in token.children} <= {"text", "text_special"}
        assert words("".join(child.content for child in token.children)) == words(text)


def test_a_column_that_is_markdown_already_stays_so() -> None:
    table = markdown_table(pd.DataFrame({"link": ["**[a](b)**"], "x": ["**a**"]}), markup=["link"])
    assert "**[a](b)**" in table and r"\*\*a\**" in table


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_latex_table_is_no_option_of_the_rule_before_it(name: str) -> None:
    text = latex_table(pd.DataFrame({"name": [name], "x": [name]}))
    row = text.partition("\\midrule\n")[2].partition("\n")[0]
    assert row.endswith("\\\\") and not row.startswith(("[", "*"))
    assert len(re.findall(r"(?<!\\)&", row)) == 1, "two cells"
    assert not re.search(r"(?<!\\)[%#_<>|~^]|\n", row.replace("\\\\", ""))


def test_latex_text_is_what_it_shows() -> None:
    assert latex_text("[18] a|b") == r"{[}18] a\textbar{}b"
    assert latex_text("*SE* < 5%") == r"{*}SE* \textless{} 5\%"
    assert latex_text("a\n\u22121 ≥ x_1 → é") == r"a $-$1 $\geq$ x\_1 $\rightarrow$ é"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("encoding", ["", "\\usepackage[T1]{fontenc}"])
def test_every_table_in_latex_compiles_with_booktabs_alone(tmp_path: Path, encoding: str) -> None:
    names = [
        *NAMES,
        "& % $ # _ { } ~ ^ \\ | < >",
        "„Größe“ ‚x‘",
        "é à ç ñ ø å",
        "µm μm ± 2 °C",
        "– — …",
    ]
    nasty = pd.DataFrame(dict.fromkeys(names[-5:], names))
    tables = [path.read_text() for path in sorted((ROOT / "results").rglob("*.tex"))]
    assert len(tables) > 20
    preamble = ["\\documentclass{article}", encoding, "\\usepackage{booktabs}", "\\begin{document}"]
    document = "\n\n".join([*preamble, latex_table(nasty), *tables, "\\end{document}"])
    (tmp_path / "tables.tex").write_text(document)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")


@given(st.text(st.characters(codec="utf-8")))
def test_a_link_names_the_path(path: str) -> None:
    assert unquote(link_target(path)) == path
    assert not re.search(r"[\s()<>|`]", link_target(path).replace("(", "").replace(")", ""))


@pytest.mark.parametrize("name", [*NAMES, "_", "$", "$$"])
def test_a_plot_shows_a_name_as_it_is_and_its_curve_in_the_legend(name: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], label=plot_text(name))
    assert len(axes.get_legend_handles_labels()[1]) == 1
    figure.legend()
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    assert "mathtext" not in drawn.getvalue()
