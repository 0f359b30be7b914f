"""Workers of this machine: on CPUs one a core, on a GPU one or several, with runs at once."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait

import torch
from joblib import cpu_count

from senet_ablate.spec import BadInput, Run
from senet_ablate.train.checkpoint import Interrupted, StopRequest, request_stop
from senet_ablate.train.job import (
    RETRY_S,
    Failure,
    Progress,
    RunStatus,
    SweepContext,
    attempt,
    cached_images,
    configure_worker,
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


def _workers(context: SweepContext) -> list[str]:
    """The device of each worker process."""
    found = devices(context.device)
    if found[0] == "cpu":
        return found[:: max(1, context.runs_per_gpu)]
    return found * int(1 / context.gpus_per_run)


def _at_once(context: SweepContext) -> int:
    """How many runs a process trains at once, at most."""
    most = 1 if devices(context.device)[0] == "cpu" else MOST_AT_ONCE
    return context.runs_per_gpu or most


def slots(context: SweepContext) -> tuple[int, str]:
    """How many runs this machine trains at once, and the first device. Raises BadInput."""
    workers = _workers(context)
    return len(workers) * max(1, context.runs_per_gpu), workers[0]


def launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    """Train `runs` and write their records; see Launcher.

    A run that another process is training is waited for. A worker that is lost hurts no other: a
    new one takes its place, and what it was training is tried once more at the end, each run alone
    on its device. Runs with a user's own operators have a process each, also where several run at
    once: they may draw from PyTorch's global generator.
    """
    if not runs:
        return []
    one_each = replace(context, runs_per_gpu=1)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(NO_GUARD)  # a worker that begins by running the script that starts workers
    alone = [run for run in runs if context.runs_per_gpu != 1 and own_operators(run)]
    with numerics_of_workers(runs[0].train):
        first = _Pool([run for run in runs if run not in alone], context)
        own = _Pool(alone, one_each)
        for pool in (first, own):
            pool.train(progress)
        failures, left = first.failures + own.failures, [*first.queue, *own.queue]
        lost = [one for one in failures if one.again]
        failures = [one for one in failures if not one.again]
        while lost:
            last = _Pool([one.run for one in lost], replace(one_each, gpus_per_run=1.0))
            last.eager = {one.run for one in lost if not one.graph}
            last.train(progress)
            left += last.queue
            # one that was lost beside another may turn out to be no graph either
            lost = [one for one in last.failures if one.again and not one.graph]
            failures += [one for one in last.failures if one not in lost]
    progress(sum(one.again for one in failures), 0, [])
    return failures + [Failure(run, f"{KILLED} as it started") for run in left]


@dataclass(eq=False)
class _Worker:
    """A process on a device. used: whether it was given a run."""

    device: str
    used: bool = False


class _Pool:
    """Workers, with a connection for each run at once, and the queue of runs that they take from.

    eager: runs whose steps are no CUDA graphs.
    """

    def __init__(self, runs: Sequence[Run], context: SweepContext) -> None:
        self.context, self.queue = context, deque(runs)
        self.failures, self.eager = list[Failure](), set[Run]()
        self.processes: list[multiprocessing.process.BaseProcess] = []
        self.workers: dict[Connection, _Worker] = {}  # of connections that may still train
        self.training: dict[Connection, Run] = {}
        self.busy = Counter[str]()  # how often each run was found locked

    def train(self, progress: Progress) -> None:
        """Train the queue; what is left of it could not be started."""
        workers = _workers(self.context)[: len(self.queue)]
        runs, many = len(self.queue), len(workers)
        for number, device in enumerate(workers):
            self._start(device, runs * (number + 1) // many - runs * number // many)
        try:
            while self.workers:
                finished, images = self._poll()
                progress(finished, images, list(self.training.values()))
        finally:
            for process in self.processes:
                process.terminate()  # it writes its checkpoints first
            for process in self.processes:
                process.join()

    def _start(self, device: str, share: int) -> None:
        """A worker for so many of the runs that are left, or as many as it can train at once."""
        at_once = min(_at_once(self.context), share)
        pairs = [_spawn.Pipe() for _ in range(at_once)]
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
            if isinstance(message, int):
                images += message
                continue
            run = self.training.pop(connection, None)
            if isinstance(message, Failure):
                self.failures.append(message)
                finished += not message.again
                if message.ends:
                    continue
            elif run and message is RunStatus.BUSY:
                self.queue.append(run)
                self.busy[run.id] += 1
                if self.busy[run.id] == 2:  # all others have been handed out
                    log.warning("run %s: another process trains it, and is waited for", run.id)
            elif run:
                finished += 1
            self._next(connection)
        return finished, images

    def _next(self, connection: Connection) -> None:
        """Give an idle connection its next run; without one it ends."""
        if self.queue:
            self.training[connection] = run = self.queue.popleft()
            self.workers[connection].used = True
            with suppress(OSError):  # a worker that just ends: its run is lost
                connection.send((run, run not in self.eager))
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
    count = min(count, len(connections))
    context = replace(context, runs_per_gpu=count)
    training = set[Connection]()
    threads = [
        threading.Thread(target=_serve, args=(one, context, on, leaving, training), daemon=True)
        for one in connections[:count]
    ]
    signal.signal(signal.SIGTERM, request_stop)  # Python's handlers run in the main thread
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.05)
        if StopRequest.signal and not training:
            os._exit(143)  # as SIGTERM would have ended it


def _serve(
    connection: Connection,
    context: SweepContext,
    device: torch.device,
    leaving: threading.Event,
    training: set[Connection],
) -> None:
    """Train the runs that come through a connection, on a stream of this thread's own.

    Sends None when ready, numbers of images, and for each run its outcome or failure. leaving: set
    where the process takes no more runs. training: the connections of this process that have one.
    """
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)

    def send(message: object) -> None:
        with suppress(OSError):  # where the parent was killed, SIGTERM is to come
            connection.send(message)

    send(None)
    with own_stream(device):
        while not leaving.is_set():
            try:
                run, graph = connection.recv()
            except EOFError:
                return
            training.add(connection)
            try:
                answer = attempt(run, replace(context, graph=graph), device, send)
            except Interrupted:  # the process ends once all have written their checkpoints
                answer = Failure(run, KILLED, ends=True)
            training.discard(connection)
            if isinstance(answer, Failure):
                if answer.ends:
                    leaving.set()
                if leaving.is_set():  # it may be the process that failed, and not the run
                    answer = replace(answer, again=True)
            elif answer is RunStatus.BUSY:
                time.sleep(RETRY_S)
            send(answer)
    connection.close()


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
    for _ in first_steps(run, cached_images(run.train, context.data), device, 2, graph=False):
        torch.cuda.synchronize(device)
    needed = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    return at_once(needed, torch.cuda.mem_get_info(device)[0])


def at_once(needed: int, free: int) -> int:
    """Runs that fit: bytes that one needs, bytes that are free."""
    return max(1, min(MOST_AT_ONCE, int(MEMORY_SHARE * free / (MARGIN * needed))))
