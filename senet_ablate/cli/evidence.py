"""The commands that measure something beside training: gates, speed, costs, public weights."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senet_ablate.cli.options import (
    DATA,
    RESULTS,
    Cache,
    Data,
    Device,
    MoreSEFields,
    RecipeName,
    Results,
    SEFields,
    command_line,
    read_se,
)
from senet_ablate.records import Bench, read_records
from senet_ablate.records.bench import PARTS, add_part, bench_path
from senet_ablate.records.facts import read_facts
from senet_ablate.records.store import recorded
from senet_ablate.spec import BadInput, Plan, list_recipes, read_plan, read_recipe
from senet_ablate.train.numerics import set_numerics

if TYPE_CHECKING:
    import torch


def write_reports(
    recipes: Sequence[str],
    results: Path,
    pages: Iterable[str] = ("forest",),
    asked: Sequence[str] = (),
) -> None:
    """Write the tables and pages of recipes from their records, with those experiments that were
    asked for, then those pages beside them that have facts, and say where they lie.
    """
    from senet_ablate.analysis.tables import read_reported
    from senet_ablate.report.pages import measured_pages, write_page
    from senet_ablate.report.recipe_page import write_report

    for recipe in recipes:
        records = read_records(results, recipe)
        plan = read_reported(recipe, records, results, asked, begun=True)
        print(f"see {write_report(plan, results, records)}")
    for name in measured_pages(results):
        if name in pages:
            for path in write_page(name, results):
                print(f"see {path}")


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help=f"of this machine: {', '.join(PARTS)}; of a recipe: timing (default)"),
    ] = None,
    recipe: RecipeName = "cue",
    rounds: Annotated[
        int, typer.Option("--rounds", min=3, help="how often each thing is timed")
    ] = 15,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="of PyTorch on a CPU; training uses 1")
    ] = 1,
    all_rows: Annotated[
        bool, typer.Option("--all", help="timing: every row, not plain and SE alone")
    ] = False,
    data: Data = DATA,
    cache: Cache = None,
    results: Results = RESULTS,
    device: Device = "auto",
) -> None:
    """Measure speed on this machine, or of plain and SE side by side, then report."""
    chosen, known = parts or ["timing"], ["timing", *PARTS]
    for part in chosen:
        if part not in known:
            raise BadInput(f"unknown part {part!r}; known: {', '.join(known)}")
    if "timing" in chosen:
        set_numerics(read_recipe(recipe).train)
    plan = read_plan(recipe) if "timing" in chosen else None
    import torch  # after its numerics are set

    from senet_ablate.train.launch.local import first_device

    on = first_device(device)
    torch.set_num_threads(threads)
    if machine := [part for part in chosen if part in PARTS]:
        _bench_machine(machine, str(on), rounds, results)
    if plan:
        _bench_recipe(plan, rounds, all_rows, data, results, on)


def _bench_machine(parts: Sequence[str], device: str, rounds: int, results: Path) -> None:
    """Measure parts of the page of this machine, writing each as it is done."""
    import torch
    from joblib import cpu_count

    from senet_ablate.bench.measures import measure
    from senet_ablate.train.provenance import processor

    name = processor() if device == "cpu" else torch.cuda.get_device_name(device)
    path = bench_path(results, name, cpu_count())
    if path.exists():
        read_facts(path, Bench)  # what cannot be added to is said before minutes go by
    if device == "cpu":
        print("on a CPU: no CUDA graphs, no bfloat16; smaller networks and batches")
    for name in parts:
        part = measure(name, device, rounds, command_line())
        print(f"wrote {add_part(results, part.provenance.device, cpu_count(), name, part)}")
    # the ledgers judge the paper's times by what SE adds
    recipes = [name for name in recorded(results) if name in list_recipes()]
    write_reports(recipes if "overhead" in parts else [], results, ("bench", "forest"))


def _bench_recipe(
    plan: Plan, rounds: int, all_rows: bool, data: Path, results: Path, device: "torch.device"
) -> None:
    """Time the plain and the SE network of a recipe, or all its rows."""
    from tqdm import tqdm

    from senet_ablate.bench.steps import timing
    from senet_ablate.data import load_images
    from senet_ablate.records.bench import plain_and_se, write_timing

    networks = plain_and_se(plan)
    if all_rows:
        for row in plan.rows():
            run = replace(row.runs[0], seed=0)  # as those of plain and SE
            if run.id not in {one.id for one in networks.values()}:
                networks[row.name] = run
    images = load_images(plan.recipe.train, data)
    with tqdm(total=3 * rounds * len(networks), unit=" measurements") as bar:
        found = timing(networks, images, device, rounds, command_line(), bar.update)
    print(f"wrote {write_timing(results, plan.recipe_name, found)}")
    write_reports([plan.recipe_name], results)


def cost(results: Results = RESULTS) -> None:
    """Count every network, plain and with SE, and compare it with the paper, in RESULTS/cost."""
    from tqdm import tqdm

    from senet_ablate.models.summary import count, to_count
    from senet_ablate.records.cost import write_costs

    write_costs(results, [count(*one) for one in tqdm(to_count(), unit=" networks")])
    write_reports([], results, ["cost"])


def import_weights(
    file: Annotated[Path, typer.Argument(help="a public checkpoint of torchvision's or timm's")],
    backbone: Annotated[str, typer.Argument(help="the network that it is of")],
    pairs: MoreSEFields = None,
    se: SEFields = None,
    data: Data = DATA,
    size: Annotated[
        int | None, typer.Option("--size", min=8, help="pixels; default: the network's own")
    ] = None,
    device: Device = "auto",
) -> None:
    """Evaluate a public checkpoint on DATA/val/<class>/; sorted folders are the network's classes.

    Public SE networks have --se bias=true.
    """
    from tqdm import tqdm

    from senet_ablate.models.pretrained import import_weights as load
    from senet_ablate.train.evaluate_folder import evaluate_folder
    from senet_ablate.train.launch.local import first_device

    spec = read_se(se, pairs)
    model, on = load(file, backbone, spec), first_device(device)
    with tqdm(unit=" images") as bar:
        found = evaluate_folder(model, backbone, data, size, on, bar.update)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{backbone}, {spec or 'plain'}, {parameters:,} parameters, from {file}")
    count, wrong = len(found.correct), found.wrong_top5
    top5 = "" if wrong is None else f", top-5 error {100 * wrong / count:.2f}%"
    print(f"{count:,} images: top-1 error {found.curves['test_top1']:.2f}%{top5}")
