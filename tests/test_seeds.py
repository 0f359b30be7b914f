"""`plan --for POINTS`:

the answer follows from the spread that was seen, and is withheld where there is none.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from senet_ablate.analysis.settle import expected_errors, if_the_paper_is_right, needs, sentences
from senet_ablate.analysis.stats import power, std_interval
from senet_ablate.cli.main import _guarded, app
from senet_ablate.records.store import (
    Epoch,
    Gates,
    Provenance,
    Record,
    pack,
    read_records,
    write_record,
)
from senet_ablate.spec.plan import read_plan

PROVENANCE = Provenance(
    command="",
    commit="",
    dirty=False,
    versions={},
    device="",
    threads=1,
    started="",
    wall_s=1,
    train_s=1,
    data="d",
)


def write(results: Path, variant: str, seed: int, wrong: int, answered: int = 10) -> None:
    """A record of role_of_excitation's `variant` with `wrong` of 1,000 test images wrong."""
    plan = read_plan("smoke", ["role_of_excitation"])
    run = plan.run(plan.experiments["role_of_excitation"].variants[variant], seed)
    gates = (
        {}
        if run.se is None
        else {"SE_2_1": Gates(mean=0.4, std=0.2, within=0.1, low=0.0, high=0.0)}
    )
    record = Record(
        id=run.id,
        run=run,
        classes=10,
        train_images=192,
        tested=1000,
        wrong_top1=wrong,
        wrong_top5=0,
        correct=pack(np.arange(1000) >= wrong),
        majority=100,
        answered=answered,
        params=1,
        macs=1,
        epochs=(Epoch(lr=0.1, train_loss=1.0, train_top1=50.0),),
        gates=gates,
        provenance=PROVENANCE,
    )
    write_record(results, "smoke", record)


def test_the_answer_has_the_power_it_promises(tmp_path: Path) -> None:
    for seed, wrong in enumerate((200, 203, 206)):  # 0.3 points of spread in either row
        write(tmp_path, "SE", seed, wrong)
        write(tmp_path, "plain", seed, wrong + 40)
    (need,) = needs(
        read_plan("smoke", ["role_of_excitation"]), read_records(tmp_path, "smoke"), 0.3
    )
    assert need.startswith("role_of_excitation: 17 seeds a row for 0.3 points"), (
        "Cohen's table: 17 a side for d = 1 at 80%"
    )
    assert "spread 0.30 points [" in need and need.endswith("from 6 runs in 2 rows")
    fewest, most = (int(n) for n in re.findall(r"interval: (\d+), (\d+)\)", need)[0])
    assert fewest < 17 < most

    def of(seeds: int) -> float:
        return power(0.3, 0.3 * (2 / seeds) ** 0.5, 2 * seeds - 2)

    assert of(17) >= 0.8 > of(16)


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    plan = read_plan("smoke", ["role_of_excitation"])

    def said(points: float = 0.3) -> str:
        return next(needs(plan, read_records(tmp_path, "smoke"), points))

    assert "no row has two sound seeds" in said()
    write(tmp_path, "SE", 0, 200)
    write(tmp_path, "SE", 1, 1000)  # nothing right: not sound
    write(tmp_path, "plain", 0, 890)
    write(tmp_path, "plain", 1, 895)  # as always answering one class would
    write(tmp_path, "plain", 2, 240)
    write(tmp_path, "plain", 3, 250, answered=1)
    assert "no row has two sound seeds" in said()
    write(tmp_path, "SE", 2, 200)
    assert "no spread was seen" in said()
    write(tmp_path, "SE", 3, 500)
    assert "more than 10,000" in said(0.01)


def test_the_command_prints_a_line_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--recipe", "smoke", "--results", str(tmp_path)]
    assert _guarded(lambda: app([*words, "--for", "0.3"])) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(read_plan("smoke").experiments)
    assert _guarded(lambda: app([*words, "--for", "0.3", "reduction"])) == 0
    assert capsys.readouterr().out.startswith("reduction: cannot be said")
    assert _guarded(lambda: app([*words, "--for", "0"])) == 2 and "--for" in capsys.readouterr().err


def test_the_interval_of_the_spread_covers_the_true_one() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 5)).std(axis=1, ddof=1)
    ends = np.array([std_interval(std, 4) for std in draws])
    assert np.mean((ends[:, 0] <= 1) & (ends[:, 1] >= 1)) == pytest.approx(0.95, abs=0.015)


def test_asking_for_seeds_never_imports_torch() -> None:
    code = (
        "import sys; from senet_ablate.cli.main import _guarded, app\n_guarded(lambda:"
        " app(['plan', '--recipe', 'smoke', '--for', '1', '--results',"
        " '/nowhere']))\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_before_training_a_plan_says_what_its_seeds_can_settle() -> None:
    plan = read_plan("cifar100-cpu", ["reduction"])
    rules = plan.recipe.plan
    assert rules
    expected = expected_errors(plan, 46.6)
    assert expected[plan.row_ids("reduction")["16"]] == pytest.approx(46.6 * 22.28 / 23.30)
    sure = if_the_paper_is_right(plan, rules, spread=1e-3, pages=2)
    assert [one.outcome for one in sure["T10.0"]] == ["supported"] * 2
    vague = if_the_paper_is_right(plan, rules, spread=30.0, pages=2)
    assert [one.outcome for one in vague["T10.0"]] == ["unresolved"] * 2
    first, listed, *short = sentences(plan, {})
    assert "assumed" in first and "T10.0" in listed and any("alike within" in one for one in short)
