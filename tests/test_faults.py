"""The figures on faults: measured by killing, written with their checksum, shown as they are."""

from pathlib import Path

import pytest
import torch

from senet_ablate.bench.faults import kill, overhead
from senet_ablate.records.faults import Faults, faults_path, markdown, read_faults, write_faults
from senet_ablate.report.verify import verify_faults
from senet_ablate.spec.registry import BadInput

FAULTS = Faults(
    command="python -m senet_ablate bench faults",
    commit="0" * 40,
    machine="a machine",
    load=0.5,
    measured="2026-01-01",
    kills=20,
    survived=20,
    resumed=13,
    sweeps=4,
    runs=16,
    repeated=0,
    lost=0,
    different=0,
    checkpoints=30,
    interval_s=1,
    training_s=40.0,
    writing_s=0.2,
    ray_runs=8,
    ray_one_s=30.0,
    ray_two_s=20.0,
)


def test_the_table_says_what_was_measured(tmp_path: Path) -> None:
    text = write_faults(tmp_path, FAULTS).read_text()
    assert (
        "20 of 20" in text
        and "| runs repeated | 0 of 16 |" in text
        and "0.50%" in text
        and "75%" in text
    )
    assert read_faults(tmp_path) == FAULTS and not verify_faults(tmp_path)
    without = FAULTS.model_copy(update={"ray_one_s": None, "ray_two_s": None})
    assert "Ray" not in markdown(without) and "malformed" not in text
    fuzzed = FAULTS.model_copy(update={"inputs": 4400, "refused": 4000, "misread": 0})
    assert "| 4,400 |" in markdown(fuzzed) and "did something else | 0 |" in markdown(fuzzed)


def test_verify_finds_an_edited_figure(tmp_path: Path) -> None:
    page = write_faults(tmp_path, FAULTS)
    page.write_text(page.read_text().replace("20 of 20", "21 of 21"))
    assert "does not follow" in verify_faults(tmp_path)[0]
    path = faults_path(tmp_path)
    path.write_text(path.read_text().replace('"lost": 0', '"lost": 1'))
    with pytest.raises(BadInput, match="checksum"):
        read_faults(tmp_path)
    assert "measures again" in verify_faults(tmp_path)[0]


def test_kills_are_counted_and_change_nothing(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = kill(tmp_path, 4)
    assert found.kills == found.survived == 4 and found.runs == 4 * found.sweeps
    assert not found.harm


def test_checkpoints_take_less_than_a_fiftieth_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senet_ablate.bench.faults.TIMED_EPOCHS", 12)
    monkeypatch.setattr("senet_ablate.bench.faults.INTERVAL_S", 0.0)  # as often as the rule allows
    timed = overhead(tmp_path)
    assert timed["checkpoints"] > 1 and timed["writing_s"] < 0.05 * timed["training_s"], (
        "2%, and room for a busy disk"
    )
