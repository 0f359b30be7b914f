"""The page that compares all networks by what they cost.

Beside the paper's columns a difference is as in the oracle tests: 0.15 million parameters and 1% of
the multiply-adds are within what the paper's rounding and counting leave open (but for r = 8, where
no count gives its last digit); `cost_remarks` of paper.yaml says why a figure lies further away.
"""

from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from senet_ablate.analysis.escape import latex_table
from senet_ablate.records import Costs
from senet_ablate.records.cost import ALL_BUT_LAST, PAPERS_NETWORK, NetworkCost, printed, read_costs
from senet_ablate.report.cells import number
from senet_ablate.report.document import Document, Grid, Section, Text, drawn
from senet_ablate.spec import SESpec
from senet_ablate.spec.paper import paper_facts

PARAMS_TOLERANCE, MACS_TOLERANCE = 0.15, 0.01  # million; share
# viridis, early to late
STAGES = {1: "#FDE725", 2: "#5DC863", 3: "#21908C", 4: "#3B528B", 5: "#440154"}
SE = SESpec()


def pages(results: Path) -> dict[str, Document]:
    """The page by the path of its Markdown. Raises BadInput for missing or unsound facts."""
    costs = read_costs(results)
    lead = (
        "Every network that the suite knows, at the input size it was made for, with 1,000 classes,"
        " or 100 for small images. Multiply-adds are those of one image, global pooling and scaling"
        " among them. SE is the paper's: r = 16, in all stages, two layers without bias. The"
        " counts: [facts.json](facts.json)."
    )
    title, rows = "Without and with SE", networks(costs)
    cells = _shown(rows)
    plain_and_se = Section(
        title, [Grid(title, cells)], {"table.csv": rows, "table.tex": latex_table(cells)}
    )
    sections = [plain_and_se, _stage_section(costs), _paper_section(costs)]
    page = Document("What the networks cost, and what SE adds", lead, sections)
    return {"cost/README.md": page}


def _stage_section(costs: Costs) -> Section:
    plain, se, most = (costs[PAPERS_NETWORK, spec] for spec in (None, SE, ALL_BUT_LAST))
    stages = by_stage(plain, se)
    last = stages["params"].iloc[-1] / stages["params"].sum()
    about = (
        "Late stages have many channels and small maps, early ones the reverse: SE adds its"
        " parameters late, its multiply-adds at all stages. In ResNet-50 SE adds"
        f" {_percent(se.params, plain.params):.1f}% to the parameters, and without the last stage"
        f" {_percent(most.params, plain.params):.1f}%; the last stage holds {last:.0%} of what is"
        " added. (The paper, Section 4, says about 10% and about 4%.)"
    )
    headings = {"stage": "ResNet-50, stage", "params": "params, %", "macs": "mult-adds, %"}
    cells = stages.map("{:+.3f}".format).reset_index().rename(columns=headings)
    plot = drawn("plot.svg", "What SE adds in each stage", "", _plot, costs)
    return Section("Where SE adds it", [Text(about), *plot, Grid("By stage", cells)])


def _paper_section(costs: Costs) -> Section:
    paper = beside_paper(costs)
    off = paper[paper["remark"] != ""]
    about = (
        f"{len(paper) - len(off)} of {len(paper)} rows lie within {PARAMS_TOLERANCE} million"
        f" parameters and {MACS_TOLERANCE:.0%} of the multiply-adds that the paper prints. The"
        " others:"
    )
    remarks = off.groupby("remark", sort=False)["row"].agg(", ".join)
    reasons = "\n".join(f"- {rows}: {reason}." for reason, rows in remarks.items())
    title, cells = "Beside the paper", _shown(paper)
    return Section(
        title,
        [Text(about), Text(reasons), Grid(title, cells)],
        {"paper.csv": paper, "paper.tex": latex_table(cells)},
        "python -m senet_ablate cost",
    )


def networks(costs: Costs) -> pd.DataFrame:
    """All networks by name, those for small images last: index network; pixels, params and macs
    without and with SE, and what it adds in %.
    """
    rows = {}
    for name in sorted({name for name, _ in costs}):
        plain, se = costs[name, None], costs[name, SE]
        rows[name] = {
            "pixels": plain.pixels,
            "params": plain.params,
            "params_se": se.params,
            "params_added": _percent(se.params, plain.params),
            "macs": plain.macs,
            "macs_se": se.macs,
            "macs_added": _percent(se.macs, plain.macs),
        }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    return found.sort_values("pixels", key=lambda pixels: pixels <= 64, kind="stable")


def beside_paper(costs: Costs) -> pd.DataFrame:
    """Every cost that the paper prints, one row each, beside ours.

    Columns: table, row, network, pixels, params, paper_params (M), params_off (M), macs,
    paper_gflops, macs_off (%), remark. What the paper leaves empty is NaN.
    """
    rows = []
    for one in printed():
        ours = costs[one.backbone, one.se]
        params, gflops = one.params or np.nan, one.gflops or np.nan
        off = ours.params / 1e6 - params, _percent(ours.macs, gflops * 1e9)
        cost = (ours.params, params, off[0], ours.macs, gflops, off[1])
        far = abs(off[0]) > PARAMS_TOLERANCE or abs(off[1]) > 100 * MACS_TOLERANCE
        remark = paper_facts()["cost_remarks"].get(one.row, "not explained") if far else ""
        rows.append((one.table, one.row, one.backbone, ours.pixels, *cost, remark))
    columns = ["table", "row", "network", "pixels", "params", "paper_params", "params_off", "macs"]
    columns += ["paper_gflops", "macs_off", "remark"]
    return pd.DataFrame(rows, columns=columns).set_index("table")


def by_stage(plain: NetworkCost, se: NetworkCost) -> pd.DataFrame:
    """What SE adds in each stage, in percent of the whole plain network:

    index stage number; params, macs.
    """
    rows = {
        int(name.removeprefix("stage")): {
            "params": 100 * (part.params - plain.parts[name].params) / plain.params,
            "macs": 100 * (part.macs - plain.parts[name].macs) / plain.macs,
        }
        for name, part in se.parts.items()
        if name.startswith("stage")
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stage")


def _percent(value: float, base: float) -> float:
    return 100 * (value - base) / base


COLUMNS = {  # column -> heading, unit, format
    "params": ("params, M", 1e6, ".3f"),
    "params_se": ("with SE, M", 1e6, ".3f"),
    "params_added": ("added, %", 1, "+.2f"),
    "macs": ("mult-adds, G", 1e9, ".3f"),
    "macs_se": ("with SE, G", 1e9, ".3f"),
    "macs_added": ("added, % ", 1, "+.2f"),  # a heading of its own
    "paper_params": ("paper, M", 1, ".1f"),
    "params_off": ("difference, M", 1, "+.2f"),
    "paper_gflops": ("paper, G", 1, ".3f"),
    "macs_off": ("difference, %", 1, "+.2f"),
}


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A table as text cells, units in the headings, without remarks."""
    shown = {}
    for column, values in rows.drop(columns="remark", errors="ignore").reset_index().items():
        heading, unit, form = COLUMNS.get(str(column), (str(column), 1, ""))
        shown[heading] = [number(one / unit, form) if form else one for one in values]
    return pd.DataFrame(shown, dtype=object)


def _plot(costs: Costs) -> matplotlib.figure.Figure:
    """What SE adds to parameters and multiply-adds, by stage, of every network."""
    names = list(networks(costs).index)
    figure = matplotlib.figure.Figure(figsize=(11, 1.6 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for place, name in enumerate(names):
        added = by_stage(costs[name, None], costs[name, SE])
        for panel, quantity in zip(axes, ("params", "macs"), strict=True):
            starts = np.cumsum([0.0, *added[quantity]])
            colours = [STAGES[stage] for stage in added.index]
            panel.barh(place, added[quantity], left=starts[:-1], height=0.7, color=colours)
            panel.text(
                starts[-1], place, f" {starts[-1]:.2f} ({starts[-2]:.2f})", va="center", fontsize=9
            )
    axes[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    for panel, what in zip(axes, ("parameters", "multiply-adds"), strict=True):
        label = f"{what} that SE adds, % of the plain network"
        panel.set_xlabel(f"{label}\n(in brackets: without the last stage)")
        panel.set_xlim(0, 1.22 * panel.get_xlim()[1])
        panel.grid(axis="y", visible=False)
    handles = [Patch(color=colour, label=f"stage {stage}") for stage, colour in STAGES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    return figure
