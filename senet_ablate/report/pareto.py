"""Error against cost as a plot."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.report.plots import OURS, PAPER, PLAIN

LABELS = 10  # names a panel at most; the table has all


def plot(networks: pd.DataFrame) -> Figure | None:
    """Error against parameters, multiply-adds and, where two or more were timed, the training step;
    none for one.
    """
    if len(networks) < 2:
        return None
    costs = {"params": ("parameters", 1e6), "macs": ("multiply-adds an image", 1e6)}
    if networks["step"].notna().sum() > 1:
        costs["step"] = ("training step, ms (median)", 1)
    figure = Figure(figsize=(3.9 * len(costs) + 0.6, 4.2), layout="constrained")
    for axes, (key, (title, unit)) in zip(
        figure.subplots(1, len(costs), sharey=True), costs.items(), strict=True
    ):
        name = "millions" if key != "step" else ""
        if key != "step" and networks[key].max() < 1e6:
            unit, name = 1e3, "thousands"
        _panel(axes, networks[networks[key].notna()], key, unit)
        axes.set_xlabel(f"{title}, {name}" if name else title)
    figure.axes[0].set_ylabel("top-1 test error, % (lower is better)")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def _panel(axes: Axes, networks: pd.DataFrame, key: str, unit: float) -> None:
    x, y = networks[key].to_numpy(dtype=float) / unit, networks["top1"].to_numpy(dtype=float)
    axes.vlines(
        x,
        networks["top1_low"].clip(0),
        networks["top1_high"].clip(upper=100),
        color="#BFBFBF",
        lw=1,
        zorder=1,
    )
    beaten = (networks["beaten_by"] != "").to_numpy()
    plain, se = ((networks["label"] == name).to_numpy() for name in ("plain", "SE"))
    looks: tuple[tuple[npt.NDArray[np.bool_], str, dict[str, Any], str], ...] = (
        (
            ~plain & ~se & ~beaten,
            "o",
            {"mfc": "none", "mec": OURS, "mew": 1.4, "ms": 6.5},
            "another variant",
        ),
        (
            ~plain & ~se & beaten,
            "x",
            {"mec": PAPER, "mew": 1.4, "ms": 6},
            "beaten: one no dearer is better",
        ),
        (se, "o", {"color": OURS, "ms": 8}, "standard SE"),
        (plain, "s", {"color": PLAIN, "ms": 8}, "plain network"),
    )
    for chosen, marker, look, label in looks:
        axes.plot(x[chosen], y[chosen], marker, lw=0, label=label, **look)
    few = beaten if beaten.sum() < len(networks) / 2 else ~beaten
    for place in np.flatnonzero(few & ~plain & ~se)[:LABELS]:
        name = str(networks["label"].iloc[place]).rpartition("/")[2]
        axes.annotate(name, (x[place], y[place]), (5, 4), textcoords="offset points", fontsize=8)
