"""Training curves for TensorBoard, while runs train and from the records; the records stay the
source of truth.
"""

import datetime
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from senet_ablate.records import Epoch, Gates, Record
from senet_ablate.spec import BadInput, Plan, Run


def check_installed() -> None:
    """Raises BadInput, with the command that helps, if TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "--tensorboard needs the tensorboard package: `pip install tensorboard`, or"
            " `pip install -e '.[tensorboard]'`"
        ) from error


@dataclass(frozen=True)
class EventFiles:
    """Event files, a folder a run: `<folder>/<experiment> <variant> seed <n> <run id>`. names: run
    id -> the first row of the plan that the run is of."""

    folder: Path
    names: dict[str, str]

    def of(self, run: Run) -> Path:
        return self.folder / f"{self.names.get(run.id, 'run')} seed {run.seed} {run.id}"

    @contextmanager
    def follow(self, run: Run) -> Iterator[Callable[[int, Epoch], None]]:
        """What to call with each epoch of a run that trains, and its number from 1: it is drawn at
        once.

        An epoch may come again when more is known of it. What an attempt before has left is
        removed: a run that goes on from its checkpoint begins with the epochs before it.
        """
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self.of(run), ignore_errors=True)
        with SummaryWriter(self.of(run)) as writer:
            yield partial(_write, writer, set())

    def mirror(self, records: Iterable[Record]) -> int:
        """Write the curves of the runs that have none yet; returns how many there were."""
        from torch.utils.tensorboard import SummaryWriter

        missing = [one for one in records if one.id in self.names and not self.of(one.run).is_dir()]
        for record in missing:
            started = datetime.datetime.fromisoformat(record.provenance.started).timestamp()
            with SummaryWriter(self.of(record.run)) as writer:
                for number, epoch in enumerate(record.epochs, start=1):
                    if number == len(record.epochs):
                        epoch = epoch.model_copy(update={"gates": record.gates})
                    # epochs take about equally long
                    done = record.provenance.train_s * number / len(record.epochs)
                    _write(writer, set(), number, epoch, started + done)
        return len(missing)


def curves_of(plan: Plan, folder: Path) -> EventFiles:
    """The event files of a plan's runs below `folder`."""
    names = {
        run: re.sub(r"[/\\]", "-", rows[0].replace("/", " ", 1)) for run, rows in plan.names.items()
    }
    return EventFiles(folder / plan.recipe_name, names)


def _write(
    writer: Any, written: set[tuple[int, str]], number: int, epoch: Epoch, when: float | None = None
) -> None:
    """Write what is known of an epoch and not written yet: losses (that of training with label
    smoothing), errors in %, learning rate, gates by block. when: seconds since 1970, None for now.
    """
    scalars = {
        "lr": epoch.lr,
        "loss/train": epoch.train_loss,
        "loss/test": epoch.test_loss,
        "loss/validation": epoch.validation_loss,
        "error/train": epoch.train_top1,
        "error/test": epoch.test_top1,
    } | {
        f"gates {what}/{name}": getattr(one, what)
        for name, one in epoch.gates.items()
        for what in Gates.model_fields
    }
    for tag, value in scalars.items():
        if value is not None and (number, tag) not in written:
            written.add((number, tag))
            writer.add_scalar(tag, value, number, walltime=when)
    writer.flush()
