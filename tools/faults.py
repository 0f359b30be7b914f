"""Kill a sweep at random moments and count what is lost; time checkpoints, and two Ray workers
against one.

    python tools/faults.py

writes results/faults.json and results/faults.md within minutes.
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

from senet_ablate.records.commit import code_state
from senet_ablate.records.facts import Page, write_facts, write_whole
from senet_ablate.records.store import Record, read_records, runs_folder
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Checkpoints, TrainState, origin
from senet_ablate.train.job import (
    SweepContext,
    cached_images,
    configure_worker,
    remove_finished,
    train_if_missing,
)
from senet_ablate.train.loop import train
from senet_ablate.train.provenance import processor

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
KILLS, INTERVAL_S = 20, 1.0
FUZZ = 4  # times as much malformed input as the tests take
TIMED_EPOCHS, RAY_RUNS, RAY_EPOCHS = 60, 8, 20


@dataclass(frozen=True)
class Faults:
    """Counts of a sweep that was killed again and again, and shares of time.

    measured: day, in UTC. survived: kills in sweeps that lost, repeated and changed nothing.
    resumed: kills that left a run to go on with from its checkpoint. repeated: records written more
    than once. lost: records that went away, or are missing at the end. different: records that are
    not those of a sweep never killed, times aside. inputs: malformed files and command lines tried,
    0 where the tests are not there; refused: with one message and exit code 2; misread: with a
    traceback or with another effect than is written.
    """

    command: str
    commit: str
    machine: str
    load: float
    measured: str
    kills: int
    survived: int
    resumed: int
    sweeps: int
    runs: int
    repeated: int
    lost: int
    different: int
    checkpoints: int
    interval_s: float
    training_s: float
    writing_s: float
    ray_runs: int = 0
    ray_one_s: float | None = None
    ray_two_s: float | None = None
    inputs: int = 0
    refused: int = 0
    misread: int = 0

    @property
    def overhead(self) -> float:
        """Share of training that writing checkpoints took, percent."""
        return 100 * self.writing_s / self.training_s

    @property
    def efficiency(self) -> float | None:
        """Speed-up of two Ray workers over one, as a share of two, percent; None without Ray."""
        if self.ray_one_s is None or self.ray_two_s is None:
            return None
        return 100 * self.ray_one_s / self.ray_two_s / 2


def write(results: Path, faults: Faults) -> Path:
    """Write the facts and the page that shows them; returns the page's path."""
    facts = Page(facts=vars(faults), page=markdown(faults))
    write_facts(results / "faults.json", facts)
    write_whole(results / "faults.md", facts.page)
    return results / "faults.md"


def markdown(faults: Faults) -> str:
    """The facts as a table."""
    writes = (
        f"{faults.checkpoints} checkpoints, at most one in {faults.interval_s:g} s, in"
        f" {faults.training_s:.0f} s"
    )
    rows = [
        ("kills survived, `kill -9` and SIGTERM in turn", f"{faults.survived} of {faults.kills}"),
        (
            "of these, in the middle of a run that then went on from its checkpoint",
            f"{faults.resumed}",
        ),
        ("runs repeated", f"{faults.repeated} of {faults.runs}"),
        ("records lost", f"{faults.lost} of {faults.runs}"),
        (
            "records that differ from those of an uninterrupted sweep, times aside",
            f"{faults.different}",
        ),
        (f"overhead of checkpoints ({writes})", f"{faults.overhead:.2f}%"),
    ]
    if faults.efficiency is not None:
        share = (
            f"{faults.ray_runs} runs: {faults.ray_one_s:.0f} s on one, {faults.ray_two_s:.0f} s"
            " on two"
        )
        rows.append((f"efficiency of 2 Ray workers over 1 ({share})", f"{faults.efficiency:.0f}%"))
    if faults.inputs:
        rows += [
            ("malformed recipes, experiments and command lines tried", f"{faults.inputs:,}"),
            (
                "of these, refused with one message; the others mean what they say",
                f"{faults.refused:,}",
            ),
            ("of these, ended in a traceback or did something else", f"{faults.misread}"),
        ]
    lines = ["| | |", "|:---|:---|", *(f"| {name} | {value} |" for name, value in rows)]
    source = (
        f"Measured {faults.measured} by `{faults.command}` on {faults.machine}, commit"
        f" {faults.commit[:12]}. The load average was {faults.load:.1f}; above the cores, times are"
        " a busy machine's."
    )
    return "\n".join([*lines, "", source, ""])


def measure(command: str) -> Faults:
    """All figures, measured on this machine's CPU within minutes."""
    configure_worker(CPU)
    commit, dirty = code_state()
    if dirty:
        raise SystemExit("commit first: the page names the commit")
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
            found.resumed += killed and any((results / "smoke" / "checkpoints").glob("*.pt"))
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


def _context(results: Path, every: float = 0.0) -> SweepContext:
    return SweepContext(results, "smoke", results, "cpu", checkpoint_every_s=every)


def _sweep(results: Path, runs: list[Run], threads: int) -> None:
    torch.set_num_threads(threads)
    remove_finished(_context(results))
    try:
        for run in runs:
            train_if_missing(run, _context(results), CPU, lambda images: None)
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

    def _write(self, state: TrainState) -> None:
        began = time.monotonic()
        super()._write(state)
        self.writes, self.seconds = self.writes + 1, self.seconds + time.monotonic() - began


def overhead(folder: Path) -> dict[str, Any]:
    """One run with a checkpoint a second, and what it spent on them."""
    (run,) = some_runs(TIMED_EPOCHS, 1)
    images = cached_images(run.train, folder)
    kept = _Timed(folder / "timed.pt", origin(run, images.checksum, CPU), INTERVAL_S)
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
    tests = ROOT / "tests" / "test_fuzz.py"
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
    from senet_ablate.train.launch.ray import launch as launch_ray

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray reads it so; else all other work goes first
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        silent: Callable[..., None] = lambda *_: None  # noqa: E731
        launch_ray(
            some_runs(epochs=9, count=2 * workers), _context(folder, 30.0), silent
        )  # workers import torch
        began = time.monotonic()
        failures = launch_ray(some_runs(RAY_EPOCHS, RAY_RUNS), _context(folder, 30.0), silent)
        took = time.monotonic() - began
        assert not failures, failures
        return took
    finally:
        ray.shutdown()


if __name__ == "__main__":
    print(f"wrote {write(ROOT / 'results', measure('python tools/faults.py'))}")
