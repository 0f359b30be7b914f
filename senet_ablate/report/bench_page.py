"""The pages of `bench`: a page a device with a plot for each part, and every target by device."""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import pandas as pd

from senet_ablate.analysis.escape import link_target, markdown_cell
from senet_ablate.records import Bench, Part
from senet_ablate.records.bench import PARTS, WORK, counted, machine
from senet_ablate.records.facts import read_facts
from senet_ablate.report import speed
from senet_ablate.report.cells import span
from senet_ablate.report.document import Document, Grid, Section, Text, drawn
from senet_ablate.report.plots import OURS, PLAIN

ABOUT = {
    "loop": (
        "Images a second in training, data path included. The classic loop is that of popular CIFAR"
        " repositories: PIL images, torchvision's transforms, a DataLoader with two workers, eager"
        " contiguous float32 (on a GPU with PyTorch's TF32 convolutions; ours are float32), and the"
        " loss read from the device at every step. `step alone` is the same without its data path:"
        " what is left to win there. The row of airbench is its loader, which makes the"
        " half-precision images of an epoch at once on the device, before the same network under"
        " torch.compile."
    ),
    "many": (
        "Images a second of all runs together. `one after another` is one process with every core."
    ),
    "floor": (
        "The floor is the time of the multiply-adds at the rate of a large matrix product, or of"
        " the bytes that convolutions must move at the rate of a large copy, whichever is longer,"
        " layer by layer, and of seven passes of each batch norm over its feature map (two forward,"
        " five backward, statistics for nothing). Both rates are measured in the same rounds. ReLU,"
        " addition, squeeze, scaling and update are nothing there. A step that is faster"
        " than its floor has convolutions that do with fewer multiplications than they count."
    ),
    "overhead": (
        "SE-ResNet-50 over ResNet-50: as they are, `compiled` by torch.compile, and those of"
        " `timm`."
    ),
    "loader": (
        "What a worker process of dataset image-stream does with each image. Workers take a core"
        " each."
    ),
}
NOT_MEASURED = "not measured"
CROWDED = 0.1  # of the cores, used by others while a part was measured


@dataclass(frozen=True)
class Target:
    """What the ratio of two rows is to reach, in some groups of a part; without any, in all."""

    part: str
    row: str
    over: str
    least: float = 0.0
    most: float = math.inf
    groups: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(self.groups)})" if self.groups else ""
        bound = f"at least {self.least:g}" if self.least else f"at most {self.most:g}"
        return f"{self.part}: {self.row} / {self.over} {bound}{where}"


TARGETS = (
    Target("loop", "ours, a process a core", "classic loop", 2.0),
    Target("loop", "ours, compiled, a process a core", "classic loop", 2.0),
    Target("loop", "ours, bfloat16", "classic loop", 20.0),
    Target("loop", "ours, bfloat16", "classic loop, bfloat16", 20.0),
    Target("loop", "ours, bfloat16", "airbench's loader, compiled", 1.3),
    Target("loop", "ours, bfloat16", "classic loop, max-autotune, bfloat16", 1.3),
    Target("many", "all in one process", "one after another", 2.0),
    Target("floor", "floor", "training step", 0.6, groups=("resnet56_bottleneck + SE",)),
    Target("overhead", "SE", "plain", most=1.02, groups=(WORK["training_step"], "inference")),
)


def pages(results: Path) -> dict[str, Document]:
    """The pages by the path of their Markdown. Raises BadInput for facts that are not sound."""
    benches = {path.stem: read_facts(path, Bench) for path in sorted(results.glob("bench/*.json"))}
    rows = pd.DataFrame({"target": map(str, TARGETS)})
    for bench in benches.values():
        rows[_machine(bench)] = [_verdict(target, bench) for target in TARGETS]
    links = "\n".join(
        f"- [{markdown_cell(_machine(bench))}]({link_target(stem)}.md)"
        for stem, bench in benches.items()
    )
    about = "Every target by device, with the least and the greatest ratio over the networks."
    targets = Section("Targets", [Grid("Targets", rows), Text(links)])
    return {
        "bench/README.md": Document("Speed", about, [targets]),
        **{f"bench/{stem}.md": _page(bench, stem) for stem, bench in benches.items()},
    }


def _machine(bench: Bench) -> str:
    return machine(bench.device, bench.cores, "core")


def _verdict(target: Target, bench: Bench) -> str:
    part = bench.parts.get(target.part)
    if part is None:
        return NOT_MEASURED
    found = [
        part.ratio(row, target.over)
        for row in part.rows
        if row.name == target.row and (not target.groups or row.group in target.groups)
    ]
    ratios = [quartiles[1] for quartiles in found if quartiles]
    if not ratios:
        return NOT_MEASURED
    if _crowd(bench, part):
        return f"{span(ratios, '.2f')}: not judged, others used the machine"
    count = sum(target.least <= ratio <= target.most for ratio in ratios)
    return f"{span(ratios, '.2f')}: reached by {count} of {len(ratios)}"


def _page(bench: Bench, stem: str) -> Document:
    missing = [name for name in PARTS if name not in bench.parts]
    return Document(
        f"Speed on {_machine(bench)}",
        f"Not measured here: {', '.join(missing)}." if missing else "",
        [_section(name, part, bench, stem) for name, part in bench.parts.items()],
    )


def _section(name: str, part: Part, bench: Bench, stem: str) -> Section:
    """What a part is, its table, its targets, and its plot."""
    verdicts = {str(one): _verdict(one, bench) for one in TARGETS if one.part == name}
    lines = [
        f"- {markdown_cell(f'{one}: {said}')}"
        for one, said in verdicts.items()
        if said != NOT_MEASURED
    ]
    rows = speed.measured([part]).assign(device="")
    if name == "many":
        best = rows.loc[rows.groupby("group")["median"].idxmax(), "name"].value_counts()
        wins = [f"{one} ({count} of {best.sum()})" for one, count in best.items()]
        lines.append(f"- Fastest: {markdown_cell(', '.join(wins))}.")
    caption = (
        f"Median of {len(part.rows[0].rounds)} rounds [least, greatest]; ratios are taken within a"
        f" round, with their quartiles. Commit {part.provenance.commit[:10]}, PyTorch"
        f" {part.provenance.versions.get('torch')}."
    )
    return Section(
        PARTS[name],
        [
            Text(ABOUT[name]),
            Text(markdown_cell(part.settings) + _crowd(bench, part)),
            Grid(PARTS[name], speed.cells(rows, part.unit)),
            Text("\n".join(lines)),
            Text(markdown_cell(caption)),
            *drawn(f"{stem}-{name}.svg", PARTS[name], "", _plot, rows, part),
        ],
        command=part.provenance.command,
    )


def _crowd(bench: Bench, part: Part) -> str:
    """What to mind where others used this CPU so much that threads which wait for each other lost
    by it; else empty.
    """
    cpu = bench.device.startswith("cpu: ")
    if not cpu or part.others is None or part.others <= CROWDED * bench.cores:
        return ""
    return (
        f" **Others used the machine: {part.others:.2f} of its {counted(bench.cores, 'core')}."
        " Threads that wait for each other lose most by that, so the ratios flatter processes of"
        " one thread, and no target is judged.** Measure again on a quiet machine."
    )


OTHERS = ("classic", "airbench", "plain", "one after another", "floor")
"""How the names of rows begin that ours are compared with; they are grey."""


def _plot(rows: pd.DataFrame, part: Part) -> matplotlib.figure.Figure:
    """A panel a group: medians as bars with their extremes, and beside a bar its ratio."""
    groups = rows.groupby("group", sort=False)
    counts = groups.size()
    height = 0.5 + 0.62 * len(counts) + 0.3 * len(rows)
    figure = matplotlib.figure.Figure(figsize=(8.0, height), layout="constrained")
    panels = figure.subplots(
        len(counts), 1, squeeze=False, gridspec_kw={"height_ratios": 1 + counts}
    )
    for axes, (group, own) in zip(panels[:, 0], groups, strict=True):
        axes.barh(
            own["name"],
            own["median"],
            xerr=(own["median"] - own["least"], own["greatest"] - own["median"]),
            color=[PLAIN if name.startswith(OTHERS) else OURS for name in own["name"]],
            height=0.66,
            ecolor="#999999",
        )
        for place, (ratio, end) in enumerate(zip(own["ratio"], own["greatest"], strict=True)):
            if not pd.isna(ratio):
                look = {"textcoords": "offset points", "va": "center"}
                axes.annotate(f"{ratio:.2f} x", (end, place), (5, 0), **look)
        axes.margins(x=0.12, y=0.02)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        axes.set_title(group, loc="left", fontsize=11)
    panels[-1, 0].set_xlabel(f"{part.unit} ({'more' if part.more_is_better else 'less'} is better)")
    return figure
