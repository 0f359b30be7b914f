"""A sweep from Python: what is missing, how long it takes, and workers that die."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.cli.training import sweep_bar
from senet_ablate.records.store import read_records
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.job import SweepContext
from senet_ablate.train.launch import local
from senet_ablate.train.sweep import Sweep

ROOT = Path(__file__).parent.parent


def sweep(tmp_path: Path, launcher: str = "local", **settings: object) -> Sweep:
    plan = read_plan("smoke", ["role_of_excitation"])
    context = SweepContext.of(plan, tmp_path, tmp_path, **settings)
    return Sweep(plan, context, launcher)


@pytest.mark.usefixtures("one_worker")
def test_a_sweep_trains_what_is_missing(tmp_path: Path) -> None:
    first, seen = sweep(tmp_path, device="cpu"), list[tuple[int, int]]()
    assert len(first.pending) == 2 and first.pending_images == 2 * 192
    running = list[Run]()

    def progress(runs: int, images: int, now: list[Run]) -> None:
        seen.append((runs, images))
        running.extend(now)

    assert first.train(progress) == []
    assert set(running) == set(first.pending)
    assert sum(runs for runs, _ in seen) == 2 and sum(images for _, images in seen) == 2 * 192
    assert sweep(tmp_path).pending == []
    records = read_records(tmp_path, "smoke")
    assert set(records) == {run.id for run in first.plan.runs()}
    assert (tmp_path / "smoke" / "weights" / f"{first.plan.kept[0].id}.safetensors").is_file()


def test_the_estimate_follows_the_launcher_and_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senet_ablate.train.sweep.seconds_per_image", lambda *_: 1.0)
    monkeypatch.setattr(local, "configure_worker", lambda device: None)
    gpus: list[str] = []
    monkeypatch.setattr(local, "devices", lambda kind: gpus if kind == "cuda" else ["cpu"])
    one = sweep(tmp_path, device="cpu").estimate_s()
    assert one is not None and 192 < one < 2 * 192, "of SE a second an image, of plain less"
    gpus.append("cuda:0")
    alone, shared = (
        sweep(tmp_path, device="cuda", gpus_per_run=share).estimate_s() for share in (1.0, 0.5)
    )
    assert alone == pytest.approx(one) and shared == pytest.approx(one / 2)
    many = SimpleNamespace(slots=lambda context: (1000, "cpu"))
    monkeypatch.setattr("senet_ablate.train.sweep.get_launcher", lambda name: many)
    assert sweep(tmp_path, "ray").estimate_s() == pytest.approx(one / 2), "two runs are two at most"


def test_no_estimate_where_the_cluster_has_gpus_and_this_machine_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cluster = SimpleNamespace(slots=lambda context: (8, "cuda"))
    monkeypatch.setattr("senet_ablate.train.sweep.get_launcher", lambda name: cluster)
    assert sweep(tmp_path, "ray").estimate_s() is None


def test_what_is_wrong_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'local'"):
        sweep(tmp_path, "locla")
    with pytest.raises(BadInput, match="--device 'gpu'"):
        sweep(tmp_path, device="gpu").train()


OPERATORS = """
import os, pathlib
def log(name):
    with open(pathlib.Path(__file__).parent / name, "a") as file: file.write(f"{os.getpid()}\\n")
def kills(x):
    log("kills"); os._exit(9)
def counts(x):
    log("counts"); return x.mean((2, 3), keepdim=True)
"""


def test_a_dead_worker_hurts_no_neighbour(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own run is tried once more, in a new process; the other worker trains on."""
    (tmp_path / "deadly.py").write_text(OPERATORS)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "devices", lambda kind: ["cpu", "cpu"])
    long = tiny.model_copy(update={"epochs": 40})
    runs = [
        Run(long, SESpec(squeeze="deadly:counts"), 0),
        Run(tiny, SESpec(squeeze="deadly:kills"), 0),
        Run(tiny, None, 0),
    ]
    finished: list[int] = []
    failures = local.launch(
        runs,
        SweepContext(tmp_path, "own", tmp_path, "cpu"),
        lambda runs, images, running: finished.append(runs),
    )
    assert [(one.run, one.cause) for one in failures] == [(runs[1], "its process was killed")]
    assert set(read_records(tmp_path, "own")) == {runs[0].id, runs[2].id} and sum(finished) == 3
    assert len(set((tmp_path / "counts").read_text().split())) == 1, "trained in one go"
    assert len(set((tmp_path / "kills").read_text().split())) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def test_a_log_has_a_plain_line_now_and_then_and_a_terminal_a_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("senet_ablate.cli.training.time.monotonic", lambda: now[0])
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((121, 24)))
    runs = [Run(read_plan("smoke").recipe.train, None, seed) for seed in range(4)]
    log, terminal, hidden = io.StringIO(), Terminal(), io.StringIO()
    for file, is_hidden in ((log, False), (terminal, False), (hidden, True)):
        now[0] = 0.0
        name = "reduction/plain seed {0.seed}".format
        monkeypatch.setattr("sys.stderr", file)
        with sweep_bar(4, 4000, name, is_hidden) as progress:
            for step in range(100):
                now[0] += 1.0
                progress(int(step % 25 == 24), 40, runs)
    lines = log.getvalue().splitlines()
    assert len(lines) == 4 and "\r" not in log.getvalue()
    assert "1.20k/4.00k" in lines[0] and "40.0 images/s" in lines[0] and "1/4 runs" in lines[0]
    assert "4.00k/4.00k" in lines[-1] and "4/4 runs" in lines[-1]
    shown = terminal.getvalue().split("\r")
    assert len(shown) > 1 and any("4/4 runs, reduction/plain seed 0, red" in one for one in shown)
    assert max(len(one.rstrip()) for one in shown) == 120, "the names are cut to the width"
    assert "reduction" not in log.getvalue()
    assert not hidden.getvalue()


def test_results_that_cannot_be_written_are_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    words = ["run", "role_of_squeeze", "--recipe", "smoke", "--seeds", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "senet_ablate", *words, "--results", str(tmp_path / "taken")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") <= 2 and "taken" in done.stderr
