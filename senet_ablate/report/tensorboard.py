"""Training curves for TensorBoard, while runs train and from the records; the records stay the
source of truth.
"""

import datetime
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from senet_ablate.records.store import Epoch, Gates, Record
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run

INSTALL = (
    "--tensorboard needs the tensorboard package: `pip install tensorboard`, or `pip install -e"
    " '.[tensorboard]'`"
)


def check_installed() -> None:
    """Raises BadInput, with the command that helps, if TensorBoard is not installed."""
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError as error:
        raise BadInput(INSTALL) from error


@dataclass(frozen=True)
class Curves:
    """Event files, a folder a run: `<folder>/<experiment> <variant> seed <n> <run id>`. names: run
    id -> the first row of the plan that the run is of."""

    folder: Path
    names: dict[str, str]

    def of(self, run_id: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / f"{self.names.get(run_id, 'run')} seed {seed} {run_id}"

    @contextmanager
    def follow(self, run: Run) -> Iterator[Callable[[int, Epoch], None]]:
        """What to tell of each epoch of a run that trains, with its number from 1: it is drawn at
        once.

        An epoch may be told again when more is known of it. What an attempt before has left is
        removed: a run that goes on from its checkpoint tells of the epochs before it, too.
        """
        shutil.rmtree(self.of(run.id, run.seed), ignore_errors=True)
        writer = _Writer(self.of(run.id, run.seed))
        try:
            yield lambda number, epoch: writer.write(number, epoch, time.time())
        finally:
            writer.close()

    def mirror(self, records: Iterable[Record]) -> int:
        """Write the curves of the runs that have none yet; returns how many there were."""
        missing = [
            one
            for one in records
            if one.id in self.names and not self.of(one.id, one.run.seed).is_dir()
        ]
        for record in missing:
            started = datetime.datetime.fromisoformat(record.provenance.started).timestamp()
            each = record.provenance.train_s / max(
                len(record.epochs), 1
            )  # epochs take about equally long
            writer = _Writer(self.of(record.id, record.run.seed))
            for number, epoch in enumerate(record.epochs, start=1):
                last = {"gates": record.gates} if number == len(record.epochs) else {}
                writer.write(number, epoch.model_copy(update=last), started + number * each)
            writer.close()
        return len(missing)


def curves_of(plan: Plan, folder: Path) -> Curves:
    """The event files of a plan's runs below `folder`."""
    names: dict[str, str] = {}
    for row in plan.rows():
        for run in row.runs:
            names.setdefault(run.id, re.sub(r"[/\\]", "-", f"{row.experiment} {row.variant}"))
    return Curves(folder / plan.recipe_name, names)


class _Writer:
    """One event file; every scalar of an epoch is written once."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True)
        self.file, self.written = EventFileWriter(str(folder)), set[tuple[int, str]]()

    def write(self, number: int, epoch: Epoch, then: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for tag, value in scalars(epoch).items():
            if (number, tag) not in self.written:
                self.written.add((number, tag))
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                self.file.add_event(Event(wall_time=then, step=number, summary=summary))
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def scalars(epoch: Epoch) -> dict[str, float]:
    """What is known of an epoch by tag: losses, errors in %, learning rate, gates by block."""
    found = {
        "lr": epoch.lr,
        "loss/train": epoch.train_loss,
        "loss/test": epoch.test_loss,
        "loss/validation": epoch.validation_loss,
        "error/train": epoch.train_top1,
        "error/test": epoch.test_top1,
    }
    found |= {
        f"gates {what}/{name}": getattr(one, what)
        for name, one in epoch.gates.items()
        for what in Gates.model_fields
    }
    return {tag: value for tag, value in found.items() if value is not None}
