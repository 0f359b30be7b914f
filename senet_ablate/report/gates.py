"""Gates of trained networks: figures 6 and 7 and their table, by class; level and saturation by
block.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_cell, plot_text
from senet_ablate.analysis.exclusions import stuck_gates
from senet_ablate.records import ClassGates, Gates, Record
from senet_ablate.records.class_gates import MEASURES, paper_network, places
from senet_ablate.report.document import Block, Grid, Text, drawn
from senet_ablate.report.plots import COLOURS

LEGEND = (
    "Over all channels of each block; in brackets what was read off the paper's figures"
    " (SE-ResNet-50 on ImageNet) for the block with the same place in the network."
)


def gates_table(network: Sequence[ClassGates], made_up: bool = False) -> pd.DataFrame:
    """One row a block, in order of depth: our measures, and, unless the images are made up, those
    of the paper's panels with the same place in the network.

    Columns: block, the keys of MEASURES, panel, paper_<measure>. Where one block has the place of
    two panels (of two stages), there is one row a panel. Paper values are missing where the paper
    draws no such block.
    """
    ours = _measures(network)
    if made_up:
        return ours
    paper = _measures(paper_network())
    drawn, at = (places([*rows["block"]]) for rows in (paper, ours))
    panels = pd.DataFrame({"block": at, "panel": drawn}).dropna().drop_duplicates()
    beside = paper.add_prefix("paper_").rename(columns={"paper_block": "panel"})
    return ours.merge(panels, "left", "block").merge(beside, "left", "panel")


def _measures(network: Sequence[ClassGates]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"block": block.name, **{key: getattr(block, key) for key in MEASURES}}
            for block in network
        ]
    )


def blocks(record: Record, label: str, measured: pd.DataFrame, folder: str) -> list[Block]:
    """Gates by class on the page, of a record that holds them, of the row called `label`: the two
    figures, to lie in `folder`, and the table (ours first, in brackets the paper's, where it is
    beside ours); measured: by `gates_table`.
    """
    classes = list(record.class_gates[0].class_means)
    about = (
        f"Gates of one trained network ({markdown_cell(label)}, run {record.id}) by class:"
        f" {markdown_cell(', '.join(classes))}, all test images each; `all` is the mean over all"
        f" {record.tested:,}. At most fifty channels a block are drawn, evenly spaced."
    )
    figure6 = "Mean gate by channel and class, as the paper's figure 6"
    figure7 = "Gates within a class, as the paper's figure 7"
    pair = markdown_cell(" and ".join(classes[:2]))
    spread = f"{figure7}: mean and standard deviation over its images, of {pair}."
    numbers = measured[[*MEASURES]].astype(float)
    texts = (
        numbers.map("{:.3f}".format).replace("nan", "none").set_axis([*MEASURES.values()], axis=1)
    )
    texts.insert(0, "block", measured["block"])
    legend = "Over all channels of each block."
    if "panel" in measured:
        legend = LEGEND
        texts.insert(1, "the paper's panel", measured["panel"].fillna(""))
        for key, heading in MEASURES.items():
            paper = measured[f"paper_{key}"].astype(float)
            texts[heading] += paper.map(" ({:.3f})".format).replace(" (nan)", "")
    return [
        Text("### Gates by class"),
        Text(about),
        *drawn(f"{folder}/figure6.svg", figure6, f"{figure6}.", by_class, record),
        *drawn(f"{folder}/figure7.svg", figure7, spread, by_class, record, within=True),
        Text(legend),
        Grid("Gates by class", texts),
    ]


def by_class(record: Record, within: bool = False) -> Figure:
    """Figure 6: mean gate by channel, a panel a block, a line a class and one for all images.

    within: figure 7, mean and one standard deviation over the images of a class, for the first two.
    """
    columns = min(3, len(record.class_curves))
    lines = -(-len(record.class_curves) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, (name, curves) in zip(grid.flat, record.class_curves.items(), strict=False):
        axes.set(title=name, xlabel="channel")
        x = curves.channels
        if not within:
            axes.plot(x, curves.everything, color="black", lw=1.8, label="all", zorder=3)
        looks = zip(cycle(COLOURS), cycle(("-", "--", "-.", ":")), strict=False)
        classes = islice(curves.mean, 2 if within else None)
        for label, (colour, style) in zip(classes, looks, strict=False):
            mean, std = np.array(curves.mean[label]), np.array(curves.std[label])
            look = {"color": colour, "linestyle": style, "lw": 1.3 if within else 1.1}
            axes.plot(x, mean, label=plot_text(label), **look)
            if within:
                axes.fill_between(x, mean - std, mean + std, alpha=0.22, lw=0, color=colour)
    for axes in grid.flat[len(record.class_curves) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("gate")
    means = [mean for curves in record.class_curves.values() for mean in curves.mean.values()]
    shown = np.concatenate(means)
    if shown.min() >= 0 and shown.max() <= 1:
        grid[0, 0].set_ylim(-0.03, 1.03)
    legend = grid[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=5, fontsize=9)
    return figure


def by_block(records: Sequence[Record]) -> pd.DataFrame:
    """The gates of a row's runs by block, from the first to the last, averaged over the seeds.

    Index block; columns mean, std (over images and channels), within (over images, averaged over
    channels), low, high (share of gates under 0.1 and over 0.9), between_seeds (standard deviation
    of the mean, NaN for one seed), seeds, stuck (in how many seeds the block's gates stand still).
    Empty for a network without SE.
    """
    rows = [
        {"block": block, **gates.model_dump(), "stuck": block in stuck_gates(record)}
        for record in records
        if record.diverged is None
        for block, gates in record.gates.items()
    ]
    columns = ["block", *Gates.model_fields, "stuck"]
    by = pd.DataFrame(rows, columns=columns).groupby("block", sort=False)
    found = by[[*Gates.model_fields]].mean()
    return found.assign(between_seeds=by["mean"].std(), seeds=by.size(), stuck=by["stuck"].sum())


def block_plot(rows: Mapping[str, Sequence[Record]]) -> Figure | None:
    """Mean and spread of the gates by block, and the share of them that is saturated; none if no
    row has gates.
    """
    frames = {name: by_block(records) for name, records in rows.items()}
    found = {name: frame for name, frame in frames.items() if not frame.empty}
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
        level.errorbar(
            x, frame["mean"], yerr=frame["std"], fmt=f"{marker}-", label=plot_text(name), **look
        )
        saturated.plot(x, 100 * frame["high"], f"{marker}-", **look)
        saturated.plot(x, 100 * frame["low"], f"{marker}--", mfc="none", **look)
    for axes in (level, saturated):
        axes.set_xticks(range(len(blocks)), blocks, rotation=0 if len(blocks) < 7 else 90)
        axes.set_xlabel("SE block, from the first to the last")
    level.set_ylabel("gate: mean and spread")
    saturated.set(ylabel="% over 0.9 (full), under 0.1 (dashed)", ylim=(-1, None))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
