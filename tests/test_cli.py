"""The command line as its users meet it: real processes, real sweeps of the smoke recipe."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from senet_ablate import SESpec, load_records
from senet_ablate.analysis.tables import read_reported
from senet_ablate.cli.main import main
from senet_ablate.data import load_images
from senet_ablate.models.summary import describe
from senet_ablate.records.store import pack, read_record, read_records, write_record
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.train.job import SweepContext
from senet_ablate.train.launch.local import launch
from senet_ablate.train.loop import train
from senet_ablate.train.sweep import pending

ROOT = Path(__file__).parent.parent


def senet(*words: str, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "senet_ablate", *words]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def inside(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command run in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        mock.patch.object(sys, "argv", ["senet-ablate", *words]),
        pytest.raises(SystemExit) as exit_,
    ):
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one whole smoke sweep."""
    results = tmp_path_factory.mktemp("results")
    done = senet("run", "--recipe", "smoke", "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert str(results / "smoke" / "README.md") in done.stdout
    return results


def test_smoke_trains_every_variant_once(smoke: Path) -> None:
    plan = read_plan("smoke")
    assert set(load_records(smoke, "smoke")["id"]) == {run.id for run in plan.runs()}


def test_every_experiment_has_its_table_in_three_forms_and_its_plot(smoke: Path) -> None:
    for name in read_plan("smoke").experiments:
        folder = smoke / "smoke" / name
        assert {path.name for path in folder.iterdir()} >= {
            "table.md",
            "table.csv",
            "table.tex",
            "plot.svg",
        }
        rows = pd.read_csv(folder / "table.csv", index_col="variant")
        hosted = [
            v
            for v in read_plan("smoke").experiments[name].variants
            if f"{name}/{v}" != "stages/SE_Stage_5"
        ]
        assert hosted and (rows.loc[hosted, "n"] == 1).all()
        svg = (folder / "plot.svg").read_text()
        assert "<text" in svg and "test error" in svg, "text is kept as text"


def test_the_page_shows_every_table_and_plot_and_how_to_make_them_again(smoke: Path) -> None:
    page = (smoke / "smoke" / "README.md").read_text()
    for name in read_plan("smoke").experiments:
        assert f"({name}/plot.svg)" in page and f"reproduce {name} --recipe smoke" in page
    assert "say nothing about SE" in page and "(curves.svg)" in page and "22.28" in page
    assert "not hosted: the tiny ResNet has stages 2 to 4" in page


def test_a_second_run_trains_nothing_changes_nothing_and_verify_holds(smoke: Path) -> None:
    before = {
        path: (path.read_bytes(), path.suffix == ".json" and path.stat().st_mtime_ns)
        for path in files(smoke)
    }
    code, out, _ = inside("run", "--recipe", "smoke", "--results", str(smoke))
    assert code == 0 and "0 to do" in out
    after = {
        path: (path.read_bytes(), path.suffix == ".json" and path.stat().st_mtime_ns)
        for path in files(smoke)
    }
    assert after == before
    assert inside("verify", "--results", str(smoke))[0] == 0


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def copy_record(smoke: Path, results: Path, run: str) -> None:
    name = f"smoke/runs/{run}.json"
    (results / name).write_bytes((smoke / name).read_bytes())


def with_records_of(smoke: Path, results: Path, *experiments: str) -> Path:
    """The runs of a few experiments, and the page that follows from them alone."""
    (results / "smoke" / "runs").mkdir(parents=True)
    for run in read_plan("smoke", list(experiments)).runs():
        copy_record(smoke, results, run.id)
    assert inside("report", "--recipe", "smoke", "--results", str(results))[0] == 0
    return results


@pytest.mark.usefixtures("blank_plots")
def test_an_experiment_on_request_is_on_the_page_once_it_has_runs(
    smoke: Path, tmp_path: Path
) -> None:
    (tmp_path / "smoke" / "runs").mkdir(parents=True)
    some = load_records(smoke, "smoke")["id"][0]
    run = next(run for run in read_plan("smoke", ["mobile"]).runs() if run.se)
    record = read_record(smoke / "smoke" / "runs" / f"{some}.json")
    learned = {
        "wrong_top1": 20,
        "wrong_top5": 10,
        "correct": pack(np.arange(record.tested) >= 20),
        "gates": {},
    }
    record = record.model_copy(update=learned)
    write_record(tmp_path, "smoke", record)
    assert "mobile" not in read_reported("smoke", read_records(tmp_path, "smoke")).experiments
    write_record(tmp_path, "smoke", record.model_copy(update={"id": run.id, "run": run}))
    assert [*read_reported("smoke", read_records(tmp_path, "smoke")).experiments][-1] == "mobile"
    assert inside("report", "--recipe", "smoke", "--results", str(tmp_path))[0] == 0
    assert "Not run yet" in (tmp_path / "smoke" / "mobile" / "table.md").read_text()
    assert (tmp_path / "smoke" / "mobile" / "plot.svg").is_file(), (
        "also of one row without its control"
    )
    assert inside("verify", "--results", str(tmp_path))[0] == 0


def test_plan_shows_what_is_done_and_what_it_costs(smoke: Path, tmp_path: Path) -> None:
    code, out, _ = inside("plan", "--recipe", "smoke", "--results", str(smoke))
    assert code == 0 and " 0 to do" in out and "not hosted" in out
    _, out, _ = inside(
        "plan", "reduction", "--recipe", "smoke", "--seeds", "2", "--results", str(tmp_path)
    )
    assert "12 distinct runs, 0 done, 12 to do" in out and "estimated time" in out
    assert not list(tmp_path.iterdir()), "plan writes nothing"


@pytest.mark.usefixtures("blank_plots")
def test_a_half_finished_sweep_reports_what_it_has_and_names_what_is_missing(
    smoke: Path, tmp_path: Path
) -> None:
    plan = read_plan("smoke", ["squeeze"])
    (tmp_path / "smoke" / "runs").mkdir(parents=True)
    for run in {
        run.id for row in plan.rows() if row.variant in ("Max", "plain") for run in row.runs
    }:
        copy_record(smoke, tmp_path, run)
    assert inside("report", "--recipe", "smoke", "--results", str(tmp_path))[0] == 0
    table = (tmp_path / "smoke" / "squeeze" / "table.md").read_text()
    assert "Not run yet" in table and "Avg: seed 0" in table
    assert (tmp_path / "smoke" / "squeeze" / "plot.svg").exists()
    assert (
        not (tmp_path / "smoke" / "conv3x3" / "plot.svg").exists()
        or "SE_3x3: seed 0" in (tmp_path / "smoke" / "conv3x3" / "table.md").read_text()
    )
    assert inside("verify", "--results", str(tmp_path))[0] == 0


@pytest.mark.usefixtures("blank_plots")
def test_verify_names_a_changed_record_and_a_changed_table(smoke: Path, tmp_path: Path) -> None:
    with_records_of(smoke, tmp_path, "conv3x3")
    table = tmp_path / "smoke" / "conv3x3" / "table.md"
    table.write_text(table.read_text().replace("22.28", "21.28"))
    code, _, errors = inside("verify", "--results", str(tmp_path))
    assert code == 1 and "conv3x3/table.md: does not follow" in errors and "report" in errors
    record = next((tmp_path / "smoke" / "runs").iterdir())
    record.write_text(record.read_text().replace('"wrong_top1": ', '"wrong_top1": 1'))
    code, _, errors = inside("verify", "--results", str(tmp_path))
    assert (
        code == 1
        and record.name in errors
        and "checksum" in errors
        and "delete it and run again" in errors
    )
    record.rename(record.with_name(f"{record.name}.bad"))
    (record.parent / f".{record.name}.abc.tmp").write_text("being written")
    assert inside("report", "--recipe", "smoke", "--results", str(tmp_path))[0] == 0
    assert inside("verify", "--results", str(tmp_path))[0] == 0, "what is set aside is no evidence"


BROKEN = """
import os
def fails(x): raise RuntimeError("this operator is broken")
def kills(x): os._exit(9)
"""
EXPERIMENT = """
title: t
question: q
control: plain
variants:
  plain: {se: null}
  broken: {se: {squeeze: "broken:fails"}}
  killer: {se: {squeeze: "broken:kills"}}
  SE: {se: {}}
"""


def test_a_run_that_fails_or_dies_stops_no_other_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment of a user's own, in a folder of their own, with operators that break."""
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "experiments" / "own.yaml").write_text(EXPERIMENT)
    smoke = (ROOT / "experiments" / "recipes" / "smoke.yaml").read_text()
    before, _, after = smoke.partition("cannot_host:")
    (tmp_path / "experiments" / "recipes" / "mine.yaml").write_text(
        before + "experiments: [own]\n" + after[after.index("train:") :]
    )
    (tmp_path / "broken.py").write_text(BROKEN)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "senet_ablate", "run", "--recipe", "mine", "--results", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "own/broken, seed 0" in done.stderr and "this operator is broken" in done.stderr
    assert "own/killer, seed 0" in done.stderr and "process was killed" in done.stderr
    assert "2 of" in done.stderr and "tries them again" in done.stderr
    assert len(read_records(tmp_path / "out", "mine")) == 2
    monkeypatch.syspath_prepend(tmp_path)
    plan = read_plan("mine", folder=tmp_path / "experiments")
    images = load_images(plan.recipe.train, tmp_path)
    left = {run.se.squeeze for run in pending(plan, tmp_path / "out", images) if run.se}
    assert left == {"broken:fails", "broken:kills"}


def test_records_of_other_images_are_never_taken_for_these(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for root in ("a", "b"):
        for split in ("train", "val"):
            for name in ("cat", "dog"):
                (tmp_path / root / split / name).mkdir(parents=True)
                for index in range(4):
                    pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / root / split / name / f"{index}.png")
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "experiments" / "own.yaml").write_text(EXPERIMENT.partition("  broken")[0])
    (tmp_path / "experiments" / "recipes" / "own.yaml").write_text(
        "{title: t, about: a, seeds: 1, train: {dataset: image-folder, backbone:"
        " resnet_tiny_bottleneck, epochs: 1, batch_size: 4, lr: 0.1}}"
    )
    plan = read_plan("own", folder=tmp_path / "experiments")
    images = [load_images(plan.recipe.train, tmp_path / root) for root in ("a", "b")]
    record = train(plan.runs()[0], images[0], torch.device("cpu"))
    write_record(tmp_path / "results", "own", record)
    assert not pending(plan, tmp_path / "results", images[0])
    with pytest.raises(BadInput, match=r"other images.*--results"):
        pending(plan, tmp_path / "results", images[1])


@pytest.mark.usefixtures("one_worker")
def test_workers_that_die_as_they_start_fail_their_runs_and_do_not_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "senet_ablate.train.launch.local._work", os._exit
    )  # not called with a number: the worker dies of it
    runs = read_plan("smoke", ["conv3x3"]).runs()
    failures = launch(runs, SweepContext(tmp_path, "smoke", tmp_path, "cpu"), lambda *_: None)
    assert {failure.run.id for failure in failures} == {run.id for run in runs}
    assert all("killed" in failure.cause for failure in failures)


def test_an_interrupted_sweep_repeats_no_finished_run(tmp_path: Path) -> None:
    names = ["squeeze", "reduction"]
    command = [
        sys.executable,
        "-m",
        "senet_ablate",
        "run",
        *names,
        "--recipe",
        "smoke",
        "--results",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a test run in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    runs = tmp_path / "smoke" / "runs"
    deadline = time.time() + 120
    while len(list(runs.glob("*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "the same command resumes" in errors
        and "Traceback" not in errors
    )
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert 3 <= len(before) < len(read_plan("smoke", names).runs()) and not list(runs.glob(".*"))
    assert senet(*command[3:]).returncode == 0
    after = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert len(after) == len(read_plan("smoke", names).runs()) and before.items() <= after.items()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "reductoin"], "did you mean 'reduction'"),
        (["run", "--recipe", "cifar"], "known: cifar10"),
        (["run", "--recipe", "smoke", "--device", "gpu"], "auto, cpu, cuda"),
        (["run", "--recipe", "smoke", "--launcher", "slurm"], "known: local"),
        (["run", "--recipe", "smoke", "--seeds", "0"], "--seeds"),
        (["run", "--recipe", "cifar100", "--data", "/nowhere"], "--download"),
        (["run", "--recipie", "cue"], "--recipe"),
        (["describe", "resnet51"], "did you mean 'resnet5"),
        (["describe", "resnet50", "--se", "gate"], "KEY=VALUE"),
        (["describe", "resnet50", "--se", "gaet=relu"], "did you mean 'gate'"),
        (["describe", "resnet20", "--se", "placement=conv3x3"], "no place 'conv3x3'"),
        (["describe", "resnet20", "--se", "stages=[2,"], "--se stages"),
        (["repotr"], "report"),
        (["report", "--recipe", "x"], "unknown recipe"),
    ],
)
def test_a_mistake_gets_one_clear_message_and_exit_code_2(words: list[str], message: str) -> None:
    code, _, errors = inside(*words)
    assert code == 2 and message in errors and "Traceback" not in errors


def test_list_names_everything_with_a_line_of_explanation() -> None:
    code, out, _ = inside("list")
    assert code == 0
    for name in (
        "reduction",
        "cifar100-paper",
        "resnet56_bottleneck",
        "random",
        "hard_sigmoid",
        "conv3x3",
        "tiny-imagenet",
    ):
        assert any(
            line.split()[:1] == [name] and len(line.split()) > 2 for line in out.splitlines()
        ), name


def test_describe_speaks_of_stages_widths_and_what_se_adds() -> None:
    code, out, _ = inside("describe", "resnet50", "--se", "reduction=16", "stages=all_but_last")
    assert code == 0 and "SE_4_1 ... SE_4_6" in out and "SE_5" not in out
    assert out.splitlines()[-1].split("|")[-3].strip() == "3.69", (
        "the paper speaks of about 4% (Section 4)"
    )
    csv = describe("resnet50", SESpec(), form="csv").splitlines()
    assert "28071976" in csv[-1] and csv[-1].split(",")[-2] == "9.84"
    assert r"\toprule" in describe("resnet20", form="latex") and "hidden" not in describe(
        "resnet20"
    )
