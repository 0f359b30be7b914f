"""What SE costs, for the page of a recipe:

times of plain and SE beside the paper's, and error against cost.
"""

import statistics
from collections.abc import Sequence

import pandas as pd

from senet_ablate.analysis.escape import markdown_table
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import Table
from senet_ablate.records.timing import Timing, device_name, pair, ratio
from senet_ablate.report import pareto
from senet_ablate.report.plots import files
from senet_ablate.spec.paper import timings_ms
from senet_ablate.spec.plan import Plan

KINDS = {
    "training_step": "training step",
    "inference": "inference, one image",
    "inference_batch": "inference, a batch",
}


def speed(plan: Plan, timings: Sequence[Timing]) -> pd.DataFrame:
    """One row a device and kind of work:

    medians in ms, the ratio SE / plain with its quartiles, the paper's ratio.
    """
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


def speed_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The times as text."""
    return pd.DataFrame(
        {
            "device": rows["device"],
            "work": rows["work"],
            "images": rows["batch"],
            "plain, ms": [f"{value:.3g}" for value in rows["plain_ms"]],
            "SE, ms": [f"{value:.3g}" for value in rows["se_ms"]],
            "SE / plain": [
                f"{row.ratio:.3f} [{row.ratio_low:.3f}, {row.ratio_high:.3f}]"
                for row in rows.itertuples(index=False)
            ],
            "paper: SE / plain": [
                "" if pd.isna(value) else f"{value:.3f}" for value in rows["paper_ratio"]
            ],
        }
    )


def timing_files(
    plan: Plan, tables: Sequence[Table], timings: Sequence[Timing]
) -> dict[str, bytes]:
    """The generated files by their path in the recipe's results folder."""
    out, networks = {}, tradeoffs(tables, timings)
    if timings:
        out["speed.csv"] = _csv(speed(plan, timings))
    figure = pareto.plot(networks)
    if figure is not None:
        out["pareto.csv"] = _csv(networks.reset_index())
        out |= {f"pareto.{kind}": content for kind, content in files(figure).items()}
    return out


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()


def legend(rows: pd.DataFrame) -> str:
    """What the times are of."""
    return (
        f"Medians of {rows['rounds'].min()} rounds or more at {rows['pixels'].iloc[0]} pixels, both"
        " networks in turn within each round; the ratio is that within a round, with its"
        " quartiles. A training step is forward, backward and update. The paper's ratios are of"
        " ResNet-50 at 224 pixels (190 and 209 ms a batch of 256 on 8 Titan X, 164 and 167 ms an"
        " image on a CPU)."
    )


def section(plan: Plan, timings: Sequence[Timing], plotted: bool) -> str:
    """What the page says about speed; empty where nothing was timed and nothing is plotted."""
    parts = []
    again = f"`python -m senet_ablate bench timing --recipe {plan.recipe_name}`"
    if timings:
        rows = speed(plan, timings)
        parts += [
            legend(rows),
            markdown_table(speed_cells(rows)),
            f"[speed.csv](speed.csv); again by {again}",
        ]
    if plotted:
        parts += [
            (
                "Mean error with its 95% interval against what a network costs. A network counts as"
                " beaten where another has no more parameters and multiply-adds and is better by"
                " more than the noise (Welch, Holm over all such pairs); among the others, nothing"
                " here tells the better one."
            ),
            "![Error against parameters, multiply-adds and time](pareto.png)",
            (
                "[pareto.csv](pareto.csv),"
                f" [pareto.svg](pareto.svg){'' if timings else '; times by ' + again}"
            ),
        ]
    return "\n\n".join(["## Cost and speed", *parts]) if parts else ""
