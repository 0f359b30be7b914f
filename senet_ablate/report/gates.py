"""Gates of trained networks: figures 6 and 7 and their table, by class; level and saturation by
block.
"""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_cell, markdown_code, plot_text
from senet_ablate.analysis.exclusions import stuck_gates
from senet_ablate.records import ClassGates, Gates, Record
from senet_ablate.records.class_gates import MEASURES, paper_network, places
from senet_ablate.records.gate_facts import GateFacts
from senet_ablate.report.document import Block, Grid, Text, drawn
from senet_ablate.report.plots import COLOURS

EXPERIMENT = "role_of_excitation"
LEGEND = (
    "Over all channels of each block; in brackets what was read off the paper's figures"
    " (SE-ResNet-50 on ImageNet) for the block with the same place in the network."
)


def gates_table(network: Sequence[ClassGates]) -> pd.DataFrame:
    """One row a block, in order of depth: our measures, and those of the paper's panels with the
    same place in the network.

    Columns: block, the keys of MEASURES, panel, paper_<measure>. Where one block has the place of
    two panels (of two stages), there is one row a panel. Paper values are missing where the paper
    draws no such block.
    """
    paper = {block.name: block for block in paper_network()}
    drawn, ours = places(list(paper)), places([block.name for block in network])
    rows = []
    for block in network:
        panels = dict.fromkeys(drawn[at] for at, name in ours.items() if name == block.name)
        for panel in panels or [None]:
            row = {"block": block.name, **{key: getattr(block, key) for key in MEASURES}}
            theirs = {f"paper_{key}": panel and getattr(paper[panel], key) for key in MEASURES}
            rows.append({**row, "panel": panel, **theirs})
    return pd.DataFrame(rows)


def blocks(facts: GateFacts, recipe: str, made_up: bool) -> list[Block]:
    """Gates by class on the page: the two figures, the table (ours first, in brackets the paper's,
    unless the images are made up), and how to make them again.
    """
    counts = sorted(set(facts.images.values()))
    ends = dict.fromkeys((counts[0], counts[-1]))
    several = " to ".join(map(str, ends)) if counts[0] else "all"
    command = f"python -m senet_ablate excitation --recipe {recipe} --classes {_quoted(facts)}"
    about = (
        f"Gates of one trained network (run {facts.run}) by class:"
        f" {markdown_cell(', '.join(facts.images))},"
        f" {several} test images each; `all` is the mean over all {facts.tested:,}. At most fifty"
        " channels a block are drawn, evenly spaced. Measured by"
        f" {markdown_code(command)}."
    )
    figure6 = "Mean gate by channel and class, as the paper's figure 6"
    figure7 = "Gates within a class, as the paper's figure 7"
    pair = markdown_cell(" and ".join(islice(facts.images, 2)))
    spread = f"{figure7}: mean and standard deviation over its images, of {pair}."
    rows = gates_table(facts.blocks)
    if made_up:
        rows = rows.drop_duplicates("block")
    cells = pd.DataFrame({"block": rows["block"], "the paper's panel": rows["panel"].fillna("")})
    for key, heading in MEASURES.items():
        ours = rows[key].astype(float).map("{:.3f}".format).replace("nan", "none")
        paper = rows[f"paper_{key}"].astype(float).map(" ({:.3f})".format).replace(" (nan)", "")
        cells[heading] = ours if made_up else ours + paper
    return [
        Text("### Gates by class"),
        Text(about),
        *drawn(f"{EXPERIMENT}/figure6.svg", figure6, partial(by_class, facts), f"{figure6}."),
        *drawn(f"{EXPERIMENT}/figure7.svg", figure7, partial(by_class, facts, within=True), spread),
        Text("Over all channels of each block." if made_up else LEGEND),
        Grid("Gates by class", cells.drop(columns="the paper's panel") if made_up else cells),
    ]


def _quoted(facts: GateFacts) -> str:
    """Names of classes as the option `--classes` and a shell read them."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(facts.images)
    return shlex.quote(row.getvalue())


def by_class(facts: GateFacts, within: bool = False) -> Figure:
    """Figure 6: mean gate by channel, a panel a block, a line a class and one for all images.

    within: figure 7, mean and one standard deviation over the images of a class, for the first two.
    """
    columns = min(3, len(facts.curves))
    lines = -(-len(facts.curves) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    shown = list[float]()
    for axes, (name, curves) in zip(grid.flat, facts.curves.items(), strict=False):
        axes.set_title(name)
        axes.set_xlabel("channel")
        x = curves.channels
        if not within:
            axes.plot(x, curves.everything, color="black", lw=1.8, label="all", zorder=3)
        for number, label in enumerate(islice(curves.mean, 2 if within else None)):
            mean, std = np.array(curves.mean[label]), np.array(curves.std[label])
            colour, style = COLOURS[number % len(COLOURS)], ("-", "--", "-.", ":")[number % 4]
            look = {"color": colour, "linestyle": style, "lw": 1.3 if within else 1.1}
            axes.plot(x, mean, label=plot_text(label), **look)
            if within:
                axes.fill_between(x, mean - std, mean + std, alpha=0.22, lw=0, color=colour)
        shown += [value for mean in curves.mean.values() for value in mean]
    for axes in grid.flat[len(facts.curves) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("gate")
    if min(shown) >= 0 and max(shown) <= 1:
        grid[0, 0].set_ylim(-0.03, 1.03)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    return figure


def by_block(records: Sequence[Record]) -> pd.DataFrame:
    """The gates of a row's runs by block, from the first to the last, averaged over the seeds.

    Index block; columns mean, std (over images and channels), within (over images, averaged over
    channels), low, high (share of gates under 0.1 and over 0.9), between_seeds (standard deviation
    of the mean, NaN for one seed), seeds, stuck (in how many seeds the block's gates stand still).
    Empty for a network without SE.
    """
    rows = []
    for record in records:
        stuck = stuck_gates(record)
        rows += [
            {"block": block, **gates.model_dump(), "stuck": block in stuck}
            for block, gates in record.gates.items()
            if record.diverged is None
        ]
    columns = ["block", *Gates.model_fields, "stuck"]
    by = pd.DataFrame(rows, columns=columns).groupby("block", sort=False)
    found = by[[*Gates.model_fields]].mean()
    return found.assign(between_seeds=by["mean"].std(), seeds=by.size(), stuck=by["stuck"].sum())


def block_plot(rows: Mapping[str, Sequence[Record]]) -> Figure | None:
    """Mean and spread of the gates by block, and the share of them that is saturated; none if no
    row has gates.
    """
    found = {name: by_block(records) for name, records in rows.items()}
    found = {name: frame for name, frame in found.items() if not frame.empty}
    if not found:
        return None
    blocks = list(dict.fromkeys(block for frame in found.values() for block in frame.index))
    figure = Figure(figsize=(9, 4), layout="constrained")
    level, saturated = figure.subplots(1, 2)
    for number, (name, frame) in enumerate(found.items()):
        look: dict[str, Any] = {"ms": 6, "lw": 1.2, "color": COLOURS[number % len(COLOURS)]}
        marker = "osD^v"[number % 5]
        shift = 0.08 * (number - (len(found) - 1) / 2)
        x = np.array([blocks.index(block) for block in frame.index]) + shift
        level.errorbar(x, frame["mean"], yerr=frame["std"], fmt=f"{marker}-", label=name, **look)
        saturated.plot(x, 100 * frame["high"], f"{marker}-", **look)
        saturated.plot(x, 100 * frame["low"], f"{marker}--", mfc="none", **look)
    for axes in (level, saturated):
        axes.set_xticks(range(len(blocks)), blocks, rotation=0 if len(blocks) < 7 else 90)
        axes.set_xlabel("SE block, from the first to the last")
    level.set_ylabel("gate: mean and spread")
    saturated.set_ylabel("% over 0.9 (full), under 0.1 (dashed)")
    saturated.set_ylim(bottom=-1)
    handles, labels = level.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure
