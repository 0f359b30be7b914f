"""Which claims are judged together: a table that a plan is not for changes no other."""

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from fabricated import record
from scipy import stats
from test_cli import inside

from senet_ablate.analysis import settle
from senet_ablate.analysis.compare import compare, compare_rows
from senet_ablate.analysis.forest import effects
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.settle import if_the_paper_is_right
from senet_ablate.analysis.tables import case_of, read_reported, tables
from senet_ablate.analysis.verdicts import Verdict
from senet_ablate.cli.evidence import write_reports
from senet_ablate.records.class_gates import Curves, paper_network
from senet_ablate.records.first_page import FirstPage, note_first_page, read_first_page
from senet_ablate.records.store import write_record
from senet_ablate.report.pages import verify_recipe
from senet_ablate.report.recipe_page import read_results, report_files
from senet_ablate.spec.plan import (
    EXPERIMENTS_DIR,
    Plan,
    fitting_plans,
    list_experiments,
    read_experiment,
    read_plan,
)
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import load_yaml, parse
from senet_ablate.spec.spec import Experiment, margins

MINE = """
title: Mine
question: Does it gain?
control: plain
variants: {plain: {se: null}, Small: {se: {reduction: 64}}, Smaller: {se: {reduction: 128}}}
claims:
  - id: M.1
    says: Small gains.
    paper: not in the paper
    checks: [{kind: better, rows: [Small], than: [plain]}]
"""


def test_a_users_own_table_beside_a_planned_recipe_is_judged_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_plan("cifar100")
    records = {run.id: record(run) for run in before.runs()}
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    after = read_plan("cifar100")
    assert {*after.experiments} - {*before.experiments} == {"mine"} == after.apart
    more = records | {run.id: record(run) for run in after.runs()}
    alone, beside = tables(before, records), tables(after, more)
    for name, table in alone.items():
        assert table.verdicts == beside[name].verdicts, name
        assert table.comparisons == beside[name].comparisons
        assert table.exploratory == beside[name].exploratory
        assert table.rows.equals(beside[name].rows), name
    mine = beside["mine"]
    assert mine.comparisons == 2 and "the analysis plan is for" in mine.exploratory
    assert mine.verdicts[0].outcome != "not tested"
    assert compare_rows(beside, "mine/plain", "Small").rows["value"].notna().any()
    with pytest.raises(BadInput, match="judged apart"):
        compare_rows(beside, "Small", "squeeze/Max")
    assert {"mine/Small", "squeeze/Max"} <= {*tradeoffs(beside.values()).index}


def test_a_draft_beside_it_breaks_no_recipe_that_does_not_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "draft.yaml").write_text("title: half written")
    monkeypatch.chdir(tmp_path)
    assert read_plan("cifar100-cpu").experiments and read_plan("digits", ["squeeze"]).experiments
    assert "squeeze" in fitting_plans("digits")
    with pytest.raises(BadInput, match=r"draft\.yaml"):
        read_plan("cue")


def test_what_is_judged_apart_does_not_hang_on_what_was_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senet_ablate.spec.plan._given", {})
    recipe = (EXPERIMENTS_DIR / "recipes" / "cifar100.yaml").read_text()
    (tmp_path / "their_recipe.yaml").write_text(recipe)
    (tmp_path / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert read_plan("their_recipe.yaml", ["mine.yaml", "squeeze"]).apart == {"mine"}


def test_a_table_on_request_that_another_holds_whole_is_shown_as_soon_as_it_begins() -> None:
    runs = read_plan("imagenet", ["depth"]).runs()
    default = {run.id for run in read_plan("imagenet").runs()}
    have = [run.id for run in runs if run.id not in default][:2]
    assert "depth" in read_reported("imagenet", have).experiments
    assert "backbones" not in read_reported("imagenet", have).experiments


def test_sentences_call_a_plain_row_as_the_tables_do() -> None:
    text = MINE.replace("{plain: {se: null}", "{'0': {se: null, label: 'no \\1 SE'}")
    text = text.replace("control: plain", "control: '0'").replace("[plain]", "['0']")
    experiment = parse(Experiment, load_yaml(text, "mine"))
    plan = replace(read_plan("cifar10", ["squeeze"]), experiments={"mine": experiment})
    (verdict,) = tables(plan, {run.id: record(run) for run in plan.runs()})["mine"].verdicts
    assert "Small − no \\1 SE = -" in verdict.ours and verdict.ours.count("no \\1 SE") == 2
    assert verdict.deciding and verdict.deciding.name == "Small − 0"


def test_the_plan_of_cifar100_and_cue_is_for_these_tables() -> None:
    """Their records carry its hash: a new default experiment would change verdicts on them."""
    ten = {"reduction", "squeeze", "excitation", "stages", "integration", "conv3x3"}
    ten |= {"role_of_squeeze", "controls", "no_excitation", "role_of_excitation"}
    usual = {name for name in list_experiments() if not read_experiment(name).on_request}
    assert usual == ten == {*read_plan("cifar100").experiments}
    assert {*read_plan("cue").experiments} == ten


def test_tables_on_request_that_share_rows_do_not_bring_each_other_on_the_page() -> None:
    one = next(
        row.runs[0]
        for row in read_plan("cifar10", ["cifar10_backbones"]).rows()
        if "110" in row.variant and row.runs[0].se
    )
    shown = {*read_reported("cifar10", [one.id]).experiments} - {*read_plan("cifar10").experiments}
    assert shown == set(), "cifar_backbones has this row, too, with CIFAR-100's errors"
    every = [run.id for run in read_plan("cifar10", ["cifar10_backbones"]).runs()]
    assert "cifar10_backbones" in read_reported("cifar10", every).experiments


def test_a_plan_that_expects_no_top_5_error_calls_nothing_alike_by_it() -> None:
    assert math.isnan(margins(48.0, None)["top5"]) and margins(48.0, None)["top1"] > 0
    plan = read_plan("cifar100-cpu", ["squeeze"])
    assert plan.recipe.plan
    rules = plan.recipe.plan.model_copy(update={"plain_top5": None})
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"plan": rules}))
    top5 = {"classes": 100, "wrong_top5": 20}
    records = {run.id: record(run).model_copy(update=top5) for run in plan.runs()}
    made = tables(plan, records)["squeeze"].verdicts
    (alike,) = (one for one in made if one.claim == "T11.2/top-5")
    assert alike.outcome == "not tested" and "no margin is known" in alike.reason


def test_an_effect_is_relative_to_the_plain_network_of_its_own_row() -> None:
    plan = read_plan("imagenet", ["backbones"], seeds=5)
    table = tables(plan, {run.id: record(run) for run in plan.runs()})["backbones"]
    found = effects(plan, {"backbones": table})
    found, controls = found[found["quantity"] == "top1"], set[str]()
    for _, row in found.iterrows():
        one, other = row["contrast"].split(" − ")
        control = table.experiment.control_of(one)
        mean, paper = table.rows["top1"], table.rows["paper_top1"]
        assert row["effect"] == pytest.approx(100 * (mean[one] - mean[other]) / mean[control])
        expected = 100 * (paper[one] - paper[other]) / paper[control]
        assert row["paper_effect"] == pytest.approx(expected)
        controls.add(control)
    assert len(controls) > 1


def test_provisional_stands_wherever_a_verdict_does() -> None:
    plan = read_plan("cifar100")
    own = {run.id for run in read_plan("cifar100", ["role_of_squeeze"]).runs()}
    made = tables(plan, {run.id: record(run) for run in plan.runs() if run.id in own})
    for one in made["role_of_squeeze"].verdicts:
        early = one.ledger == "error" and one.outcome in ("supported", "contradicted")
        assert one.marks == "provisional" * early, one.claim
    found = effects(plan, made).set_index(["claim", "quantity"])
    assert found.loc[("T16.2", "top1"), "marks"] == "provisional, exploratory"  # no plan in them
    runs = read_plan("cifar100", ["integration"]).runs()
    found = tables(plan, {run.id: record(run) for run in runs})["integration"]
    follows = next(one for one in found.experiment.claims if one.follows)
    assert next(v for v in found.verdicts if v.claim == follows.id).provisional, "as those are"


def test_claims_that_changed_after_their_first_page_are_exploratory(tmp_path: Path) -> None:
    plan = read_plan("cifar100", ["squeeze"])
    rules = plan.recipe.plan_id
    records = {}
    for run in plan.runs():
        one = record(run)
        where = one.provenance.model_copy(update={"plan": rules})
        records[run.id] = one.model_copy(update={"provenance": where})
    assert not tables(plan, records)["squeeze"].exploratory
    note_first_page(plan, tmp_path, ["squeeze"])
    path = tmp_path / "cifar100" / "claims.json"
    before = path.read_bytes()
    note_first_page(plan, tmp_path, ["squeeze"])
    assert path.read_bytes() == before, "what was written first stays"
    first = read_first_page(tmp_path, "cifar100")
    assert not tables(plan, records, first=first)["squeeze"].exploratory
    shown = first.experiments["squeeze"].model_copy(update={"claims": "0" * 16})
    first = FirstPage(experiments={"squeeze": shown})
    found = tables(plan, records, first=first)["squeeze"].exploratory
    assert found == "the claims of squeeze changed after their first page"


def test_the_resolution_is_that_of_the_corrected_test() -> None:
    """By the definition of power, with the tests' own standard errors."""
    plan = read_plan("digits", ["squeeze"], seeds=4)
    table = tables(plan, {run.id: record(run) for run in plan.runs()})["squeeze"]
    ids = plan.row_ids("squeeze")
    pairs = [(ids[row], ids["plain"]) for row in ids if row != "plain"]
    tests = [table.model.contrast({one: 1, other: -1}) for one, other in pairs]
    spread, alpha = np.median([d.stderr for d in tests]), 0.05 / table.comparisons

    def found(size: float) -> float:
        critical = np.array([stats.t.isf(alpha / 2, d.df) * d.stderr for d in tests])
        return float(stats.norm.sf((critical - size) / spread).mean())

    assert table.comparisons == len(pairs) and found(table.resolution) == pytest.approx(0.8)
    critical = sorted(stats.t.isf(alpha / 2, d.df) * d.stderr for d in tests)
    assert len(tests) == 3 and table.resolution_of_half <= table.resolution
    spread = np.median(sorted(d.stderr for d in tests)[:2])
    power = stats.norm.sf((np.array(critical[:2]) - table.resolution_of_half) / spread).mean()
    assert power == pytest.approx(0.8), "of the two of three that scatter least"


def test_a_claim_is_listed_by_a_check_that_the_paper_has_numbers_for_or_not_at_all() -> None:
    plan = read_plan("cifar100", ["stages"])  # whose network has no stage 5
    runs = plan.runs()[:6]
    made = tables(plan, {run.id: record(run) for run in runs})
    found = effects(plan, made).set_index(["claim", "quantity"])
    assert "T13.3" not in found.index, "additivity over three stages is not the paper's number"
    assert found.loc[("T13.1", "top1"), "verdict"] == "not tested"
    assert set(found["runs"]) == {f"6 of {len(plan.runs())}"}
    verdict = next(v for v in made["stages"].verdicts if v.claim == "T13.3")
    assert verdict.marks == "" and "judged in part" not in verdict.reason, "nothing was judged"


def test_sentences_call_rows_as_tables_do() -> None:
    plan = read_plan("digits", ["reduction", "controls", "no_excitation"], seeds=3)
    made = tables(plan, {run.id: record(run) for run in plan.runs()})
    ours = {v.claim: v.ours for table in made.values() for v in table.verdicts}
    assert "(r = 2) − (r = 8)" in ours["T10.1"] or "(r = 16)" in ours["T10.1"]
    assert "standard SE" in ours["control.2"]
    assert "gate straight from the squeeze" in ours["extra.1"]


def test_a_table_is_tested_where_a_pair_of_it_is_perhaps_in_another_table() -> None:
    plan = read_plan("cifar100")
    squeeze = {run.id for run in read_plan("cifar100", ["role_of_squeeze"]).runs()}
    made = tables(plan, {run.id: record(run) for run in plan.runs() if run.id in squeeze})
    for table in made.values():  # plain and SE are in nearly all
        have = {row for row, records in table.records.items() if len(records) > 1}
        control = table.experiment.control_of
        tested = [row for row in table.rows.index if row in have - {control(row)}]
        tested = [row for row in tested if control(row) in have]
        others = [row for row in table.rows.index if row not in (*tested, control(row))]
        assert bool(tested) == (not math.isnan(table.resolution)) == (table.resolution < 50)
        assert bool(table.waiting) == bool(others)
    few = tables(plan, {run.id: record(run) for run in plan.runs()[:30]})
    assert all(
        math.isnan(one.resolution) and "judges errors from" in one.waiting for one in few.values()
    )


def test_networks_are_to_come_for_seeds_without_a_record_alone() -> None:
    plan = read_plan("cifar100", ["role_of_excitation"])
    row = plan.runs_with_gates("role_of_excitation")
    gates = {"class_gates": tuple(paper_network())}
    records = [record(run).model_copy(update=gates) for run in row]
    records[0] = record(row[0])  # of one the loss was not finite
    for count in (0, 3, len(row)):
        case = case_of(plan, "role_of_excitation", {row[0].row_id: records[:count]})
        assert len(case.networks) == max(0, count - 1)
        assert case.networks_planned == len(case.networks) + len(row) - count
    assert not case_of(plan, "role_of_excitation", {}).networks


def test_gates_are_judged_and_drawn_beside_the_row_that_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    recipe = (EXPERIMENTS_DIR / "recipes" / "smoke.yaml").read_text()
    kept = recipe.replace("[role_of_excitation/SE]", "[mine/Small]")
    (tmp_path / "experiments" / "recipes" / "own.yaml").write_text(kept)
    (tmp_path / "experiments" / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    plan = read_plan("own", ["mine", "role_of_excitation"], seeds=2)
    records = {run.id: record(run) for run in plan.runs()}
    network = dict(zip(("SE_2_1", "SE_3_1", "SE_4_1"), paper_network(), strict=False))
    gates = tuple(one.model_copy(update={"name": name}) for name, one in network.items())
    values = (0.1, 0.2)
    curves = {"all": values, "other": values}
    drawn = Curves(channels=(0, 1), everything=values, mean=curves, std=curves)
    more = {"class_gates": gates, "class_curves": dict.fromkeys(network, drawn)}
    for run in plan.runs_with_gates("mine"):
        records[run.id] = records[run.id].model_copy(update=more)
    files = report_files(plan, tmp_path, records)
    page = files["README.md"].decode()
    assert "mine/figure6.svg" in files and "role_of_excitation/figure6.svg" not in files
    assert f"Gates of one trained network (Small, run {plan.runs_with_gates('mine')[0].id})" in page
    judged = tables(plan, records)["role_of_excitation"].verdicts
    assert {one.outcome for one in judged} == {"not tested"}


def test_a_table_prints_the_alpha_of_its_own_last_look() -> None:
    plan = read_plan("cifar100-cpu")
    whole = {run.id for run in read_plan("cifar100-cpu", ["role_of_squeeze"]).runs()}
    rules = plan.recipe.plan
    assert rules
    first = {*rules.seeds[: rules.looks[0].seeds], *rules.experiment_seeds.get("schedule", ())[:3]}
    made = tables(plan, {r.id: record(r) for r in plan.runs() if r.id in whole or r.seed in first})
    assert made["role_of_squeeze"].alpha == rules.looks[-1].alpha
    assert made["stages"].alpha == made["squeeze"].alpha == rules.looks[0].alpha
    assert not made["stages"].waiting and made["stages"].resolution > 0


def write_copy(folder: Path, name: str = "mine") -> None:
    """An own table that began as a copy of one of ours."""
    ours = (EXPERIMENTS_DIR / "squeeze.yaml").read_text()
    (folder / "experiments").mkdir(exist_ok=True)
    copy = ours.replace("variants:", "variants:\n  Small: {se: {reduction: 64}}")
    (folder / "experiments" / f"{name}.yaml").write_text(copy)


def test_no_trained_table_is_left_out_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the recipe lists it, and whether or not others share its runs."""
    squeeze = read_plan("cue-negative", ["squeeze"])
    assert "squeeze" not in read_plan("cue-negative").experiments
    shown = read_reported("cue-negative", [run.id for run in squeeze.runs()], begun=True)
    assert "squeeze" in shown.experiments and "role_of_excitation" not in shown.experiments
    write_copy(tmp_path)
    write_copy(tmp_path, "yours")
    monkeypatch.chdir(tmp_path)
    for recipe in ("cifar100-cpu", "cue-negative", "cifar100", "digits"):
        (small,) = (row for row in read_plan(recipe, ["mine"]).rows() if row.variant == "Small")
        plan = read_reported(recipe, [small.runs[0].id], begun=True)
        assert {"mine"} == {"mine", "yours"} & {*plan.experiments}, recipe


def test_the_page_has_the_tables_that_were_asked_for_and_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From their first run on, given by a path, too, and whatever else these runs fill."""
    monkeypatch.setattr("senet_ablate.spec.plan._given", {})
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(MINE)
    plan = read_plan("digits", ["mine.yaml"])
    plain = [run for run in plan.runs() if run.se is None]
    have = [run.id for run in plain]
    assert [*read_reported("digits", have, tmp_path, ["mine"], begun=True).experiments] == ["mine"]
    for one in plain:
        write_record(tmp_path, "digits", record(one))
    write_reports(["digits"], tmp_path, asked=["mine"])
    assert "run mine.yaml --recipe digits" in (tmp_path / "digits" / "README.md").read_text()
    assert verify_recipe("digits", tmp_path) == []
    monkeypatch.setattr("senet_ablate.spec.plan._given", {})  # as another process
    assert inside("verify", "--recipe", "digits", "--results", str(tmp_path))[0] == 1
    assert "no table of mine is made" in caplog.text
    words = ("mine.yaml", "--recipe", "digits", "--results", str(tmp_path))
    for verb in ("report", "verify"):
        assert inside(verb, *words)[0] == 0
    assert inside("report", "mine.yaml")[0] == 2, "of which recipe?"
    for one in plan.runs():
        write_record(tmp_path, "digits", record(one))
    found = compare(tmp_path, "digits", "mine/Small", "mine/plain")
    assert found.sentence.startswith("a = mine/Small, b = mine/plain.")


def test_a_table_that_was_shown_hides_no_other() -> None:
    """`run squeeze` first, then all: also those whose runs are all of others."""
    plan = read_plan("digits")
    runs = {run.id: record(run) for run in plan.runs()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        note_first_page(read_plan("digits", ["squeeze"]), folder, ["squeeze"])
        shown = read_reported("digits", runs, folder, begun=True).experiments
        assert [*shown] == [*read_reported("digits", runs, begun=True).experiments]
        assert "role_of_excitation" in shown


def test_a_table_that_has_not_begun_is_on_no_finished_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [run.id for run in read_plan("cue").runs()]
    before = read_reported("cue", ids, begun=True)
    write_copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [*read_reported("cue", ids, begun=True).experiments] == [*before.experiments]


def test_a_copy_changes_neither_the_effects_nor_what_a_plan_can_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(plan: Plan, rules: object, spread: float) -> dict[str, list[Verdict]]:
        return if_the_paper_is_right(plan, rules, spread, pages=1)  # type: ignore[arg-type]

    monkeypatch.setattr(settle, "if_the_paper_is_right", few)
    before = read_plan("cifar100")
    records = {run.id: record(run) for run in before.runs()}
    found, said = effects(before, tables(before, records)), [*settle.sentences(before, {})]
    write_copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    after = read_plan("cifar100")
    assert after.apart == {"mine"}
    made = tables(after, records | {run.id: record(run) for run in after.runs()})
    pd.testing.assert_frame_equal(
        effects(after, made).drop(columns="runs"), found.drop(columns="runs")
    )
    assert [*settle.sentences(after, {})] == said


def test_what_is_judged_apart_says_so_beside_each_verdict_under_a_heading_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    plan = read_plan("cifar100", ["squeeze", "mine"])
    records = {run.id: record(run) for run in plan.runs()}
    for name, one in records.items():
        where = one.provenance.model_copy(update={"plan": plan.recipe.plan_id})
        records[name] = one.model_copy(update={"provenance": where})
    results = read_results(plan, tmp_path, records)
    ours, mine = results.tables["squeeze"], results.tables["mine"]
    titles = [results.title(one) for one in (ours, mine)]
    assert titles == [f"{ours.experiment.title} (squeeze)", f"{ours.experiment.title} (mine)"]
    assert "exploratory`" in results.badge(mine, mine.verdicts[0])
    assert "exploratory" not in results.badge(ours, ours.verdicts[0])
    alone = replace(results, tables={"mine": mine})
    assert "exploratory" not in alone.badge(mine, mine.verdicts[0]), "the page says it once"
    assert alone.title(mine) == ours.experiment.title
