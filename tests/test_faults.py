"""The figures on faults: measured by killing, written with their checksum, shown as they are."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from senet_ablate.records.facts import Page, read_facts
from senet_ablate.report.pages import verify_page, write_page

sys.path.append(str(Path(__file__).parent.parent / "tools"))  # its workers import it by name
from faults import Faults, kill, markdown, overhead, write

FAULTS = Faults(
    command="python tools/faults.py",
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
    text = write(tmp_path, FAULTS).read_text()
    assert (
        "20 of 20" in text
        and "| runs repeated | 0 of 16 |" in text
        and "0.50%" in text
        and "75%" in text
    )
    facts = read_facts(tmp_path / "faults.json", Page).facts
    assert Faults(**facts) == FAULTS and not verify_page("tools", tmp_path)
    without = replace(FAULTS, ray_one_s=None, ray_two_s=None)
    assert "Ray" not in markdown(without) and "malformed" not in text
    fuzzed = replace(FAULTS, inputs=4400, refused=4000, misread=0)
    assert "| 4,400 |" in markdown(fuzzed) and "did something else | 0 |" in markdown(fuzzed)


def test_verify_finds_an_edited_figure(tmp_path: Path) -> None:
    page = write(tmp_path, FAULTS)
    page.write_text(page.read_text().replace("20 of 20", "21 of 21"))
    assert "does not follow" in verify_page("tools", tmp_path)[0]
    write_page("tools", tmp_path)
    assert not verify_page("tools", tmp_path) and "20 of 20" in page.read_text()
    path = tmp_path / "faults.json"
    path.write_text(path.read_text().replace('"lost": 0', '"lost": 1'))
    assert "checksum" in verify_page("tools", tmp_path)[0]


def test_kills_are_counted_and_change_nothing(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = kill(tmp_path, 4)
    assert found.kills == found.survived == 4 and found.runs == 4 * found.sweeps
    assert not found.harm


def test_checkpoints_take_less_than_a_fiftieth_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faults.TIMED_EPOCHS", 12)
    monkeypatch.setattr("faults.INTERVAL_S", 0.0)  # as often as the rule allows
    timed = overhead(tmp_path)
    assert timed["checkpoints"] > 1 and timed["writing_s"] < 0.05 * timed["training_s"], (
        "2%, and room for a busy disk"
    )
