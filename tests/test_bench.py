"""The pages of `bench`:

from facts to ratios, verdicts and files; and each measurement once, as small as can be.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricated import resealed

from senet_ablate.bench import parts, steps, throughput
from senet_ablate.bench.competitors import (
    Competitor,
    PilImages,
    airbench,
    classic,
    classic_step,
    ours,
    together,
)
from senet_ablate.bench.measures import MEASURES, measure
from senet_ablate.bench.parts import Network, random_images
from senet_ablate.cli.main import _guarded, app
from senet_ablate.models.build import build_model
from senet_ablate.records.bench import Bench, Measured, Part, add_part, bench_path
from senet_ablate.records.facts import read_facts
from senet_ablate.records.store import Provenance
from senet_ablate.report.bench_page import TARGETS, pages
from senet_ablate.report.pages import write_page
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput

CPU = "cpu: Some CPU"
PAGE = "bench/cpu-some-cpu-2-cores.md"
TINY = [Network("resnet_tiny_bottleneck", se, 8, 4, 1) for se in (False, True)]


def part(factor: float = 3.0) -> Part:
    """A loop part in which the machine slows down from round to round."""
    drift = np.array([4.0, 2.0, 1.0])
    rows = [("classic loop", 100, ""), ("classic, step alone", 125, "classic loop")]
    rows.append(("ours, a process a core", 100 * factor, "classic loop"))
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
    page = pages(tmp_path)[PAGE].markdown()
    target = "loop: ours, a process a core / classic loop at least 2"
    assert f"- {target}: 3.00: reached by 1 of 1" in page
    overview = pages(tmp_path)["bench/README.md"].markdown()
    assert re.search(rf"{target} *\\| 3.00: reached by 1 of 1", overview)
    assert "not measured" in overview
    assert "Not measured here: many, floor" in page
    add_part(tmp_path, CPU, 2, "loop", part(1.5))
    add_part(tmp_path, CPU, 2, "many", part())
    page = pages(tmp_path)[PAGE].markdown()
    assert "Fastest: ours, a process a core (1 of 1)." in page
    assert "1.50: reached by 0 of 1" in page


def test_no_target_is_judged_on_a_machine_that_others_use(tmp_path: Path) -> None:
    add_part(tmp_path, CPU, 2, "loop", part().model_copy(update={"others": 0.5}))
    page = pages(tmp_path)[PAGE].markdown()
    assert "reached" not in page and "Others used the machine: 0.50 of its 2 cores" in page
    overview = pages(tmp_path)["bench/README.md"].markdown()
    assert "3.00: not judged" in overview and "reached" not in overview


def test_what_others_use_is_what_the_machine_used_beyond_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat = "cpu  {} 20 30 4000 50 6 7 8 0 0\ncpu0 ..."  # user is first; idle and waiting count not
    ticks = os.sysconf("SC_CLK_TCK")
    used = iter([(0, 0.0, 100.0), (5 * ticks, 3.0, 104.0)])  # user ticks, own seconds, time

    def at(first: int, own: float, now: float) -> None:
        monkeypatch.setattr(Path, "read_text", lambda self, **_: stat.format(first))
        monkeypatch.setattr(os, "times", lambda: (own / 2, own / 2, 0.0, 0.0, now))
        monkeypatch.setattr("time.monotonic", lambda: now)

    at(*next(used))
    began = parts.Clock.now()
    at(*next(used))
    assert began.others() == pytest.approx((5 - 3) / 4)
    monkeypatch.setattr(Path, "read_text", lambda self, **_: (_ for _ in ()).throw(OSError()))
    assert began.others() is None


def test_parts_are_added_to_a_device_and_verified(tmp_path: Path) -> None:
    for name in ("floor", "loop"):
        path = add_part(tmp_path, CPU, 2, name, part())
    assert list(read_facts(path, Bench).parts) == ["loop", "floor"]
    assert path == bench_path(tmp_path, CPU, 2)
    assert bench_path(tmp_path, "NVIDIA H100", 16).name == "nvidia-h100.json"
    assert len(write_page("bench", tmp_path)) == 2, "the device's, and that of all devices"

    def verify() -> int:
        return _guarded(lambda: app(["verify", "--results", str(tmp_path)], standalone_mode=True))

    assert verify() == 0
    (tmp_path / "bench" / f"{path.stem}-loop.svg").write_text("another")
    assert verify() == 1
    write_page("bench", tmp_path)
    assert verify() == 0
    sealed = json.loads(path.read_text())
    resealed(path, sealed | {"parts": {"other": part().model_dump(mode="json")}})
    with pytest.raises(BadInput, match="unknown part 'other'"):
        read_facts(path, Bench)
    assert verify() == 1
    content = part().model_dump(mode="json")
    content["rows"][0]["rounds"] = [1.0]
    resealed(path, sealed | {"parts": {"loop": content}})
    with pytest.raises(BadInput, match="different numbers of rounds"):
        read_facts(path, Bench)


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(lambda: app(["bench", "loops"], standalone_mode=True)) == 2
    assert "known: timing, loop, many, floor" in capsys.readouterr().err


def test_every_competitor_trains_both_networks_and_one_that_fails_leaves_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ways = [
        Competitor("classic loop", classic, data=False),
        Competitor("fails", ours, "classic loop", compiled="no such mode"),
        Competitor("ours", ours, "classic loop", processes=2),
        Competitor("all in one", together, "ours", runs=2),
    ]
    rows = throughput._compare(ways, TINY, "cpu", 2)
    said = capsys.readouterr().out.splitlines()
    assert [row.name for row in rows] == ["classic loop", "ours", "all in one"] * 2
    assert all(len(row.rounds) == 2 and min(row.rounds) > 0 for row in rows)
    assert [line for line in said if "no row of fails: " in line] and "no such mode" in said[0]


def test_every_target_is_of_rows_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose row was renamed would be judged no more, and nobody would notice."""
    measured: set[str] = set()
    monkeypatch.setattr(
        throughput, "_compare", lambda ways, *rest: measured.update(way.name for way in ways) or []
    )
    for device in ("cpu", "cuda:0"):
        throughput.loop(device, 3)
        throughput.many(device, 3)
    timm = pytest.importorskip("timm")
    for module, maker in ((steps, "build_model"), (timm, "create_model"), (torch, "compile")):
        monkeypatch.setattr(module, maker, lambda *words, **options: torch.nn.Identity())
    measured |= {"floor", "training step"} | {name for name, *_ in steps._ways(torch.device("cpu"))}
    groups = {network.label for network in parts.networks("cuda:0")} | {
        "training step",
        "inference",
    }
    for target in TARGETS:
        assert {target.row, target.over} <= measured and set(target.groups) <= groups, target


def test_airbenchs_loader_feeds_the_compiled_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airbench")
    monkeypatch.setattr(torch, "compile", lambda model: model)  # the compiler itself takes a minute
    step: Any = airbench(TINY[1], Competitor("airbench", airbench), torch.device("cpu"))
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
    for module in (steps, throughput, parts):
        monkeypatch.setattr(module, "networks", lambda device: TINY)
    monkeypatch.setattr(steps, "LARGE_COPY", 1 << 16)
    monkeypatch.setattr(steps, "LARGE_MATRIX", 64)
    monkeypatch.setattr(throughput, "FILES", 4)
    monkeypatch.setattr(
        throughput,
        "_compare",
        lambda ways, trained, device, rounds: [
            Measured(group=network.label, name=way.name, rounds=(7.0,) * rounds, over=way.over)
            for network in trained
            for way in ways
        ],
    )
    small = [("plain", "", TINY[0]), ("SE", "plain", TINY[1])]
    monkeypatch.setattr(
        steps,
        "_ways",
        lambda device: [(n, o, build_model(w.backbone, 1000, w.run().se)) for n, o, w in small],
    )
    for name in MEASURES:
        found = measure(name, "cpu", 3, "test")
        assert all(len(row.rounds) == 3 and min(row.rounds) > 0 for row in found.rows), name
        assert all(found.ratio(row) for row in found.rows if row.over), name


def test_the_classic_loop_learns_and_its_images_are_augmented() -> None:
    images = random_images(8)
    found = PilImages(images.train.images, images.train.labels)
    draws = [found[0][0] for _ in range(4)]
    assert draws[0].shape == (3, 8, 8) and not all(
        torch.equal(draws[0], draw) for draw in draws[1:]
    )
    step = classic_step(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)), torch.device("cpu")
    )
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    losses, right = zip(*(step(x, y) for _ in range(30)), strict=True)
    assert losses[-1] < losses[0] and right[-1] > 0


def test_the_ledger_of_a_recipe_judges_the_papers_times_by_the_bench(tmp_path: Path) -> None:
    rows = [("plain", 100.0, ""), ("SE", 102.0, "plain")]
    measured = tuple(
        Measured(group="inference, one image", name=n, rounds=(v,) * 3, over=o) for n, v, o in rows
    )
    add_part(tmp_path, CPU, 2, "overhead", part().model_copy(update={"rows": measured}))
    plan = read_plan("smoke", ["reduction"])
    page = report_files(plan, tmp_path, {})["README.md"].decode()
    assert "SE / plain: 1.020 [1.020, 1.020] on cpu: Some CPU (wanted: at most 1.05)" in page
    assert "no GPU was timed yet" in page
    compiled = tuple(row.model_copy(update={"name": f"{row.name}, compiled"}) for row in measured)
    add_part(tmp_path, CPU, 2, "overhead", part().model_copy(update={"rows": compiled}))
    page = report_files(plan, tmp_path, {})["README.md"].decode()
    assert "has no inference, one image" in page and "1.020" not in page
