"""Running many runs as tasks on a Ray cluster whose machines share the results folder, the data and
this checkout.

A task may be repeated at any time, since record, lock and checkpoint decide what is left to do: Ray
starts it again when its machine is lost, and it goes on from its checkpoint.
"""

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run
from senet_ablate.train.job import Failure, Outcome, Place, fulfil
from senet_ablate.train.launch.local import LOOK_AGAIN, settle
from senet_ablate.train.numerics import PORTABLE
from senet_ablate.train.provenance import code_state, training_code

RETRIES = 10  # how often a run whose machine or process is lost is started again
INSTALL = "--launcher ray needs Ray: `pip install ray`, or `pip install -e '.[ray]'`"
OBEY_EVERY = 1.0  # seconds between two questions of a task whether it is to stop
LAST_WORDS = 60.0  # seconds that runs get to write a checkpoint when the driver is interrupted

log = logging.getLogger(__name__)


def connect() -> Any:
    """Ray, connected to this machine's cluster or $RAY_ADDRESS, else started here.

    Raises BadInput if not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise BadInput(INSTALL) from error
    if not ray.is_initialized():
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address="auto", logging_level=logging.WARNING)
        except ConnectionError as error:
            if address := os.environ.get("RAY_ADDRESS"):
                raise BadInput(f"no Ray cluster at $RAY_ADDRESS, {address}: {error}") from error
            log.warning(
                "no Ray cluster found (`ray start --head` starts one); one is started on this"
                " machine alone"
            )
            ray.init(logging_level=logging.WARNING, include_dashboard=False)
        if (
            threading.current_thread() is threading.main_thread()
        ):  # Ray's own handler ends the process at once
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    return ray


def slots_of_cluster(place: Place) -> tuple[int, str]:
    """How many runs the cluster takes at once, and on which kind of device.

    Raises BadInput where it has none.
    """
    found = connect().cluster_resources()
    gpus, kind = found.get("GPU", 0), place.device
    if kind == "auto":
        kind = "cuda" if gpus else "cpu"
    if kind not in ("cpu", "cuda"):
        raise BadInput(
            f"--device {kind!r}: with --launcher ray known are auto, cpu, cuda; Ray chooses among"
            " the GPUs"
        )
    if kind == "cuda" and not gpus:
        raise BadInput("--device cuda: the Ray cluster has no GPU; `ray status` shows what it has")
    return int(gpus / place.gpus_per_run if kind == "cuda" else found.get("CPU", 1)), kind


def launch_ray(
    runs: list[Run], place: Place, progress: Callable[[int, int], None]
) -> list[Failure]:
    """Train `runs` on the cluster and write their records; returns those that failed.

    As `launch_local`.
    """
    ray = connect()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    _, kind = slots_of_cluster(place)
    place = replace(place, results=place.results.resolve(), data=place.data.resolve(), device=kind)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    meter = ray.remote(Meter).options(num_cpus=0, scheduling_strategy=here).remote()
    gpus = place.gpus_per_run if kind == "cuda" else 0
    portable = bool(runs) and runs[0].train.numerics == "portable"
    environment = {"env_vars": PORTABLE} if portable else None
    task = ray.remote(_task).options(
        num_cpus=1, num_gpus=gpus, max_retries=RETRIES, runtime_env=environment
    )

    def submit(run: Run, wait: float = 0.0) -> Any:
        return task.remote(run, place, str(Path.cwd()), meter, wait)

    waiting, failures, seen = {submit(run): run for run in runs}, list[Failure](), 0
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=0.3)
            finished = 0
            for ref in done:
                run = waiting.pop(ref)
                cause = _cause(ray, ref)
                if cause is Outcome.BUSY:
                    waiting[submit(run, LOOK_AGAIN)] = run
                    continue
                finished += 1
                if isinstance(cause, BaseException):
                    failures.append(Failure(run, f"{type(cause).__name__}: {cause}"))
            total = ray.get(meter.total.remote())
            progress(finished, total - seen)
            seen = total
    except BaseException:
        # ray.cancel may bring the driver down, where it meets a task that just ends
        meter.stop.remote()
        ray.wait(list(waiting), num_returns=len(waiting), timeout=LAST_WORDS)
        raise
    return failures


def _cause(ray: Any, ref: Any) -> Outcome | BaseException:
    """How a task ended: its outcome, what it raised, or what became of its process."""
    try:
        outcome: Outcome = ray.get(ref)
        return Outcome(outcome.value)
    except ray.exceptions.RayTaskError as error:
        cause: BaseException = error.cause
        return cause
    except ray.exceptions.RayError as error:
        return RuntimeError(
            f"its process or machine was lost, {RETRIES + 1} times: {str(error).splitlines()[0]}"
        )


class Meter:
    """The actor between driver and tasks:

    how many images were trained on, and whether all are to stop.
    """

    def __init__(self) -> None:
        self.images: dict[str, int] = {}
        self.stopping = False

    def stop(self) -> None:
        """The driver was asked to stop."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Whether tasks are to write their checkpoints and end."""
        return self.stopping

    def begin(self, run: str) -> None:
        """A run starts, or starts again."""
        self.images[run] = 0

    def add(self, run: str, images: int) -> None:
        """A run has seen so many more images."""
        self.images[run] += images

    def total(self) -> int:
        """Images of all runs."""
        return sum(self.images.values())


def _task(run: Run, place: Place, folder: str, meter: Any, wait: float) -> Outcome:
    time.sleep(wait)
    if Path(folder).is_dir():
        os.chdir(folder)  # a user's own parts lie where they work
    code_state(), training_code()
    device = torch.device(
        "cuda:0" if place.device == "cuda" else "cpu"
    )  # Ray shows a task its own GPUs alone
    settle(device)
    meter.begin.remote(run.id)

    def progress(images: int) -> None:
        meter.add.remote(run.id, images)

    try:
        with _obeying(meter):
            return fulfil(run, place, device, progress)
    except KeyboardInterrupt as error:
        if error.args == (signal.SIGTERM,):
            os._exit(143)  # this process is to end, not the run: Ray starts it again
        return Outcome.BUSY  # the driver waits no more; the next one goes on from the checkpoint


@contextmanager
def _obeying(meter: Any) -> Iterator[None]:
    """Interrupt this process's work, as Ctrl-C would, once the driver is asked to stop or is
    gone.
    """
    import ray

    done = threading.Event()

    def watch() -> None:
        while not done.wait(OBEY_EVERY):
            try:
                stop = ray.get(meter.is_stopping.remote())
            except ray.exceptions.RayError:
                stop = True
            if stop and not done.is_set():
                _thread.interrupt_main()
                return

    if ray.get(meter.is_stopping.remote()):
        raise KeyboardInterrupt
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
