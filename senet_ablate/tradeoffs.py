"""Error against cost: every distinct network of a recipe, and which of them another one makes pointless."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.figures import OURS, PLAIN
from senet_ablate.health import health
from senet_ablate.stats import ALPHA, estimate, holm, welch
from senet_ablate.store import Record
from senet_ablate.tables import Table

COSTS = {"params": "parameters", "macs": "multiply-adds of one image"}


def tradeoffs(tables: Iterable[Table]) -> pd.DataFrame:
    """Every distinct network once, cheapest first.

    Index network (the first row that trained it, `experiment/variant`); columns label, also (its other rows), params,
    macs, n (sound seeds), top1, top1_low, top1_high (error, %, 95% interval over the seeds), front (no network that
    costs no more has a lower mean error), beaten_by (the best network that costs no more and is better by more than the
    noise: Welch's test with Holm's correction over all such pairs; empty if there is none).
    """
    rows, runs = [], _networks(tables)
    for (name, *others), (label, records) in runs.items():
        got = estimate([record.top1 for record in records])
        cost = {"params": records[0].params, "macs": records[0].macs}
        error = {"n": got.n, "top1": got.mean, "top1_low": got.low, "top1_high": got.high}
        rows.append({"network": name, "label": label, "also": ", ".join(others), **cost, **error})
    columns = ["network", "label", "also", "params", "macs", "n", "top1", "top1_low", "top1_high"]
    frame = pd.DataFrame(rows, columns=columns).sort_values(["params", "macs", "top1"], kind="stable")
    frame = frame.set_index("network")
    errors = {names[0]: [record.top1 for record in records] for names, (_, records) in runs.items()}
    means = {str(name): round(estimate(errors[name]).mean, 9) for name in frame.index}  # equal whatever the order
    better = [(name, other) for name in means for other in _no_dearer(frame, name) if means[other] < means[name]]
    p_values = holm([welch(errors[other], errors[name]).p for name, other in better])
    beaten: dict[str, str] = {}
    for (name, other), p in zip(better, p_values, strict=True):
        if p < ALPHA and (name not in beaten or means[other] < means[beaten[name]]):
            beaten[name] = other
    frame["front"] = ~frame.index.isin([name for name, _ in better])
    frame["beaten_by"] = [beaten.get(str(name), "") for name in frame.index]
    return frame


def _networks(tables: Iterable[Table]) -> dict[tuple[str, ...], tuple[str, list[Record]]]:
    """The rows that share their runs -> label and sound runs; rows without any are left out, as are withheld tables."""
    found: dict[tuple[str, ...], tuple[list[str], str, list[Record]]] = {}
    for table in tables:
        for variant, records in table.records.items():
            kept = [record for record in records if not health(record)]
            if kept and not table.refused:
                name, label = f"{table.name}/{variant}", str(table.rows.loc[variant, "label"])
                label = name if label.isdigit() else label  # 16 says little without its table
                names, _, _ = found.setdefault(tuple(record.id for record in kept), ([], label, kept))
                names.append(name)
    return {tuple(names): (label, records) for names, label, records in found.values()}


def _no_dearer(frame: pd.DataFrame, name: str) -> list[str]:
    cheap = (frame["params"] <= frame.loc[name, "params"]) & (frame["macs"] <= frame.loc[name, "macs"])
    return [str(other) for other in frame.index[cheap] if other != name]


def plot(networks: pd.DataFrame) -> Figure | None:
    """Error with its interval against parameters and against multiply-adds, the front of each drawn; none if empty."""
    if networks.empty:
        return None
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), COSTS, strict=True):
        _panel(axes, networks, column)
    figure.axes[0].set_ylabel("top-1 test error, % (lower is better)")
    return figure


def _panel(axes: Axes, networks: pd.DataFrame, column: str) -> None:
    unit, power = ("thousands", 1e3) if networks[column].max() < 1e6 else ("millions", 1e6)
    x, y = networks[column] / power, networks["top1"]
    half = np.nan_to_num(np.array([y - networks["top1_low"], networks["top1_high"] - y], dtype=float))
    axes.errorbar(x, y, yerr=half, fmt="o", ms=5, lw=1, color=PLAIN, ecolor="#C8C8C8", zorder=1)
    front = networks.sort_values([column, "top1"])
    front = front[front["top1"] < front["top1"].cummin().shift(fill_value=np.inf)]
    steps, levels = front[column] / power, front["top1"]
    axes.step(steps, levels, "-", where="post", lw=1.5, color=OURS, zorder=2)
    for place, (label, at, level) in enumerate(zip(front["label"], steps, levels, strict=True), start=1):
        axes.plot(at, level, "o", ms=12, color=OURS, zorder=3)
        axes.text(at, level, str(place), color="white", size=8, weight="bold", ha="center", va="center", zorder=4)
        axes.plot([], [], marker=f"${place}$", lw=0, ms=7, mew=0, color=OURS, label=str(label))
    axes.legend(title="lowest mean for its cost", loc="upper right", fontsize=9, title_fontsize=9)
    axes.set_xlabel(f"{COSTS[column]}, {unit}")
