"""The command line: `python -m senet_ablate`, installed as `senet-ablate`.

Exit codes: 0 done; 1 a run failed, or something does not hold; 2 bad input; 130 interrupted, run
again to go on.
"""

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from senet_ablate.cli import evidence as evidence_cli
from senet_ablate.cli import networks as network_cli
from senet_ablate.cli.options import (
    RESULTS,
    Data,
    Device,
    ExperimentNames,
    RecipeName,
    Results,
    command_line,
    data_root,
    read_se,
    set_arguments,
)
from senet_ablate.records.store import check_recorded, read_records, recorded
from senet_ablate.report import tensorboard as event_files
from senet_ablate.spec import registry
from senet_ablate.spec.plan import (
    Plan,
    list_experiments,
    list_recipes,
    read_experiment,
    read_plan,
    read_recipe,
)
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import MOST_SEEDS, PLACEMENTS, Run
from senet_ablate.train.numerics import set_numerics

if TYPE_CHECKING:
    from senet_ablate.data import ImageSet
    from senet_ablate.train.preflight import Network

app = typer.Typer(
    help="Which part of a Squeeze-and-Excitation block matters, and can the answer be believed?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(network_cli.cost)
app.command("import-weights")(network_cli.import_weights)
app.command()(evidence_cli.bench)
app.command()(evidence_cli.excitation)
app.command()(evidence_cli.seeds)

Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, max=MOST_SEEDS, help="seeds a variant; default: the recipe's"),
]
Launcher = Annotated[
    str, typer.Option("--launcher", help="local: all of this machine; ray: a Ray cluster")
]
CheckpointEvery = Annotated[
    float,
    typer.Option(
        "--checkpoint-every", min=0, metavar="SECONDS", help="between two of a run, at least"
    ),
]
GpusPerRun = Annotated[
    float,
    typer.Option(
        "--gpus-per-run",
        min=0.01,
        max=1,
        help="share of a GPU that a run takes; 0.5: two at a time",
    ),
]
Download = Annotated[
    bool, typer.Option("--download", help="let torchvision download CIFAR into the data root")
]


@app.command()
def run(
    experiments: ExperimentNames = None,
    recipe: RecipeName = "cue",
    seeds: Seeds = None,
    device: Device = "auto",
    launcher: Launcher = "local",
    data: Data = None,
    results: Results = RESULTS,
    download: Download = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="folder for TensorBoard's curves")
    ] = None,
    checkpoint_every: CheckpointEvery = 30.0,
    gpus_per_run: GpusPerRun = 1.0,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="write records alone: no table, plot or page")
    ] = False,
) -> None:
    """Train what is missing, skip what is done, then report."""
    set_numerics(read_recipe(recipe).train)  # before torch is loaded
    from tqdm import tqdm

    from senet_ablate.train.job import Place, clear_finished
    from senet_ablate.train.launch.launchers import launcher_named, rank

    first = not rank()  # of several processes under torchrun, one speaks
    if rank() is not None:
        launcher = "torchrun"
    launch, slots = launcher_named(launcher)
    if tensorboard:
        event_files.check_installed()
    plan, images, _ = _checked(recipe, experiments, seeds, data_root(data), download)
    missing = _missing(plan, results, images)
    keep = frozenset(one.id for one in plan.kept)
    place = Place(
        results=results,
        recipe=recipe,
        data=data_root(data),
        device=device,
        command=command_line(),
        keep=keep,
        by_class=frozenset(one.id for row in plan.kept_rows for one in row),
        every=checkpoint_every,
        gpus_per_run=gpus_per_run,
        plan=plan.recipe.plan_id,
    )
    if tensorboard:
        curves = event_files.curves_of(plan, tensorboard)
        curves.mirror(read_records(results, recipe).values())
        place = replace(place, follow=curves.follow)
    count, kind = slots(place)
    if first:
        print(
            f"{recipe}: {len(plan.runs()) - len(missing)} runs done, {len(missing)} to do on"
            f" {count} x {kind}"
        )
        clear_finished(place)
    finished, total = 0, sum(_images_of(one, images) for one in missing)
    now_and_then = (
        0.1 if sys.stderr.isatty() else 30.0
    )  # seconds between two states of the bar; a log wants few
    hidden = not missing or not first
    with tqdm(
        total=total, unit=" images", unit_scale=True, disable=hidden, mininterval=now_and_then
    ) as bar:

        def progress(runs: int, trained: int) -> None:
            nonlocal finished
            finished += runs
            bar.set_postfix_str(f"{finished}/{len(missing)} runs", refresh=False)
            bar.update(trained)

        failures = launch(missing, place, progress)
    if not first:
        raise typer.Exit(1 if failures else 0)
    here = device if launcher == "local" else "auto"
    if not no_report and evidence_cli.gates_are_due(plan, results):
        print(f"wrote {evidence_cli.write_gates(plan, results, images, here, [])}")
    for failure in failures:
        name = ", ".join(
            f"{row.experiment}/{row.variant}" for row in plan.rows() if failure.run in row.runs
        )
        print(
            f"failed: {name}, seed {failure.run.seed} (run {failure.run.id}): {failure.cause}",
            file=sys.stderr,
        )
    if failures:
        print(
            f"{len(failures)} of {len(missing)} runs failed; the same command tries them again",
            file=sys.stderr,
        )
    if not no_report:
        evidence_cli.report_recipe(
            recipe, results
        )  # last: on a full disk it fails, too, and the runs have been named
    if failures:
        raise typer.Exit(1)


@app.command()
def plan(
    experiments: ExperimentNames = None,
    recipe: RecipeName = "cue",
    seeds: Seeds = None,
    device: Device = "auto",
    launcher: Launcher = "local",
    data: Data = None,
    results: Results = RESULTS,
    download: Download = False,
    checkpoint_every: CheckpointEvery = 30.0,
    gpus_per_run: GpusPerRun = 1.0,
) -> None:
    """Train nothing:

    show the runs, which are done, the cost of each variant, and the estimated time.
    """
    set_numerics(read_recipe(recipe).train)
    import torch

    from senet_ablate.models.complexity import cost
    from senet_ablate.train.launch.local import devices, seconds_per_image

    plan, images, networks = _checked(recipe, experiments, seeds, data_root(data), download)
    records = read_records(results, recipe)
    size = plan.recipe.train.crop_size or images.train.images.shape[1]
    macs: dict[str, int] = {}
    print(f"{'experiment':<20}{'variant':<20}{'done':>8}{'parameters':>14}{'multiply-adds':>16}")
    for network in networks:
        row, counted = network.row, cost(network.model, (3, size, size))
        macs |= {one.id: counted.macs for one in row.runs}
        done = f"{sum(one.id in records for one in row.runs)}/{len(row.runs)}"
        print(
            f"{row.experiment:<20}{row.variant:<20}{done:>8}{counted.params:>14,}{counted.macs:>16,}"
        )
    for entry, why in plan.recipe.cannot_host.items():
        if entry.partition("/")[0] in plan.experiments:
            print(f"{entry.replace('/', ' '):<40}not hosted: {why}")
    missing = _missing(plan, results, images)
    print(
        f"{len(plan.runs())} distinct runs, {len(plan.runs()) - len(missing)} done, {len(missing)}"
        " to do"
    )
    if missing:
        workers = devices(device)
        torch.set_num_threads(1)
        probe = missing[0]
        rate = seconds_per_image(probe, images, torch.device(workers[0])) / macs[probe.id]
        seconds = sum(rate * macs[one.id] * _images_of(one, images) for one in missing) / len(
            workers
        )
        print(
            f"estimated time: {seconds / 60:.1f} minutes on {len(workers)} x {workers[0]}, from a"
            " few timed steps"
        )


@app.command()
def report(
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="default: every recipe that has records")
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Rebuild every table, plot and page from the records, also of a half-finished sweep."""
    from senet_ablate.report.pages import measured_pages

    if recipe:
        read_recipe(recipe)
        check_recorded(results, recipe)
    names = [recipe] if recipe else recorded(results)
    unknown = [name for name in names if name not in list_recipes()]
    for name in unknown:
        print(
            f"{results / name}: this checkout has no recipe of that name, so no page is made",
            file=sys.stderr,
        )
    for name in [name for name in names if name not in unknown]:
        evidence_cli.report_recipe(name, results)
    pages = [] if recipe else measured_pages(results)
    for name in pages:
        evidence_cli.report_page(name, results)
    if not names and not pages:
        raise BadInput(f"{results}: nothing to report, neither records nor facts")


@app.command()
def describe(
    backbone: Annotated[str, typer.Argument(help="a network's name")],
    pairs: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="more of --se")
    ] = None,
    se: Annotated[
        list[str] | None, typer.Option("--se", metavar="KEY=VALUE", help="a field of SESpec")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, help="pixels; default: 224, or 32 for CIFAR networks"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="default: 1000, or 100")
    ] = None,
    stem: Annotated[
        str, typer.Option("--stem", help="default, or one for smaller images")
    ] = "default",
    csv: Annotated[bool, typer.Option("--csv", help="as comma-separated values")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="as a LaTeX table")] = False,
) -> None:
    """Parameters and multiply-adds of a network, by stage, and where its SE blocks sit."""
    from senet_ablate.models.summary import describe as text

    words = [*(se or []), *(pairs or [])]
    form: Literal["text", "csv", "latex"] = "latex" if latex else "csv" if csv else "text"
    print(text(backbone, read_se(words) if words else None, size, classes, stem, form))


@app.command("list")
def list_names() -> None:
    """Experiments, recipes, backbones, squeezes, gates, placements, data sets."""
    print("experiments")
    for name in list_experiments():
        value = read_experiment(name)
        print(f"  {name:<24}{value.question}")
    print("recipes")
    for name in list_recipes():
        print(f"  {name:<24}{read_recipe(name).title}")
    for kind in (
        registry.BACKBONES,
        registry.SQUEEZES,
        registry.EXCITATIONS,
        registry.GATES,
        registry.DATASETS,
    ):
        print(f"{kind.kind}s")
        for name in kind:
            print(f"  {name:<24}{(kind[name].__doc__ or 'no description').strip().splitlines()[0]}")
    print("placements")
    for name, meaning in PLACEMENTS.items():
        print(f"  {name:<24}{meaning}")


@app.command()
def verify(
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="default: every recipe that has records")
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Check records and generated files again; exit 1 and name what does not hold."""
    from senet_ablate.report.pages import measured_pages, verify_page
    from senet_ablate.report.verify import verify as problems

    if recipe:
        read_recipe(recipe)
        check_recorded(results, recipe)
    names = [recipe] if recipe else recorded(results)
    found = [problem for name in names for problem in problems(name, results)]
    for name in [] if recipe else measured_pages(results):
        names.append(name)
        found += verify_page(name, results)
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        raise typer.Exit(1)
    if not names:
        raise BadInput(f"{results}: nothing to verify, neither records nor facts")
    print(
        f"{', '.join(names)}: every record is sound and every generated file follows from the"
        " records"
    )


def _checked(
    recipe: str, experiments: list[str] | None, seeds: int | None, data: Path, download: bool
) -> tuple[Plan, "ImageSet", list["Network"]]:
    """The plan, its images and the network of every row. Raises BadInput."""
    from senet_ablate.data import load_images
    from senet_ablate.train.preflight import survey

    plan = read_plan(recipe, experiments, seeds)
    images = load_images(plan.recipe.train, data, download)
    return plan, images, survey(plan, len(images.classes))


def _missing(plan: Plan, results: Path, images: "ImageSet") -> list[Run]:
    """The runs without a record.

    Raises BadInput if a record is of other images, or of an own operator since edited.
    """
    from senet_ablate.train.provenance import own_operators

    done = read_records(results, plan.recipe_name)
    for run in plan.runs():
        if run.id in done:
            where = done[run.id].provenance
            if where.data != images.checksum:
                raise BadInput(
                    f"{results / plan.recipe_name}: its records are of other images (SHA-256"
                    f" {where.data[:12]}) than these ({images.checksum[:12]}); name another folder"
                    " with --results, or copy the recipe"
                )
            if where.operators != own_operators(run):
                raise BadInput(
                    f"{results / plan.recipe_name}: {', '.join(where.operators)} was edited since"
                    f" run {run.id}; delete that record, or name another folder with --results"
                )
    return [run for run in plan.runs() if run.id not in done]


def _images_of(run: Run, images: "ImageSet") -> int:
    """Training images that a run sees."""
    return len(images.train) // run.train.batch_size * run.train.batch_size * run.train.epochs


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; no mistake of a user's ends in a traceback."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    set_arguments(arguments)
    sys.exit(_guarded(lambda: app(arguments, standalone_mode=True)))


def _guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
        if code == 130:  # Typer has caught the interrupt
            print("interrupted; the same command goes on from here", file=sys.stderr)
        return code
    except (BadInput, OSError) as error:  # an OSError names the file that cannot be read or written
        print(f"senet-ablate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
