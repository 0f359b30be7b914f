"""Several runners on one results folder, unsound files in their way, and GPUs that are too
small.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from test_cli import inside

from senet_ablate import SESpec
from senet_ablate.records.store import checkpoint_path, read_record, read_records, runs_folder
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.job import (
    RunStatus,
    SweepContext,
    locked,
    remove_finished,
    train_if_missing,
)
from senet_ablate.train.launch import get_launcher
from senet_ablate.train.launch.local import launch, slots

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


def context(results: Path) -> SweepContext:
    return SweepContext(results, "own", results, "cpu", "test")


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def runner(results: Path, *words: str) -> subprocess.Popen[str]:
    """A `run` command of its own process group, with a log line for every run that it trains."""
    code = (
        "import os, senet_ablate.train.job as f\n"
        "from senet_ablate.cli.main import main\n"
        "whole = f.train\n"
        "def logged(run, *rest, **more):\n"
        f"    with open({str(results / 'trained')!r}, 'a') as log: log.write(run.id + '\\n')\n"
        "    return whole(run, *rest, **more)\n"
        "f.train = logged\n"
        "if __name__ == '__main__': main()\n"
    )
    results.mkdir(parents=True, exist_ok=True)
    (results / "runner.py").write_text(code)
    command = [sys.executable, str(results / "runner.py"), "run", *words, "--recipe", "smoke"]
    command += ["--results", str(results), "--checkpoint-every", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_two_runners_share_the_work_and_no_run_is_trained_twice(tmp_path: Path) -> None:
    two = [runner(tmp_path, "conv3x3"), runner(tmp_path, "conv3x3")]
    said = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    runs = {run.id for run in read_plan("smoke", ["conv3x3"]).runs()}
    assert sorted((tmp_path / "trained").read_text().split()) == sorted(runs)
    assert set(read_records(tmp_path, "smoke")) == runs
    assert not list((tmp_path / "smoke" / "checkpoints").iterdir())
    code = inside("verify", "--recipe", "smoke", "--results", str(tmp_path))[0]
    assert code == 0, "the page is that of all records, whoever wrote it last"


def test_a_runner_killed_with_its_workers_alive_leaves_everything_to_the_next(
    tmp_path: Path,
) -> None:
    """kill -9 of the command alone:

    its workers write their checkpoints and end; the same command then goes on.
    """
    first, runs = runner(tmp_path, "conv3x3"), runs_folder(tmp_path, "smoke")
    deadline = time.time() + 120
    while not list(runs.glob("*.json")) and time.time() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    second = runner(tmp_path, "conv3x3")
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    after = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert before and before.items() <= after.items()
    assert {path.stem for path in after} == {
        run.id for run in read_plan("smoke", ["conv3x3"]).runs()
    }


@pytest.mark.usefixtures("one_worker")
def test_a_run_that_another_process_holds_is_waited_for(
    tiny: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [Run(tiny.model_copy(update={"epochs": 1}), None, seed) for seed in range(2)]
    lock = FileLock(checkpoint_path(tmp_path, "own", runs[0].id).with_suffix(".lock"))
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()
    seen: list[int] = []

    def progress(finished: int, images: int, running: list[Run]) -> None:
        seen.append(finished)
        said = caplog.records or len(seen) > 1000
        if sum(seen) == 1 and said and lock.is_locked:
            lock.release()

    assert launch(runs, context(tmp_path), progress) == []
    assert set(read_records(tmp_path, "own")) == {run.id for run in runs} and sum(seen) == 2
    (line,) = caplog.records
    assert runs[0].id in line.getMessage() and "waited for" in line.getMessage()


def test_whoever_shares_the_folder_may_lock_a_run(tiny: Training, tmp_path: Path) -> None:
    run = Run(tiny, None, 0)
    with locked(run, context(tmp_path)) as mine:
        path = checkpoint_path(tmp_path, "own", run.id).with_suffix(".lock")
        assert mine and path.stat().st_mode & 0o777 == 0o666


def test_with_the_lock_held_it_is_looked_again_whether_the_record_is_there(
    tiny: Training, tmp_path: Path
) -> None:
    run, images = Run(tiny.model_copy(update={"epochs": 1}), None, 0), list[int]()
    with locked(run, context(tmp_path)) as mine:
        assert mine and train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.BUSY
    assert train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.TRAINED
    path = runs_folder(tmp_path, "own") / f"{run.id}.json"
    before = path.stat().st_mtime_ns
    assert train_if_missing(run, context(tmp_path), CPU, images.append) is RunStatus.FOUND
    assert path.stat().st_mtime_ns == before and images == [96], (
        "the bar counts what others have trained"
    )
    assert not list((tmp_path / "own" / "checkpoints").iterdir())


def test_the_lock_of_a_dead_process_is_nobodys(tiny: Training, tmp_path: Path) -> None:
    run = Run(tiny.model_copy(update={"epochs": 1}), None, 0)
    path = checkpoint_path(tmp_path, "own", run.id).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    code = (
        "from filelock import FileLock; import time\n"
        f"lock = FileLock({str(path)!r}); lock.acquire(); print('held', flush=True); time.sleep(99)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline()
    assert train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.BUSY
    holder.kill()
    holder.communicate()
    assert (
        path.exists()
        and train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.TRAINED
        and not path.exists()
    )


def test_what_a_killed_process_left_is_cleared(tiny: Training, tmp_path: Path) -> None:
    run = Run(tiny.model_copy(update={"epochs": 1}), None, 0)
    checkpoint = checkpoint_path(tmp_path, "own", run.id)
    fragment = runs_folder(tmp_path, "own") / f".{run.id}.json.abc.tmp"
    fragment.parent.mkdir(parents=True)
    fragment.write_text("{")
    assert (
        train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.TRAINED
        and not fragment.exists()
    )
    checkpoint.write_text("of a run on record")
    remove_finished(context(tmp_path))
    assert not checkpoint.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"checksum": "x"}', "\x00"])
def test_an_unsound_record_is_set_aside_and_its_run_trained_again(
    content: str, tiny: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tiny.model_copy(update={"epochs": 1}), None, 0)
    path = runs_folder(tmp_path, "own") / f"{run.id}.json"
    path.parent.mkdir(parents=True)
    for number in ("", "2"):  # twice: nothing that was set aside is written over
        path.write_text(content + number)
        assert train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.TRAINED
        assert path.with_name(f"{path.name}.bad{number}").read_text() == content + number
        assert read_record(path).id == run.id
    assert len(caplog.records) == 2 and "set aside as" in caplog.text and path.name in caplog.text


def _small_gpu(run: Run, *_: Any, **more: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def test_too_little_gpu_memory_fails_the_run_by_name_with_advice(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny.model_copy(update={"epochs": 1}), None, 0)
    with monkeypatch.context() as patched:
        patched.setattr("senet_ablate.train.job.train", _small_gpu)
        with pytest.raises(
            MemoryError, match=r"out of GPU memory at 32 images.*smaller batch_size.*bf16"
        ):
            train_if_missing(run, context(tmp_path), CPU, silent)
    assert train_if_missing(run, context(tmp_path), CPU, silent) is RunStatus.TRAINED, (
        "its lock was given back"
    )


@pytest.mark.usefixtures("one_worker")
def test_a_run_out_of_memory_stops_no_other(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real workers: a squeeze of a user's own that asks for more than there is."""
    (tmp_path / "hungry.py").write_text(
        "import torch\ndef squeeze(x): raise torch.OutOfMemoryError('CUDA out of memory. Tried to"
        " allocate 9 GiB')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    one = tiny.model_copy(update={"epochs": 1})
    runs = [Run(one, SESpec(squeeze="hungry:squeeze"), 0), Run(one, None, 0), Run(one, SESpec(), 0)]
    failures = launch(runs, context(tmp_path), silent)
    assert [failure.run for failure in failures] == runs[:1] and failures[0].cause.startswith(
        "MemoryError: out of GPU"
    )
    assert set(read_records(tmp_path, "own")) == {run.id for run in runs[1:]}


def test_a_gpu_that_runs_take_a_share_of_has_several_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "senet_ablate.train.launch.local.devices", lambda kind: ["cuda:0", "cuda:1"]
    )
    for share, workers in ((1.0, 2), (0.5, 4), (0.3, 6)):
        assert slots(SweepContext(tmp_path, "own", tmp_path, "cuda", gpus_per_run=share)) == (
            workers,
            "cuda:0",
        )
    monkeypatch.setattr("senet_ablate.train.launch.local.devices", lambda kind: ["cpu"])
    assert slots(SweepContext(tmp_path, "own", tmp_path, "cpu", gpus_per_run=0.5)) == (1, "cpu")


def test_launchers_are_known_by_name() -> None:
    assert get_launcher("local").launch is launch
    with pytest.raises(BadInput, match=r"did you mean 'local'\? known: local, ray"):
        get_launcher("locla")
    with pytest.raises(BadInput, match="known: local, ray"):
        get_launcher("torchrun")  # is what torchrun chooses, not a user


def test_kept_gates_of_a_network_without_gates_cost_no_record(
    tiny: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tiny.model_copy(update={"epochs": 1}), None, 0)
    asked = replace(context(tmp_path), class_gates_of=frozenset({run.id}))
    assert train_if_missing(run, asked, CPU, silent) is RunStatus.TRAINED
    assert not read_records(tmp_path, "own")[run.id].class_gates
    assert "no gates by class are kept" in caplog.text


def test_images_are_read_once_for_all_threads_and_schedules(
    tiny: Training, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from senet_ablate.train import job

    read = list[Training]()

    def load(train: Training, data: Path) -> object:
        time.sleep(0.05)
        read.append(train)
        return object()

    monkeypatch.setattr(job, "load_images", load)
    monkeypatch.setattr(job, "_loaded", {})
    trains = [tiny, tiny.model_copy(update={"epochs": 7, "lr": 0.3})] * 2
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda train: job.cached_images(train, tmp_path), trains))
    assert len(read) == len(found) == 1
    job.cached_images(tiny.model_copy(update={"test_images": 10}), tmp_path)
    assert len(read) == 2
