"""The page over all recipes: does each claim of the paper hold, and how large is its effect?"""

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from senet_ablate.analysis.escape import link_target, markdown_cell, plot_text
from senet_ablate.analysis.forest import COLUMNS
from senet_ablate.records.facts import readable
from senet_ablate.report.cells import number
from senet_ablate.report.document import GLYPHS, Document, Grid, Section, Text, drawn
from senet_ablate.report.plots import OURS, PAPER, PLAIN, panels
from senet_ablate.spec import BadInput

LEAD = (
    "The paper's claims on one test error each, beside what the recipes of this folder found; a"
    " recipe's own page has more (controls, claims without numbers)."
    " **✓ supported**: the runs show it; **✗ contradicted**: they show the opposite; **?"
    " unresolved**: they cannot tell; **– not tested**: not judged yet, or this network cannot. An"
    " effect is the error of the row that the claim calls better minus that of the other, in"
    " percent of the plain network's error, so that networks of different accuracy can be compared:"
    " below 0 speaks for the claim. Of several"
    " comparisons the one that decides is shown."
)
CAPTION = (
    "Green: where a claim holds; its edge is 0 or the margin within which errors count as alike. A"
    " bar (the 95% interval over seeds, divided by the plain network's mean error,"
    " which is taken as known) wholly in the green speaks for the claim, one wholly outside it"
    " against it. (Rows that are said to differ may lie anywhere but at 0; a bar wholly within the"
    " margin speaks against that.) The sign is the verdict, corrected for all claims of the recipe,"
    " so that it asks for more than the bar."
)
NOT_EVIDENCE = (
    "Made-up images, or images far too easy: these recipes show that the suite works, and are **no"
    " evidence for or against the paper**, whose numbers are therefore not drawn. Of made-up images"
    " ✓ says that the mechanism was seen, ✗ that its opposite was."
)
GREEN = "#DDF0E2"
LOOKS: dict[str, dict[str, Any]] = {
    "supported": {"marker": "o", "color": OURS, "mfc": OURS},
    "contradicted": {"marker": "X", "color": PAPER, "mfc": PAPER},
    "unresolved": {"marker": "o", "color": PLAIN, "mfc": "white"},
    "not tested": {"marker": "o", "color": PLAIN, "mfc": "white"},
}
DIAMOND: dict[str, Any] = {"marker": "D", "ms": 5, "mfc": "none", "mec": "black", "mew": 1.3}
QUANTITIES = {"top1": "top-1", "top5": "top-5"}


def pages(results: Path) -> dict[str, Document]:
    """The page by the path of its Markdown. A file that holds no effects is left out, with a
    warning; raises BadInput if there is no other.
    """
    read = readable(results.glob("*/effects.csv"), _read)
    if not read:
        raise BadInput(f"{results}: no recipe's effects.csv can be read")
    read.sort(key=len, reverse=True)  # most claims first: they stand in the order of the tables
    found = pd.concat(read, ignore_index=True)
    sections = [
        *_sections(found[~found["warned"]], "Evidence about the paper", "forest.svg", CAPTION),
        *_sections(found[found["warned"]], "No evidence about the paper", "shown.svg", ""),
    ]
    return {"README.md": Document("What holds, what does not, what is not known", LEAD, sections)}


def _read(path: Path) -> pd.DataFrame:
    try:
        # a recipe may be "2024"
        texts = dict.fromkeys(("claim", "text", "recipe", "runs", "contrast", "marks"), str)
        found = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
        return found[list(COLUMNS)].fillna({"marks": ""}).astype({"warned": bool})
    except (ValueError, KeyError) as error:
        raise BadInput(
            f"{path}: not the effects of a recipe ({error}); `report` writes it anew"
        ) from error


def _sections(found: pd.DataFrame, title: str, path: str, caption: str) -> list[Section]:
    """The counts, the plot and the table of the recipes of one kind."""
    if found.empty:
        return []
    about = [] if caption else [Text(NOT_EVIDENCE)]
    counts = [
        {
            "recipe": f"[{markdown_cell(recipe)}]({link_target(str(recipe))}/README.md)",
            "runs": own["runs"].iloc[0],
        }
        | {f"{GLYPHS[name]} {name}": str((own["verdict"] == name).sum()) for name in LOOKS}
        for recipe, own in found.groupby("recipe")
    ]
    plot = drawn(path, title, caption, forest, found, bool(caption))
    grid = Grid(title, pd.DataFrame(counts), ("recipe",))
    return [Section(title, [*about, grid, *plot, _table(found)])]


def _table(found: pd.DataFrame) -> Grid:
    """A row a claim; the paper's effect, and that of each recipe with its interval."""
    rows = []
    for (claim, quantity), own in found.groupby(["claim", "quantity"], sort=False):
        first = own.iloc[0]
        row = {"claim": claim, "error": QUANTITIES[str(quantity)], "it says": first["text"]}
        if not first["warned"]:
            row["paper"] = f"{first['paper_effect']:+.1f}%"
        rows.append(row | {one["recipe"]: _cell(one) for _, one in own.iterrows()})
    cells = pd.DataFrame(rows).fillna("")
    return Grid("Effects", cells, markup=tuple(found["recipe"].unique()))


def _cell(row: pd.Series) -> str:
    effect = number(row["effect"], "+.1f", row["low"], row["high"], "%")
    said = f" {effect}, n = {row['n']}" if effect else ""
    return f"{GLYPHS[row['verdict']]}{said}{', ' * bool(row['marks'])}{row['marks']}"


def forest(found: pd.DataFrame, paper: bool) -> matplotlib.figure.Figure:
    """A line a claim, top-1 errors on the left, top-5 on the right; in it the paper's effect and
    below it each recipe's with its interval.
    """
    claims, recipes = (list(found[column].unique()) for column in ("claim", "recipe"))
    lines = len(recipes) + 1.6
    height = 1.3 + max(0.5, 0.2 * lines) * len(claims)
    margin = 0.8 + (0.09 * max(map(len, recipes)) if len(recipes) > 1 else 0)
    figure, both = panels(12, height, 2, left=3.6, gap=margin, sharey=True)
    figure.subplots_adjust(right=1 - margin / 12, top=1 - 0.4 / height)
    for axes, (quantity, name) in zip(both, QUANTITIES.items(), strict=True):
        own = found[found["quantity"] == quantity]
        seen = own[["effect", "low", "high"]].abs().max(axis=1).quantile(0.9)
        # the end of the axis: all the paper's effects, most of ours
        limit = np.nanmax([2 * own["paper_effect"].abs().max(), seen, 0]).clip(max=100) or 1.0
        for _, row in own.iterrows():
            top = claims.index(row["claim"]) - 0.5
            holds = np.clip([row["holds_low"], row["holds_high"]], -limit, limit)
            if not np.isnan(holds).any():
                span = holds if holds[0] < holds[1] else (-limit, limit)
                axes.fill_between(span, top, top + 1, color=GREEN, lw=0, zorder=0)
            if paper:
                axes.plot(row["paper_effect"], top + 0.8 / lines, ls="", **DIAMOND)
            at = top + (recipes.index(row["recipe"]) + (1.7 if paper else 1.3)) / lines
            _effect(axes, row, at, limit, len(recipes) > 1)
        axes.axvline(0, color=PLAIN, lw=1)
        for line in range(len(claims) + 1):
            axes.axhline(line - 0.5, color="#E6E6E6", lw=0.8)
        axes.set(xlim=(-limit, limit), xlabel="% of the plain network's error")
        axes.set_title(f"{name} error", loc="left")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    texts = found.drop_duplicates("claim")
    labels = [
        plot_text(fill(f"{claim}  {text}", 46))
        for claim, text in zip(texts["claim"], texts["text"], strict=True)
    ]
    both[0].set_yticks(range(len(claims)), labels, fontsize=8.5)
    both[0].set_ylim(len(claims) - 0.5, -0.5)
    _legend(figure, paper)
    return figure


def _effect(axes: Axes, row: pd.Series, at: float, limit: float, named: bool) -> None:
    """Ours with its interval, and in the margin its verdict; an end off the axis is an arrow."""
    look = LOOKS[row["verdict"]]
    if not pd.isna(row["low"]):
        axes.plot([row["low"], row["high"]], [at, at], color=look["color"], lw=2)
        for end, marker in ((row["low"], "<"), (row["high"], ">")):
            if abs(end) > limit:
                place = np.clip(end, -limit, limit)
                axes.plot(place, at, marker, color=look["color"], ms=5, clip_on=False)
    axes.plot(row["effect"], at, ms=7, mew=1.5, lw=0, **look)
    words = [row["recipe"]] * named + [f"n = {row['n']}"] * (not pd.isna(row["effect"]))
    axes.annotate(
        plot_text(f"{GLYPHS[row['verdict']]} {', '.join(words)}"),
        (1.02, at),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=9,
        fontweight="bold" if row["verdict"] in ("supported", "contradicted") else "normal",
        color=look["color"],
        annotation_clip=False,
    )


def _legend(figure: matplotlib.figure.Figure, paper: bool) -> None:
    handles: list[Line2D | Patch] = [Patch(color=GREEN, label="where the claim holds")]
    if paper:
        handles.append(Line2D([], [], lw=0, label="the paper", **DIAMOND))
    for verdict, its in LOOKS.items():
        look = its | {"lw": 2} if verdict != "not tested" else {"lw": 0}
        handles.append(Line2D([], [], ms=7, label=f"{GLYPHS[verdict]} {verdict}", **look))
    figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=9)
