"""--launcher ray on Ray's own local cluster of several nodes."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.records.store import Record, read_records, runs_folder
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.job import (
    Failure,
    RunStatus,
    SweepContext,
    configure_worker,
    train_if_missing,
)

ROOT = Path(__file__).parent.parent
ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install -e '.[ray]'")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that takes no runs, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    checks = {  # a lost node is missed after a second, not after twenty
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 2,
    }
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def context(results: Path) -> SweepContext:
    return SweepContext(results, "own", results, "auto", "test", checkpoint_every_s=0.2)


def settled(record: Record) -> dict[str, Any]:
    return record.model_dump(exclude={"provenance": {"started", "wall_s", "train_s"}})


def runs(tiny: Training, epochs: int) -> list[Run]:
    spec = tiny.model_copy(update={"epochs": epochs, "test_every": epochs})
    return [Run(spec, se, seed) for seed in (0, 1) for se in (None, SESpec())]


def test_two_nodes_write_the_records_of_the_serial_launcher_also_when_one_is_lost(
    cluster: Any, tiny: Training, tmp_path: Path
) -> None:
    from senet_ablate.train.launch.ray import launch

    todo, seen = runs(tiny, 30)[:3], list[tuple[int, int]]()
    node = sorted(cluster.worker_nodes, key=str)[0]
    lost: list[float] = []

    def progress(finished: int, images: int, running: list[Run]) -> None:
        seen.append((finished, images))
        if not lost and len(list((tmp_path / "ray" / "own" / "checkpoints").glob("*.pt"))) == 2:
            lost.append(time.monotonic())
            cluster.remove_node(node, allow_graceful=False)

    assert launch(todo, context(tmp_path / "ray"), progress) == []
    assert lost, "both nodes were in the middle of a run when one was lost"
    assert sum(finished for finished, _ in seen) == len(todo)
    assert sum(images for _, images in seen) == len(todo) * 96 * 30
    configure_worker(torch.device("cpu"))
    for run in todo:
        train_if_missing(
            run, context(tmp_path / "serial"), torch.device("cpu"), lambda images: None
        )
    ours, theirs = (read_records(tmp_path / name, "own") for name in ("ray", "serial"))
    assert {n: settled(r) for n, r in ours.items()} == {n: settled(r) for n, r in theirs.items()}
    assert not list((tmp_path / "ray" / "own" / "checkpoints").iterdir())
    times = {
        path: path.stat().st_mtime_ns for path in runs_folder(tmp_path / "ray", "own").iterdir()
    }
    assert launch(todo, context(tmp_path / "ray"), progress) == []
    assert {path: path.stat().st_mtime_ns for path in times} == times, (
        "what is on record is not trained again"
    )


def test_a_run_that_fails_is_named_and_stops_no_other(
    cluster: Any, tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from senet_ablate.train.launch.ray import launch

    (tmp_path / "ray_breaks.py").write_text(
        "def squeeze(x): raise RuntimeError('this operator is broken')\n"
    )
    monkeypatch.chdir(tmp_path)
    one = tiny.model_copy(update={"epochs": 1})
    two = [Run(one, SESpec(squeeze="ray_breaks:squeeze"), 0), Run(one, None, 0)]
    failures = launch(two, context(tmp_path / "results"), lambda *_: None)
    assert [(failure.run, failure.cause) for failure in failures] == [
        (two[0], "RuntimeError: this operator is broken")
    ]
    assert set(read_records(tmp_path / "results", "own")) == {two[1].id}


SLOW = """
import time
from pathlib import Path

HOLD = Path(__file__).with_name("hold")

def squeeze(x):
    if HOLD.exists():
        time.sleep(0.1)
    return x.mean((2, 3), keepdim=True)
"""
DRIVER = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_launch_ray import Training, context, slow_runs
from senet_ablate.cli.main import _guarded
from senet_ablate.train.launch.ray import launch
signal.signal(signal.SIGTERM, signal.default_int_handler)
todo = slow_runs(Training.model_validate({tiny}))
sys.exit(_guarded(lambda: launch(todo, context(Path({results!r})), lambda *_: None)))
"""


def slow_runs(tiny: Training) -> list[Run]:
    """They take a minute, and seconds once the file `hold` is gone."""
    spec = tiny.model_copy(update={"epochs": 20, "test_every": 20})
    return [Run(spec, SESpec(squeeze="ray_slow:squeeze"), seed) for seed in range(3)]


def test_a_driver_asked_to_stop_leaves_what_the_next_goes_on_from(
    cluster: Any, tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, as a scheduler sends it:

    the runs write their checkpoints, and the same command finishes them.
    """
    from senet_ablate.train.launch.ray import launch

    monkeypatch.chdir(tmp_path)
    script, checkpoints = tmp_path / "driver.py", tmp_path / "own" / "checkpoints"
    fields = tiny.model_dump(mode="json")
    script.write_text(DRIVER.format(tests=str(ROOT / "tests"), tiny=fields, results=str(tmp_path)))
    (tmp_path / "ray_slow.py").write_text(SLOW)
    (tmp_path / "hold").touch()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": cluster.address}
    first = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while (
        not list(checkpoints.glob("*.pt")) and first.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=120)
    assert (
        first.returncode == 130
        and "the same command resumes" in errors
        and "Traceback" not in errors
    ), errors
    assert not read_records(tmp_path, "own") and list(checkpoints.glob("*.pt"))
    (tmp_path / "hold").unlink()
    todo = slow_runs(tiny)
    assert launch(todo, context(tmp_path), lambda *_: None) == []
    assert set(read_records(tmp_path, "own")) == {run.id for run in todo} and not list(
        checkpoints.iterdir()
    )


def test_a_run_whose_capture_failed_is_trained_again_without_a_graph_and_no_more(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver alone: tasks are answered in this process."""
    from senet_ablate.train.launch import ray as launcher

    sent: list[tuple[Run, bool]] = []

    def answered(run: Run, context: SweepContext, *_: object) -> tuple[object, object]:
        graph = run.id not in context.eager
        sent.append((run, graph))
        failure = Failure(run, "no graph", again=True, graph=False, ends=True)
        return object(), RunStatus.TRAINED if run.se and not graph else failure

    def remote(*actor: object, **options: Any) -> Any:
        if not actor:
            return lambda task: SimpleNamespace(remote=answered)
        meter = SimpleNamespace(of_runs=SimpleNamespace(remote=lambda: (None, {})))
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: meter))

    node = SimpleNamespace(get_node_id=lambda: "0" * 56)
    in_this_process = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 1},
        get_runtime_context=lambda: node,
        remote=remote,
        wait=lambda refs, timeout: (refs[:1], refs[1:]),
        get=lambda ref: ref[1],
        exceptions=ray.exceptions,
    )
    monkeypatch.setattr(launcher, "connect", lambda: in_this_process)
    plain, se = Run(tiny, None, 0), Run(tiny, SESpec(), 0)
    failures = launcher.launch([plain, se], context(tmp_path), lambda *_: None)
    assert [(one.run, one.cause) for one in failures] == [(plain, "no graph")]
    assert sent == [(plain, True), (se, True), (plain, False), (se, False)]


@pytest.mark.parametrize(
    ("device", "message"), [("cuda", "has no GPU"), ("cuda:1", "auto, cpu, cuda")]
)
def test_a_device_that_the_cluster_lacks_is_one_clear_message(
    cluster: Any, device: str, message: str, tmp_path: Path
) -> None:
    from senet_ablate.train.launch.ray import slots

    with pytest.raises(BadInput, match=message):
        slots(SweepContext(tmp_path, "own", tmp_path, device, "test"))
