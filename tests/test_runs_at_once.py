"""Several runs at once in one process, on a CPU in the place of a GPU; processes that are lost."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from fabricated import record

from senet_ablate import SESpec
from senet_ablate.analysis.exclusions import fairness
from senet_ablate.cli.main import _guarded, app
from senet_ablate.cli.options import read_runs_per_gpu
from senet_ablate.data.images import ImageSet
from senet_ablate.records.store import Compute, Record, checkpoint_path, read_records
from senet_ablate.spec.plan import read_experiment, read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.cuda_graph import CaptureError
from senet_ablate.train.job import Failure, SweepContext, attempt
from senet_ablate.train.launch import local
from senet_ablate.train.launch.local import MOST_AT_ONCE, at_once, launch, runs_that_fit, slots
from senet_ablate.train.loop import train

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


def context(results: Path, at_once: int = 2) -> SweepContext:
    return SweepContext(results, "own", results, "cpu", "test", runs_per_gpu=at_once)


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def facts(record: Record) -> dict[str, Any]:
    """All that must be equal bit for bit."""
    return record.model_dump(exclude={"provenance"})


def test_runs_at_once_have_the_records_that_each_has_alone(
    tiny: Training, digits: ImageSet, tmp_path: Path
) -> None:
    spec = tiny.model_copy(update={"flip": True, "pad_crop": 1})
    runs = [Run(spec, se, 0) for se in (None, SESpec(), SESpec(squeeze="random"))]
    assert launch(runs, context(tmp_path, 3), silent) == []
    found = read_records(tmp_path, "own")
    for run in runs:
        assert facts(found[run.id]) == facts(train(run, digits, CPU))
        compute = found[run.id].provenance.compute
        assert compute is not None and compute.runs_at_once == 3 and not compute.graph


OWN = {
    "sticky": "raise torch.AcceleratorError('CUDA error: device-side assert triggered')",
    "once": """
    if not MARK.exists():
        MARK.touch()
        raise CaptureError("operation not permitted when stream is capturing")
    return x.mean((2, 3), keepdim=True)""",
}


@pytest.fixture
def squeeze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a user's own squeeze that fails as a GPU would, in a process with others."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "own_operators", lambda run: {})  # else it would be trained alone

    def make(kind: str) -> str:
        (tmp_path / f"{kind}.py").write_text(
            "import torch\nfrom pathlib import Path\n"
            "from senet_ablate.train.cuda_graph import CaptureError\n"
            f"MARK = Path({str(tmp_path / 'mark')!r})\n"
            f"def squeeze(x):\n    {OWN[kind].strip()}\n"
        )
        return f"{kind}:squeeze"

    return make


def test_a_cuda_error_that_stays_costs_one_run_and_no_other(
    tiny: Training, tmp_path: Path, squeeze: Any
) -> None:
    one = tiny.model_copy(update={"epochs": 1})
    bad = Run(one, SESpec(squeeze=squeeze("sticky")), 0)
    runs = [bad, *(Run(one, se, seed) for seed in range(2) for se in (None, SESpec()))]
    failures = launch(runs, context(tmp_path), silent)
    assert [failure.run for failure in failures] == [bad]
    assert failures[0].cause == "AcceleratorError: CUDA error: device-side assert triggered"
    assert set(read_records(tmp_path, "own")) == {run.id for run in runs if run is not bad}


def test_a_run_that_cannot_be_captured_is_tried_alone(
    tiny: Training, tmp_path: Path, squeeze: Any
) -> None:
    one = tiny.model_copy(update={"epochs": 1})
    runs = [Run(one, se, 0) for se in (SESpec(squeeze=squeeze("once")), None, SESpec())]
    assert launch(runs, context(tmp_path), silent) == []
    found = read_records(tmp_path, "own")
    assert set(found) == {run.id for run in runs} and (tmp_path / "mark").exists()
    compute = found[runs[0].id].provenance.compute
    assert compute is not None and compute.runs_at_once == 1


def test_a_run_whose_capture_failed_is_trained_again_without_a_graph(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Run, bool]] = []

    class Workers(local._Pool):
        """Answers in the place of processes: the capture of plain runs fails."""

        def train(self, progress: Any) -> list[Failure]:
            now = [(run, run.id not in self.context.eager) for run in self.queue]
            sent.extend(now)
            return [
                Failure(run, "no graph", again=True, graph=False, ends=True)
                for run, graph in now
                if run.se is None and graph
            ]

    monkeypatch.setattr(local, "_Pool", Workers)
    runs = [Run(tiny, None, 0), Run(tiny, SESpec(), 0)]
    assert launch(runs, context(tmp_path), silent) == []
    assert sent == [(runs[0], True), (runs[1], True), (runs[0], False)]


def test_a_run_that_is_no_graph_either_is_found_out_alone(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[tuple[Run, bool]]] = []
    runs = [Run(tiny, None, 0), Run(tiny, SESpec(), 0)]

    class Workers(local._Pool):
        """No run can be captured; one that is beside such a one is lost with it."""

        def train(self, progress: Any) -> list[Failure]:
            sent.append([(run, run.id not in self.context.eager) for run in self.queue])
            graphs = [run for run, graph in sent[-1] if graph]
            return [
                Failure(run, "", again=True, graph=run is not graphs[0], ends=True)
                for run in graphs
            ]

    monkeypatch.setattr(local, "_Pool", Workers)
    assert launch(runs, context(tmp_path), silent) == []
    asked = [each for each in sent if each]
    assert asked == [
        [(runs[0], True), (runs[1], True)],
        [(runs[0], False), (runs[1], True)],
        [(runs[1], False)],
    ]


@pytest.mark.parametrize(
    ("error", "at_once", "again", "graph", "ends"),
    [
        (CaptureError("no graph"), 1, True, False, True),
        (torch.AcceleratorError("device-side assert"), 1, True, True, True),
        (MemoryError("no room"), 2, True, True, False),
        (MemoryError("no room"), 1, False, True, False),
        (RuntimeError("broken"), 2, False, True, False),
    ],
)
def test_which_failures_are_tried_once_more_under_every_launcher(
    error: Exception,
    at_once: int,
    again: bool,
    graph: bool,
    ends: bool,
    tiny: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("senet_ablate.train.job.train", fail)
    found = attempt(Run(tiny, None, 0), context(tmp_path, at_once), CPU, silent)
    assert isinstance(found, Failure) and str(error) in found.cause
    assert (found.again, found.graph, found.ends) == (again, graph, ends)


def test_a_device_shared_by_processes_can_be_too_small_for_them_together(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError("out of GPU memory")

    monkeypatch.setattr("senet_ablate.train.job.train", full)
    for share in (0.5, 1.0):
        shared = replace(context(tmp_path, 1), gpus_per_run=share)
        found = attempt(Run(tiny, None, 0), shared, CPU, silent)
        assert isinstance(found, Failure) and found.again == (share < 1)


class Pool:
    """In place of `_Pool`: a graph is never captured, and what was asked for is kept."""

    asked: ClassVar[list[tuple[int, float, bool]]] = []

    def __init__(self, runs: list[Run], context: SweepContext) -> None:
        self.runs, self.context = runs, context

    def train(self, progress: object) -> list[Failure]:
        failures = list[Failure]()
        for run in self.runs:
            graph = run.id not in self.context.eager
            Pool.asked.append((self.context.runs_per_gpu, self.context.gpus_per_run, graph))
            if graph:
                failures.append(Failure(run, "no graph", again=True, graph=False, ends=True))
        return failures


@pytest.mark.parametrize(("at_once", "share"), [(1, 1.0), (2, 1.0), (0, 1.0), (1, 0.5)])
@pytest.mark.parametrize("own", [True, False])
def test_whatever_cannot_be_captured_is_tried_once_more_alone_without_a_graph(
    at_once: int,
    share: float,
    own: bool,
    tiny: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_Pool", Pool)
    monkeypatch.setattr(local, "own_operators", lambda run: {"mine:gate": "0"} if own else {})
    monkeypatch.setattr(Pool, "asked", [])
    shared = replace(context(tmp_path, at_once), gpus_per_run=share)
    assert launch([Run(tiny, SESpec(), 0)], shared, silent) == []
    assert Pool.asked == [(1 if own else at_once, share, True), (1, 1.0, False)]


@pytest.mark.parametrize(
    ("gpus", "runs", "at_once", "share", "expected"),
    [
        (8, 8, 0, 1.0, [(f"cuda:{number}", 1) for number in range(8)]),
        (2, 8, 0, 1.0, [("cuda:0", 4), ("cuda:1", 4)]),
        (2, 20, 3, 1.0, [("cuda:0", 3), ("cuda:1", 3)]),
        (2, 3, 2, 1.0, [("cuda:0", 1), ("cuda:1", 2)]),
        (8, 9, 0, 1.0, [(f"cuda:{number}", 1 + (number == 7)) for number in range(8)]),
        (1, 9, 8, 1.0, [("cuda:0", 8)]),
        (2, 2, 1, 0.5, [("cuda:0", 1), ("cuda:1", 1)]),
        (2, 4, 1, 0.5, [("cuda:0", 1), ("cuda:1", 1), ("cuda:0", 1), ("cuda:1", 1)]),
        (0, 5, 0, 1.0, [("cpu", 1)]),  # auto on a CPU: a process a core
    ],
)
def test_every_device_has_runs_before_one_has_many(
    gpus: int,
    runs: int,
    at_once: int,
    share: float,
    expected: list[tuple[str, int]],
    tiny: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [f"cuda:{n}" for n in range(gpus)] or ["cpu"]
    monkeypatch.setattr(local, "devices", lambda kind: found)
    started: list[tuple[str, int]] = []

    def start(target: object, args: tuple[list[Any], object, str, Run]) -> SimpleNamespace:
        started.append((args[2], len(args[0])))
        return SimpleNamespace(start=silent, terminate=silent, join=silent)

    class End:
        close = silent

    mocked = SimpleNamespace(Process=start, Pipe=lambda: (End(), End()))
    monkeypatch.setattr(local, "_spawn", mocked)
    monkeypatch.setattr(local._Pool, "_poll", lambda pool: (pool.workers.clear(), (0, 0))[1])
    shared = replace(context(tmp_path, at_once), device="cuda", gpus_per_run=share)
    local._Pool([Run(tiny, None, seed) for seed in range(runs)], shared).train(silent)
    assert started == expected


def test_runs_with_own_operators_are_trained_alone(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "draws.py").write_text(
        "import torch\ndef squeeze(x): return torch.rand_like(x[:, :, :1, :1])\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    one = tiny.model_copy(update={"epochs": 1})
    runs = [Run(one, SESpec(squeeze="draws:squeeze"), 0), Run(one, None, 0), Run(one, None, 1)]
    assert launch(runs, context(tmp_path), silent) == []
    computed = [read_records(tmp_path, "own")[run.id].provenance.compute for run in runs]
    assert [one.runs_at_once for one in computed if one] == [1, 2, 2]


def test_runs_at_once_write_their_checkpoints_when_asked_to_stop_and_go_on(
    tiny: Training, digits: ImageSet, tmp_path: Path
) -> None:
    long = tiny.model_copy(update={"epochs": 40, "test_every": 40})
    runs = [Run(long, None, 0), Run(long, SESpec(), 0)]
    code = f"""
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from test_runs_at_once import Run, SESpec, Training, context, launch, silent

results = Path({str(tmp_path)!r})

@contextmanager
def epochs(run):
    yield lambda number, epoch: (results / run.id).touch()

if __name__ == "__main__":
    spec = Training.model_validate_json({long.model_dump_json()!r})
    told = replace(context(results), epoch_logger=epochs)
    launch([Run(spec, None, 0), Run(spec, SESpec(), 0)], told, silent)
"""
    (tmp_path / "sweep.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "sweep.py")], env=environment, process_group=0
    )
    deadline = time.monotonic() + 120
    while not all((tmp_path / run.id).exists() for run in runs) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert all(checkpoint_path(tmp_path, "own", run.id).exists() for run in runs)
    assert not read_records(tmp_path, "own"), "the test wants runs that last longer"
    assert launch(runs, context(tmp_path), silent) == []
    found = read_records(tmp_path, "own")
    for run in runs:
        assert facts(found[run.id]) == facts(train(run, digits, CPU))


def test_how_many_runs_fit_is_what_the_memory_says(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib = 2**30
    assert at_once(2 * gib, 75 * gib) == MOST_AT_ONCE
    assert at_once(10 * gib, 40 * gib) == 2 and at_once(30 * gib, 40 * gib) == 1
    assert runs_that_fit(Run(tiny, None, 0), context(tmp_path), CPU) == 1


def test_the_option_and_the_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (read_runs_per_gpu("auto"), read_runs_per_gpu("3")) == (0, 3)
    for wrong in ("0", "many", "-1", "65"):
        with pytest.raises(BadInput, match="--runs-per-gpu"):
            read_runs_per_gpu(wrong)
    monkeypatch.setattr(local, "devices", lambda kind: ["cuda:0", "cuda:1"])
    assert slots(replace(context(tmp_path, 4), device="cuda")) == (8, "cuda:0")
    monkeypatch.setattr(local, "devices", lambda kind: ["cpu"] * 3)
    assert slots(context(tmp_path, 2)) == (4, "cpu")
    words = ["plan", "squeeze", "--recipe", "smoke", "--launcher", "ray", "--runs-per-gpu", "2"]
    assert _guarded(lambda: app([*words, "--results", str(tmp_path)], standalone_mode=True)) == 2
    assert "--runs-per-gpu is for --launcher local" in capsys.readouterr().err


def test_a_table_says_which_settings_its_rows_were_computed_with() -> None:
    experiment = read_experiment("role_of_excitation")
    plain, se = (record(run) for run in list(read_plan("smoke", ["role_of_excitation"]).runs())[:2])

    def computed(one: Record, **settings: Any) -> Record:
        compute = Compute(**settings) if settings else None
        provenance = one.provenance.model_copy(update={"compute": compute})
        return one.model_copy(update={"provenance": provenance})

    rows = {"plain": [computed(plain, graph=True)], "SE": [computed(se, graph=False)]}
    (said,) = [one for one in fairness(experiment, rows) if "computed" in one]
    assert said == "runs were computed with different graph: off (SE); on (plain)"
    rows["SE"] = [computed(se)]
    assert not [one for one in fairness(experiment, rows) if "computed" in one], "an old record"


def test_a_sweep_says_how_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("senet_ablate.train.sweep.Sweep.train", lambda sweep, progress: [])
    words = ["run", "conv3x3", "--recipe", "smoke", "--no-report", "--runs-per-gpu", "2"]
    words += ["--results", str(tmp_path), "--device", "cpu"]
    assert _guarded(lambda: app(words, standalone_mode=True)) == 0
    said = capsys.readouterr().out
    assert "computed with: graph off, compiled no, runs_at_once 2, cudnn_deterministic on" in said
