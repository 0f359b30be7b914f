"""The page over all recipes: the paper's effects beside those of each recipe."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import TESTED, record, write_recipe

from senet_ablate.analysis.forest import effects
from senet_ablate.analysis.tables import read_reported, tables
from senet_ablate.records.store import pack, read_records
from senet_ablate.report import plots
from senet_ablate.report.forest import forest
from senet_ablate.report.pages import verify_page, write_page
from senet_ablate.report.recipe_page import write_report
from senet_ablate.spec.plan import read_plan

NAMES = ["reduction", "excitation"]


def test_effects_are_relative_to_the_plain_network_as_the_papers_are() -> None:
    plan = read_plan("cifar10", NAMES, seeds=5)
    made = tables(plan, {run.id: record(run) for run in plan.runs()})
    found = effects(plan, made).set_index(["claim", "quantity"])
    one = found.loc["T10.0", "top1"]
    rows = made["reduction"].rows["top1"]
    assert one["paper_effect"] == pytest.approx(100 * (22.28 - 23.30) / 23.30)
    assert one["effect"] == pytest.approx(100 * (rows["16"] - rows["original"]) / rows["original"])
    assert one["low"] < one["effect"] < one["high"] and one["n"] == 5 and not one["warned"]
    assert (one["holds_low"], one["holds_high"]) == (-math.inf, 0)
    alike, apart = found.loc["T10.1", "top1"], found.loc["T12.3", "top1"]
    assert (alike["holds_low"], alike["holds_high"]) == (-alike["margin"], alike["margin"])
    assert apart["holds_low"] == apart["holds_high"] == 0, "it holds anywhere but at 0"
    verdicts = {v.claim: v.outcome for table in made.values() for v in table.verdicts}
    assert one["verdict"] == verdicts["T10.0"] and apart["verdict"] == verdicts["T12.3"]
    assert found.loc["T10.0", "top5"]["verdict"] == verdicts["T10.0/top-5"]


def test_before_any_run_the_papers_effects_and_the_plans_margins_are_there() -> None:
    plan = read_plan("cifar100-cpu", NAMES)
    found = effects(plan, tables(plan, {})).set_index(["claim", "quantity"])
    assert found["effect"].isna().all() and set(found["verdict"]) == {"not tested"}
    expected = 100 * (23.30 - 22.28) / 23.30 / 3
    assert found.loc["T10.1", "top1"]["margin"] == pytest.approx(expected)


def test_an_effect_has_the_seeds_of_the_look_that_it_was_judged_at() -> None:
    plan = read_plan("cifar100-cpu", NAMES, seeds=4)
    made = tables(plan, {run.id: record(run) for run in plan.runs()})
    found = effects(plan, made).set_index(["claim", "quantity"]).loc["T10.0", "top1"]
    assert found["n"] == 3 and made["reduction"].rows.loc["16", "n"] == 4


@pytest.mark.parametrize("recipe", ["cifar10", "cifar100-cpu"])  # without and with a plan
def test_beside_a_plain_network_that_never_errs_there_is_no_relative_effect(recipe: str) -> None:
    plan = read_plan(recipe, NAMES, seeds=3)
    records = {run.id: record(run) for run in plan.runs()}
    perfect = {"wrong_top1": 0, "correct": pack(np.ones(TESTED, bool))}
    for run in plan.runs():
        if run.se is None:
            records[run.id] = records[run.id].model_copy(update=perfect)
    found = effects(plan, tables(plan, records))
    assert len(found) and found["effect"].isna().all()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for recipe in ("cifar10", "cue"):
        plan = read_plan(recipe, NAMES, seeds=3)
        write_recipe(folder, recipe)
        write_report(plan, folder, read_records(folder, recipe))
    return folder


@pytest.mark.usefixtures("blank_plots")
def test_made_up_images_stand_apart_without_the_papers_numbers(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (page,) = write_page("forest", results)
    evidence, _, shown = page.read_text().partition("## No evidence about the paper")
    assert "cifar10/README.md" in evidence and "(forest.svg)" in evidence
    assert "cue" not in evidence and "| paper |" in evidence
    assert "cue/README.md" in shown and "(shown.svg)" in shown and "| paper |" not in shown
    assert verify_page("forest", results) == []
    path = results / "cifar10" / "effects.csv"
    path.write_text(path.read_text().replace("unresolved", "supported"))
    assert any("README.md: does not follow" in one for one in verify_page("forest", results))
    path.write_text("claim\n")
    assert any("README.md: does not follow" in one for one in verify_page("forest", results))
    assert "not the effects of a recipe" in caplog.text


def test_the_paper_is_drawn_where_it_is_and_verdicts_have_signs() -> None:
    plan = read_plan("cifar10", NAMES, seeds=5)
    found = effects(plan, tables(plan, {run.id: record(run) for run in plan.runs()}))
    other = found.assign(recipe="another")
    with plots.style():
        figure = forest(pd.concat([found, other]), paper=True)
        without = forest(found, paper=False)
    top1 = figure.axes[0]
    marks = [
        float(np.ravel(line.get_xdata())[0]) for line in top1.lines if line.get_marker() == "D"
    ]
    own = found[found["quantity"] == "top1"]["paper_effect"]
    assert sorted(marks) == pytest.approx(sorted([*own, *own]))
    texts = [text.get_text() for text in top1.texts]
    assert any(text.endswith("another, n = 5") for text in texts)
    assert {text[0] for text in texts} <= set("✓✗?–")
    assert not [line for line in without.axes[0].lines if line.get_marker() == "D"]


def test_the_check_that_decides_is_the_one_that_is_drawn() -> None:
    """T13.1 holds for each stage, and which rows it names depends on what the network can host."""
    plan = read_plan("cifar100-cpu", ["stages"])
    records = {run.id: record(run) for run in plan.runs()}
    made = tables(plan, records)
    (verdict,) = (v for v in made["stages"].verdicts if v.claim == "T13.1")
    found = effects(plan, made).set_index(["claim", "quantity"]).loc["T13.1", "top1"]
    assert verdict.deciding and found["contrast"] == verdict.deciding.name
    assert found["marks"].startswith("in part") and found["effect"] == found["effect"]


def test_a_recipe_may_be_called_as_a_number_or_as_nothing(tmp_path: Path) -> None:
    plan = read_plan("cifar10", NAMES)
    rows = effects(plan, tables(plan, {}))
    for name in ("2024", "nan"):
        (tmp_path / name).mkdir()
        rows.assign(recipe=name).to_csv(tmp_path / name / "effects.csv", index=False)
    (page,) = write_page("forest", tmp_path)
    assert (
        "[2024](2024/README.md)" in page.read_text() and "[nan](nan/README.md)" in page.read_text()
    )


def test_the_family_of_a_planned_page_does_not_wait_for_its_tables_to_begin() -> None:
    plan = read_plan("cifar100", ["role_of_squeeze"])
    shown = read_reported("cifar100", [run.id for run in plan.runs()], begun=True)
    assert [*shown.experiments] == [*read_plan("cifar100").experiments]
