"""From a run that is missing to its record on file, the same for every launcher: lock, look again,
train, write.

Any number of processes, on any machines that share the results folder, may fulfil the same list of
runs at once: a run is trained by the one that holds its lock, and a record that is there is never
trained again. The lock is the kernel's (flock), so it goes with a process that dies; Linux carries
it over NFS 3 (with lockd) and NFS 4. On a file system without flock, filelock falls back to lock
files that name process and machine, with a warning.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from senet_ablate.data import ImageSet, load_images
from senet_ablate.records.store import (
    Epoch,
    Record,
    checkpoint_path,
    log,
    read_record,
    runs_folder,
    set_aside,
    weights_path,
    write_record,
)
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.checkpoint import EVERY, Origin
from senet_ablate.train.class_gates import by_class, default_classes
from senet_ablate.train.loop import Observed, train
from senet_ablate.train.single import ALONE, Team
from senet_ablate.train.weights import save_weights

OUT_OF_MEMORY = (
    "out of GPU memory at {batch} images a batch; free the GPU, or use a recipe with a smaller"
    " batch_size or network, or with precision: bf16. The batch is not cut into parts instead:"
    " batch norms would see the parts alone, and the numbers could not be compared"
)


def _unheard(number: int, epoch: Epoch) -> None:
    """Nobody follows."""


def unfollowed(run: Run) -> AbstractContextManager[Callable[[int, Epoch], None]]:
    """Nobody is told of the epochs of a run."""
    return nullcontext(_unheard)


@dataclass(frozen=True)
class Place:
    """Where runs read and write:

    the results folder, the recipe's name, the data root, the kind of device.
    """

    results: Path
    recipe: str
    data: Path
    device: str
    command: str
    keep: frozenset[str] = frozenset()
    """Ids of the runs whose final weights are kept."""
    by_class: frozenset[str] = frozenset()
    """Ids of the runs whose records hold their gates by class."""
    every: float = EVERY
    """Seconds between two checkpoints of a run at least."""
    gpus_per_run: float = 1.0
    """Share of a GPU that a run takes, at most 1."""
    plan: str = ""
    """Hash of the recipe's analysis plan."""
    follow: Callable[[Run], AbstractContextManager[Callable[[int, Epoch], None]]] = unfollowed
    """Gives what is told of each epoch of a run while it trains."""


@dataclass(frozen=True)
class Failure:
    """A run that ended without a record, and why."""

    run: Run
    cause: str


class Outcome(Enum):
    """How an attempt at a run ended:

    trained here, on record already, or held by another process just now.
    """

    TRAINED = "trained"
    FOUND = "found"
    BUSY = "busy"


def fulfil(
    run: Run,
    place: Place,
    device: torch.device,
    progress: Callable[[int], None],
    team: Team = ALONE,
) -> Outcome:
    """See to it that `run` has a record, unless another process is at it; `progress` is told of
    images trained on.

    An unsound record in its place is set aside with a warning. Raises what `trained` raises.
    """
    with locked(run, place) as mine:
        if not mine:
            return Outcome.BUSY
        _remove_fragments(run, place)
        checkpoint = checkpoint_path(place.results, place.recipe, run.id)
        if record := _recorded(run, place):
            checkpoint.unlink(missing_ok=True)
            progress(
                record.train_images
                // run.train.batch_size
                * run.train.batch_size
                * run.train.epochs
            )
            return Outcome.FOUND
        team.tell(run)
        write_record(place.results, place.recipe, trained(run, place, device, progress, team))
        checkpoint.unlink(missing_ok=True)
        return Outcome.TRAINED


def trained(
    run: Run, place: Place, device: torch.device, progress: Callable[[int], None], team: Team
) -> Record:
    """The record of `run`, from its checkpoint on if it has one; its weights are written if the
    recipe keeps them.

    Raises what training raises; GPU memory that does not suffice as a MemoryError that says what to
    do.
    """
    images = cached_images(run.train, place.data)
    origin = Origin.of(run, images.checksum, device, team.size)
    kept = team.checkpoints(
        checkpoint_path(place.results, place.recipe, run.id), origin, place.every
    )

    def keep(model: nn.Module) -> None:  # before the record, so that no record lacks its weights
        if run.id in place.keep and team.rank == 0:
            save_weights(weights_path(place.results, place.recipe, run.id), model, run)

    def observe(model: nn.Module) -> Observed:
        if run.id not in place.by_class:
            return (), {}
        return by_class(model, images, device, run.train, default_classes(images.classes))[1:]

    try:
        with (unfollowed if team.rank else place.follow)(run) as told:
            return train(
                run,
                images,
                device,
                place.command,
                progress,
                keep,
                kept,
                team,
                told,
                place.plan,
                observe,
            )
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise MemoryError(OUT_OF_MEMORY.format(batch=run.train.batch_size)) from error


@lru_cache(maxsize=1)
def cached_images(train: Training, data: Path) -> ImageSet:
    """The images of a recipe, loaded once a process."""
    return load_images(train, data)


@contextmanager
def locked(run: Run, place: Place) -> Iterator[bool]:
    """Hold the lock of a run while the context is open; False at once where another process holds
    it.

    The file is removed while the lock is held: who has opened it already finds it without a name
    and opens anew.
    """
    path = checkpoint_path(place.results, place.recipe, run.id).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def _recorded(run: Run, place: Place) -> Record | None:
    """The record of a run, None if there is none; an unsound one is set aside with a warning."""
    path = runs_folder(place.results, place.recipe) / f"{run.id}.json"
    if not path.exists():
        return None
    try:
        return read_record(path)
    except BadInput as error:
        log.warning("%s; set aside as %s, the run is trained again", error, set_aside(path).name)
        return None


def _remove_fragments(run: Run, place: Place) -> None:
    """Remove what a process that was killed in the middle of writing has left of its temporary
    files.
    """
    for folder in ("runs", "checkpoints", "weights"):
        for path in (place.results / place.recipe / folder).glob(f".{run.id}.*.tmp"):
            path.unlink(missing_ok=True)


def clear_finished(place: Place) -> None:
    """Remove the checkpoints of runs that are on record, left by a process killed between writing
    and removing.
    """
    for path in (place.results / place.recipe / "checkpoints").glob("*.safetensors"):
        if (runs_folder(place.results, place.recipe) / f"{path.stem}.json").is_file():
            path.unlink(missing_ok=True)
