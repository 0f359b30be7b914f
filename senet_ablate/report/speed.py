"""Times as a table, and what SE costs on the page of a recipe: time, and error against cost."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_cell, plot_text
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import Table
from senet_ablate.records import Part
from senet_ablate.records.bench import WORK
from senet_ablate.report.cells import filled, number
from senet_ablate.report.document import Grid, Section, Text, drawn
from senet_ablate.report.plots import OURS, PAPER, PLAIN
from senet_ablate.spec import Plan
from senet_ablate.spec.paper import paper_facts

LABELS = 10  # names of networks a panel at most; the table has all
LEGEND = (
    "Both networks in turn within each round; the ratio is that within a round, with its quartiles."
    " A training step is forward, backward and update. The paper's ratios are of ResNet-50 at 224"
    " pixels (190 and 209 ms a batch of 256 on 8 Titan X, 164 and 167 ms an image on a CPU)."
)


def measured(parts: Sequence[Part]) -> pd.DataFrame:
    """One row a quantity of parts of the same unit.

    Columns: device, group, name, median, least, greatest (over the rounds), over, ratio, ratio_low,
    ratio_high (median and quartiles within a round; missing where nothing is divided), paper_ratio
    (SE over plain in the paper's times of the same work).
    """
    papers = {
        WORK[work]: ms["SE"] / ms["plain"] for work, ms in paper_facts()["timings_ms"].items()
    }
    rows = []
    for part in parts:
        for row in part.rows:
            low, middle, high = part.ratio(row) or (None, None, None)
            paper = papers.get(row.group) if row.name == "SE" else None
            times = (row.median, min(row.rounds), max(row.rounds))
            ratio = (row.over, middle, low, high, paper)
            rows.append((part.device, row.group, row.name, *times, *ratio))
    columns = ["device", "group", "name", "median", "least", "greatest"]
    columns += ["over", "ratio", "ratio_low", "ratio_high", "paper_ratio"]
    return pd.DataFrame(rows, columns=columns)


def cells(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The table as text, without the columns that say nothing."""

    def spread(*values: float) -> str:
        if math.isnan(values[0]):
            return ""
        text, low, high = (f"{one:.0f}" if one >= 1000 else f"{one:.4g}" for one in values)
        return f"{text} [{low}, {high}]"

    times = rows[["median", "least", "greatest"]].to_numpy(float)
    ratios = rows[["ratio", "ratio_low", "ratio_high"]].to_numpy(float)
    cells = {
        "device": rows["device"],
        "of": rows["group"],
        "what": rows["name"],
        unit: [spread(*one) for one in times],
        "over": rows["over"],
        "ratio": [spread(*one) for one in ratios],
        "paper: ratio": [number(one, ".3f") for one in rows["paper_ratio"]],
    }
    return filled(pd.DataFrame(cells))


def sections(plan: Plan, tables: Sequence[Table], timings: Sequence[Part]) -> Iterator[Section]:
    """What SE costs, on the page of a recipe: error against cost, and times."""
    again = f"python -m senet_ablate bench timing --recipe {plan.recipe_argument}"
    networks = tradeoffs(tables, timings)
    title = "Error against cost"
    caption = (
        "Mean error with its 95% interval against what a network costs. A network counts as"
        " beaten where another has no more parameters and multiply-adds and is better by more than"
        " the noise (by the page's model of errors, Holm over all such pairs at 5%, whatever seeds"
        " there are: no claim hangs on it); among the others, nothing here tells the better one."
    )
    if len(networks) > 1:
        picture = drawn("pareto.svg", title, caption, pareto, networks)
        grid = Grid(title, _numbers(networks), folded="The same as a table" if picture else "")
        yield Section(title, [*picture, grid], {"pareto.csv": networks})
    if timings:
        rows = measured(timings)
        rounds = min(len(part.rows[0].rounds) for part in timings)
        legend = (
            f"{markdown_cell(timings[0].settings)} Medians of {rounds} rounds or more. {LEGEND}"
        )
        grid = Grid("Speed", cells(rows, timings[0].unit))
        yield Section("Speed", [Text(legend), grid], {"speed.csv": rows}, again)


def _numbers(networks: pd.DataFrame) -> pd.DataFrame:
    """The plot's numbers as the cells of a table."""
    means = networks[["top1", "top1_low", "top1_high"]].to_numpy(float)
    cells = {
        "network": networks["label"],
        "seeds": networks["n"].astype(str),
        "top-1 error, %": [number(mean, ".2f", low, high) for mean, low, high in means],
        "params, M": [f"{one / 1e6:.3f}" for one in networks["params"]],
        "mult-adds, M": [f"{one / 1e6:.3f}" for one in networks["macs"]],
        "training step, ms": [number(one, ".2f") for one in networks["step"]],
        "beaten by": networks["beaten_by"].map(networks["label"]).fillna(""),
    }
    return filled(pd.DataFrame(cells))


def pareto(networks: pd.DataFrame) -> Figure | None:
    """Error against parameters, multiply-adds and, where two or more were timed, the training step;
    none for one network.
    """
    if len(networks) < 2:
        return None
    costs = dict[str, tuple[float, str]]()
    for key, what in (("params", "parameters"), ("macs", "multiply-adds per image")):
        small = networks[key].max() < 1e6
        costs[key] = (1e3, f"{what}, thousands") if small else (1e6, f"{what}, millions")
    if networks["step"].notna().sum() > 1:
        costs["step"] = (1, "training step, ms (median)")
    figure = Figure(figsize=(3.9 * len(costs) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True)
    for axes, (key, (unit, label)) in zip(panels, costs.items(), strict=True):
        having = networks.dropna(subset=key)
        _panel(axes, having, having[key].to_numpy(dtype=float) / unit)
        axes.set_xlabel(label)
    panels[0].set_ylabel("top-1 test error, % (lower is better)")
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _panel(axes: Axes, networks: pd.DataFrame, x: npt.NDArray[np.float64]) -> None:
    """The networks at their costs; the names of the beaten ones, or of the others if these are
    fewer.
    """
    y, low = networks["top1"].to_numpy(dtype=float), networks["top1_low"].clip(0)
    axes.vlines(x, low, networks["top1_high"].clip(upper=100), color="#8C8C8C", lw=1, zorder=1)
    plain, se = ((networks["label"] == name).to_numpy() for name in ("plain", "SE"))
    beaten = (networks["beaten_by"] != "").to_numpy()
    other = ~plain & ~se

    def draw(chosen: npt.NDArray[np.bool_], marker: str, label: str, **look: Any) -> None:
        axes.plot(x[chosen], y[chosen], marker, lw=0, label=label, **look)

    draw(other & ~beaten, "o", "another variant", mfc="none", mec=OURS, mew=1.4, ms=6.5)
    draw(
        other & beaten, "x", "beaten: another costs no more and errs less", mec=PAPER, mew=1.4, ms=6
    )
    draw(se, "o", "standard SE", color=OURS, ms=8)
    draw(plain, "s", "plain network", color=PLAIN, ms=8)
    all_fit = not beaten.any() and other.sum() <= LABELS
    few = ~beaten if all_fit or beaten.sum() >= len(networks) / 2 else beaten
    names = dict[int, list[str]]()  # by place; networks that lie together share a label
    axes.autoscale_view()  # else positions on the panel are not known yet
    at = axes.transData.transform(np.column_stack([x, y]))
    for place in np.flatnonzero(few & other)[:LABELS]:
        near = (one for one in names if (abs(at[place] - at[one]) < (12, 11)).all())
        row, name = networks.index[place], networks["label"].iloc[place]
        name = plot_text(name.partition("/")[2] if name == row else name)  # a number alone
        names.setdefault(next(near, place), []).append(name)
    for place, together in names.items():
        right, up = (at[place] - at[[*names]]).T
        below = ((right > 0) & (right < 130) & (abs(up) < 11)).any()
        spot = (5, -12 if below else 4)  # from the marker; below, where a name comes from the left
        text, where = ", ".join(together), (x[place], y[place])
        axes.annotate(text, where, spot, textcoords="offset points", fontsize=8)
