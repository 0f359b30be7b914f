"""The commands that train, or say what training would take."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from senet_ablate.cli.evidence import write_reports
from senet_ablate.cli.options import RunOptions, command_line, read_runs_per_gpu, takes_run_options
from senet_ablate.cli.output import worked
from senet_ablate.records import read_records
from senet_ablate.records.store import check_recorded
from senet_ablate.report import tensorboard as event_files
from senet_ablate.spec import Run, read_plan, read_recipe
from senet_ablate.spec.plan import recipe_name
from senet_ablate.train.numerics import set_numerics

if TYPE_CHECKING:
    from senet_ablate.train.job import Failure
    from senet_ablate.train.sweep import Sweep

LOG_EVERY_S = 30.0
NoReport = Annotated[
    bool, typer.Option("--no-report", help="write records alone: no table, plot or page")
]
TensorBoard = Annotated[
    Path | None, typer.Option("--tensorboard", help="folder for TensorBoard's curves")
]


@takes_run_options
def run(options: RunOptions, tensorboard: TensorBoard = None, no_report: NoReport = False) -> None:
    """Train what is missing, skip what is done, then report."""
    sweep = _sweep(options, options.results, tensorboard)
    failures = _train(sweep)
    asked = list(sweep.plan.experiments) if options.experiments else []
    report = partial(write_reports, [sweep.plan.recipe_name], options.results, asked=asked)
    done = no_report or worked("report", report)
    if failures or not done:
        raise typer.Exit(1)


@takes_run_options
def reproduce(
    options: RunOptions, tensorboard: TensorBoard = None, no_report: NoReport = False
) -> None:
    """Train a recipe's committed runs anew, into reproductions/, and say how far they agree."""
    from senet_ablate.analysis.reproduction import committed_records, compare_records
    from senet_ablate.analysis.tables import read_reported
    from senet_ablate.report.reproduction import sentences, write_reproduction

    recipe = recipe_name(options.recipe)
    check_recorded(options.results, recipe)
    read_plan(options.recipe, options.experiments)  # from here on known by their names
    records = read_records(options.results, recipe)
    reported = read_reported(recipe, records, options.results)
    committed = committed_records(reported, options.results)
    options = replace(options, experiments=options.experiments or list(reported.experiments))
    folder = options.results.absolute().parent / "reproductions"
    sweep = _sweep(options, folder, tensorboard)
    from senet_ablate.train.sweep import pending

    pending(sweep.plan, options.results, sweep.images)  # are the committed ones of these images?
    sweep.runs, sweep.pending = (
        [run for run in runs if run.id in committed] for runs in (sweep.runs, sweep.pending)
    )
    failures = _train(sweep)
    ours = read_records(folder, recipe)
    if failures and not ours:
        raise typer.Exit(1)
    facts = compare_records(sweep.plan, committed, ours, command_line())
    print("\n".join([f"{recipe}: agreement with {options.results / recipe}", *sentences(facts)]))
    done = no_report or worked(
        "report", lambda: print(f"see {write_reproduction(folder / recipe, facts)}")
    )
    if failures or not done:
        raise typer.Exit(1)


@takes_run_options
def plan(
    options: RunOptions,
    points: Annotated[
        float | None,
        typer.Option(
            "--for",
            metavar="POINTS",
            help="only say how many seeds a row a difference in test error of so many points"
            " needs (two-sided 5%, 80% power), from the spread seen so far",
        ),
    ] = None,
) -> None:
    """Train nothing: show the runs, their cost, the time left, and what the seeds can settle."""
    if points is not None:
        from senet_ablate.analysis.settle import needs
        from senet_ablate.analysis.tables import read_reported

        asked = read_plan(options.recipe, options.experiments)
        records = read_records(options.results, asked.recipe_name)
        if not options.experiments:
            asked = read_reported(asked.recipe_name, records, options.results)
        print("\n".join(needs(asked, records, points)))
        return
    sweep = _sweep(options, options.results)
    _print_found(sweep)
    records = read_records(options.results, sweep.plan.recipe_name)
    print(f"{'experiment':<20}{'variant':<20}{'done':>8}{'parameters':>14}{'multiply-adds':>16}")
    for row in sweep.plan.rows():
        cost = sweep.costs[row.name]
        done = f"{sum(one.id in records for one in row.runs)}/{len(row.runs)}"
        print(f"{row.experiment:<20}{row.variant:<20}{done:>8}{cost.params:>14,}{cost.macs:>16,}")
    for entry, why in sweep.plan.recipe.cannot_host.items():
        if entry.partition("/")[0] in sweep.plan.experiments:
            print(f"{entry.replace('/', ' '):<40}not hosted: {why}")
    count, pending = len(sweep.runs), len(sweep.pending)
    print(f"{count} distinct runs, {count - pending} done, {pending} to do")
    if pending:
        slots, kind = sweep.launcher.slots(sweep.context)
        seconds = sweep.estimate_s()
        if seconds is None:
            print(f"no estimate of the time: runs train on {kind}, which this machine lacks")
        else:
            print(
                f"estimated time: {seconds / 60:.1f} minutes on {slots} x {kind}, from a few timed"
                " steps"
            )
    from senet_ablate.analysis.settle import sentences

    judged_together = read_plan(options.recipe)
    print("\n".join(sentences(judged_together, records)))
    if apart := ", ".join(sorted(sweep.plan.apart)):
        print(f"not in the recipe's analysis plan, so judged apart: {apart}")


def _sweep(options: RunOptions, results: Path, tensorboard: Path | None = None) -> "Sweep":
    """The sweep that the options ask for, with records in `results`. Raises BadInput."""
    if tensorboard:
        event_files.check_installed()
    set_numerics(read_recipe(options.recipe).train)  # before torch is loaded, by a user's part, too
    from senet_ablate.train.job import SweepContext
    from senet_ablate.train.sweep import Sweep

    plan = read_plan(options.recipe, options.experiments, options.seeds)
    context = SweepContext.of(
        plan,
        results,
        options.data,
        device=options.device,
        command=command_line(),
        checkpoint_every_s=options.checkpoint_every,
        gpus_per_run=options.gpus_per_run,
        runs_per_gpu=read_runs_per_gpu(options.runs_per_gpu),
    )
    if tensorboard:
        curves = event_files.curves_of(plan, tensorboard)
        curves.mirror(read_records(results, plan.recipe_name).values())
        context = replace(context, epoch_logger=curves.follow)
    return Sweep(plan, context, options.launcher, options.download)


def _train(sweep: "Sweep") -> "list[Failure]":
    """Train what is pending, with a bar, and name the runs that failed by the rows they are of;
    under torchrun only rank 0 prints, and returns.
    """
    from senet_ablate.train.distributed import torchrun_rank

    first = not torchrun_rank()
    slots, kind = sweep.launcher.slots(sweep.context)
    total, pending = len(sweep.runs), len(sweep.pending)
    if first:
        _print_found(sweep)
        print(
            f"{sweep.plan.recipe_name}: {total - pending} runs done, {pending} to do on"
            f" {slots} x {kind}\ncomputed with: {sweep.compute}"
        )

    def name(run: Run) -> str:
        return f"{sweep.plan.names[run.id][0]} seed {run.seed}"

    hidden = not pending or not first
    with sweep_bar(pending, sweep.pending_images, name, hidden) as progress:
        failures = sweep.train(progress)
    if not first:
        raise typer.Exit(1 if failures else 0)
    for failure in failures:
        names = ", ".join(sweep.plan.names[failure.run.id])
        seed = f"seed {failure.run.seed} (run {failure.run.id})"
        print(f"failed: {names}, {seed}: {failure.cause}", file=sys.stderr)
    if failures:
        again = f"{len(failures)} of {pending} runs failed; the same command tries them again"
        print(again, file=sys.stderr)
    return failures


@contextmanager
def sweep_bar(
    runs: int, images: int, name: Callable[[Run], str], hidden: bool
) -> Iterator[Callable[[int, int, list[Run]], None]]:
    """A bar of runs and images on a terminal, with the names of runs that are being trained, cut to
    its width; in a log, a plain line every LOG_EVERY_S seconds.

    Yields what is called with (runs finished, images trained on) since the last call, and these
    runs.
    """
    from tqdm import tqdm

    file, finished, done = sys.stderr, 0, 0
    in_log = not hidden and not file.isatty()
    began = shown = time.monotonic()
    scale: dict[str, Any] = {"total": images, "unit": " images", "unit_scale": True}
    layout: dict[str, Any] = {"dynamic_ncols": True, "bar_format": "{l_bar}{bar:10}{r_bar}"}
    with tqdm(**scale, **layout, disable=hidden or in_log, file=file) as bar:

        def progress(more_runs: int, more_images: int, running: list[Run]) -> None:
            nonlocal finished, done, shown
            finished, done, now = finished + more_runs, done + more_images, time.monotonic()
            state = f"{finished}/{runs} runs"
            bar.set_postfix_str(", ".join([state, *map(name, running)]), refresh=False)
            bar.update(more_images)
            due = now - shown >= LOG_EVERY_S or (finished == runs and shown < math.inf)
            if in_log and due:
                line = tqdm.format_meter(done, elapsed=now - began, ncols=0, postfix=state, **scale)
                print(line, file=file, flush=True)
                shown = now if finished < runs else math.inf

        yield progress


def _print_found(sweep: "Sweep") -> None:
    """What the data set holds, and in one warning what was left out."""
    from senet_ablate.data.images import listed

    name = sweep.plan.recipe.train.dataset
    print(f"{name}: {sweep.images.summary()}")
    if sweep.images.left_out:
        logging.warning("%s, left out: %s", name, listed(sweep.images.left_out))
