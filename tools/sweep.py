"""Train what is missing of a recipe, seed by seed, and say how many runs are done and how fast: no
error is read.

    python tools/sweep.py RECIPE [EXPERIMENT ...] --results DIR --data DIR

Run from a frozen checkout (tools/resume_sweep.sh makes one). A seed that has records of another
processor is continued only if this one gives the same bits, shown by training one of its shortest
runs again; else it is left for a machine of its own kind. SIGTERM or Ctrl-C ends it; checkpoints
lie in DIR, and the same command goes on.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from senet_ablate.records.store import Record, read_record, read_records, runs_folder
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Run
from senet_ablate.train.numerics import set_numerics

EVERY = 60.0  # seconds between two lines


def interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends the sweep as Ctrl-C does."""
    raise KeyboardInterrupt


def facts(record: Record) -> dict[str, Any]:
    """What must be equal bit for bit."""
    return record.model_dump(exclude={"provenance"})


def main() -> None:
    """Train what is missing."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("recipe")
    words.add_argument("experiments", nargs="*")
    words.add_argument("--results", type=Path, required=True)
    words.add_argument("--data", type=Path, required=True)
    given = words.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    plan = read_plan(given.recipe, given.experiments)
    set_numerics(plan.recipe.train)  # before torch is loaded

    from senet_ablate.train.job import SweepContext
    from senet_ablate.train.launch.local import launch as launch_local
    from senet_ablate.train.provenance import processor

    context = SweepContext(
        results=given.results,
        recipe=given.recipe,
        data=given.data,
        device="cpu",
        command=f"python tools/sweep.py {given.recipe}",
        keep_weights_of=frozenset(run.id for run in plan.kept),
        class_gates_of=frozenset(run.id for row in plan.kept_rows.values() for run in row),
        plan=plan.recipe.plan_id,
    )

    def equal_here(record: Record) -> bool:
        """Whether this machine gives a record again, bit for bit."""
        run = record.run
        with tempfile.TemporaryDirectory() as folder:
            again = SweepContext(
                Path(folder),
                given.recipe,
                given.data,
                "cpu",
                context.command,
                class_gates_of=context.class_gates_of,
            )
            failures = launch_local([run], again, lambda *_: None)
            path = runs_folder(Path(folder), given.recipe) / f"{run.id}.json"
            return not failures and facts(read_record(path)) == facts(record)

    done, here = read_records(given.results, given.recipe), processor()
    same = {here: True}
    runs = plan.runs()
    begun: dict[int, set[str]] = {}
    for record in sorted(done.values(), key=lambda record: record.run.train.epochs):
        where = record.provenance.device
        if where not in same:
            same[where] = equal_here(record)
            print(
                f"{here} gives {'the same' if same[where] else 'OTHER'} bits as {where} (run"
                f" {record.id})",
                flush=True,
            )
        begun.setdefault(record.run.seed, set()).add(where)
    open_seeds = {run.seed for run in runs if all(same[where] for where in begun.get(run.seed, ()))}
    missing = [run for run in runs if run.id not in done and run.seed in open_seeds]
    left = sorted({run.seed for run in runs if run.id not in done} - open_seeds)
    print(
        f"{len(runs)} runs, {len(done)} done, {len(missing)} to do here; seeds left for other"
        f" makes: {left}",
        flush=True,
    )
    finished, images, printed = 0, 0, time.monotonic()

    def progress(count: int, more: int, running: list[Run]) -> None:
        nonlocal finished, images, printed
        finished += count
        if time.monotonic() - began > EVERY / 2:  # before, they are those of checkpoints
            images += more
        seconds = time.monotonic() - printed
        if count or seconds > EVERY:
            rate, images, printed = images / seconds, 0, time.monotonic()
            print(
                f"{time.strftime('%H:%M:%S')}  {finished}/{len(missing)} runs, {rate:,.0f}"
                " images/s",
                flush=True,
            )

    began = time.monotonic()
    for failure in launch_local(missing, context, progress):
        print(
            f"failed: seed {failure.run.seed}, run {failure.run.id}: {failure.cause}",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()
