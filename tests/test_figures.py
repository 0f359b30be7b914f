"""Known answers of tables and plots, from records made by hand."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from fabricated import record as fabricated
from scipy.stats import beta

from senet_ablate.analysis.exclusions import one_network
from senet_ablate.analysis.tables import Table, tables
from senet_ablate.analysis.verdicts import equal_rows
from senet_ablate.records.store import Epoch, Gates, Provenance, Record, pack
from senet_ablate.report import plots as figures
from senet_ablate.report.recipe_page import report_files, table_blocks
from senet_ablate.spec.plan import Plan, read_plan


def record(
    plan: Plan,
    experiment: str,
    variant: str,
    seed: int,
    wrong: int,
    data: str = "d" * 64,
    **more: object,
) -> Record:
    """A record of 1,000 test images, `wrong` of them wrong."""
    run = plan.run(plan.experiments[experiment].variants[variant], seed)
    where = Provenance(
        command="c",
        commit="0" * 40,
        dirty=False,
        versions={"torch": "2"},
        device="cpu",
        threads=1,
        started="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
        train_s=1.0,
        data=data,
        operators={},
    )
    facts = {
        "id": run.id,
        "run": run,
        "classes": 10,
        "train_images": 100,
        "tested": 1000,
        "wrong_top1": wrong,
        "wrong_top5": wrong // 4,
        "correct": pack(np.arange(1000) >= wrong),
        "params": 1_000_000,
        "macs": 2_000_000_000,
        "epochs": (
            Epoch(lr=0.1, train_loss=1.0, train_top1=50.0, test_loss=1.0, test_top1=wrong / 10),
        ),
        "gates": {"SE_2_1": Gates(mean=0.4, std=0.2, within=0.1, low=0.0, high=0.0)},
        "provenance": where,
    }
    return Record.model_validate({**facts, **more})


@pytest.fixture
def plan() -> Plan:
    return read_plan("smoke", ["squeeze", "reduction"], seeds=3)


def under(one: Table) -> str:
    """A table with what stands around it."""
    return "\n\n".join(block.markdown() for block in table_blocks(one))


def known(plan: Plan) -> dict[str, Record]:
    """Max 300 +- 10, Avg 200 +- 10, plain 400 +- 10 wrong of 1,000; Std not run."""
    base = {"Max": 300, "Avg": 200, "plain": 400}
    records = [
        record(plan, "squeeze", variant, seed, wrong + shift)
        for variant, wrong in base.items()
        for seed, shift in enumerate((-10, 0, 10))
    ]
    return {one.id: one for one in records}


def test_a_row_is_mean_and_interval_beside_the_papers_number(plan: Plan) -> None:
    rows = tables(plan, known(plan))["squeeze"].rows
    assert rows.loc["Max", "top1"] == pytest.approx(30.0) and rows.loc["Max", "n"] == 3
    half = 4.30265 * 1.0 / math.sqrt(3)  # t(0.975, 2 df), standard deviation 1 point
    ends = [math.log(3 / 7) + sign * half / 100 / (0.3 * 0.7) for sign in (-1, 1)]  # logits
    expected = [100 / (1 + math.exp(-end)) for end in ends]
    assert list(rows.loc["Max", ["top1_low", "top1_high"]]) == pytest.approx(expected, rel=1e-5)
    flips = 1.96 * 100 * math.sqrt(0.3 * 0.7 / 1000)  # which images are hard is nearly all of it
    assert rows.loc["Max", "image_error"] == pytest.approx(flips, rel=0.03)
    assert rows.loc["Max", "paper_top1"] == 22.57 and rows.loc["plain", "paper_top1"] == 23.3
    assert rows.loc["Max", "effect"] == pytest.approx(-10.0) and rows.loc["Max", "differs"]
    assert math.isnan(rows.loc["plain", "effect"]) and rows.loc["Std", "n"] == 0


def test_the_text_shows_interval_effect_star_what_is_missing_and_what_can_be_resolved(
    plan: Plan,
) -> None:
    text = under(tables(plan, known(plan))["squeeze"])
    assert "30.00 [27.58, 32.54]" in text and "-10.00* [" in text and "Std: seeds 0 to 2" in text
    assert "22.57" in text and "4 of 5 tries" in text and "| 1.00 " in text and "2.00" in text


def test_records_of_two_copies_of_the_data_are_withheld(plan: Plan) -> None:
    records = known(plan)
    other = record(plan, "squeeze", "Max", 0, 300, data="e" * 64)
    got = tables(plan, records | {other.id: other})["squeeze"]
    assert "data" in got.refused and (got.rows["n"] == 0).all() and "**Withheld**" in under(got)
    assert {verdict.outcome for verdict in got.verdicts} == {"not tested"}


def test_a_run_that_did_not_train_is_an_outcome_of_its_row(plan: Plan) -> None:
    """The mean is over all seeds, without an interval; that of the others is marked as such."""
    records = known(plan)
    guesses = record(plan, "squeeze", "Max", 1, 905)
    one = tables(plan, records | {guesses.id: guesses})["squeeze"]
    got = one.rows.loc["Max"]
    assert (got["n"], got["failed"]) == (3, 1) and got["sound_top1"] == pytest.approx(30.0)
    assert got["top1"] == pytest.approx((29 + 90.5 + 31) / 3) and math.isnan(got["top1_low"])
    low, high = beta.ppf(0.025, 1, 3), beta.ppf(0.975, 2, 2)
    assert (got["failed_low"], got["failed_high"]) == pytest.approx((100 * low, 100 * high))
    assert got["effect"] == pytest.approx(got["top1"] - 40) and math.isnan(got["effect_low"])
    assert not got["differs"], "three seeds a side cannot show it by ranks"
    assert "seed 1: FAILED, no better than always answering the commonest class" in got["remark"]


def test_stars_are_explained_where_a_control_has_a_failed_run_too(plan: Plan) -> None:
    plan = read_plan("smoke", ["squeeze"], seeds=12)
    wrong = {"Max": 300, "Avg": 200, "plain": 400}
    made = [
        record(plan, "squeeze", v, seed, n + seed) for v, n in wrong.items() for seed in range(12)
    ]
    failed = record(plan, "squeeze", "plain", 0, 905)
    table = tables(plan, {one.id: one for one in (*made, failed)})["squeeze"]
    assert table.rows["differs"].any() and math.isnan(table.resolution)
    assert "`*`: differs from its control" in under(table) and "Intervals are 95%" in under(table)


def test_two_rows_whose_runs_diverged_at_once_are_not_said_to_be_one_network(plan: Plan) -> None:
    records = known(plan)
    nothing = {
        "diverged": 0,
        "epochs": (),
        "wrong_top1": 1000,
        "correct": pack(np.zeros(1000, bool)),
    }
    for name in ("Max", "Avg"):
        for seed in range(3):
            one = record(plan, "squeeze", name, seed, 300).model_copy(update=nothing)
            records[one.id] = one.model_copy(update={"params": 1})
    table = tables(plan, records)["squeeze"]
    assert not one_network(table.records["Max"], table.records["Avg"])
    assert not any("one network" in sentence for sentence in table.unfair)
    assert equal_rows(table.records) == []


@pytest.mark.parametrize("experiment", ["squeeze", "reduction"])
def test_a_plot_is_the_same_bytes_each_time_and_its_svg_keeps_text(
    plan: Plan, experiment: str
) -> None:
    variants = list(plan.experiments[experiment].variants)
    made = [
        record(plan, experiment, variant, seed, 200 + 3 * seed)
        for variant in variants
        for seed in range(3)
    ]
    one = tables(plan, {each.id: each for each in made})[experiment]
    drawn = []
    for _ in range(2):
        with figures.style():
            figure = figures.plot(one)
            assert figure is not None
            drawn.append(figures.svg(figure))
    assert drawn[0] == drawn[1]
    words = " ".join(ET.fromstring(drawn[0]).itertext())
    assert "top-1 test error" in words and "control" in words and "n = 3" in words


def test_a_table_of_budgets_and_rates_is_drawn_as_gains_against_both() -> None:
    schedule = read_plan("cifar100-cpu", ["schedule"], seeds=3)
    made = {run.id: fabricated(run) for run in schedule.runs()}
    one = tables(schedule, made)["schedule"]
    with figures.style():
        figure = figures.plot(one)
    assert figure is not None
    by_epochs, by_rate, errors = figure.axes
    gains = {line.get_label(): line for line in by_epochs.lines}
    assert list(np.ravel(gains["SE"].get_xdata())) == [2, 4, 8, 16]
    names = ["SE, 2 epochs", "SE, 4 epochs", "SE, 8 epochs", "SE"]
    assert list(np.ravel(gains["SE"].get_ydata())) == pytest.approx(
        [-one.rows.loc[name, "effect"] for name in names]
    )
    assert len(np.ravel(gains["Static gate"].get_xdata())) == 4
    rate = schedule.recipe.train.lr
    assert list(np.ravel(by_rate.lines[0].get_xdata())) == pytest.approx(
        [rate / 4, rate / 2, rate, 2 * rate]
    )
    assert {line.get_label() for line in errors.lines} == {"plain", "SE", "Static gate"}
    some = tables(
        schedule, {key: value for key, value in made.items() if value.run.train.epochs == 2}
    )["schedule"]
    with figures.style():
        assert figures.plot(some) is not None, "also of a sweep that has begun"


def test_a_row_is_drawn_with_its_seeds_its_interval_and_its_difference(plan: Plan) -> None:
    one = tables(plan, known(plan))["squeeze"]
    with figures.style():
        figure = figures.plot(one)
    assert figure is not None
    errors, effects = figure.axes
    place = list(one.rows.index).index("Avg")
    row = one.rows.loc["Avg"]
    drawn = [line for line in errors.lines if len(np.ravel(line.get_ydata()))]
    near = [line for line in drawn if place - 0.3 < np.ravel(line.get_ydata())[0] < place + 0.1]
    seeds, interval, mean = (list(np.ravel(line.get_xdata())) for line in near)
    assert seeds == pytest.approx([19, 20, 21]) and mean == pytest.approx([20])
    assert interval == pytest.approx([row["top1_low"], row["top1_high"]])
    means = [line for line in effects.lines if line.get_markersize() == 8]
    assert [float(np.ravel(line.get_xdata())[0]) for line in means][place] == pytest.approx(-20)


def test_a_table_without_records_has_no_plot(plan: Plan, tmp_path: Path) -> None:
    empty = tables(plan, {})["squeeze"]
    assert figures.plot(empty) is None and figures.curves({"plain": []}) is None
    files = report_files(plan, tmp_path, {})
    assert "Not run yet" in files["README.md"].decode() and "squeeze/plot.svg" not in files
