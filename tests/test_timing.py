"""Speed:

what is measured, what follows from known times, and what the page and verify make of them.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fabricated import resealed

from senet_ablate.bench.steps import timing as measure
from senet_ablate.cli.main import _guarded, app
from senet_ablate.data import load_images
from senet_ablate.data.images import ImageSet
from senet_ablate.records.bench import (
    WORK,
    Measured,
    Part,
    plain_and_se,
    read_timings,
    timing_files,
    write_timing,
)
from senet_ablate.records.store import Provenance, write_record
from senet_ablate.report.speed import measured, sections
from senet_ablate.spec.paper import paper_facts
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.spec import Run, SESpec, Training
from senet_ablate.train.loop import train

PROVENANCE = Provenance(
    command="",
    commit="",
    dirty=False,
    versions={},
    device="cpu: Some (R) CPU",
    threads=1,
    started="",
    wall_s=1,
    train_s=1,
    data="d",
)


def senet(*words: str) -> int:
    return _guarded(lambda: app(list(words), standalone_mode=True))


def known(plan: Plan) -> Part:
    """SE takes a tenth longer in training, 1.8% in inference; the machine slows down tenfold from
    round to round.
    """
    drift = np.array([1.0, 10.0, 100.0])
    runs = plain_and_se(plan)
    rows = [
        Measured(
            group=WORK[work], name=name, rounds=tuple(drift * ms), over=over, run=runs[name].id
        )
        for name, over, step, one in (("plain", "", 190, 164), ("SE", "plain", 209, 167))
        for work, ms in (("training_step", step), ("inference", one), ("inference_batch", step))
    ]
    return Part(
        unit="ms",
        more_is_better=False,
        settings="224 pixels, batches of 256 images.",
        rows=tuple(rows),
        provenance=PROVENANCE,
    )


def test_the_ratio_is_taken_within_a_round_and_stands_beside_the_papers() -> None:
    plan = read_plan("smoke")
    rows = measured([known(plan)])
    se = rows[rows["name"] == "SE"].set_index("group")
    step = se.loc["training step"]
    assert step["ratio"] == pytest.approx(1.10) == step["paper_ratio"]
    assert se.loc["inference, one image", "paper_ratio"] == pytest.approx(167 / 164)
    assert step["ratio_low"] == pytest.approx(1.10), "the drift of the machine cancels"
    assert step["median"] == pytest.approx(2090) and (step["least"], step["greatest"]) == (
        209,
        20900,
    )
    assert pd.isna(se.loc["inference, a batch", "paper_ratio"])
    plain = rows[rows["name"] == "plain"]
    assert plain["ratio"].isna().all() and plain["paper_ratio"].isna().all()
    assert paper_facts()["timings_ms"]["training_step"] == {"plain": 190, "SE": 209}, "Section 4"
    text = "\n\n".join(one.markdown() for one in sections(plan, [], [known(plan)]))
    for said in ("1.1 [1.1, 1.1]", "1.018", "Some (R) CPU, 1 thread", "224 pixels, batches of 256"):
        assert said in text
    assert "pareto" not in text and not list(sections(plan, [], []))


def test_every_network_is_timed_in_every_round(digits: ImageSet, tiny: Training) -> None:
    networks = {"plain": Run(tiny, None, 0), "SE": Run(tiny, SESpec(), 0)}
    calls = 0

    def progress() -> None:
        nonlocal calls
        calls += 1

    part = measure(networks, digits, torch.device("cpu"), 4, "test", progress)
    assert calls == 4 * 2 * 3 and part.provenance.threads == torch.get_num_threads()
    assert "batches of 32" in part.settings and part.provenance.data == digits.checksum
    assert {row.run for row in part.rows} == {run.id for run in networks.values()}
    assert all(len(row.rounds) == 4 and min(row.rounds) > 0 for row in part.rows)
    for name in networks:
        step, one = (part.row(WORK[work], name) for work in ("training_step", "inference"))
        assert step and one and step.median > one.median, "a batch forth and back, one image forth"


@pytest.fixture(scope="module", autouse=True)
def one_table() -> Iterator[None]:
    """Pages of this file hold the one experiment that it is about:

    the others would be drawn again and again.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            "report.pages",
            "analysis.tables",
        ):  # the other way round verify would keep the patched one for good
            plan = read_plan("smoke", ["role_of_excitation"])
            patch.setattr(f"senet_ablate.{module}.read_reported", lambda *_, plan=plan, **__: plan)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain and the SE network under the smoke recipe, trained here and timed from the command
    line.
    """
    folder = tmp_path_factory.mktemp("results")
    for run in plain_and_se(read_plan("smoke")).values():
        record = train(run, load_images(run.train, folder), torch.device("cpu"))
        write_record(folder, "smoke", record)
    words = ("--rounds", "3", "--recipe", "smoke", "--device", "cpu", "--results", str(folder))
    assert senet("bench", "timing", *words) == 0
    return folder


def test_bench_writes_facts_and_the_page_shows_them(results: Path) -> None:
    plan = read_plan("smoke")
    (path,) = timing_files(results, "smoke")
    assert path.name.startswith("timing-cpu-") and path.name.endswith("-1-threads.json")
    (timing,) = read_timings(plan, results)
    assert timing.settings.startswith("8 pixels") and timing.provenance.threads == 1
    page = (results / "smoke" / "README.md").read_text()
    assert "## Speed" in page and "paper: ratio" in page and "(pareto.svg)" in page
    assert {"speed.csv", "pareto.csv", "pareto.svg"} <= {
        path.name for path in (results / "smoke").iterdir()
    }
    rows = pd.read_csv(results / "smoke" / "pareto.csv").set_index("label")
    assert set(rows.index) == {"plain", "SE"} and (rows["step"] > 0).all()
    assert rows.loc["SE", "params"] > rows.loc["plain", "params"]
    html = (results / "smoke" / "report.html").read_text()
    assert 'id="speed"' in html and 'id="error-against-cost"' in html
    assert ">training step, ms (median)<" in (results / "smoke" / "pareto.svg").read_text()
    assert senet("verify", "--results", str(results)) == 0


def test_verify_names_changed_times_and_those_of_another_recipe(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    (path,) = timing_files(tmp_path, "smoke")
    sound = path.read_text()
    path.write_text(sound.replace("8 pixels", "9 pixels"))
    assert senet("verify", "--recipe", "smoke", "--results", str(tmp_path)) == 1
    assert path.name in capsys.readouterr().err
    path.write_text(sound)
    content = json.loads(sound)
    content["rows"] = [row | {"run": f"{row['run'][:-1]}x"} for row in content["rows"]]
    resealed(path, content)
    assert read_timings(read_plan("smoke"), tmp_path) == []
    assert senet("verify", "--recipe", "smoke", "--results", str(tmp_path)) == 1
    assert "has no time of plain and SE under recipe 'smoke'" in capsys.readouterr().err


def test_times_of_another_device_or_number_of_threads_lie_beside(tmp_path: Path) -> None:
    plan = read_plan("smoke")
    timing = known(plan)
    gpu = timing.model_copy(
        update={"provenance": PROVENANCE.model_copy(update={"device": "NVIDIA H100 80GB"})}
    )
    two = timing.model_copy(update={"provenance": PROVENANCE.model_copy(update={"threads": 2})})
    for one in (timing, timing, two, gpu):
        write_timing(tmp_path, "smoke", one)
    names = [path.name for path in timing_files(tmp_path, "smoke")]
    assert names == [
        "timing-cpu-some-r-cpu-1-threads.json",
        "timing-cpu-some-r-cpu-2-threads.json",
        "timing-nvidia-h100-80gb.json",
    ]
    assert len(measured(read_timings(plan, tmp_path))) == 3 * 6


def test_bench_knows_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert senet("bench", "timings") == 2 and "known: timing" in capsys.readouterr().err
