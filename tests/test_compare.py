"""Two rows against each other, cost against error, and gates by block:

known answers on records made up for it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricated import TESTED, record, write_recipe
from scipy import stats as scipy_stats

from senet_ablate.analysis.compare import compare, compare_rows
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import Table, read_reported
from senet_ablate.analysis.tables import tables as made_tables
from senet_ablate.records.store import Gates, Record, pack, read_records, write_record
from senet_ablate.report.gates import by_block
from senet_ablate.report.speed import pareto
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run

Change = Callable[[Record], Record]


def wrong_on(record: Record, images: range) -> Record:
    """The record with errors on exactly these images."""
    right = np.ones(TESTED, bool)
    right[list(images)] = False
    return record.model_copy(update={"correct": pack(right), "wrong_top1": len(images)})


def planted(folder: Path, errors: dict[str, list[range]]) -> Path:
    """Results in which the rows of `reduction` are wrong on the given images, one range a seed."""
    plan = read_plan("digits", ["reduction"], seeds=len(next(iter(errors.values()))))
    for row in plan.rows():
        for run, images in zip(row.runs, errors.get(row.variant, []), strict=False):
            write_record(folder, "digits", wrong_on(record(run), images))
    return folder


def tables(folder: Path) -> dict[str, Table]:
    records = read_records(folder, "digits")
    return made_tables(read_reported("digits", records), records)


def test_a_planted_difference_is_found_by_every_view(tmp_path: Path) -> None:
    errors = {
        "2": [range(40), range(44), range(42)],
        "original": [range(120), range(124), range(128)],
    }
    found = compare(planted(tmp_path, errors), "digits", "reduction/2", "reduction/original")
    rows = found.rows
    welch = scipy_stats.ttest_ind([10, 11, 10.5], [30, 31, 32], equal_var=False)
    assert rows.loc["parameters, a over b", "value"] > 1, "a has the smaller ratio"
    difference = rows.loc["difference of the means, points"]
    assert difference["value"] == pytest.approx(-20.5) and difference["p"] == pytest.approx(
        welch.pvalue
    )
    low, high = welch.confidence_interval()
    assert (difference["low"], difference["high"]) == (pytest.approx(low), pytest.approx(high))
    assert rows.loc["probability of improvement", "value"] == 1
    images = rows.loc["difference on the images, points"]
    assert images["low"] < -20.5 < images["high"] < 0
    seed = rows.loc["seed 1: difference, points"]
    assert (
        seed["value"] == -20
        and seed["says"] == "McNemar: only a is right on 80 images, only b on 0"
    )
    assert seed["p"] == pytest.approx(scipy_stats.binomtest(80, 80).pvalue)
    assert "20.50 points less than b, and that is more than the noise" in found.sentence
    back = compare(tmp_path, "digits", "reduction/original", "reduction/2")
    assert back.rows.loc["difference of the means, points", "value"] == pytest.approx(20.5)
    assert (
        "more than b" in back.sentence and back.rows.loc["probability of improvement", "value"] == 0
    )


def test_a_pair_is_compared_by_the_model_of_its_page() -> None:
    """Welch's test without an analysis plan; with one, the difference that stands in the table."""
    for recipe, words in (
        ("digits", "Welch's test: "),
        ("cifar100-cpu", "the page's model of errors (spread shared, seed as block): "),
    ):
        plan = read_plan(recipe, ["reduction", "squeeze"], seeds=3)
        found = made_tables(plan, {run.id: record(run) for run in plan.runs()})
        pair = compare_rows(found, "squeeze/Max", "plain").rows
        difference = pair.loc["difference of the means, points"]
        shown = found["squeeze"].rows.loc["Max"]
        assert difference["value"] == pytest.approx(shown["effect"])
        assert (difference["low"], difference["high"]) == pytest.approx(
            (shown["effect_low"], shown["effect_high"])
        )
        assert str(difference["says"]).startswith(words)


def test_noise_is_called_noise_and_one_seed_says_nothing(tmp_path: Path) -> None:
    errors = {
        "2": [range(40), range(60), range(50)],
        "4": [range(45), range(65), range(46)],
        "8": [range(30)],
    }
    results = planted(tmp_path, errors)
    assert "noise between seeds can explain" in compare(results, "digits", "2", "4").sentence
    single = compare(results, "digits", "2", "8")
    assert (
        "3 and 1 seeds" in single.sentence
        and "nothing can be said about new runs" in single.sentence
    )
    assert np.isnan(single.rows.loc["difference of the means, points", "p"])
    assert "seed 1: difference, points" not in single.rows.index, (
        "only seeds that both have are paired"
    )
    assert (
        "| seed 0: difference, points" in single._repr_markdown_()
        and "nan" not in single._repr_markdown_()
    )


def test_a_name_is_enough_where_it_is_clear(tmp_path: Path) -> None:
    results = write_recipe(tmp_path, "digits", seeds=2)
    assert compare(results, "digits", "Max", "NoSqueeze").sentence.startswith(
        "a = squeeze/Max, b = "
    )
    assert "/plain. Over" in compare(results, "digits", "SE", "plain").sentence, (
        "one network under several names"
    )
    with pytest.raises(BadInput, match="unknown row 'squeeze/Maks'; did you mean 'squeeze/Max'"):
        compare(results, "digits", "squeeze/Maks", "16")
    with pytest.raises(BadInput, match="the same runs"):
        compare(results, "digits", "reduction/16", "squeeze/Avg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda one: one.model_copy(
                update={"provenance": one.provenance.model_copy(update={"data": "1" * 64})}
            ),
            "test data or labels differ",
        ),
        (lambda one: one.model_copy(update={"train_images": 999}), "training images differ"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "digits", seeds=1)
    plan = read_plan("digits", ["squeeze"], seeds=1)
    run = plan.run(plan.experiments["squeeze"].variants["Max"], 0)
    write_record(tmp_path, "digits", change(record(run)))
    with pytest.raises(BadInput, match=message):
        compare(tmp_path, "digits", "squeeze/Max", "16")


def test_rows_that_are_one_network_are_equal_and_not_tested(tmp_path: Path) -> None:
    found = compare(write_recipe(tmp_path, "digits", seeds=2), "digits", "Constant gate", "16")
    assert "one network" not in found.sentence
    found = compare(tmp_path, "digits", "Constant gate", "original")
    assert "They are one network: equal bit for bit in 2 of 2 seeds." in found.sentence
    row = found.rows.loc["difference of the means, points"]
    assert (row["value"], row["says"]) == (0, "equal bit for bit") and np.isnan(row["p"])


def test_a_row_without_runs_cannot_be_compared(tmp_path: Path) -> None:
    write_recipe(tmp_path, "digits", seeds=1, skip=("squeeze/Max",))
    with pytest.raises(BadInput, match="row 'squeeze/Max' has no run"):
        compare(tmp_path, "digits", "squeeze/Max", "16")


def test_failed_runs_count_and_are_compared_by_ranks(tmp_path: Path) -> None:
    guessing = [range(300 + k) for k in range(2)]
    sound = [range(80 + k) for k in range(4)]
    errors = {"2": [*sound[:2], *guessing], "4": sound}
    found = compare(planted(tmp_path, errors), "digits", "reduction/2", "reduction/4")
    assert "a has failed runs: compared by ranks" in found.sentence
    row = found.rows.loc["difference of the means, points"]
    mean = (80 + 81 + 300 + 301) / 16 - (80 + 81 + 82 + 83) / 16
    assert row["value"] == pytest.approx(mean) and np.isnan(row["low"])
    theirs = scipy_stats.mannwhitneyu([80, 81, 999, 999], [80, 81, 82, 83])
    ranks = scipy_stats.rankdata([80, 81, 999, 999, 80, 81, 82, 83])
    exact = scipy_stats.permutation_test(
        (ranks[:4], ranks[4:]), lambda x, y: x.sum() - y.sum(), n_resamples=np.inf
    )
    assert row["p"] == pytest.approx(exact.pvalue) and row["p"] > theirs.pvalue / 2
    assert row["says"].startswith("ranks over all seeds, failed ones the worst: ")
    assert np.isnan(found.rows.loc["error of a, %", "low"]), "as in the tables"
    share = found.rows.loc["probability of improvement", "value"]
    assert share == pytest.approx((3.5 + 2.5) / 16), "a failed run beats nothing"
    assert "noise between seeds can explain" in found.sentence


def test_a_network_that_is_dearer_and_worse_beyond_noise_is_beaten(tmp_path: Path) -> None:
    plan = read_plan("digits", ["reduction"], seeds=3)
    facts = {
        "2": (300, [100, 101, 102]),
        "4": (200, [50, 51, 52]),
        "8": (100, [50, 51, 52]),
        "original": (90, [90, 91, 92]),
    }
    for name, (params, wrong) in facts.items():
        for seed, count in enumerate(wrong):
            one = wrong_on(
                record(plan.run(plan.experiments["reduction"].variants[name], seed)), range(count)
            )
            write_record(
                tmp_path, "digits", one.model_copy(update={"params": params, "macs": params})
            )
    found = tradeoffs(tables(tmp_path).values())
    assert list(found.index) == ["reduction/original", "reduction/8", "reduction/4", "reduction/2"]
    assert found.loc["reduction/2", "beaten_by"] == "reduction/8"
    assert (found["beaten_by"] != "").sum() == 1, "cheaper and equal within the noise beats nothing"
    assert "squeeze/plain" in found.loc["reduction/original", "also"]
    figure = pareto(found)
    assert figure is not None and len(figure.axes) == 2, "no panel of times that nobody measured"
    assert [text.get_text() for text in figure.axes[0].texts] == ["2"], (
        "the one that is beaten has its name"
    )
    assert pareto(found.head(1)) is None


def test_nothing_recorded_is_an_empty_table_and_no_plot(tmp_path: Path) -> None:
    found = tradeoffs(tables(tmp_path).values())
    assert found.empty and {"step", "beaten_by"} <= set(found.columns) and pareto(found) is None


def test_gates_are_averaged_over_seeds_and_stuck_ones_counted() -> None:
    plan = read_plan("digits", ["reduction"], seeds=2)
    runs: list[Run] = [
        plan.run(plan.experiments["reduction"].variants["16"], seed) for seed in (0, 1)
    ]
    stuck = Gates(mean=0.999, std=0.001, within=0.0, low=0.0, high=1.0)
    working = Gates(mean=0.5, std=0.2, within=0.1, low=0.1, high=0.2)
    records = [
        record(runs[0]).model_copy(update={"gates": {"SE_2_1": working, "SE_3_1": stuck}}),
        record(runs[1]).model_copy(update={"gates": {"SE_2_1": working, "SE_3_1": working}}),
    ]
    found = by_block(records)
    assert list(found.index) == ["SE_2_1", "SE_3_1"] and list(found["stuck"]) == [0, 1]
    assert found.loc["SE_3_1", "mean"] == pytest.approx((0.999 + 0.5) / 2)
    assert found.loc["SE_3_1", "between_seeds"] == pytest.approx(0.499 / np.sqrt(2))
    assert found.loc["SE_3_1", "high"] == pytest.approx(0.6)
    assert by_block([record(plan.run(plan.experiments["reduction"].variants["original"], 0))]).empty


def test_rows_of_one_network_differ_by_budget_and_rate(tmp_path: Path) -> None:
    plan = read_plan("digits", ["schedule"], seeds=3)
    wrong = {
        "SE, 2 epochs": 90,
        "plain, 2 epochs": 80,
        "SE, 8 epochs": 40,
        "SE, 8 epochs, rate x 2": 60,
    }
    for row in plan.rows():
        for run in row.runs if row.variant in wrong else ():
            write_record(
                tmp_path, "digits", wrong_on(record(run), range(wrong[row.variant] + run.seed))
            )
    behind = compare(tmp_path, "digits", "SE, 2 epochs", "plain, 2 epochs")
    assert behind.rows.loc["difference of the means, points", "value"] == pytest.approx(2.5)
    assert "Mind" not in behind.sentence
    longer = compare(tmp_path, "digits", "SE, 8 epochs", "SE, 2 epochs")
    assert longer.rows.loc["difference of the means, points", "value"] == pytest.approx(-12.5)
    assert "they differ in epochs too" in longer.sentence
    faster = compare(tmp_path, "digits", "SE, 8 epochs, rate x 2", "SE, 8 epochs")
    assert "they differ in lr too" in faster.sentence
