"""The pages of `bench`: a page a device with a plot for each part, and every target by device."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.escape import markdown_table
from senet_ablate.records.bench import (
    PARTS,
    WORK,
    Bench,
    Measured,
    Part,
    bench_files,
    counted,
)
from senet_ablate.records.facts import read_facts
from senet_ablate.report import plots as figures
from senet_ablate.report import speed

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
    "loader": (
        "What a worker process of dataset image-stream does with each image. Workers take a core"
        " each."
    ),
}
NOT_MEASURED = "not measured"
CROWDED = 1.5  # load a core; ours and the classic loop's own workers stay below


@dataclass(frozen=True)
class Target:
    """What the ratio of two rows is to reach, in some groups of a part; without any, in all."""

    part: str
    row: str
    over: str
    bound: float
    at_least: bool = True
    groups: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(self.groups)})" if self.groups else ""
        bound = f"at {'least' if self.at_least else 'most'} {self.bound:g}"
        return f"{self.part}: {self.row} / {self.over} {bound}{where}"

    def ratios(self, part: Part) -> dict[str, float]:
        """The median ratio of each group that has both rows."""
        found = {}
        for row in part.rows:
            ratio = part.ratio(row, self.over) if row.name == self.row else None
            if ratio and (not self.groups or row.group in self.groups):
                found[row.group] = ratio[1]
        return found

    def reached(self, ratio: float) -> bool:
        """Whether a ratio is on the right side."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


TARGETS = (
    Target("loop", "ours, a process a core", "classic loop", 2.0),
    Target("loop", "ours, compiled, a process a core", "classic loop", 2.0),
    Target("loop", "ours, bfloat16", "classic loop", 20.0),
    Target("loop", "ours, bfloat16", "classic loop, bfloat16", 20.0),
    Target("loop", "ours, bfloat16", "airbench's loader, compiled", 1.3),
    Target("loop", "ours, bfloat16", "classic loop, max-autotune, bfloat16", 1.3),
    Target("many", "all in one process", "one after another", 2.0),
    Target("floor", "floor", "training step", 0.6, groups=("resnet56_bottleneck + SE",)),
    Target("overhead", "SE", "plain", 1.02, False, (WORK["training_step"], "inference")),
)


def bench_pages(results: Path) -> dict[str, bytes]:
    """Every generated file of the pages by its path in the results folder.

    Raises BadInput for facts that are not sound.
    """
    benches = {path.stem: read_facts(path, Bench) for path in bench_files(results)}
    files = {"bench/README.md": _overview(benches).encode()}
    for stem, bench in benches.items():
        files[f"bench/{stem}.md"] = _page(bench, stem).encode()
        with figures.style():
            for name, part in bench.parts.items():
                files[f"bench/{stem}-{name}.svg"] = figures.svg(_plot(part))
    return files


def _overview(benches: dict[str, Bench]) -> str:
    """Every target with its verdict by device."""
    rows = pd.DataFrame({"target": [str(target) for target in TARGETS]})
    for bench in benches.values():
        rows[bench.device] = [_verdict(target, bench) for target in TARGETS]
    links = [f"- [{bench.device}]({stem}.md)" for stem, bench in benches.items()]
    about = "Every target by device, with the least and the greatest ratio over the networks."
    return "\n\n".join(["# Speed", about, markdown_table(rows), "\n".join(links)]) + "\n"


def _verdict(target: Target, bench: Bench) -> str:
    part = bench.parts.get(target.part)
    ratios = list(target.ratios(part).values()) if part else []
    if part is None or not ratios:
        return NOT_MEASURED
    span = " to ".join(dict.fromkeys(f"{one:.2f}" for one in (min(ratios), max(ratios))))
    if _crowded(bench, part):
        return f"{span}: not judged, others used the machine"
    count = sum(map(target.reached, ratios))
    return f"{span}: {'reached' if count == len(ratios) else 'missed'} ({count} of {len(ratios)})"


def _page(bench: Bench, stem: str) -> str:
    cores = f", {counted(bench.cores, 'core')}" if bench.device.startswith("cpu: ") else ""
    parts = [f"# Speed on {bench.device.removeprefix('cpu: ')}{cores}"]
    for name, part in bench.parts.items():
        command, commit = part.provenance.command, part.provenance.commit[:10]
        parts += [
            f"## {PARTS[name]}",
            ABOUT[name],
            part.settings + _crowd(bench, part),
            speed.markdown({"": part}),
            *_verdicts(name, bench),
            f"![{PARTS[name]}]({stem}-{name}.svg)",
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
    """Whether others used this CPU so much that threads which wait for each other lost by it."""
    busy = part.load is not None and part.load > CROWDED * bench.cores
    return bench.device.startswith("cpu: ") and busy


def _crowd(bench: Bench, part: Part) -> str:
    if not _crowded(bench, part):
        return ""
    return (
        f" **Others used the machine: its load was {part.load:.1f} on {bench.cores} cores. Threads"
        " that wait for each other lose most by that, so the ratios flatter processes of one"
        " thread, and no target is judged.** Measure again on a quiet machine."
    )


def _verdicts(name: str, bench: Bench) -> list[str]:
    """A line for each target of a part that was measured here."""
    verdicts = {str(one): _verdict(one, bench) for one in TARGETS if one.part == name}
    found = [f"- {one}: {said}" for one, said in verdicts.items() if said != NOT_MEASURED]
    if name == "many":
        found.append(f"- {_fastest(bench.parts[name])}")
    return ["\n".join(found)] if found else []


def _fastest(part: Part) -> str:
    """Which rows have the greatest median of their group, and in how many groups."""
    groups = dict.fromkeys(row.group for row in part.rows)
    best = [
        max((row for row in part.rows if row.group == group), key=lambda row: row.median)
        for group in groups
    ]
    wins = Counter(row.name for row in best).most_common()
    return f"Fastest: {', '.join(f'{name} ({count} of {len(best)})' for name, count in wins)}."


OTHERS = ("classic", "airbench", "plain", "one after another", "floor")
"""How the names of rows begin that ours are compared with; they are grey."""


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
        middles = [row.median for row in rows]
        below = [row.median - min(row.rounds) for row in rows]
        above = [max(row.rounds) - row.median for row in rows]
        colours = [figures.PLAIN if row.name.startswith(OTHERS) else figures.OURS for row in rows]
        names = [row.name for row in rows]
        axes.barh(names, middles, xerr=[below, above], color=colours, height=0.66, ecolor="#999999")
        for number, row in enumerate(rows):
            if ratio := part.ratio(row):
                at, look = (max(row.rounds), number), {"textcoords": "offset points"}
                axes.annotate(f"{ratio[1]:.2f} x", at, (5, 0), va="center", **look)
        axes.margins(x=0.12, y=0.02)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        axes.set_title(group, loc="left", fontsize=11)
    panels[-1, 0].set_xlabel(f"{part.unit} ({'more' if part.more_is_better else 'less'} is better)")
    return figure
