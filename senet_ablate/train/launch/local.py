"""Workers of this machine: one a core on CPUs, one or several a GPU."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait

import torch
from joblib import cpu_count

from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Interrupted
from senet_ablate.train.job import (
    RETRY_S,
    Failure,
    Outcome,
    SweepContext,
    configure_worker,
    train_if_missing,
)
from senet_ablate.train.numerics import numerics_of_workers

KILLED = "its process was killed"
TRIES = 2  # of a run whose process was killed: a machine may be short of memory once
_spawn = multiprocessing.get_context("spawn")


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
        f" {', '.join(gpus) or 'no GPU'}"
    )


def _workers(context: SweepContext) -> list[str]:
    """The device of each worker; a GPU that runs take a share of has several."""
    share = int(1 / context.gpus_per_run)
    return [one for one in devices(context.device) for _ in range(1 if one == "cpu" else share)]


def slots(context: SweepContext) -> tuple[int, str]:
    """How many runs this machine trains at once, and the first device. Raises BadInput."""
    workers = _workers(context)
    return len(workers), workers[0]


def launch(
    runs: list[Run], context: SweepContext, progress: Callable[[int, int], None]
) -> list[Failure]:
    """Train `runs` and write their records; see Launcher.

    A run that another process is training is waited for. A worker that is killed hurts no other: a
    new one takes its place, and its run is tried once more at the end.
    """
    if not runs:
        return []
    with numerics_of_workers(runs[0].train):
        pool = _Pool(runs, context)
        try:
            while pool.workers:
                progress(*pool.poll())
        finally:
            pool.terminate()
    return [*pool.failures, *(Failure(run, f"{KILLED} as it started") for run in pool.queue)]


class _Pool:
    """Workers, each with a connection of its own, and the queue of runs that they take from."""

    def __init__(self, runs: list[Run], context: SweepContext) -> None:
        self.context, self.queue, self.failures = context, deque(runs), list[Failure]()
        self.deaths: Counter[str] = Counter()
        self.processes: list[multiprocessing.process.BaseProcess] = []
        self.workers: dict[Connection, str] = {}  # those that are not done -> their device
        self.training: dict[Connection, Run] = {}
        for device in _workers(context)[: len(runs)]:
            self._start(device)

    def _start(self, device: str) -> None:
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=_work, args=(theirs, self.context, device))
        process.start()
        theirs.close()  # so that the end of the worker is the end of the connection
        self.processes.append(process)
        self.workers[ours] = device

    def poll(self) -> tuple[int, int]:
        """Answer what workers say within 0.2 s: how many runs finished, images trained on."""
        finished = images = 0
        for connection in wait(list(self.workers), timeout=0.2):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):
                finished += self._dead(connection)
                continue
            if isinstance(message, int):
                images += message
                continue
            run = self.training.pop(connection, None)
            if run and message is Outcome.BUSY:
                self.queue.append(run)
            elif run:
                finished += 1
                if isinstance(message, str):
                    self.failures.append(Failure(run, message))
            self._next(connection)
        return finished, images

    def _next(self, connection: Connection) -> None:
        """Give an idle worker its next run; without one it ends."""
        if self.queue:
            self.training[connection] = self.queue.popleft()
            connection.send(self.training[connection])
        else:
            connection.close()
            del self.workers[connection]

    def _dead(self, connection: Connection) -> int:
        """Replace a worker that was killed, unless it was as it started; finished runs: 0 or 1."""
        device, run = self.workers.pop(connection), self.training.pop(connection, None)
        if run is None:
            return 0
        self.deaths[run.id] += 1
        if failed := self.deaths[run.id] == TRIES:
            self.failures.append(Failure(run, KILLED))
        else:
            self.queue.append(run)
        if self.queue:
            self._start(device)
        return int(failed)

    def terminate(self) -> None:
        """End the workers that are left; they write their checkpoints first."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _work(connection: Connection, context: SweepContext, device: str) -> None:
    """A worker: trains the runs that come through its connection until that is closed.

    It sends None when ready, numbers of images, and for each run its outcome or what went wrong.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_worker(torch.device(device))

    def send(message: object) -> None:
        with suppress(OSError):  # where the parent was killed, SIGTERM is to come
            connection.send(message)

    send(None)
    while True:
        try:
            run = connection.recv()
        except EOFError:
            return
        try:
            outcome = train_if_missing(run, context, torch.device(device), send)
            if outcome is Outcome.BUSY:
                time.sleep(RETRY_S)
            send(outcome)
        except Interrupted:
            os._exit(143)  # as SIGTERM would have ended it
        except Exception as error:  # in a user's operator, in memory, on the disk
            send(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """A worker whose parent was killed writes its checkpoint and ends."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
