"""Plots:

error with its interval, the paper's values marked; colour-blind safe, text as text, equal bytes
each time.
"""

import io
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import plot_text
from senet_ablate.analysis.tables import Table
from senet_ablate.records.store import Record
from senet_ablate.spec.spec import SESpec

OURS, PAPER, PLAIN = "#0072B2", "#D55E00", "#595959"  # Okabe and Ito's blue and vermilion; grey
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
    "figure.dpi": 110,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all plots, for the length of the context."""
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, "backend": "agg", **STYLE}
    with mpl.rc_context(settings):
        yield


def files(figure: Figure) -> dict[str, bytes]:
    """A figure as `png` and `svg`, with no date in either."""
    out = {}
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata, bbox_inches="tight")
        out[kind] = buffer.getvalue()
    return out


def plot(table: Table) -> Figure | None:
    """The plot of a table; none if empty.

    Against its numeric axis if it has one; against epochs and learning rate if its rows have their
    own; in pairs if its rows have not all the same control; else dots and intervals.
    """
    if table.rows["n"].sum() == 0:
        return None
    if table.experiment.axis:
        return _against_axis(table)
    if any(variant.epochs or variant.lr_times for variant in table.experiment.variants.values()):
        return _budgets(table)
    several = (
        len({table.experiment.control_of(variant) for variant in table.experiment.variants}) > 1
    )
    return _pairs(table) if several else _dots(table)


def _paper_shift(table: Table) -> float:
    """What to add to the paper's errors so that its control lies on ours:

    differences can then be compared by eye.
    """
    control = _control(table)
    return float(control["top1"]) - float(control["paper_top1"])


def _control(table: Table) -> dict[str, Any]:
    return dict(zip(table.rows.columns, table.rows.loc[table.experiment.control], strict=True))


def _dots(table: Table) -> Figure:
    rows, control = table.rows, _control(table)
    figure = Figure(figsize=(7.5, 1.9 + 0.48 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(control["top1_low"], control["top1_high"], color=PLAIN, alpha=0.12, lw=0)
    axes.axvline(control["top1"], color=PLAIN, lw=1)
    shift = _paper_shift(table)
    for place, (variant, row) in enumerate(rows.iterrows()):
        colour = PLAIN if variant == table.experiment.control else OURS
        seeds = [record.top1 for record in table.records[str(variant)] if record.diverged is None]
        axes.plot(seeds, [place - 0.2] * len(seeds), "o", ms=4, color=colour, alpha=0.5, mew=0)
        axes.plot(
            [row["top1_low"], row["top1_high"]],
            [place] * 2,
            color=colour,
            lw=2,
            solid_capstyle="butt",
        )
        axes.plot(row["top1"], place, "o", ms=8, color=colour)
        if math.isfinite(row["paper_top1"]):
            axes.plot(
                float(row["paper_top1"]) + shift,
                place + 0.25,
                "D",
                ms=5.5,
                mfc="none",
                mec=PAPER,
                mew=1.6,
            )
    axes.set_yticks(range(len(rows)), [_wrapped(row) for _, row in rows.iterrows()])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("top-1 test error, % (lower is better)")
    axes.grid(axis="y", visible=False)
    axes.set_xlim(*_shares(axes.get_xlim()))
    _paper_axis(axes.secondary_xaxis, axes, shift, "x")
    _legend(figure, table, math.isfinite(shift))
    return figure


def _against_axis(table: Table) -> Figure:
    rows = table.rows.drop(index=table.experiment.control)
    control = _control(table)
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    error, params = figure.subplots(1, 2, width_ratios=(1.7, 1))
    x = np.array([float(str(variant)) for variant in rows.index])
    error.axhspan(control["top1_low"], control["top1_high"], color=PLAIN, alpha=0.12, lw=0)
    error.axhline(control["top1"], color=PLAIN, lw=1)
    shift = _paper_shift(table)
    for place, (variant, row) in zip(x, rows.iterrows(), strict=True):
        seeds = [record.top1 for record in table.records[str(variant)] if record.diverged is None]
        error.plot([place / 1.07] * len(seeds), seeds, "o", ms=4, color=OURS, alpha=0.5, mew=0)
        error.plot(
            [place] * 2,
            [row["top1_low"], row["top1_high"]],
            color=OURS,
            lw=2,
            solid_capstyle="butt",
        )
    error.plot(x, rows["top1"].astype(float), "o-", ms=8, lw=1, color=OURS)
    error.plot(
        x * 1.07,
        rows["paper_top1"].astype(float) + shift,
        "D",
        ms=5.5,
        mfc="none",
        mec=PAPER,
        mew=1.6,
    )
    error.set_ylabel("top-1 test error, % (lower is better)")
    error.set_ylim(*_shares(error.get_ylim()))
    _paper_axis(error.secondary_yaxis, error, shift, "y")
    params.plot(x, rows["params"].astype(float) / 1e6, "o-", ms=8, lw=1, color=OURS)
    params.axhline(
        float(control["params"]) / 1e6 if control["params"] else math.nan, color=PLAIN, lw=1
    )
    params.set_ylabel("parameters, millions")
    params.set_ylim(bottom=0)
    for axes in (error, params):
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(variant) for variant in rows.index])
        axes.minorticks_off()
        axes.set_xlabel(table.experiment.axis)
    _legend(figure, table, math.isfinite(shift))
    return figure


def _budgets(table: Table) -> Figure:
    """What each network gains over the plain one of its own schedule:

    against epochs, and against the peak rate.
    """
    points = _budget_points(table)
    own = [name for name, variant in table.experiment.variants.items() if variant.lr_times is None]
    reference = points[points.index.isin(own)]
    budgets = points.groupby("epochs")["lr"].nunique() if len(points) else pd.Series(dtype=int)
    rates = (
        points[points.epochs == budgets.idxmax()]
        if len(budgets) and budgets.max() > 1
        else points.iloc[:0]
    )
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    by_epochs, by_rate, errors = figure.subplots(1, 3)
    for network, colour, marker in (("SE", OURS, "o"), ("Static gate", PAPER, "s")):
        for axes, chosen, key in ((by_epochs, reference, "epochs"), (by_rate, rates, "lr")):
            of_it = chosen[chosen.network == network].sort_values(key)
            if len(of_it):
                beside = of_it[key] * (1 if network == "SE" else 1.06)  # beside it, not behind it
                axes.plot(
                    beside,
                    of_it.gain,
                    marker + "-",
                    ms=7,
                    lw=1,
                    color=colour,
                    label=plot_text(network),
                )
                axes.vlines(beside, of_it.gain_low, of_it.gain_high, color=colour, lw=2)
    for network, colour in (("plain", PLAIN), ("SE", OURS)):
        of_it = reference[reference.network == network].sort_values("epochs")
        errors.plot(
            of_it.epochs, of_it.top1, "o-", ms=7, lw=1, color=colour, label=plot_text(network)
        )
        errors.vlines(of_it.epochs, of_it.low, of_it.high, color=colour, lw=2)
    for axes, ticks, label in (
        (by_epochs, reference.epochs, "epochs, each its own schedule"),
        (
            by_rate,
            rates.lr,
            f"peak learning rate, {rates.epochs.iloc[0] if len(rates) else '?'} epochs",
        ),
        (errors, reference.epochs, "epochs, each its own schedule"),
    ):
        places = sorted(set(ticks))
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
        axes.set_xlabel(label)
    for axes in (by_epochs, by_rate):
        axes.axhline(0, color=PLAIN, lw=1)
        axes.set_ylabel("gain over the plain network, points")
    errors.set_ylabel("top-1 test error, % (lower is better)")
    by_epochs.legend()
    errors.legend()
    return figure


def _budget_points(table: Table) -> pd.DataFrame:
    """Rows with records: network, epochs, lr, error and gain with intervals; index variant."""
    found = {}
    for variant, row in table.rows.iterrows():
        records, se = table.records[str(variant)], table.experiment.variants[str(variant)].se
        if records and row["n"]:
            train = records[0].run.train
            network = (
                "plain"
                if se is None
                else "SE"
                if se == SESpec()
                else str(row["label"]).partition(",")[0]
            )
            found[variant] = {
                "network": network,
                "epochs": train.epochs,
                "lr": train.lr,
                "top1": row["top1"],
                "low": row["top1_low"],
                "high": row["top1_high"],
                "gain": -float(row["effect"]),
                "gain_low": -float(row["effect_high"]),
                "gain_high": -float(row["effect_low"]),
            }
    columns = ["network", "epochs", "lr", "top1", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def _pairs(table: Table) -> Figure:
    """Each network beside its own control, and what lies between them beside what the paper has
    there.
    """
    control_of = table.experiment.control_of
    pairs = [
        (name, control_of(name)) for name in table.experiment.variants if name != control_of(name)
    ]
    figure = Figure(figsize=(9, 1.9 + 0.48 * len(pairs)), layout="constrained")
    errors, effects = figure.subplots(1, 2, sharey=True)
    effects.axvline(0, color=PLAIN, lw=1)
    for place, (name, control) in enumerate(pairs):
        row, plain = table.rows.loc[name], table.rows.loc[control]
        errors.plot([row["top1"], plain["top1"]], [place] * 2, color="#BFBFBF", lw=1)
        for variant, one, colour in ((control, plain, PLAIN), (name, row, OURS)):
            seeds = [record.top1 for record in table.records[variant] if record.diverged is None]
            errors.plot(
                seeds, [place - 0.2] * len(seeds), "o", ms=4, color=colour, alpha=0.5, mew=0
            )
            errors.plot(
                [one["top1_low"], one["top1_high"]],
                [place] * 2,
                color=colour,
                lw=2,
                solid_capstyle="butt",
            )
            errors.plot(one["top1"], place, "o", ms=8, color=colour)
        effects.plot(
            [row["effect_low"], row["effect_high"]],
            [place] * 2,
            color=OURS,
            lw=2,
            solid_capstyle="butt",
        )
        effects.plot(row["effect"], place, "o", ms=8, color=OURS)
        papers = pd.to_numeric(pd.Series([row["paper_top1"], plain["paper_top1"]]))
        effects.plot(
            papers[0] - papers[1], place + 0.25, "D", ms=5.5, mfc="none", mec=PAPER, mew=1.6
        )
    errors.set_yticks(range(len(pairs)), [_wrapped(table.rows.loc[name]) for name, _ in pairs])
    errors.set_ylim(len(pairs) - 0.4, -0.6)
    errors.set_xlabel("top-1 test error, % (lower is better)")
    effects.set_xlabel("against its plain network, points")
    errors.set_xlim(*_shares(errors.get_xlim()))
    for axes in (errors, effects):
        axes.grid(axis="y", visible=False)
    _legend(figure, table, bool(table.rows["paper_top1"].notna().any()))
    return figure


def _shares(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis of errors:

    an interval of few seeds may leave what an error can be, an axis need not.
    """
    return max(limits[0], -1.0), min(limits[1], 101.0)


def _paper_axis(secondary: object, axes: Axes, shift: float, side: str) -> None:
    if math.isfinite(shift):
        place = "top" if side == "x" else "right"
        second = secondary(place, functions=(lambda v: v - shift, lambda v: v + shift))  # type: ignore[operator]
        second.tick_params(colors=PAPER, labelsize=9)
        ticks = second.xaxis if side == "x" else second.yaxis
        ticks.set_major_formatter(lambda value, _: f"{value:g}" if 0 <= value <= 100 else "")
        getattr(second, f"set_{side}label")(
            "the paper's error, % (aligned at plain)", color=PAPER, fontsize=9
        )


def _legend(figure: Figure, table: Table, paper: bool) -> None:
    from matplotlib.lines import Line2D

    seeds = int(table.rows["n"].max())
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            ms=8,
            lw=2,
            color=OURS,
            label=f"ours, mean and 95% interval (n = {seeds}); dots: seeds",
        ),
        Line2D([], [], marker="o", ms=8, lw=1, color=PLAIN, label="plain network"),
    ]
    if paper:
        handles.append(
            Line2D([], [], marker="D", ms=5.5, mfc="none", mec=PAPER, lw=0, label="paper (one run)")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)


def _wrapped(row: Any) -> str:
    return plot_text(textwrap.fill(str(row["label"]), 24))


def curves(groups: dict[str, list[Record]]) -> Figure | None:
    """Loss and error by epoch for named groups of runs, mean and range over their seeds (as the
    paper's Fig. 4).
    """
    groups = {
        name: [r for r in records if r.diverged is None and r.epochs]
        for name, records in groups.items()
    }
    if not any(groups.values()):
        return None
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    loss, error = figure.subplots(1, 2)
    for (name, records), colour in zip(
        groups.items(), (PLAIN, OURS, PAPER, "#009E73"), strict=False
    ):
        if records:
            for axes, suffix in ((loss, "loss"), (error, "top1")):
                _curve(axes, records, f"train_{suffix}", colour, "--", f"{name}, training")
                _curve(axes, records, f"test_{suffix}", colour, "-", f"{name}, test")
    loss.set_ylabel("cross-entropy")
    error.set_ylabel("top-1 error, %")
    for axes in (loss, error):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def _curve(
    axes: Axes, records: list[Record], field: str, colour: str, dash: str, label: str
) -> None:
    points = [[getattr(epoch, field) for epoch in record.epochs] for record in records]
    values = np.array(points, dtype=float)
    epochs = np.arange(1, values.shape[1] + 1)
    read = np.isfinite(values).all(axis=0)
    if not read.any():
        return
    values, epochs = values[:, read], epochs[read]
    axes.plot(
        epochs,
        values.mean(0),
        dash,
        marker="o" if len(epochs) < 10 else "",
        ms=4,
        color=colour,
        label=label,
    )
    axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
