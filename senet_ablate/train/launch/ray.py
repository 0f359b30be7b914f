"""Runs as tasks on a Ray cluster whose machines share the results folder, the data and the code.

A task may be repeated at any time, since record, lock and checkpoint decide what is left to do: Ray
starts it again when its machine is lost, and it resumes from its checkpoint.
"""

import _thread
import logging
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from senet_ablate.spec import BadInput, Run
from senet_ablate.train.job import (
    Failure,
    Progress,
    RunStatus,
    SweepContext,
    attempt,
    configure_worker,
    launch_again,
)
from senet_ablate.train.numerics import PORTABLE

RETRIES = 10  # of a run whose machine or process is lost
INSTALL = "--launcher ray needs Ray: `pip install ray`, or `pip install -e '.[ray]'`"
SHUTDOWN_GRACE_S = 60.0  # for runs to write a checkpoint when the driver is interrupted

log = logging.getLogger(__name__)


def connect() -> Any:
    """Ray, on this machine's cluster or $RAY_ADDRESS, else started here. Raises BadInput."""
    try:
        import ray
    except ImportError as error:
        raise BadInput(INSTALL) from error
    if not ray.is_initialized():
        handler = signal.getsignal(signal.SIGTERM)
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
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # Ray's ends the process
    return ray


def slots(context: SweepContext) -> tuple[int, str]:
    """How many runs the cluster takes at once, and on which kind of device. Raises BadInput."""
    found = connect().cluster_resources()
    gpus, kind = found.get("GPU", 0), context.device
    if kind == "auto":
        kind = "cuda" if gpus else "cpu"
    if kind not in ("cpu", "cuda"):
        raise BadInput(
            f"--device {kind!r}: with --launcher ray known are auto, cpu, cuda; Ray chooses among"
            " the GPUs"
        )
    if kind == "cuda" and not gpus:
        raise BadInput("--device cuda: the Ray cluster has no GPU; `ray status` shows what it has")
    return int(gpus / context.gpus_per_run if kind == "cuda" else found.get("CPU", 1)), kind


def launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    """Train `runs` on the cluster and write their records; returns those that failed."""
    return launch_again(_launch, runs, context, progress)


def _launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    ray = connect()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    _, kind = slots(context)
    context = replace(
        context, results=context.results.resolve(), data=context.data.resolve(), device=kind
    )
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    meter = ray.remote(Meter).options(num_cpus=0, scheduling_strategy=here).remote()
    portable = bool(runs) and runs[0].train.numerics == "portable"
    passed = {name: os.environ[name] for name in ("SENET_ABLATE_CACHE",) if name in os.environ}
    # a process that has a GPU trains one run: Ray's rule, which options() would not keep
    task = ray.remote(
        num_cpus=1,
        num_gpus=context.gpus_per_run if kind == "cuda" else 0,
        max_retries=RETRIES,
        runtime_env={"env_vars": passed | (PORTABLE if portable else {})},
    )(_task)

    def submit(run: Run) -> Any:
        return task.remote(run, context, str(Path.cwd()), meter)

    waiting, failures, seen = {submit(run): run for run in runs}, list[Failure](), 0
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=0.3)
            finished = 0
            for ref in done:
                run = waiting.pop(ref)
                answer = _answer(ray, ref, run)
                if answer is RunStatus.BUSY:
                    waiting[submit(run)] = run
                elif isinstance(answer, Failure):
                    failures.append(answer)
                    finished += not answer.again
                else:
                    finished += 1
            images = ray.get(meter.of_runs.remote())
            total = sum(images.values())
            progress(
                finished, total - seen, [run for run in waiting.values() if images.get(run.id)]
            )
            seen = total
    except BaseException:
        # not ray.cancel: it may bring the driver down where it meets a task that just ends
        meter.stop.remote()
        ray.wait(list(waiting), num_returns=len(waiting), timeout=SHUTDOWN_GRACE_S)
        raise
    return failures


def _answer(ray: Any, ref: Any, run: Run) -> RunStatus | Failure:
    """How a task ended, or what became of its process."""
    try:
        answer: RunStatus | Failure = ray.get(ref)
        return answer
    except ray.exceptions.RayTaskError as error:  # before the run began
        return Failure(run, f"{type(error.cause).__name__}: {error.cause}")
    except ray.exceptions.RayError as error:
        why = str(error).splitlines()[0]
        return Failure(run, f"its process or machine was lost, {RETRIES + 1} times: {why}")


class Meter:
    """The actor between driver and tasks: images trained on by run, and whether all are to stop."""

    def __init__(self) -> None:
        self.images: dict[str, int] = {}
        self.stopping = False

    def stop(self) -> None:
        self.stopping = True

    def note(self, run: str, images: int) -> bool:
        """Keep how many images a run has trained on; whether it is to stop."""
        self.images[run] = images
        return self.stopping

    def of_runs(self) -> dict[str, int]:
        return self.images


def _task(run: Run, context: SweepContext, folder: str, meter: Any) -> RunStatus | Failure:
    import ray

    if Path(folder).is_dir():
        os.chdir(folder)  # where a user's own parts are
    device = torch.device("cuda:0" if context.device == "cuda" else "cpu")  # Ray shows one GPU
    configure_worker(device)
    trained = 0

    def progress(images: int) -> None:
        nonlocal trained
        trained += images
        try:
            stop = ray.get(meter.note.remote(run.id, trained))
        except ray.exceptions.RayError:
            stop = True  # the driver is gone
        if stop:
            _thread.interrupt_main()  # as Ctrl-C: the run writes its checkpoint

    try:
        progress(0)
        return attempt(run, context, device, progress)
    except KeyboardInterrupt as error:
        if error.args == (signal.SIGTERM,):
            os._exit(143)  # this process is to end, not the run: Ray starts it again
        return RunStatus.BUSY  # the driver waits no more; the next one resumes from the checkpoint
