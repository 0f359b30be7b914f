"""The pages of `bench`:

from facts to ratios, verdicts and files; and each measurement once, as small as can be.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senet_ablate.bench import contest, decoding, parts, process, steps, throughput
from senet_ablate.bench.classic import ClassicTraining, PilImages
from senet_ablate.bench.contest import Network, random_images
from senet_ablate.bench.measures import MEASURES
from senet_ablate.cli.main import _guarded, app
from senet_ablate.models.build import build_model
from senet_ablate.records.bench import Measured, Part, add_part, bench_path, read_bench
from senet_ablate.records.store import Provenance, read_sealed, write_sealed
from senet_ablate.report.bench_page import TARGETS, bench_pages, write_bench_pages
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput

CPU = "cpu: Some CPU"
TINY = [Network("resnet_tiny_bottleneck", se, 8, 4, 1) for se in (False, True)]


def part(ours: float = 3.0) -> Part:
    """A loop part in which the machine slows down from round to round."""
    drift = np.array([4.0, 2.0, 1.0])
    rows = [("classic loop", 100, ""), ("classic, step alone", 125, "classic loop")]
    rows.append(("ours, a process a core", 100 * ours, "classic loop"))
    return Part(
        unit="images/s",
        more_is_better=True,
        settings="Made up.",
        rows=tuple(
            Measured(group="net", name=n, rounds=tuple(drift * v), over=o) for n, v, o in rows
        ),
        provenance=Provenance(
            command="bench",
            commit="c0ffee",
            dirty=False,
            versions={},
            device=CPU,
            threads=1,
            started="",
            wall_s=1,
            train_s=0,
            data="",
        ),
    )


def test_ratios_are_taken_within_a_round_and_targets_are_judged(tmp_path: Path) -> None:
    assert part().ratio(part().rows[2]) == (3.0, 3.0, 3.0)
    add_part(tmp_path, CPU, 2, "loop", part())
    page = bench_pages(tmp_path)["cpu-some-cpu-2-cores.md"].decode()
    assert "net: 3.00; ours, a process a core at least 2 times classic loop: reached" in page
    assert "Not measured here: many, floor" in page
    add_part(tmp_path, CPU, 2, "loop", part(1.5))
    add_part(tmp_path, CPU, 2, "many", part())
    page = bench_pages(tmp_path)["cpu-some-cpu-2-cores.md"].decode()
    assert "Fastest: ours, a process a core (1 of 1)." in page
    assert "missed; 80% of the classic loop's time is the step itself" in page


def test_no_target_is_judged_on_a_machine_that_others_use(tmp_path: Path) -> None:
    add_part(tmp_path, CPU, 2, "loop", part().model_copy(update={"load": 5.0}))
    page = bench_pages(tmp_path)["cpu-some-cpu-2-cores.md"].decode()
    assert "reached" not in page and "load was 5.0 on 2 cores" in page


def test_parts_are_added_to_a_device_and_verified(tmp_path: Path) -> None:
    for name in ("memory", "loop"):
        path = add_part(tmp_path, CPU, 2, name, part())
    assert list(read_bench(path).parts) == ["loop", "memory"] and path == bench_path(
        tmp_path, CPU, 2
    )
    assert bench_path(tmp_path, "NVIDIA H100", 16).name == "nvidia-h100.json"
    assert len(write_bench_pages(tmp_path)) == 1

    def verify() -> int:
        return _guarded(lambda: app(["verify", "--results", str(tmp_path)], standalone_mode=True))

    assert verify() == 0
    (tmp_path / "bench" / f"{path.stem}-loop.svg").write_text("another")
    assert verify() == 1
    write_bench_pages(tmp_path)
    write_sealed(path, read_sealed(path) | {"parts": {"other": part().model_dump(mode="json")}})
    with pytest.raises(BadInput, match="unknown part 'other'"):
        read_bench(path)
    assert verify() == 1


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(lambda: app(["bench", "loops"], standalone_mode=True)) == 2
    assert "known: timing, faults, loop, many, floor" in capsys.readouterr().err


def test_a_contest_lets_every_way_train_both_networks() -> None:
    ways = [
        contest.Way("classic loop", "classic", 1, 1, data=False),
        contest.Way("ours", "ours", 2, 1),
    ]
    with contest.Contest(ways, TINY, "cpu") as running:
        for way in ways:
            for network in TINY:
                rate = running.images_per_second(way, network)
                assert rate is not None and rate > 0
        assert not running.failed


def test_a_way_that_cannot_run_leaves_the_others() -> None:
    unknown: Any = "nobody's"
    ways = {contest.Way("ours", "ours", 1, 1): "", contest.Way("fails", unknown, 1, 1): "ours"}
    said: list[str] = []
    rows = throughput._contest(ways, TINY, "cpu", 1, said.append)
    assert [row.name for row in rows] == ["ours", "ours"] and "no row of fails: KeyError" in said[
        -1
    ]


def test_every_target_is_of_rows_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose row was renamed would be judged no more, and nobody would notice."""
    measured: set[str] = set()
    monkeypatch.setattr(
        throughput, "_contest", lambda ways, *rest: measured.update(way.name for way in ways) or []
    )
    monkeypatch.setattr(throughput, "part", lambda *words: None)
    for device in ("cpu", "cuda:0"):
        throughput.loop(device, 3, "test", lambda line: None)
    timm = pytest.importorskip("timm")
    for module, maker in ((steps, "build_model"), (timm, "create_model"), (torch, "compile")):
        monkeypatch.setattr(module, maker, lambda *words, **options: torch.nn.Identity())
    measured |= {"floor", "training step"} | {
        name for name, *_ in steps._ways(torch.device("cpu"), print)
    }
    groups = {network.label for network in parts.networks("cuda:0")} | {
        "training step",
        "inference",
    }
    for target in (one for some in TARGETS.values() for one in some):
        assert {target.row, target.over} <= measured and set(target.groups) <= groups, target


def test_airbenchs_loader_feeds_the_compiled_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airbench")
    monkeypatch.setattr(torch, "compile", lambda model: model)  # the compiler itself takes a minute
    step = contest._airbench(
        TINY[1], contest.Way("airbench", "airbench", 1, 1), torch.device("cpu")
    )
    losses = [float(step()) for _ in range(12)]
    assert all(np.isfinite(losses)) and len(set(losses)) == 12


def test_the_floor_counts_what_convolutions_and_batch_norms_must_do() -> None:
    convolutions = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1, stride=2)
    model = torch.nn.Sequential(*convolutions, torch.nn.BatchNorm2d(4))
    (first, second), norms = steps._traffic(model, torch.randn(2, 3, 6, 6), 4)
    x, y, z = 2 * 3 * 36, 2 * 8 * 36, 2 * 4 * 9
    assert first == (2 * 2 * 27 * y, 4 * (2 * x + 2 * y)), "no gradient of the images"
    assert second == (2 * 3 * 8 * z, 4 * (3 * y + 3 * z)) and norms == 4 * 7 * z


def test_every_part_measures_something(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (steps, process, throughput, parts):
        monkeypatch.setattr(module, "networks", lambda device: TINY)
    monkeypatch.setattr(steps, "LARGE_COPY", 1 << 16)
    monkeypatch.setattr(steps, "LARGE_MATRIX", 64)
    monkeypatch.setattr(decoding, "FILES", 4)
    monkeypatch.setattr(process, "_fresh", lambda code: "1.5")
    monkeypatch.setattr(
        contest.Contest, "__init__", lambda contest, *words: setattr(contest, "failed", {})
    )
    monkeypatch.setattr(contest.Contest, "__exit__", lambda *words: None)
    monkeypatch.setattr(contest.Contest, "images_per_second", lambda *words: 7.0)
    small = [("plain", "", TINY[0]), ("SE", "plain", TINY[1])]
    monkeypatch.setattr(
        steps,
        "_ways",
        lambda device, tell: [
            (n, o, build_model(w.backbone, 1000, w.run().se)) for n, o, w in small
        ],
    )
    for name, measure in MEASURES.items():
        found = measure("cpu", 3, "test", lambda line: None)
        assert all(len(row.rounds) == 3 and min(row.rounds) > 0 for row in found.rows), name
        assert all(found.ratio(row) for row in found.rows if row.over), name
    process.first_step("cpu")
    assert process.peak("cpu", True) > 50


def test_the_classic_loop_learns_and_its_images_are_augmented() -> None:
    images = random_images(8)
    found = PilImages(images.train.images, images.train.labels)
    draws = [found[0][0] for _ in range(4)]
    assert draws[0].shape == (3, 8, 8) and not all(
        torch.equal(draws[0], draw) for draw in draws[1:]
    )
    training = ClassicTraining(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)), torch.device("cpu")
    )
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    losses = []
    for _ in range(30):
        before = training.loss
        training.step(x, y)
        losses.append(training.loss - before)
    assert losses[-1] < losses[0] and training.right > 0


@pytest.mark.parametrize("way", ["", ", lean"], ids=["today's networks", "engines that are gone"])
def test_the_ledger_of_a_recipe_judges_the_papers_times_by_the_bench(
    tmp_path: Path, way: str
) -> None:
    rows = [(f"plain{way}", 100.0, ""), (f"SE{way}", 102.0, f"plain{way}")]
    measured = tuple(
        Measured(group="inference, one image", name=n, rounds=(v,) * 3, over=o) for n, v, o in rows
    )
    add_part(tmp_path, CPU, 2, "overhead", part().model_copy(update={"rows": measured}))
    plan = read_plan("smoke", ["reduction"])
    page = report_files(plan, tmp_path)["README.md"].decode()
    judged = "SE / plain: 1.020 [1.020, 1.020] on cpu: Some CPU (wanted: at most 1.05)" in page
    assert judged == (not way) and (
        "has no inference, one image of today's networks" in page
    ) == bool(way)
    assert "no GPU was timed yet" in page
