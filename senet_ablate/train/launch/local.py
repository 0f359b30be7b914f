"""Running many runs:

one spawned worker a core on CPUs, one a GPU; a run that fails stops none of the others.
"""

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.sharedctypes import Synchronized

import torch
from joblib import cpu_count

from senet_ablate.data import ImageSet
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Interrupted
from senet_ablate.train.cuda_graph import step_for
from senet_ablate.train.job import Failure, Outcome, Place, fulfil
from senet_ablate.train.loop import prepared, train_step
from senet_ablate.train.numerics import workers_of
from senet_ablate.train.provenance import code_state, training_code

LOOK_AGAIN = 0.5  # seconds until a worker looks again at a run that another process was at


def devices(kind: str) -> list[str]:
    """A device for each worker: every GPU, or `cpu` once a core.

    Raises BadInput for a device that is not there.
    """
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu":
        return ["cpu"] * cpu_count()
    if kind == "cuda" and torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if (
        kind.startswith("cuda:")
        and kind[5:].isdigit()
        and int(kind[5:]) < torch.cuda.device_count()
    ):
        return [kind]
    found = ", ".join(f"cuda:{index}" for index in range(torch.cuda.device_count())) or "no GPU"
    raise BadInput(
        f"--device {kind!r}: known are auto, cpu, cuda, cuda:N; this machine has {found}"
    )


def _workers(place: Place) -> list[str]:
    """The device of each worker; a GPU that runs take a share of has several."""
    at_once = int(1 / place.gpus_per_run)
    return [one for one in devices(place.device) for _ in range(1 if one == "cpu" else at_once)]


def slots(place: Place) -> tuple[int, str]:
    """How many runs this machine trains at once, and the first device.

    Raises BadInput for one that is not there.
    """
    workers = _workers(place)
    return len(workers), workers[0]


def launch_local(
    runs: list[Run], place: Place, progress: Callable[[int, int], None]
) -> list[Failure]:
    """Train `runs` and write their records; returns those that failed.

    `progress(runs finished, images trained on since the last call)` is called several times a
    second. A worker that is killed takes the pool down with it: what it and its neighbours were at
    is tried again, each alone, the rest goes on. A run that another process is at is waited for.
    """
    if not runs:
        return []
    with workers_of(runs[0].train):
        return _launch(runs, place, progress)


def _launch(runs: list[Run], place: Place, progress: Callable[[int, int], None]) -> list[Failure]:
    workers = _workers(place)
    failures: list[Failure] = []
    pending, suspects = list(runs), list[Run]()
    while pending or suspects:
        alone = [] if pending else [suspects.pop()]
        broken = _Broken()
        for run, cause in _pool(pending or alone, place, workers, broken, progress):
            if isinstance(cause, BrokenProcessPool) and not alone:
                broken.runs.append(run)
            elif cause is not None:
                text = (
                    "its process was killed" if isinstance(cause, BrokenProcessPool) else str(cause)
                )
                failures.append(Failure(run, f"{type(cause).__name__}: {text}"))
        if broken.runs and not broken.started:
            why = "its process was killed as it started"
            return [*failures, *(Failure(run, why) for run in (*broken.runs, *suspects))]
        suspects += [run for run in broken.runs if run.id in broken.started]
        pending = [run for run in broken.runs if run.id not in broken.started]
    return failures


@dataclass
class _Broken:
    """What a pool that went down leaves behind:

    the runs without a result, and the ids of those that were begun.
    """

    runs: list[Run] = field(default_factory=list)
    started: set[str] = field(default_factory=set)


def _pool(
    runs: list[Run],
    place: Place,
    devices: list[str],
    broken: _Broken,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[Run, BaseException | None]]:
    """Each run with the exception that ended it, or None, as they finish."""
    context = multiprocessing.get_context("spawn")
    queue, started, images = context.SimpleQueue(), context.SimpleQueue(), context.Value("q", 0)
    devices = devices[: len(runs)]
    for device in devices:
        queue.put(device)
    with ProcessPoolExecutor(
        len(devices), context, _start_worker, (queue, started, images)
    ) as pool:
        waiting: dict[Future[Outcome], Run] = {
            pool.submit(_train_one, run, place): run for run in runs
        }
        seen = 0
        try:
            while waiting:
                done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                while not started.empty():
                    broken.started.add(started.get())
                finished = [future for future in done if not _busy(future)]
                total = images.value
                progress(len(finished), total - seen)
                seen = total
                for future in finished:
                    yield waiting.pop(future), future.exception()
                for future in done.difference(finished):
                    run = waiting.pop(future)
                    try:
                        waiting[pool.submit(_look_again, run, place)] = run
                    except BrokenProcessPool as error:
                        yield run, error
        except BaseException:
            for process in list(
                (pool._processes or {}).values()
            ):  # the public way waits for every run in progress
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _busy(future: "Future[Outcome]") -> bool:
    return future.exception() is None and future.result() is Outcome.BUSY


_device: torch.device
_started: "multiprocessing.SimpleQueue[str]"
_images: "Synchronized[int]"


def _start_worker(
    queue: "multiprocessing.SimpleQueue[str]",
    started: "multiprocessing.SimpleQueue[str]",
    images: "Synchronized[int]",
) -> None:
    global _device, _started, _images
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _device, _started, _images = torch.device(queue.get()), started, images
    (
        code_state(),
        training_code(),
    )  # now, not when the first run ends and somebody may have gone on working
    settle(_device)


def settle(device: torch.device) -> None:
    """What holds in every process that trains:

    one thread on the host, and float32 in a recipe means float32.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _end_with_parent() -> None:
    """A worker whose parent was killed writes its checkpoint and ends; nobody would give it another
    run.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _train_one(run: Run, place: Place) -> Outcome:
    def progress(count: int) -> None:
        with _images.get_lock():
            _images.value += count

    _started.put(run.id)
    try:
        return fulfil(run, place, _device, progress)
    except Interrupted:
        os._exit(
            143
        )  # as SIGTERM would have ended it: a pool goes on to hand a worker its next run


def _look_again(run: Run, place: Place) -> Outcome:
    """The same, after a moment, for a run that another process was at."""
    time.sleep(LOOK_AGAIN)
    return _train_one(run, place)


def seconds_per_image(run: Run, images: ImageSet, device: torch.device, steps: int = 5) -> float:
    """Seconds of one worker for one training image of `run`:

    the median of a few real steps, the first one left out.
    """
    model, optimizer, batches = prepared(run, images, device)
    step = step_for(model, optimizer, device, partial(train_step, spec=run.train))
    model.train()
    times = []
    for _, (x, y) in zip(range(steps + 1), batches.shuffled(run.seed, 1), strict=False):
        started = time.perf_counter()
        step(x, y)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:] or times) / run.train.batch_size
