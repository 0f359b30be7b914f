"""Workers of this machine: on CPUs one a core, on a GPU one or several, with runs at once."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait

import torch
from joblib import cpu_count

from senet_ablate.spec import BadInput, Run
from senet_ablate.train.checkpoint import Interrupted, StopRequest, request_stop
from senet_ablate.train.job import (
    Failure,
    Progress,
    RunStatus,
    SweepContext,
    attempt,
    cached_images,
    configure_worker,
    launch_again,
)
from senet_ablate.train.loop import first_steps
from senet_ablate.train.numerics import numerics_of_workers
from senet_ablate.train.provenance import own_operators

KILLED = "its process was killed"
NO_GUARD = "workers import your script: call what trains below `if __name__ == '__main__':`"
MOST_AT_ONCE = 4  # runs in a process where the memory decides
MEMORY_SHARE = 0.8  # of a GPU's free memory that runs may take together
MARGIN = 1.5  # a row may need more memory than the one that was measured
_spawn = multiprocessing.get_context("spawn")
log = logging.getLogger(__name__)


def devices(kind: str) -> list[str]:
    """A device for each worker: every GPU, or `cpu` once a core. Raises BadInput."""
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu":
        return ["cpu"] * cpu_count()
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if kind in ("cuda", *gpus) and gpus:
        return gpus if kind == "cuda" else [kind]
    raise BadInput(
        f"--device {kind!r}: known are auto, cpu, cuda, cuda:N; this machine has"
        f" {', '.join(gpus) or 'no NVIDIA GPU'}"
    )


def first_device(kind: str) -> torch.device:
    """The first device of a kind, which this process is to compute on. Raises BadInput."""
    device = torch.device(devices(kind)[0])
    configure_worker(device)
    return device


def _workers(context: SweepContext) -> list[str]:
    """The device of each worker process."""
    found = devices(context.device)
    if found[0] == "cpu":
        return found[:: max(1, context.runs_per_gpu)]
    return found * int(1 / context.gpus_per_run)


def slots(context: SweepContext) -> tuple[int, str]:
    """How many runs this machine trains at once, and the first device. Raises BadInput."""
    workers = _workers(context)
    return len(workers) * max(1, context.runs_per_gpu), workers[0]


def launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    """Train `runs` and write their records; returns those that failed.

    A run that another process is training is waited for. A worker that is lost hurts no other: a
    new one takes its place, and what it was training is tried again. Runs with a user's own
    operators have a process each, also where several run at once: they may draw from PyTorch's
    global generator.
    """
    if not runs:
        return []
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(NO_GUARD)  # a worker that begins by running the script that starts workers
    with numerics_of_workers(runs[0].train):
        return launch_again(_launch, runs, context, progress)


def _launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    own = [run for run in runs if context.runs_per_gpu != 1 and own_operators(run)]
    others = [run for run in runs if run not in own]
    one_each = replace(context, runs_per_gpu=1)
    return _Pool(others, context).train(progress) + _Pool(own, one_each).train(progress)


@dataclass(eq=False)
class _Worker:
    """A process on a device. used: whether it was given a run."""

    device: str
    used: bool = False


class _Pool:
    """Workers, with a connection for each run at once, and the queue of runs that they take from.

    A worker says None when it is ready for a run, then numbers of images, and how the run ended.
    """

    def __init__(self, runs: Sequence[Run], context: SweepContext) -> None:
        self.context, self.queue, self.failures = context, deque(runs), list[Failure]()
        self.processes: list[multiprocessing.process.BaseProcess] = []
        self.workers: dict[Connection, _Worker] = {}  # of connections that may still train
        self.training: dict[Connection, Run] = {}
        self.busy = Counter[str]()  # how often each run was found locked

    def train(self, progress: Progress) -> list[Failure]:
        """Train the queue; returns the runs that failed."""
        workers = _workers(self.context)[: len(self.queue)]
        runs, many = len(self.queue), len(workers)
        for number, device in enumerate(workers):
            self._start(device, (runs + number) // many)
        try:
            while self.workers:
                finished, images = self._poll()
                progress(finished, images, list(self.training.values()))
        finally:
            for process in self.processes:
                process.terminate()  # it writes its checkpoints first
            for process in self.processes:
                process.join()
        return [*self.failures, *(Failure(run, f"{KILLED} as it started") for run in self.queue)]

    def _start(self, device: str, share: int) -> None:
        """A worker for so many of the runs that are left, or as many as it can train at once."""
        most = self.context.runs_per_gpu or (1 if device == "cpu" else MOST_AT_ONCE)
        pairs = [_spawn.Pipe() for _ in range(min(most, share))]
        theirs = [connection for _, connection in pairs]
        process = _spawn.Process(target=_work, args=(theirs, self.context, device, self.queue[0]))
        process.start()
        self.processes.append(process)
        worker = _Worker(device)
        for ours, their in pairs:
            their.close()  # so that the end of the worker is the end of the connection
            self.workers[ours] = worker

    def _poll(self) -> tuple[int, int]:
        """Answer what workers say within 0.2 s: how many runs finished, images trained on."""
        finished = images = 0
        for connection in wait(list(self.workers), timeout=0.2):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):
                self._closed(connection)
                continue
            if message is None:
                self._next(connection)
            elif isinstance(message, int):
                images += message
            else:
                finished += self._ended(self.training.pop(connection), message)
        return finished, images

    def _ended(self, run: Run, answer: RunStatus | Failure) -> bool:
        """Note how an attempt at a run ended; whether it is the last one."""
        if isinstance(answer, Failure):
            self.failures.append(answer)
            return not answer.again
        if answer is RunStatus.BUSY:
            self.queue.append(run)
            self.busy[run.id] += 1
            if self.busy[run.id] == 2:  # all others have been handed out
                log.warning("run %s: another process trains it, and is waited for", run.id)
        return answer is not RunStatus.BUSY

    def _next(self, connection: Connection) -> None:
        """Give an idle connection its next run; without one it ends."""
        if self.queue:
            self.training[connection] = run = self.queue.popleft()
            self.workers[connection].used = True
            with suppress(OSError):  # a worker that just ends: its run is lost
                connection.send(run)
        else:
            connection.close()
            del self.workers[connection]

    def _closed(self, connection: Connection) -> None:
        """A worker ended, or takes no more runs: another takes its place once it is done."""
        worker, run = self.workers.pop(connection), self.training.pop(connection, None)
        if run is not None:
            self.failures.append(Failure(run, KILLED, again=True))
        if worker.used and self.queue and worker not in self.workers.values():
            self._start(worker.device, len(self.queue))


def _work(connections: list[Connection], context: SweepContext, device: str, first: Run) -> None:
    """A worker process: trains the runs that come through its connections until they are closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    on, leaving = torch.device(device), threading.Event()
    configure_worker(on)
    try:
        count = context.runs_per_gpu or runs_that_fit(first, context, on)
    except Exception as error:  # the run fails by its own name when it is trained
        log.warning("%s: %s; it trains one run at a time", device, error)
        count = 1
    connections = connections[:count]
    context = replace(context, runs_per_gpu=len(connections))
    signal.signal(signal.SIGTERM, request_stop)
    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(partial(_serve, context, on, leaving), connections))


def _serve(
    context: SweepContext, device: torch.device, leaving: threading.Event, connection: Connection
) -> None:
    """Train the runs that come through a connection, on a stream of this thread's own.

    leaving: set where the process takes no more runs.
    """
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)

    def send(message: object) -> None:
        with suppress(OSError):  # where the parent was killed, SIGTERM is to come
            connection.send(message)

    with own_stream(device), connection:
        while not (leaving.is_set() or StopRequest.made()):
            send(None)
            while not connection.poll(0.1):
                if StopRequest.made():
                    return
            try:
                run = connection.recv()
            except (EOFError, OSError):  # the parent was killed
                return
            try:
                answer = attempt(run, context, device, send)
            except Interrupted:  # the process ends once all have written their checkpoints
                answer = Failure(run, KILLED, ends=True)
            if isinstance(answer, Failure):
                if answer.ends:
                    leaving.set()
                if leaving.is_set():  # it may be the process that failed, and not the run
                    answer = replace(answer, again=True)
            send(answer)


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """What is computed in the context overlaps on a GPU with what other threads compute."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def _end_with_parent() -> None:
    """A worker whose parent was killed writes its checkpoint and ends."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def runs_that_fit(run: Run, context: SweepContext, device: torch.device) -> int:
    """How many runs like `run` a GPU's free memory holds at once, at most MOST_AT_ONCE; 1 on a CPU.

    Measured by two of its steps, without a graph.
    """
    if device.type != "cuda":
        return 1
    torch.cuda.reset_peak_memory_stats(device)
    list(first_steps(run, cached_images(run.train, context.data), device, 2, graph=False))
    needed = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    return at_once(needed, torch.cuda.mem_get_info(device)[0])


def at_once(needed: int, free: int) -> int:
    """Runs that fit: bytes that one needs, bytes that are free."""
    return max(1, min(MOST_AT_ONCE, int(MEMORY_SHARE * free / (MARGIN * needed))))
