"""What the gates of a row do in each SE block, as its runs recorded them over the test images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.exclusions import stuck_gates
from senet_ablate.records.store import Record
from senet_ablate.report.plots import OURS, PAPER, PLAIN

COLUMNS = ("mean", "std", "within", "low", "high")
COLOURS = (OURS, PAPER, "#009E73", "#CC79A7", PLAIN)
MARKERS = "osD^v"


def by_block(records: Sequence[Record]) -> pd.DataFrame:
    """The gates of a row's runs by block, from the first to the last, averaged over the seeds.

    Index block; columns mean, std (over images and channels), within (over images, averaged over
    channels), low, high (share of gates under 0.1 and over 0.9), between_seeds (standard deviation
    of the mean, NaN for one seed), seeds, stuck (in how many seeds the block's gates stand still).
    Empty for a network without SE.
    """
    kept = [record for record in records if record.gates and record.diverged is None]
    rows = []
    for block in dict.fromkeys(block for record in kept for block in record.gates):
        having = [record for record in kept if block in record.gates]
        values = np.array(
            [[getattr(record.gates[block], column) for column in COLUMNS] for record in having]
        )
        spread = float(values[:, 0].std(ddof=1)) if len(values) > 1 else float("nan")
        stuck = sum(
            sentence.startswith(f"{block} ")
            for record in having
            for sentence in stuck_gates(record)
        )
        means = dict(zip(COLUMNS, values.mean(axis=0), strict=True))
        rows.append(
            {"block": block, **means, "between_seeds": spread, "seeds": len(having), "stuck": stuck}
        )
    columns = ["block", *COLUMNS, "between_seeds", "seeds", "stuck"]
    return pd.DataFrame(rows, columns=columns).set_index("block")


def plot(rows: Mapping[str, Sequence[Record]]) -> Figure | None:
    """Mean and spread of the gates by block, and the share of them that is saturated; none if no
    row has gates.
    """
    found = {name: by_block(records) for name, records in rows.items()}
    found = {name: frame for name, frame in found.items() if not frame.empty}
    if not found:
        return None
    blocks = list(dict.fromkeys(block for frame in found.values() for block in frame.index))
    figure = Figure(figsize=(9, 4), layout="constrained")
    level, saturated = figure.subplots(1, 2)
    for place, (name, frame) in enumerate(found.items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        x = np.array([blocks.index(block) for block in frame.index]) + 0.08 * (
            place - (len(found) - 1) / 2
        )
        level.errorbar(
            x,
            frame["mean"],
            yerr=frame["std"],
            fmt=f"{marker}-",
            ms=6,
            lw=1.2,
            color=colour,
            label=name,
        )
        saturated.plot(x, 100 * frame["high"], f"{marker}-", ms=6, lw=1.2, color=colour)
        saturated.plot(x, 100 * frame["low"], f"{marker}--", ms=6, lw=1.2, mfc="none", color=colour)
    for axes in (level, saturated):
        axes.set_xticks(range(len(blocks)), blocks, rotation=0 if len(blocks) < 7 else 90)
        axes.set_xlabel("SE block, from the first to the last")
    level.set_ylabel("gate: mean and spread")
    saturated.set_ylabel("% over 0.9 (full), under 0.1 (dashed)")
    saturated.set_ylim(bottom=-1)
    figure.legend(
        *level.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure
