"""Times as a table, and what SE costs on the page of a recipe: time, and error against cost."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pandas as pd

from senet_ablate.analysis.escape import markdown_table
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import Table
from senet_ablate.records.bench import WORK, Part
from senet_ablate.report import pareto
from senet_ablate.report.document import Grid, Section, Text, drawn
from senet_ablate.spec.paper import timings_ms
from senet_ablate.spec.plan import Plan

LEGEND = (
    "Both networks in turn within each round; the ratio is that within a round, with its quartiles."
    " A training step is forward, backward and update. The paper's ratios are of ResNet-50 at 224"
    " pixels (190 and 209 ms a batch of 256 on 8 Titan X, 164 and 167 ms an image on a CPU)."
)


def measured(parts: Mapping[str, Part]) -> pd.DataFrame:
    """One row a quantity of parts of the same unit, by the name of their device.

    Columns: device, group, name, median, least, greatest (over the rounds), over, ratio, ratio_low,
    ratio_high (median and quartiles within a round; missing where nothing is divided), paper_ratio
    (SE over plain in the paper's times of the same work).
    """
    papers = {WORK[work]: ms["SE"] / ms["plain"] for work, ms in timings_ms().items()}
    rows = []
    for device, part in parts.items():
        for row in part.rows:
            low, middle, high = part.ratio(row) or (None, None, None)
            rows.append(
                {
                    "device": device,
                    "group": row.group,
                    "name": row.name,
                    "median": row.median,
                    "least": min(row.rounds),
                    "greatest": max(row.rounds),
                    "over": row.over,
                    "ratio": middle,
                    "ratio_low": low,
                    "ratio_high": high,
                    "paper_ratio": papers.get(row.group) if row.name == "SE" else None,
                }
            )
    return pd.DataFrame(rows)


def cells(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The table as text, without the columns that say nothing."""

    def spread(value: float | None, low: float, high: float) -> str:
        return "" if pd.isna(value) else f"{value:.4g} [{low:.4g}, {high:.4g}]"

    shown = pd.DataFrame({"device": rows["device"], "of": rows["group"], "what": rows["name"]})
    shown[unit] = [spread(*one) for one in rows[["median", "least", "greatest"]].to_numpy()]
    shown["over"] = rows["over"]
    shown["ratio"] = [spread(*one) for one in rows[["ratio", "ratio_low", "ratio_high"]].to_numpy()]
    shown["paper: ratio"] = ["" if pd.isna(one) else f"{one:.3f}" for one in rows["paper_ratio"]]
    return shown.loc[:, (shown != "").any()]


def markdown(parts: Mapping[str, Part]) -> str:
    """The table as Markdown."""
    unit = next(iter(parts.values())).unit
    return markdown_table(cells(measured(parts), unit))


def by_device(timings: Sequence[Part]) -> dict[str, Part]:
    """The times of a recipe's networks by the device as a heading."""
    return {part.device: part for part in timings}


def sections(plan: Plan, tables: Sequence[Table], timings: Sequence[Part]) -> Iterator[Section]:
    """What SE costs, on the page of a recipe: error against cost, and times."""
    again = f"python -m senet_ablate bench timing --recipe {plan.recipe_argument}"
    networks = tradeoffs(tables, timings)
    title = "Error against parameters, multiply-adds and time"
    caption = (
        "Mean error with its 95% interval against what a network costs. A network counts as"
        " beaten where another has no more parameters and multiply-adds and is better by more than"
        " the noise (Welch, Holm over all such pairs); among the others, nothing here tells the"
        " better one."
    )
    if picture := drawn("pareto.svg", title, partial(pareto.plot, networks), caption):
        files = {"pareto.csv": _csv(networks.reset_index())}
        yield Section("Error against cost", picture, files)
    if timings:
        rows = measured(by_device(timings))
        grid = Grid("Speed", cells(rows, timings[0].unit))
        yield Section("Speed", [Text(legend(timings)), grid], {"speed.csv": _csv(rows)}, again)


def legend(timings: Sequence[Part]) -> str:
    """What the times are of."""
    rounds = min(len(part.rows[0].rounds) for part in timings)
    return f"{timings[0].settings} Medians of {rounds} rounds or more. {LEGEND}"


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()
