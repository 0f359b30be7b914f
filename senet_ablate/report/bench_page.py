"""The page of a device's speed, with a plot for each part, from the facts alone."""

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_table
from senet_ablate.records.bench import PARTS, Bench, Measured, Part, bench_files, read_bench
from senet_ablate.report import plots as figures
from senet_ablate.report.recipe_page import write_files
from senet_ablate.spec.registry import BadInput

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
        " addition, SE and update are nothing there."
    ),
    "overhead": (
        "SE-ResNet-50 over ResNet-50: as they are, `compiled` by torch.compile, and those of"
        " `timm`."
    ),
    "start": "From the start of a Python process to the end of the first training step.",
    "memory": (
        "Peak memory of a process that takes three steps (on a CPU, all of it, Python and PyTorch"
        " too)."
    ),
    "loader": (
        "What a worker process of dataset image-stream does with each image. Workers take a core"
        " each."
    ),
}
CROWDED = 1.5  # load a core; ours and the classic loop's own workers stay below


@dataclass(frozen=True)
class Target:
    """What a ratio is to reach, in some groups of a part; without any, in all."""

    row: str
    over: str
    bound: float
    at_least: bool = True
    groups: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The target as a sentence's part."""
        return (
            f"{self.row} at {'least' if self.at_least else 'most'} {self.bound:g} times {self.over}"
        )


TARGETS: dict[str, list[Target]] = {
    "loop": [
        Target("ours, a process a core", "classic loop", 2.0),
        Target("ours, bfloat16", "classic loop", 20.0),
        Target("ours, bfloat16", "classic loop, bfloat16", 20.0),
        Target("ours, bfloat16", "airbench's loader, compiled", 1.3),
    ],
    "floor": [Target("floor", "training step", 0.6, groups=("resnet56_bottleneck + SE",))],
    "overhead": [Target("SE", "plain", 1.02, False, ("training step", "inference"))],
}


def write_bench_pages(results: Path) -> list[Path]:
    """Write the page and plots of every device measured; returns the pages."""
    files = bench_pages(results)
    write_files(results / "bench", files)
    return [results / "bench" / name for name in files if name.endswith(".md")]


def bench_pages(results: Path) -> dict[str, bytes]:
    """Every generated file of `results/bench/` by its name.

    Raises BadInput for facts that are not sound.
    """
    files: dict[str, bytes] = {}
    for path in bench_files(results):
        bench = read_bench(path)
        files[f"{path.stem}.md"] = _page(bench, path.stem).encode()
        with figures.style():
            for name, part in bench.parts.items():
                for kind, content in figures.files(_plot(part)).items():
                    files[f"{path.stem}-{name}.{kind}"] = content
    return files


def verify_bench(results: Path) -> list[str]:
    """What does not hold in the facts of speed, one sentence each."""
    problems = []
    for path in bench_files(results):
        try:
            read_bench(path)
        except BadInput as error:
            problems.append(
                f"{error}; delete the file and measure again with `python -m senet_ablate bench`"
            )
    return problems


def _page(bench: Bench, stem: str) -> str:
    cores = f", {bench.cores} cores" if bench.device.startswith("cpu: ") else ""
    parts = [f"# Speed on {bench.device.removeprefix('cpu: ')}{cores}"]
    for name, part in bench.parts.items():
        command, commit = part.provenance.command, part.provenance.commit[:10]
        parts += [
            f"## {PARTS[name]}",
            ABOUT[name],
            part.settings + _crowd(bench, part),
            markdown_table(_rows(part)),
            *([] if _crowded(bench, part) else _verdicts(name, part)),
            f"![{PARTS[name]}]({stem}-{name}.png)",
            (
                f"Median of {len(part.rows[0].rounds)} rounds [least, greatest]; ratios are taken"
                f" within a round, with their quartiles. `{command}`, commit {commit}, PyTorch"
                f" {part.provenance.versions.get('torch')}."
            ),
        ]
    if missing := [name for name in PARTS if name not in bench.parts]:
        parts.append(f"Not measured here: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _crowded(bench: Bench, part: Part) -> bool:
    """Whether others used this CPU so much that loops of several threads, which wait for each
    other, lost by it.
    """
    return (
        bench.device.startswith("cpu: ")
        and part.load is not None
        and part.load > CROWDED * bench.cores
    )


def _crowd(bench: Bench, part: Part) -> str:
    if not _crowded(bench, part):
        return ""
    return (
        f" **Others used the machine: its load was {part.load:.1f} on {bench.cores} cores. Threads"
        " that wait for each other lose most by that, so the ratios flatter processes of one"
        " thread, and no target is judged.** Measure again on a quiet machine."
    )


def _rows(part: Part) -> pd.DataFrame:
    cells = []
    for row in part.rows:
        ratio = part.ratio(row)
        spread = (
            f"{statistics.median(row.rounds):.4g} [{min(row.rounds):.4g}, {max(row.rounds):.4g}]"
        )
        cells.append(
            {
                "of": row.group,
                "what": row.name,
                part.unit: spread,
                "over": row.over,
                "ratio": f"{ratio[1]:.3g} [{ratio[0]:.3g}, {ratio[2]:.3g}]" if ratio else "",
            }
        )
    return pd.DataFrame(cells)


def _verdicts(name: str, part: Part) -> list[str]:
    """A sentence for each figure that has a target."""
    found = []
    for target in TARGETS.get(name, []):
        for row in part.rows:
            ratio = part.ratio(row, target.over) if row.name == target.row else None
            if ratio is None or (target.groups and row.group not in target.groups):
                continue
            reached = ratio[1] >= target.bound if target.at_least else ratio[1] <= target.bound
            bounded = "" if reached else _bound(part, row)
            found.append(
                f"- {row.group}: {ratio[1]:.2f}; {target.words}:"
                f" {'reached' if reached else 'missed'}{bounded}"
            )
    if name == "many":
        found.append(_fastest(part))
    return ["\n".join(found)] if found else []


def _fastest(part: Part) -> str:
    """Which rows have the greatest median of their group, and in how many groups."""
    best: dict[str, Measured] = {}
    for row in part.rows:
        if row.group not in best or statistics.median(row.rounds) > statistics.median(
            best[row.group].rounds
        ):
            best[row.group] = row
    wins = Counter(row.name for row in best.values())
    return (
        "Fastest: "
        + ", ".join(f"{name} ({count} of {len(best)})" for name, count in wins.most_common())
        + "."
    )


def _bound(part: Part, row: Measured) -> str:
    """What stands in the way, as far as the part measured it."""
    alone = next(
        (
            other
            for other in part.rows
            if (other.group, other.name) == (row.group, "classic, step alone")
        ),
        None,
    )
    ratio = part.ratio(alone) if alone else None
    if ratio is None:
        return ""
    share = min(100 / ratio[1], 100)
    return (
        f"; {share:.0f}% of the classic loop's time is the step itself, the same convolutions as"
        " ours"
    )


OTHERS = (
    "classic",
    "airbench",
    "torchvision",
    "OpenCV",
    "plain",
    "one after another",
    "import torch",
    "floor",
)
"""How the names of rows begin that ours stand against; they are grey."""


def _plot(part: Part) -> Figure:
    """A panel a group: medians as bars with their extremes, and beside a bar its ratio."""
    groups: dict[str, list[Measured]] = {}
    for row in part.rows:
        groups.setdefault(row.group, []).append(row)
    counts = [len(rows) for rows in groups.values()]
    figure = Figure(
        figsize=(8.0, 0.5 + 0.62 * len(groups) + 0.3 * sum(counts)), layout="constrained"
    )
    panels = figure.subplots(
        len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": [1 + n for n in counts]}
    )
    for axes, (group, rows) in zip(panels[:, 0], groups.items(), strict=True):
        middles = [statistics.median(row.rounds) for row in rows]
        below = [middle - min(row.rounds) for middle, row in zip(middles, rows, strict=True)]
        above = [max(row.rounds) - middle for middle, row in zip(middles, rows, strict=True)]
        colours = [figures.PLAIN if row.name.startswith(OTHERS) else figures.OURS for row in rows]
        names = [row.name for row in rows]
        axes.barh(names, middles, xerr=[below, above], color=colours, height=0.66, ecolor="#999999")
        for place, row in enumerate(rows):
            if ratio := part.ratio(row):
                axes.annotate(
                    f"{ratio[1]:.2f} x",
                    (max(row.rounds), place),
                    (5, 0),
                    textcoords="offset points",
                    va="center",
                )
        axes.margins(x=0.12, y=0.02)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        axes.set_title(group, loc="left", fontsize=11)
    panels[-1, 0].set_xlabel(f"{part.unit} ({'more' if part.more_is_better else 'less'} is better)")
    return figure
