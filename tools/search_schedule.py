"""Settle the peak learning rate of a recipe on held-out training images, for plain and standard SE
alike.

    python tools/search_schedule.py RECIPE --epochs N --lr RATE [RATE ...] --seeds S [S ...] [--data DIR]
    python tools/search_schedule.py RECIPE          the page alone: results/RECIPE/search.md

Trains both networks on 9 of 10 training images and judges them on the tenth; no test image is read.
Seeds must be ones that the recipe never reports. Records go to results/RECIPE/search/runs; a run
that has one is skipped. The page shows them beside results that were given from elsewhere
(search/given.yaml), and the rates with the least errors.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from senet_ablate.records.facts import write_whole
from senet_ablate.records.store import read_records
from senet_ablate.report import plots as figures
from senet_ablate.spec.plan import read_recipe
from senet_ablate.spec.schema import load_yaml, parse
from senet_ablate.spec.spec import Run, SESpec, Training
from senet_ablate.train.job import SweepContext
from senet_ablate.train.launch.local import launch as launch_local

HELD_OUT = 0.1  # share of the training images
NETWORKS = ("plain", "SE")
NOT_BRACKETED = {
    max: """ The chosen rate is the last of those tried at {} epochs; that a higher one is worse is
known from the shorter budget alone.""",
    min: " The chosen rate is the lowest of those tried at {} epochs: a lower one may be better.",
}


class Point(NamedTuple):
    """The errors of one network, in %, one a seed, at one budget and rate."""

    epochs: int
    lr: float
    judged_on: str
    network: str
    top1: tuple[float, ...]
    top5: tuple[float, ...]
    source: str


def main() -> None:
    """Train what is missing, then write the page."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("recipe")
    words.add_argument("--epochs", type=int)
    words.add_argument("--lr", type=float, nargs="+", default=[])
    words.add_argument("--seeds", type=int, nargs="+", default=[])
    words.add_argument("--data", type=Path, default=Path("data"))
    words.add_argument(
        "--results", type=Path, default=Path(__file__).resolve().parent.parent / "results"
    )
    words.add_argument("--device", default="cpu")
    words.add_argument("--runs-per-gpu", type=int, default=1)
    given = words.parse_args()
    recipe = read_recipe(given.recipe).train
    folder = given.results / given.recipe
    runs = [
        Run(_searched(recipe, given.epochs, lr), se, seed)
        for lr in given.lr
        for seed in given.seeds
        for se in (None, SESpec())
    ]
    done = read_records(folder, "search")
    context = SweepContext(
        folder,
        "search",
        given.data,
        given.device,
        "python tools/search_schedule.py",
        runs_per_gpu=given.runs_per_gpu,
    )
    if {run.train.numerics for run in runs} - {
        one.run.train.numerics for one in done.values()
    } and done:
        raise SystemExit(
            f"{folder}/search: its records have other numerics than the recipe; name another --results"
        )
    for failure in launch_local(
        [run for run in runs if run.id not in done], context, lambda *_: None
    ):
        print(f"failed: lr {failure.run.train.lr:g}, seed {failure.run.seed}: {failure.cause}")
    numerics = {one.run.train.numerics for one in read_records(folder, "search").values()}
    if len(numerics) > 1:
        raise SystemExit(
            f"{folder}/search: records of native and portable numerics; name another --results"
        )
    points = [*found(folder), *elsewhere(folder)]
    write_whole(folder / "search.md", page(given.recipe, points, *numerics))
    with figures.style():
        write_whole(folder / "search.svg", figures.svg(figure(points)))


def _searched(recipe: Training, epochs: int, lr: float) -> Training:
    base = recipe.model_dump(exclude_defaults=True)
    return parse(
        Training,
        base | {"validation": HELD_OUT, "evaluate": "validation", "epochs": epochs, "lr": lr},
    )


def found(folder: Path) -> list[Point]:
    """The points of this search, from its records."""
    groups: dict[tuple[int, float, str], list[Any]] = {}
    for record in read_records(folder, "search").values():
        run = record.run
        network = "plain" if run.se is None else "SE"
        groups.setdefault((run.train.epochs, run.train.lr, network), []).append((run.seed, record))
    points = []
    for (epochs, lr, network), records in sorted(groups.items()):
        ordered = [record for _, record in sorted(records, key=lambda pair: pair[0])]
        top1, top5 = (
            tuple(getattr(record, name) for record in ordered) for name in ("top1", "top5")
        )
        points.append(Point(epochs, lr, "held out", network, top1, top5, "here"))
    return points


def elsewhere(folder: Path) -> list[Point]:
    """The points that were given."""
    path = folder / "search" / "given.yaml"
    entries = load_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else []
    return [
        Point(one["epochs"], one["lr"], one["judged_on"], network, tuple(one[network]), (), "given")
        for one in entries
        for network in NETWORKS
    ]


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else float("nan")


def page(recipe: str, points: list[Point], numerics: str = "native") -> str:
    """The search as Markdown."""
    ours = [point for point in points if point.source == "here"]
    if not ours:
        raise SystemExit(f"{recipe}: no run was searched yet; give --epochs, --lr and --seeds")
    longest = max(point.epochs for point in ours)
    last = {(point.lr, point.network): point for point in ours if point.epochs == longest}
    rates = sorted({lr for lr, _ in last})
    both = {lr: mean(mean(last[lr, network].top1) for network in NETWORKS) for lr in rates}
    chosen = min(both, key=lambda lr: both[lr])
    own = {name: min(rates, key=lambda lr: mean(last[lr, name].top1)) for name in NETWORKS}
    plain = last[chosen, "plain"]
    bracket = "".join(
        words.format(longest) for end, words in NOT_BRACKETED.items() if chosen == end(rates)
    )
    rows = []
    for key in sorted(
        {(p.source, p.epochs, p.judged_on, p.lr) for p in points},
        key=lambda k: (k[0] == "given", k),
    ):
        pair = {p.network: p for p in points if (p.source, p.epochs, p.judged_on, p.lr) == key}
        errors = {name: mean(pair[name].top1) for name in NETWORKS}
        rows.append(
            {
                "epochs": key[1],
                "peak rate": f"{key[3]:g}",
                "judged on": key[2],
                "seeds": len(pair["plain"].top1),
                "plain": f"{errors['plain']:.2f}",
                "SE": f"{errors['SE']:.2f}",
                "mean of the two": f"{mean(errors.values()):.2f}",
                "gain": f"{errors['plain'] - errors['SE']:+.2f}",
                "by seed: plain; SE": "; ".join(
                    ", ".join(f"{e:.2f}" for e in pair[n].top1) for n in NETWORKS
                ),
                "made": key[0],
            }
        )
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"""# The search of the learning rate for {recipe}

The peak rate was settled on held-out training images (a tenth, the same share of every class), with seeds that no table
reports, for the plain and the standard SE network over one grid. The rule, fixed beforehand: at {longest} epochs, the
rate with the least mean error of the two. No test image was read here; pilots that were given from elsewhere, some of
them judged on test images, are listed as such and chose nothing.

**Chosen: {chosen:g}** (mean error of the two {both[chosen]:.2f}%). The best rate at {longest} epochs of the plain
network alone is {own["plain"]:g}, of the SE network alone {own["SE"]:g}. At the chosen rate the plain network errs on
{mean(plain.top1):.2f}% (top-1) and {mean(plain.top5):.2f}% (top-5) of the held-out images; the analysis plan takes its
expected gain from these.{bracket}

Top-1 error in %, means over seeds:

{table}

![Error against the peak rate](search.svg)

These files again, from the records in `search/runs`: `python tools/search_schedule.py {recipe}`. It was computed
with {numerics} numerics: a rate is settled by tenths of a point, not by last bits.
"""


def figure(points: list[Point]) -> Any:
    """Error against the rate, both networks, a panel a budget; held-out images alone."""
    from matplotlib.figure import Figure

    points = [point for point in points if point.judged_on == "held out"]
    budgets = sorted({point.epochs for point in points})
    drawing = Figure(figsize=(4.2 * len(budgets), 3.4), layout="constrained")
    for axes, epochs in zip(
        drawing.subplots(1, len(budgets), squeeze=False)[0], budgets, strict=True
    ):
        for network, colour in zip(NETWORKS, ("#808080", "#1f77b4"), strict=True):
            of_it = sorted(
                (p for p in points if (p.epochs, p.network) == (epochs, network)),
                key=lambda p: p.lr,
            )
            rates = sorted({p.lr for p in of_it})
            means = [mean(e for p in of_it if p.lr == lr for e in p.top1) for lr in rates]
            axes.plot(rates, means, color=colour, label=network)
            for point in of_it:
                marker = "o" if point.source == "here" else "x"
                axes.plot(
                    [point.lr] * len(point.top1), point.top1, marker, color=colour, markersize=5
                )
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            sorted({p.lr for p in points}), [f"{lr:g}" for lr in sorted({p.lr for p in points})]
        )
        axes.set_title(f"{epochs} epochs")
        axes.set_xlabel("peak learning rate")
        axes.set_ylabel("top-1 error on held-out images, %")
    drawing.axes[0].legend(title="o here, x given")
    return drawing


if __name__ == "__main__":
    main()
