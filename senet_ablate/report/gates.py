"""Figures 6 and 7 and the table of gates by block, from the facts that `senet-ablate excitation`
wrote.
"""

import csv
import io
import shlex
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_table, plot_text
from senet_ablate.records.class_gates import ClassGates, find, paper_network
from senet_ablate.records.gate_facts import Excitation
from senet_ablate.report import plots as figures

EXPERIMENT = "role_of_excitation"
PARTS = ("early", "middle", "late", "next_to_last", "last")
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
)  # Okabe and Ito
MEASURES = {
    "mean": "mean gate",
    "between_class_std": "spread between classes",
    "centred_between_class_std": "the same, class means removed",
    "within_class_std": "spread within a class",
    "correlation": "correlation of class curves",
    "share_high": "share > 0.9",
    "share_low": "share < 0.1",
}
LEGEND = (
    "Over all channels of each block; in brackets what was read off the paper's figures"
    " (SE-ResNet-50 on ImageNet) for the block with the same place in the network."
)


def gates_files(facts: Excitation) -> dict[str, bytes]:
    """The generated files by their path in the recipe's results folder."""
    rows = gates_table(facts.blocks)
    out = {
        f"{EXPERIMENT}/gates.csv": (
            rows.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()
        ),
        f"{EXPERIMENT}/gates.md": (gates_markdown(facts) + "\n").encode(),
    }
    for name, figure in (("figure6", by_class(facts)), ("figure7", within_class(facts))):
        out |= {
            f"{EXPERIMENT}/{name}.{kind}": content
            for kind, content in figures.files(figure).items()
        }
    return out


def gates_table(network: Sequence[ClassGates]) -> pd.DataFrame:
    """One row a block, in order of depth: our measures, and those of the paper's panels with the
    same place in it.

    Columns: block, the keys of MEASURES, panel, paper_<measure>. Where one block has the place of
    two panels (a last stage of one or two blocks), there is one row a panel. Paper values are
    missing where the paper draws no such block.
    """
    paper = {block.name: block for block in paper_network()}
    rows = []
    for block in network:
        for panel in _papers_panels(network).get(block.name, [""]):
            row: dict[str, object] = {"block": block.name} | {
                key: getattr(block, key) for key in MEASURES
            }
            row |= {"panel": panel or None}
            rows.append(
                row
                | {
                    f"paper_{key}": getattr(paper[panel], key) if panel else None
                    for key in MEASURES
                }
            )
    return pd.DataFrame(rows)


def _papers_panels(network: Sequence[ClassGates]) -> dict[str, list[str]]:
    """Block -> the panels it answers to:

    by name if the network has every block the paper draws, else by its place.
    """
    paper = paper_network()
    names = {block.name for block in network}
    if all(block.name in names for block in paper):
        return {block.name: [block.name] for block in paper}
    panels: dict[str, list[str]] = {}
    for part in PARTS:
        ours, theirs = find(network, part), find(paper, part)
        if ours is not None and theirs is not None:
            panels.setdefault(ours.name, []).append(theirs.name)
    return panels


def gates_cells(facts: Excitation) -> pd.DataFrame:
    """The table as text:

    ours first, in brackets the value read off the paper's figures for the panel named.
    """
    rows = gates_table(facts.blocks)
    cells = pd.DataFrame({"block": rows["block"], "the paper's panel": rows["panel"].fillna("")})
    for key, heading in MEASURES.items():
        cells[heading] = [
            _number(ours) if pd.isna(theirs) else f"{_number(ours)} ({_number(theirs)})"
            for ours, theirs in zip(rows[key], rows[f"paper_{key}"], strict=True)
        ]
    return cells


def gates_markdown(facts: Excitation) -> str:
    """The table as Markdown."""
    return markdown_table(gates_cells(facts))


def _number(value: float | None) -> str:
    return "none" if value is None or value != value else f"{value:.3f}"


def section(facts: Excitation, recipe: str) -> str:
    """What the page says under the experiment:

    the two figures, the table, and how to make them again.
    """
    pair = " and ".join(islice(facts.images, 2))
    return "\n\n".join(
        [
            sample(facts),
            f"![Mean gate by channel and class, as the paper's figure 6]({EXPERIMENT}/figure6.png)",
            f"Mean and standard deviation over the images of one class: {pair}.",
            f"![Gates within a class, as the paper's figure 7]({EXPERIMENT}/figure7.png)",
            LEGEND,
            gates_markdown(facts),
            (
                f"[gates.csv]({EXPERIMENT}/gates.csv), [figure6.svg]({EXPERIMENT}/figure6.svg), "
                f"[figure7.svg]({EXPERIMENT}/figure7.svg); again by "
                f"`python -m senet_ablate excitation --recipe {recipe} --classes {_quoted(facts)}`"
            ),
        ]
    )


def sample(facts: Excitation) -> str:
    """Which network, classes and images the figures show."""
    counts = sorted(set(facts.images.values()))
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"Gates of one trained network (run {facts.run}) by class: {', '.join(facts.images)},"
        f" {several} test images each; `all` is the mean over all {facts.tested:,}. At most fifty"
        " channels a block are drawn, evenly spaced."
    )


def _quoted(facts: Excitation) -> str:
    """Names of classes as the option `--classes` and a shell read them."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(facts.images)
    return shlex.quote(row.getvalue())


def by_class(facts: Excitation) -> Figure:
    """Figure 6: mean gate by channel, a panel a block, a line a class and one for all images."""
    figure, panels = _panels(facts)
    for name, axes in panels.items():
        curves = facts.curves[name]
        axes.plot(curves.channels, curves.everything, color="black", lw=1.8, label="all", zorder=3)
        for place, (label, mean) in enumerate(curves.mean.items()):
            axes.plot(curves.channels, mean, lw=1.1, label=plot_text(label), **_line(place))
    axes = next(iter(panels.values()))
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9
    )
    return figure


def within_class(facts: Excitation) -> Figure:
    """Figure 7:

    mean and one standard deviation over the images of a class, for the first two classes.
    """
    figure, panels = _panels(facts)
    for name, axes in panels.items():
        curves = facts.curves[name]
        for place, label in enumerate(islice(curves.mean, 2)):
            pairs = list(zip(curves.mean[label], curves.std[label], strict=True))
            axes.plot(
                curves.channels, curves.mean[label], lw=1.3, label=plot_text(label), **_line(place)
            )
            low, high = [mean - std for mean, std in pairs], [mean + std for mean, std in pairs]
            axes.fill_between(curves.channels, low, high, alpha=0.22, lw=0, color=COLOURS[place])
    axes = next(iter(panels.values()))
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9
    )
    return figure


def _line(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": ("-", "--", "-.", ":")[place % 4]}


def _panels(facts: Excitation) -> tuple[Figure, dict[str, Axes]]:
    columns = min(3, len(facts.curves))
    lines = -(-len(facts.curves) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    panels = dict(zip(facts.curves, grid.flat, strict=False))
    for name, axes in panels.items():
        axes.set_title(name)
        axes.set_xlabel("channel")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("gate")
    bounds = [
        value
        for curves in facts.curves.values()
        for means in curves.mean.values()
        for value in means
    ]
    if all(0 <= value <= 1 for value in bounds):
        grid[0, 0].set_ylim(-0.03, 1.03)
    return figure, panels
