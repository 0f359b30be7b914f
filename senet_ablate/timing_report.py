"""What SE costs, for the page of a recipe: times of plain and SE beside the paper's, and error against cost."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senet_ablate.figures import OURS, PAPER, PLAIN, files
from senet_ablate.paper import timings_ms
from senet_ablate.plan import Plan
from senet_ablate.tables import Table
from senet_ablate.timing_facts import Timing, device_name, pair, ratio

KINDS = {
    "training_step": "training step",
    "inference": "inference, one image",
    "inference_batch": "inference, a batch",
}
LABELS = 10  # names a panel at most; the file of points has all


def speed(plan: Plan, timings: Sequence[Timing]) -> pd.DataFrame:
    """One row a device and kind of work: medians in ms, the ratio SE / plain with its quartiles, the paper's ratio."""
    rows = []
    for timing in timings:
        plain, se = (timing.networks[run.id] for run in pair(plan).values())
        for kind, title in KINDS.items():
            times, plains = getattr(se, kind), getattr(plain, kind)
            low, middle, high = ratio(times, plains)
            paper = timings_ms().get(kind)
            rows.append(
                {
                    "device": device_name(timing),
                    "batch": timing.batch_size if kind != "inference" else 1,
                    "pixels": timing.pixels,
                    "work": title,
                    "rounds": len(times),
                    "plain_ms": 1000 * statistics.median(plains),
                    "se_ms": 1000 * statistics.median(times),
                    "ratio": middle,
                    "ratio_low": low,
                    "ratio_high": high,
                    "paper_ratio": paper["SE"] / paper["plain"] if paper else None,
                }
            )
    return pd.DataFrame(rows)


def speed_markdown(rows: pd.DataFrame) -> str:
    """The times as Markdown."""
    cells = pd.DataFrame(
        {
            "device": rows["device"],
            "work": rows["work"],
            "images": rows["batch"],
            "plain, ms": [f"{value:.3g}" for value in rows["plain_ms"]],
            "SE, ms": [f"{value:.3g}" for value in rows["se_ms"]],
            "SE / plain": [
                f"{row.ratio:.3f} [{row.ratio_low:.3f}, {row.ratio_high:.3f}]" for row in rows.itertuples(index=False)
            ],
            "paper: SE / plain": ["" if pd.isna(value) else f"{value:.3f}" for value in rows["paper_ratio"]],
        }
    )
    return cells.to_markdown(index=False, disable_numparse=True)


def points(plan: Plan, tables: Sequence[Table], timings: Sequence[Timing]) -> pd.DataFrame:
    """One row a network of the recipe that has an error: label, top1 and its interval (%), params, macs, plain, step.

    step: median training step in ms on the device that timed most of these networks; missing where it did not. Rows of
    a table that train another backbone, or with settings of their own, are left out: their error is another recipe's.
    """
    timing = max(timings, key=lambda one: len(one.networks), default=None)
    rows: dict[str, dict[str, Any]] = {}
    for one in tables:
        for name, variant in one.experiment.variants.items():
            run = plan.run(variant, 0)
            row: Any = one.rows.loc[name]
            if variant.own or not row["n"] or run.id in rows:
                continue
            timed = timing.networks.get(run.id) if timing else None
            rows[run.id] = {
                "label": "plain" if run.se is None else "SE" if run == pair(plan)["SE"] else str(row["label"]),
                **{key: float(row[key]) for key in ("top1", "top1_low", "top1_high")},
                **{key: int(row[key]) for key in ("params", "macs")},
                "plain": run.se is None,
                "step": 1000 * statistics.median(timed.training_step) if timed else float("nan"),
            }
    return pd.DataFrame(rows.values())


def dominated(rows: pd.DataFrame, cost: str) -> npt.NDArray[np.bool_]:
    """Whether another network is no dearer in `cost` and its whole interval of error lies below the row's, (rows,)."""
    price, low, high = (rows[key].to_numpy(dtype=float) for key in (cost, "top1_low", "top1_high"))
    return np.asarray(((price[None] <= price[:, None]) & (high[None] < low[:, None])).any(axis=1))


def pareto(rows: pd.DataFrame) -> Figure | None:
    """Error against parameters, multiply-adds and, where two networks or more were timed, the training step."""
    if len(rows) < 2:
        return None
    costs = {"params": (1e6, "parameters, millions"), "macs": (1e6, "multiply-adds an image, millions")}
    if rows["step"].notna().sum() > 1:
        costs["step"] = (1, "training step, ms (median)")
    figure = Figure(figsize=(3.9 * len(costs) + 0.6, 4.2), layout="constrained")
    for axes, (key, (unit, title)) in zip(figure.subplots(1, len(costs), sharey=True), costs.items(), strict=True):
        _scatter(axes, rows[rows[key].notna()], key, unit)
        axes.set_xlabel(title)
    figure.axes[0].set_ylabel("top-1 test error, % (lower is better)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _scatter(axes: Axes, rows: pd.DataFrame, key: str, unit: float) -> None:
    x, y = rows[key].to_numpy(dtype=float) / unit, rows["top1"].to_numpy(dtype=float)
    axes.vlines(x, rows["top1_low"].clip(0), rows["top1_high"].clip(upper=100), color="#BFBFBF", lw=1, zorder=1)
    beaten = dominated(rows, key)
    plain, se = rows["plain"].to_numpy(dtype=bool), (rows["label"] == "SE").to_numpy()
    looks: tuple[tuple[npt.NDArray[np.bool_], str, dict[str, Any], str], ...] = (
        (~plain & ~se & ~beaten, "o", {"mfc": "none", "mec": OURS, "mew": 1.4, "ms": 6.5}, "another variant"),
        (~plain & ~se & beaten, "x", {"mec": PAPER, "mew": 1.4, "ms": 6}, "another variant, beaten"),
        (se, "o", {"color": OURS, "ms": 8}, "standard SE"),
        (plain, "s", {"color": PLAIN, "ms": 8}, "plain network"),
    )
    for chosen, marker, look, label in looks:
        axes.plot(x[chosen], y[chosen], marker, lw=0, label=label, **look)
    few = beaten if beaten.sum() < len(rows) / 2 else ~beaten
    for place in np.flatnonzero(few & ~plain & ~se)[:LABELS]:
        name = str(rows["label"].iloc[place])
        axes.annotate(name, (x[place], y[place]), (5, 4), textcoords="offset points", fontsize=8)


def timing_files(plan: Plan, tables: Sequence[Table], timings: Sequence[Timing]) -> dict[str, bytes]:
    """The generated files by their path in the recipe's results folder."""
    out, rows = {}, points(plan, tables, timings)
    if timings:
        out["speed.csv"] = _csv(speed(plan, timings))
    figure = pareto(rows)
    if figure is not None:
        out["pareto.csv"] = _csv(rows)
        out |= {f"pareto.{kind}": content for kind, content in files(figure).items()}
    return out


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()


def section(plan: Plan, timings: Sequence[Timing], plotted: bool) -> str:
    """What the page says about speed; empty where nothing was timed and nothing is plotted."""
    parts = []
    again = f"`python -m senet_ablate bench timing --recipe {plan.recipe_name}`"
    if timings:
        rows = speed(plan, timings)
        parts += [
            f"Medians of {rows['rounds'].min()} rounds or more at {rows['pixels'].iloc[0]} pixels, both networks in "
            "turn within each round; the ratio is that within a round, with its quartiles. A training step is forward, "
            "backward and update. The paper's ratios are of ResNet-50 at 224 pixels (190 and 209 ms a batch of 256 on "
            "8 Titan X, 164 and 167 ms an image on a CPU).",
            speed_markdown(rows),
            f"[speed.csv](speed.csv); again by {again}",
        ]
    if plotted:
        parts += [
            "Mean error with its 95% interval against what a network costs. A network counts as beaten where another "
            "is no dearer and its whole interval lies lower; among the others, nothing here tells the better one.",
            "![Error against parameters, multiply-adds and time](pareto.png)",
            f"[pareto.csv](pareto.csv), [pareto.svg](pareto.svg){'' if timings else '; times by ' + again}",
        ]
    return "\n\n".join(["## Cost and speed", *parts]) if parts else ""
