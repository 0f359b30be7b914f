"""One run of a sweep, the same for every launcher: lock, look again, train, write its record.

Any number of processes, on any machines that share the results folder, may train the same list of
runs: a run is trained by the one that holds its lock, and one that has a record is never trained
again. The lock is the kernel's (flock), so it ends with its process; Linux carries it over NFS 3
(with lockd) and NFS 4. On a file system without flock, filelock falls back to lock files that name
process and machine, with a warning.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from senet_ablate.data import ImageSet, load_images
from senet_ablate.records import Epoch, Record, read_record, write_record
from senet_ablate.records.commit import code_state, training_code
from senet_ablate.records.facts import set_aside
from senet_ablate.records.store import checkpoint_path, runs_folder, weights_path
from senet_ablate.spec import BadInput, Plan, Run, Training
from senet_ablate.train.checkpoint import EVERY_S, Checkpoints, origin, save_weights
from senet_ablate.train.class_gates import by_class
from senet_ablate.train.compute import set_flags
from senet_ablate.train.cuda_graph import CaptureError, CaptureLost, graph_lock
from senet_ablate.train.distributed import broadcast, rank
from senet_ablate.train.loop import train

OUT_OF_MEMORY = (
    "out of GPU memory at {batch} images a batch; free the GPU, or use a recipe with a smaller"
    " batch_size or network, or with precision: bf16. The batch is not cut into parts instead:"
    " batch norms would see the parts alone, and the numbers could not be compared"
)
log = logging.getLogger(__name__)

RETRY_S = 0.5  # until a run that another process was training is looked at again
EpochLogger = Callable[[Run], AbstractContextManager[Callable[[int, Epoch], None]]]
Progress = Callable[[int, int, list[Run]], None]
"""Called several times a second with (runs finished, images trained on) since, and the runs that
are being trained."""


@dataclass(frozen=True)
class SweepContext:
    """Where the runs of a sweep read and write, and what each keeps.

    results, recipe, data: the results folder, the recipe's name, the data root. device: auto, cpu,
    cuda or cuda:N. command, plan: for the provenance; plan is the hash of the analysis plan.
    keep_weights_of, class_gates_of: ids of runs. checkpoint_every_s: seconds between two of a run
    at least. gpus_per_run: share of a GPU, at most 1. runs_per_gpu: at once in a process, each on
    its own stream; 0: as many as the memory holds. eager: ids of runs whose step is no CUDA graph.
    epoch_logger: gives what is called at the end of each epoch of a run.
    """

    results: Path
    recipe: str
    data: Path
    device: str = "auto"
    command: str = ""
    plan: str = ""
    keep_weights_of: frozenset[str] = frozenset()
    class_gates_of: frozenset[str] = frozenset()
    checkpoint_every_s: float = EVERY_S
    gpus_per_run: float = 1.0
    runs_per_gpu: int = 1
    eager: frozenset[str] = frozenset()
    epoch_logger: EpochLogger | None = None

    @staticmethod
    def of(plan: Plan, results: Path, data: Path, **settings: Any) -> "SweepContext":
        """The context of a plan's runs; settings: of the other fields."""
        return SweepContext(
            results,
            plan.recipe_name,
            data,
            plan=plan.recipe.plan_id,
            keep_weights_of=frozenset(run.id for run in plan.kept),
            class_gates_of=frozenset(
                run.id for row in plan.kept_rows.values() for run in row if run.se
            ),
            **settings,
        )


@dataclass(frozen=True)
class Failure:
    """A run that ended without a record, and why.

    again: it is to be tried once more, alone in another process; graph: with its step captured
    again. ends: the process in which it failed can train no other run.
    """

    run: Run
    cause: str
    again: bool = False
    graph: bool = True
    ends: bool = False


Launch = Callable[[list[Run], SweepContext, Progress], list[Failure]]


class RunStatus(Enum):
    """Of an attempt at a run: trained now, on record already, or locked by another process."""

    TRAINED = "trained"
    FOUND = "found"
    BUSY = "busy"


def configure_worker(device: torch.device) -> None:
    """For every process that trains: one host thread, flags, and its code known by its hash now.

    Somebody may edit the code before the first run ends.
    """
    torch.set_num_threads(1)
    set_flags()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    code_state(), training_code()


def attempt(
    run: Run, context: SweepContext, device: torch.device, progress: Callable[[int], None]
) -> RunStatus | Failure:
    """`train_if_missing`, with a failure in place of an error that it raises.

    It waits for a moment where another process trains the run, before that is looked at again.
    """
    try:
        status = train_if_missing(run, context, device, progress)
        if status is RunStatus.BUSY:
            time.sleep(RETRY_S)
        return status
    except CaptureError as error:
        full = isinstance(error.__cause__, torch.OutOfMemoryError)
        how = "again" if full else "without a graph"
        log.warning("%s; run %s is trained %s", error, run.id, how, exc_info=True)
        return Failure(run, str(error), again=True, graph=full, ends=True)
    except Exception as error:  # in a user's operator, in memory, on the disk
        ends = isinstance(error, torch.AcceleratorError | CaptureLost) or _is_lost(device)
        beside_others = context.runs_per_gpu > 1 or context.gpus_per_run < 1
        crowded = isinstance(error, MemoryError) and beside_others
        return Failure(run, f"{type(error).__name__}: {error}", again=ends or crowded, ends=ends)


def launch_again(
    launch: Launch, runs: list[Run], context: SweepContext, progress: Progress
) -> list[Failure]:
    """`launch`, and once more for runs that something else than themselves ended, each alone on its
    device; without a CUDA graph for those whose step is none.
    """
    failures, alone = list[Failure](), False
    while runs:
        found = launch(runs, context, progress)
        # one that was lost beside another may turn out to be no graph either
        tried = [one for one in found if one.run.id in context.eager or (alone and one.graph)]
        lost = [one for one in found if one.again and one not in tried]
        failures += [one for one in found if one not in lost]
        eager = frozenset(one.run.id for one in lost if not one.graph)
        context = replace(context, runs_per_gpu=1, gpus_per_run=1.0, eager=eager)
        runs, alone = [one.run for one in lost], True
    progress(sum(one.again for one in failures), 0, [])
    return failures


def _is_lost(device: torch.device) -> bool:
    """Whether every later call on a GPU would fail, too: cuBLAS, cuDNN and Triton hide the kind of
    an error.
    """
    if device.type != "cuda":
        return False
    try:
        torch.cuda.current_stream(device).synchronize()
    except Exception:
        return True
    return False


def train_if_missing(
    run: Run, context: SweepContext, device: torch.device, progress: Callable[[int], None]
) -> RunStatus:
    """Train `run` and write its record, unless it has one or another process is training it.

    progress: called with the number of images trained on since. An unsound record is set aside with
    a warning. Of several processes that train together, rank 0 decides for all. Raises what
    training raises; too little GPU memory as a MemoryError that says what to do.
    """
    with locked(run, context) if rank() == 0 else nullcontext(False) as mine:
        record = _read_sound(run, context) if mine else None
        found = RunStatus.FOUND if record else RunStatus.TRAINED
        outcome = broadcast(found if mine else RunStatus.BUSY)
        if outcome is RunStatus.TRAINED:
            trained = _train(run, context, device, progress)
            if mine:
                write_record(context.results, context.recipe, trained)
        elif record:
            progress(images_seen(run, record.train_images))
        if mine:
            checkpoint_path(context.results, context.recipe, run.id).unlink(missing_ok=True)
        return outcome


def images_seen(run: Run, train_images: int) -> int:
    """How many images `run` trains on, over all epochs, out of so many different ones."""
    return train_images // run.train.batch_size * run.train.batch_size * run.train.epochs


def _train(
    run: Run, context: SweepContext, device: torch.device, progress: Callable[[int], None]
) -> Record:
    images = cached_images(run.train, context.data)

    def on_train_end(model: nn.Module, finite: bool) -> dict[str, Any]:
        if run.id in context.keep_weights_of and rank() == 0:  # no record lacks its weights
            save_weights(weights_path(context.results, context.recipe, run.id), model, run)
        if run.id not in context.class_gates_of or not finite:
            return {}
        try:
            blocks, curves = by_class(model, images, device, run.train)
        except BadInput as error:  # a block without a gate; its run is worth a record
            log.warning("run %s: no gates by class are kept: %s", run.id, error)
            return {}
        return {"class_gates": blocks, "class_curves": curves}

    logger = context.epoch_logger if rank() == 0 else None
    try:
        with logger(run) if logger else nullcontext(lambda number, epoch: None) as on_epoch_end:
            return train(
                run,
                images,
                device,
                context.command,
                plan=context.plan,
                graph=run.id not in context.eager,
                runs_at_once=max(1, context.runs_per_gpu),
                checkpoints=Checkpoints(
                    checkpoint_path(context.results, context.recipe, run.id),
                    origin(run, images.checksum, device),
                    context.checkpoint_every_s,
                ),
                progress=progress,
                on_epoch_end=on_epoch_end,
                on_train_end=on_train_end,
            )
    except torch.OutOfMemoryError as error:
        with graph_lock:
            torch.cuda.empty_cache()
        raise MemoryError(OUT_OF_MEMORY.format(batch=run.train.batch_size)) from error


OF_DATA = (
    *("dataset", "image_size", "train_images", "test_images", "validation", "evaluate"),
    "batch_size",
)
_loaded: dict[tuple[Any, ...], ImageSet] = {}
_loading = threading.Lock()


def cached_images(train: Training, data: Path) -> ImageSet:
    """As `load_images`, once a process for its threads and for rows with other schedules."""
    key = (data, *(getattr(train, name) for name in OF_DATA))
    with _loading:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = load_images(train, data)
        return _loaded[key]


@contextmanager
def locked(run: Run, context: SweepContext) -> Iterator[bool]:
    """Hold the lock of a run while the context is open; False at once if another process holds it.

    The file is removed while the lock is held: a process that opened it before finds it without a
    name and opens it anew.
    """
    path = checkpoint_path(context.results, context.recipe, run.id).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o666)  # for whoever shares the folder
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


def _read_sound(run: Run, context: SweepContext) -> Record | None:
    """The record of a run, None if there is none; an unsound one is set aside with a warning.

    Temporary files of a process that was killed while it wrote are removed.
    """
    for folder in ("runs", "checkpoints", "weights"):
        for fragment in (context.results / context.recipe / folder).glob(f".{run.id}.*.tmp"):
            fragment.unlink(missing_ok=True)
    path = runs_folder(context.results, context.recipe) / f"{run.id}.json"
    if not path.exists():
        return None
    try:
        return read_record(path)
    except BadInput as error:
        log.warning("%s; set aside as %s, the run is trained again", error, set_aside(path).name)
        return None


def remove_finished(context: SweepContext) -> None:
    """Remove checkpoints of runs on record: a process was killed between writing and removing."""
    for path in (context.results / context.recipe / "checkpoints").glob("*.pt"):
        if (runs_folder(context.results, context.recipe) / f"{path.stem}.json").is_file():
            path.unlink(missing_ok=True)
