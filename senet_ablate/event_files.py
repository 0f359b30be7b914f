"""Training curves for TensorBoard, copied from the records; the records stay the source of truth."""

import datetime
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from senet_ablate.plan import Plan
from senet_ablate.registry import BadInput
from senet_ablate.spec import Run
from senet_ablate.store import Gates, Record, read_record, runs_folder

INSTALL = "--tensorboard needs the tensorboard package: `pip install tensorboard`, or `pip install -e '.[tensorboard]'`"


def check_installed() -> None:
    """Raises BadInput, with the command that helps, if TensorBoard is not installed."""
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError as error:
        raise BadInput(INSTALL) from error


def mirror(plan: Plan, results: Path, folder: Path) -> int:
    """Write an event file for each finished run of the plan that has none yet; returns how many were written.

    A run's folder, `<folder>/<recipe>/<experiment> <variant> seed <n> <run id>`, appears whole or not at all.
    """
    folder, written = folder / plan.recipe_name, 0
    done = {path.name.rpartition(" ")[2] for path in folder.glob("* *")}
    for name, run in _named(plan).values():
        path = runs_folder(results, plan.recipe_name) / f"{run.id}.json"
        if run.id not in done and path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
            try:
                _write(partial, read_record(path))
                partial.chmod(0o755)
                partial.rename(folder / f"{name} seed {run.seed} {run.id}")
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            written += 1
    return written


def _named(plan: Plan) -> dict[str, tuple[str, Run]]:
    """Run id -> the first row of the plan that the run is of, and the run."""
    runs: dict[str, tuple[str, Run]] = {}
    for row in plan.rows():
        for run in row.runs:
            runs.setdefault(run.id, (re.sub(r"[/\\]", "-", f"{row.experiment} {row.variant}"), run))
    return runs


def _write(folder: Path, record: Record) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    started = datetime.datetime.fromisoformat(record.provenance.started).timestamp()
    for step, tag, value in scalars(record):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        then = started + record.provenance.train_s * step / len(record.epochs)  # epochs take about equally long
        writer.add_event(Event(wall_time=then, step=step, summary=summary))
    writer.close()


def scalars(record: Record) -> Iterator[tuple[int, str, float]]:
    """What a record says by epoch, as (epoch from 1, tag, value): losses, errors in %, rate, gates by block."""
    for step, epoch in enumerate(record.epochs, start=1):
        found = {
            "lr": epoch.lr,
            "loss/train": epoch.train_loss,
            "loss/test": epoch.test_loss,
            "loss/validation": epoch.validation_loss,
            "error/train": epoch.train_top1,
            "error/test": epoch.test_top1,
        }
        gates = record.gates if step == len(record.epochs) else epoch.gates
        found |= {
            f"gates {what}/{name}": getattr(one, what) for name, one in gates.items() for what in Gates.model_fields
        }
        yield from ((step, tag, value) for tag, value in found.items() if value is not None)
