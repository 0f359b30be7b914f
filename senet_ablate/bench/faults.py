"""Kill a sweep at random moments and count what is lost; time checkpoints, and two Ray workers
against one.
"""

import datetime
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count

from senet_ablate.records.faults import Faults
from senet_ablate.records.store import Record, read_records, runs_folder
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Checkpoints, Loop, Origin
from senet_ablate.train.job import Place, cached_images, clear_finished, fulfil
from senet_ablate.train.launch.local import settle
from senet_ablate.train.loop import train
from senet_ablate.train.provenance import code_state, processor

CPU = torch.device("cpu")
KILLS, INTERVAL_S = 20, 1.0
FUZZ = 4  # times as much malformed input as the tests take
TIMED_EPOCHS, RAY_RUNS, RAY_EPOCHS = 60, 8, 20


def measure(command: str) -> Faults:
    """All figures, measured on this machine's CPU within minutes."""
    settle(CPU)
    commit, _ = code_state()
    with tempfile.TemporaryDirectory() as folder:
        killed, timed = kill(Path(folder), KILLS), overhead(Path(folder))
        one, two = (ray_seconds(Path(folder) / f"ray{workers}", workers) for workers in (1, 2))
    return Faults(
        command=command,
        commit=commit,
        machine=f"{processor()}, {cpu_count()} cores",
        load=os.getloadavg()[2],
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        **vars(killed),
        **timed,
        ray_runs=RAY_RUNS if one else 0,
        ray_one_s=one,
        ray_two_s=two,
        **fuzzed(),
    )


def some_runs(epochs: int, count: int) -> list[Run]:
    """So many runs of the smoke recipe, each of so many epochs."""
    plan = read_plan("smoke", ["squeeze"], seeds=count)
    return [
        replace(run, train=run.train.model_copy(update={"epochs": epochs})) for run in plan.runs()
    ][:count]


@dataclass
class Killed:
    """What came of the kills; see Faults."""

    kills: int = 0
    survived: int = 0
    resumed: int = 0
    sweeps: int = 0
    runs: int = 0
    repeated: int = 0
    lost: int = 0
    different: int = 0

    @property
    def harm(self) -> int:
        """All that should not have happened."""
        return self.repeated + self.lost + self.different


def kill(folder: Path, kills: int) -> Killed:
    """Sweeps in a process of their own that is killed, kill -9 and SIGTERM in turn, and started
    again until it is done.

    Each sweep keeps a checkpoint after every step, and is begun anew in another folder once it is
    whole.
    """
    runs, generator, found = some_runs(epochs=3, count=4), random.Random(20), Killed()
    _child(
        folder / "first", some_runs(epochs=1, count=1)
    ).join()  # the first child waits for the server's imports
    began = time.monotonic()
    _child(folder / "whole", runs).join()
    took, whole = time.monotonic() - began, _settled(folder / "whole")
    while found.kills < kills:
        results, before = folder / f"killed{found.sweeps}", dict[str, int]()
        found.sweeps, found.runs, exitcode = found.sweeps + 1, found.runs + len(runs), None
        kills_before, harm_before = found.kills, found.harm
        while exitcode != 0:
            child, killed = _child(results, runs), False
            child.join(generator.uniform(0, took))
            if found.kills < kills and child.is_alive() and child.pid:
                os.kill(child.pid, signal.SIGKILL if found.kills % 2 else signal.SIGTERM)
                found.kills, killed = found.kills + 1, True
            child.join()
            exitcode = child.exitcode
            if exitcode and not killed:
                raise RuntimeError(f"the sweep ended with {exitcode} without being killed")
            now = {
                path.stem: path.stat().st_mtime_ns
                for path in runs_folder(results, "smoke").glob("*.json")
            }
            found.lost += len(set(before) - set(now))
            found.repeated += sum(
                now.get(name) != written for name, written in before.items() if name in now
            )
            found.resumed += killed and any(
                (results / "smoke" / "checkpoints").glob("*.safetensors")
            )
            before = now
        ended = _settled(results)
        found.lost += len(set(whole) - set(ended))
        found.different += sum(
            ended.get(name) != record for name, record in whole.items() if name in ended
        )
        if found.harm == harm_before:
            found.survived += found.kills - kills_before
    return found


def _child(results: Path, runs: list[Run]) -> Any:
    """A worker forked from a server that has imported the trainer, but has trained nothing:

    autograd does not fork.
    """
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["senet_ablate.train.job"])
    child = forkserver.Process(target=_sweep, args=(results, runs, torch.get_num_threads()))
    child.start()
    return child


def _place(results: Path, every: float = 0.0) -> Place:
    return Place(results, "smoke", results, "cpu", "", every=every)


def _sweep(results: Path, runs: list[Run], threads: int) -> None:
    torch.set_num_threads(threads)
    clear_finished(_place(results))
    try:
        for run in runs:
            fulfil(run, _place(results), CPU, lambda images: None)
    except KeyboardInterrupt:
        os._exit(143)


def _settled(results: Path) -> dict[str, Any]:
    """The records in a folder, without their times."""

    def content(record: Record) -> dict[str, Any]:
        return record.model_dump(exclude={"provenance": {"started", "wall_s", "train_s"}})

    return {name: content(record) for name, record in read_records(results, "smoke").items()}


class _Timed(Checkpoints):
    """Checkpoints that count what writing them takes."""

    writes, seconds = 0, 0.0

    def _write(self, loop: Loop) -> None:
        super()._write(loop)
        self.writes, self.seconds = self.writes + 1, self.seconds + self.took


def overhead(folder: Path) -> dict[str, Any]:
    """One run with a checkpoint a second, and what it spent on them."""
    (run,) = some_runs(TIMED_EPOCHS, 1)
    images = cached_images(run.train, folder)
    kept = _Timed(folder / "timed.safetensors", Origin.of(run, images.checksum, CPU), INTERVAL_S)
    record = train(run, images, CPU, checkpoints=kept)
    return {
        "checkpoints": kept.writes,
        "interval_s": INTERVAL_S,
        "training_s": record.provenance.train_s,
        "writing_s": kept.seconds,
    }


def fuzzed() -> dict[str, int]:
    """What the tests with malformed input count, given several times as much of it; nothing where
    they are missing.
    """
    tests = Path(__file__).parents[2] / "tests" / "test_fuzz.py"
    if not tests.is_file() or not (
        importlib.util.find_spec("pytest") and importlib.util.find_spec("hypothesis")
    ):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally"
        environment = os.environ | {
            "SENET_ABLATE_FUZZ": str(FUZZ),
            "SENET_ABLATE_FUZZ_TALLY": str(tally),
        }
        subprocess.run(
            [sys.executable, "-m", "pytest", str(tests)], cwd=tests.parents[1], env=environment
        )
        found = Counter(json.loads(tally.read_text()))
    misread = found["tried"] - found["refused"] - found["meant"]
    return {"inputs": found["tried"], "refused": found["refused"], "misread": misread}


def ray_seconds(folder: Path, workers: int) -> float | None:
    """Seconds that Ray takes for some runs on so many workers that are warm; None where it is not
    installed.
    """
    try:
        import ray
    except ImportError:
        return None
    from senet_ablate.train.launch.ray import launch_ray

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray reads it so; else all other work goes first
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        silent: Callable[[int, int], None] = lambda runs, images: None  # noqa: E731
        launch_ray(
            some_runs(epochs=9, count=2 * workers), _place(folder, 30.0), silent
        )  # workers import torch
        began = time.monotonic()
        failures = launch_ray(some_runs(RAY_EPOCHS, RAY_RUNS), _place(folder, 30.0), silent)
        took = time.monotonic() - began
        assert not failures, failures
        return took
    finally:
        ray.shutdown()
