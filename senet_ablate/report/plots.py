"""Plots of a recipe's tables: every seed, the mean and its interval.

Colours can be told apart without colour vision, text stays text, equal data give equal bytes.
"""

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from senet_ablate.analysis.escape import plot_text
from senet_ablate.analysis.tables import Table
from senet_ablate.records import Record
from senet_ablate.report.cells import span
from senet_ablate.spec import SESpec

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C510A", "#5E3C99")
# Okabe and Ito's that stand out from white (3:1 at least), blue and vermilion first, and two; grey
OURS, PAPER, PLAIN = *COLOURS[:2], "#595959"
ERROR = "top-1 test error, % (lower is better)"
POSSIBLE = -1.0, 101.0  # ends of its axis: an interval of few seeds may leave what an error can be
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "senet_ablate",
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all plots, for the length of the context."""
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, "backend": "agg", **STYLE}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # a letter that the font lacks is measured as a box; who looks at an SVG has other fonts
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def svg(figure: Figure) -> bytes:
    """A figure as SVG, with no date in it, in fonts that other machines have too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format")))
    return buffer.getvalue().replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif")


def panels(
    width: float, height: float, columns: int, left: float = 0.75, gap: float = 0.75, **more: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with panels side by side, and a legend's room below them.

    left, gap: inches before the first panel and between two. more: options of `Figure.subplots`.
    Fixed margins: a layout engine would take half of the time of a plot.
    """
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, columns, squeeze=False, **more)[0]
    share = (width - left - 0.15 - gap * (columns - 1)) / columns
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.15 / width,
        bottom=0.88 / height,
        top=1 - 0.15 / height,
        wspace=gap / share,
    )
    return figure, list(axes)


def plot(table: Table) -> Figure | None:
    """The plot of a table; None if it has no runs.

    Against its numeric axis if it has one; against epochs and learning rate if rows have their own;
    else row by row.
    """
    counts = table.rows["n"][table.rows["n"] > 0]
    if counts.empty:
        return None
    label = f"mean and 95% interval (n = {span(counts)})"
    if any(one.epochs or one.lr_times for one in table.experiment.variants.values()):
        figure = _budgets(table)
        handles = [
            *figure.axes[-1].get_legend_handles_labels()[0],
            Line2D([], [], ls="", marker="|", ms=12, mew=2, color=PLAIN, label=label),
        ]
    else:
        figure = _against_axis(table) if table.experiment.axis else _row_by_row(table)
        label = f"{label}; small dots: seeds"
        handles = [
            Line2D([], [], marker="o", ms=8, lw=2, color=OURS, label=label),
            Line2D([], [], marker="o", ms=8, lw=1, color=PLAIN, label="control"),
        ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=9)
    return figure


def _row_by_row(table: Table) -> Figure:
    """The error of each row, and beside it the difference to the row's control."""
    rows = table.rows
    controls = {table.experiment.control_of(variant) for variant in table.experiment.variants}
    figure, (errors, effects) = panels(
        9, 1.2 + 0.45 * len(rows), 2, left=2.3, gap=0.2, sharey=True, width_ratios=(1.4, 1)
    )
    effects.axvline(0, color=PLAIN, lw=1)
    for place, (variant, row) in enumerate(rows.iterrows()):
        colour = PLAIN if variant in controls else OURS
        _draw(errors, place, row, "top1", colour, table.records[str(variant)], place - 0.2)
        _draw(effects, place, row, "effect", colour)
    if len(controls) == 1:
        _mark_control(errors.axvline, errors.axvspan, table)
    labels = [plot_text(textwrap.fill(label, 24)) for label in rows["label"]]
    errors.set(yticks=range(len(rows)), yticklabels=labels, ylim=(len(rows) - 0.4, -0.6))
    errors.set(xlim=np.clip(errors.get_xlim(), *POSSIBLE), xlabel=ERROR)
    effects.set_xlabel("against the control, points")
    for axes in (errors, effects):
        axes.grid(axis="y", visible=False)
    return figure


def _against_axis(table: Table) -> Figure:
    """Error and parameters against the number that names a row."""
    rows = table.rows.drop(index=table.experiment.control)
    x = [float(str(variant)) for variant in rows.index]
    figure, (error, params) = panels(9, 4.2, 2, width_ratios=(1.7, 1))
    for place, (variant, row) in zip(x, rows.iterrows(), strict=True):
        runs = table.records[str(variant)]
        _draw(error, place, row, "top1", OURS, runs, place / 1.07, vertical=True)
    _mark_control(error.axhline, error.axhspan, table)
    error.plot(x, rows["top1"], lw=1, color=OURS)
    error.set(ylim=np.clip(error.get_ylim(), *POSSIBLE), ylabel=ERROR)
    params.plot(x, rows["params"].astype(float) / 1e6, "o-", ms=8, lw=1, color=OURS)
    if plain := table.rows.loc[table.experiment.control, "params"]:
        params.axhline(float(str(plain)) / 1e6, color=PLAIN, lw=1)
    params.set(ylim=(0, 1.08 * params.get_ylim()[1]), ylabel="parameters, millions")
    for axes in (error, params):
        _log_ticks(axes, x, table.experiment.axis)
    return figure


def _draw(
    axes: Axes,
    place: float,
    row: pd.Series,
    quantity: str,
    colour: str,
    runs: Sequence[Record] = (),
    beside: float = 0,
    vertical: bool = False,
) -> None:
    """A row's mean with its interval, and beside it the error of each run, failed ones too."""

    def plot(values: Sequence[float], at: float, marker: str, **look: Any) -> None:
        points = (values, [at] * len(values))
        axes.plot(*(points[::-1] if vertical else points), marker, color=colour, **look)

    plot([run.top1 for run in runs], beside, "o", ms=4, alpha=0.8, mew=0)
    plot([row[f"{quantity}_low"], row[f"{quantity}_high"]], place, "-", lw=2)
    plot([row[quantity]], place, "o", ms=8)


def _mark_control(line: Any, span: Any, table: Table) -> None:
    """A line at the control's mean, and its interval as a band."""
    control = table.rows.loc[table.experiment.control]
    line(control["top1"], color=PLAIN, lw=1)
    span(control["top1_low"], control["top1_high"], color=PLAIN, alpha=0.12, lw=0)


def _log_ticks(axes: Axes, places: Sequence[float], label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel(plot_text(label))


def _budgets(table: Table) -> Figure:
    """What each network gains over the plain one of its own schedule, against epochs and rate."""
    points = table.rows[table.rows["n"] > 0].copy()
    runs = [table.records[str(name)][0].run for name in points.index]
    kinds = {None: "plain", SESpec(): "SE"}
    points["network"] = [
        kinds.get(run.se) or label.partition(",")[0]
        for run, label in zip(runs, points["label"], strict=True)
    ]
    points["epochs"] = [run.train.epochs for run in runs]
    points["lr"] = [run.train.lr for run in runs]
    variants = table.experiment.variants
    own = points[[variants[str(name)].lr_times is None for name in points.index]]
    rates = points.groupby("epochs").filter(lambda group: group["lr"].min() < group["lr"].max())
    rates = rates[rates["epochs"] == rates["epochs"].max()]
    networks = sorted({*points["network"]} - {"plain"}, key=lambda name: (name != "SE", name))
    figure, (*gains, errors) = panels(12, 4, 3 if len(rates) else 2)
    _line(errors, own, "plain", "epochs", "top1", PLAIN)
    budgets = "epochs, each its own schedule"
    drawn = [(gains[0], own, "epochs", "effect", budgets), (errors, own, "epochs", "top1", budgets)]
    if len(rates):
        label = f"peak learning rate, {rates['epochs'].iloc[0]:g} epochs"
        drawn.append((gains[1], rates, "lr", "effect", label))
    for axes, rows, key, quantity, label in drawn:
        for place, (network, colour) in enumerate(zip(networks, cycle(COLOURS), strict=False)):
            _line(axes, rows, network, key, quantity, colour, place)
        _log_ticks(axes, sorted(set(rows[key])), label)
    for axes in gains:
        axes.axhline(0, color=PLAIN, lw=1)
        axes.set_ylabel("gain over the plain network, points")
    errors.set_ylabel(ERROR)
    return figure


def _line(
    axes: Axes,
    rows: pd.DataFrame,
    network: str,
    key: str,
    quantity: str,
    colour: str,
    place: int = 0,
) -> None:
    """The rows of a network with their intervals, effects as gains; place: of the networks that
    stand beside each other.
    """
    rows = rows[rows["network"] == network].sort_values(key)
    x = rows[key] * 1.06**place
    marker = "os^D"[place % 4]
    sign = -1 if quantity == "effect" else 1
    middle, low, high = (sign * rows[f"{quantity}{end}"] for end in ("", "_low", "_high"))
    axes.plot(x, middle, f"{marker}-", ms=7, lw=1, color=colour, label=plot_text(network))
    axes.vlines(x, low, high, color=colour, lw=2)


def curves(groups: Mapping[str, Sequence[Record]]) -> Figure | None:
    """Loss and error by epoch for named groups of runs, mean and range over their seeds (as the
    paper's Fig. 4); None if no run has epochs.
    """
    figure, (loss, error) = panels(9, 3.8, 2)
    for (name, runs), colour in zip(groups.items(), cycle((PLAIN, *COLOURS)), strict=False):
        for axes, what in ((loss, "loss"), (error, "top1")):
            for images, dash, of in (("train", "--", "training"), ("test", "-", "test")):
                values = by_epoch(runs, f"{images}_{what}").dropna(axis="columns")
                if len(values):
                    epochs, label = values.columns, plot_text(f"{name}, {of}")
                    look: dict[str, Any] = {"ms": 4, "marker": "o" if len(epochs) < 10 else ""}
                    axes.plot(epochs, values.mean(), dash, color=colour, label=label, **look)
                    band = values.min(), values.max()
                    axes.fill_between(epochs, *band, color=colour, alpha=0.15, lw=0)
    if not loss.lines:
        return None
    loss.set_ylabel("cross-entropy")
    error.set_ylabel("top-1 error, %")
    for axes in (loss, error):
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
    legend = loss.get_legend_handles_labels()
    figure.legend(*legend, loc="lower center", ncols=4, fontsize=9)
    return figure


def by_epoch(runs: Sequence[Record], quantity: str) -> pd.DataFrame:
    """A quantity of each epoch from 1, a column, of each run that has not diverged, a row; NaN
    where it was not read.
    """
    found = [
        {number: getattr(epoch, quantity) for number, epoch in enumerate(run.epochs, start=1)}
        for run in runs
        if run.diverged is None and run.epochs
    ]
    return pd.DataFrame(found, dtype=float)
