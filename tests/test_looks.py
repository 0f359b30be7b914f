"""Under an analysis plan, errors are judged at its looks and at no other time."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from fabricated import record

from senet_ablate.analysis.claims.errors import Better, Differ, Similar
from senet_ablate.analysis.evidence import Finding
from senet_ablate.analysis.tables import by_row, case_of, records_with_gates, tables
from senet_ablate.analysis.verdicts import _settled, equal_rows, error_model, looks_of
from senet_ablate.records.class_gates import paper_network
from senet_ablate.records.store import Record, write_record
from senet_ablate.report.recipe_page import report_files
from senet_ablate.spec.plan import Plan, Row, read_plan

NAME = "role_of_squeeze"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan("cifar100-cpu", [NAME, "schedule"])


@pytest.fixture(scope="module")
def made(plan: Plan) -> dict[str, Record]:
    return {run.id: record(run) for run in plan.runs()}


def some(
    plan: Plan, made: dict[str, Record], seeds: int, reference: int, without: str = ""
) -> dict[str, Record]:
    """The records of so many seeds a row; `without`: a row that lacks the last of them."""
    kept = {}
    for row in plan.rows():
        count = reference if len(row.runs) > 5 else seeds
        for run in row.runs[: count - (row.variant == without)]:
            kept[run.id] = made[run.id]
    return kept


def outcomes(plan: Plan, records: dict[str, Record]) -> dict[str, tuple[str, str]]:
    return {
        verdict.claim: (verdict.outcome, verdict.reason)
        for verdict in tables(plan, records)[NAME].verdicts
    }


@pytest.mark.parametrize(
    ("seeds", "reference", "without", "ready"),
    [(0, 0, "", 0), (2, 2, "", 0), (3, 3, "NoSqueeze", 2)],
)
def test_before_the_first_look_no_error_is_judged(
    seeds: int, reference: int, without: str, ready: int, plan: Plan, made: dict[str, Record]
) -> None:
    found = outcomes(plan, some(plan, made, seeds, reference, without))
    for claim in ("T16.1", "T16.1/top-5", "T16.2"):
        waiting = (
            f"the analysis plan judges errors from 3 seeds a row on; {ready} of 3 rows have them"
        )
        assert found[claim] == ("not tested", waiting)
    if seeds:
        assert found["T16.1b"][0] in ("supported", "contradicted"), (
            "costs are exact and wait for nothing"
        )


def test_a_gate_that_is_the_plain_network_adds_nothing_to_what_is_known_of_the_spread() -> None:
    plan = read_plan("cifar100-cpu", ["controls"])
    made = {run.id: record(run) for row in plan.rows() for run in row.runs[:3]}
    table, ids = tables(plan, made)["controls"], plan.row_ids("controls")
    twins = error_model([table.records], plan.recipe.plan)
    others = {name: runs for name, runs in table.records.items() if name != "Constant gate"}
    assert len(others) == len(table.records) - 1
    pair = {ids["SE"]: 1.0, ids[table.experiment.control]: -1.0}
    once = error_model([others], plan.recipe.plan)
    assert astuple(twins.contrast(pair)) == pytest.approx(astuple(once.contrast(pair)))
    late = {
        "Constant gate": table.records["Constant gate"][1:],
        "plain": table.records["plain"][:-1],
    }
    both = error_model([table.records | late], plan.recipe.plan)
    once = error_model([others | {"plain": late["plain"]}], plan.recipe.plan)
    df = pytest.approx(once.contrast(pair).df)
    assert both.contrast(pair).df == df, "whichever seeds they share"


def test_rows_are_found_equal_whatever_else_shares_a_run_with_them() -> None:
    plan = read_plan("cifar100-cpu", ["controls"])
    one, other, third, *_ = plan.rows()
    own = [record(run) for run in one.runs[:3]]

    def of(row: Row, more_wrong: Sequence[int]) -> list[Record]:
        return [
            run.model_copy(
                update={
                    "run": replace(run.run, se=row.runs[0].se),
                    "wrong_top1": run.wrong_top1 + more,
                }
            )
            for run, more in zip(own, more_wrong, strict=False)
        ]

    rows = {"one": own, "begins alike": of(other, (0, 7, 9)), "same": of(third, (0, 0))}
    for names in (("one", "begins alike", "same"), ("begins alike", "one", "same")):
        assert equal_rows({name: rows[name] for name in names}) == [["one", "same"]]


def p_value(plan: Plan, records: dict[str, Record]) -> str:
    (verdict,) = (one for one in tables(plan, records)[NAME].verdicts if one.claim == "T16.1")
    return verdict.ours.rpartition("deciding: ")[2]


def test_between_two_looks_verdicts_stay_those_of_the_last_one(
    plan: Plan, made: dict[str, Record]
) -> None:
    first = p_value(plan, some(plan, made, 3, 3))
    assert (
        p_value(plan, some(plan, made, 4, 4))
        == first
        == p_value(plan, some(plan, made, 5, 5, "NoSqueeze"))
    )
    second = p_value(plan, some(plan, made, 5, 5))
    assert second != first and p_value(plan, some(plan, made, 5, 14)) == second
    assert p_value(plan, some(plan, made, 5, 15)) not in (first, second)


def test_a_table_that_is_withheld_adds_nothing_to_what_is_known_of_the_spread(
    plan: Plan, made: dict[str, Record]
) -> None:
    def decides(plan: Plan, records: dict[str, Record]) -> tuple[object, ...]:
        table = tables(plan, records)[NAME]
        (found,) = (one for one in table.verdicts if one.claim == "T16.1")
        assert found.deciding
        shown = table.rows.loc["SE", ["effect_low", "effect_high"]]
        return *astuple(found.deciding.difference), *shown, found.marks, found.reason

    alone = read_plan("cifar100-cpu", [NAME])
    known = some(plan, made, 3, 3)
    short = next(row for row in plan.rows() if row.experiment == "schedule")
    one = known[short.runs[0].id]
    elsewhere = one.provenance.model_copy(update={"data": "of other images"})
    other = {one.id: one.model_copy(update={"provenance": elsewhere})}
    assert decides(plan, known | other) == decides(alone, some(alone, made, 3, 3))
    assert decides(plan, known) != decides(alone, some(alone, made, 3, 3))


def test_a_withheld_table_is_no_table_that_is_still_to_come() -> None:
    plan = read_plan("cifar10", [NAME, "controls"])
    made = {run.id: record(run) for run in plan.runs()}
    *_, last = made.values()
    elsewhere = last.provenance.model_copy(update={"data": "of other images"})
    other = made | {last.id: last.model_copy(update={"provenance": elsewhere})}
    found, alone = tables(plan, other), tables(read_plan("cifar10", [NAME]), made)
    assert found["controls"].refused and not found[NAME].refused
    for one, wanted in zip(found[NAME].verdicts, alone[NAME].verdicts, strict=True):
        assert (one.outcome, one.marks, one.reason) == (wanted.outcome, wanted.marks, wanted.reason)


def test_what_a_users_own_check_says_stands_beside_what_is_still_to_come() -> None:
    own = Finding("ours", reason="of one seed alone", p_for=0.5, p_against=0.5)
    for waits, said in (("", own.reason), ("provisional", "of one seed alone; provisional")):
        assert _settled(own, (1.0, 1.0), looks_of(None), 2, waits).reason == said


def test_a_withheld_table_stays_in_the_family() -> None:
    """So that no corrected p-value rises when it is repaired."""
    plan = read_plan("cifar10", [NAME, "controls"])
    made = {run.id: record(run) for run in plan.runs()}
    shared = {run.id for row in plan.rows() if row.experiment == NAME for run in row.runs}
    first = {key: one for key, one in made.items() if key in shared}
    own = next(one for key, one in made.items() if key not in shared)
    elsewhere = own.provenance.model_copy(update={"data": "of other images"})
    withheld = tables(plan, first | {own.id: own.model_copy(update={"provenance": elsewhere})})
    assert withheld["controls"].refused
    waiting = tables(plan, first)
    for one, other in zip(withheld[NAME].verdicts, waiting[NAME].verdicts, strict=True):
        assert one.ours == other.ours


def test_rows_that_are_equal_are_certainly_alike_and_neither_is_better() -> None:
    for recipe in ("cifar100-cpu", "cifar10"):  # with and without a shared spread
        plan = read_plan(recipe, ["controls"])
        case = case_of(plan, "controls", by_row({run.id: record(run) for run in plan.runs()}))
        case = replace(case, models={"top1": error_model([case.rows], plan.recipe.plan)})
        pair = ("plain", "Constant gate")
        sides = [
            (kind(kind=name, rows=pair[:count], **than).examine(case).p_for, wanted)
            for name, kind, count, than, wanted in (
                ("similar", Similar, 2, {}, 0.0),
                ("differ", Differ, 2, {}, 1.0),
                ("better", Better, 1, {"than": pair[1:]}, 1.0),
            )
        ]
        assert all(p == wanted for p, wanted in sides)


def test_between_two_looks_a_table_says_what_the_test_of_the_last_one_finds(
    plan: Plan, made: dict[str, Record]
) -> None:
    def finds(seeds: int, reference: int) -> tuple[float, float]:
        one = tables(plan, some(plan, made, seeds, reference))[NAME]
        return one.resolution, one.resolution_of_half

    assert finds(4, 4) == finds(3, 3) != finds(5, 5) == finds(5, 14)


def test_a_table_is_corrected_for_all_of_its_page_at_the_rate_of_its_last_look(plan: Plan) -> None:
    made = {run.id: record(run) for run in plan.runs()}
    found = [tables(plan, some(plan, made, *n))[NAME] for n in ((3, 3), (5, 5), (5, 15))]
    assert [one.alpha for one in found] == [0.002, 0.013, 0.035]
    one, *_ = found
    alone = read_plan("cifar100-cpu", [NAME])
    few = tables(alone, some(alone, made, 3, 3))[NAME]
    assert few.comparisons == 2 < one.comparisons


def test_a_table_of_few_seeds_is_judged_with_all_that_its_plan_gives_it(
    plan: Plan, made: dict[str, Record]
) -> None:
    kept = some(plan, made, 5, 5)
    assert all(len(have) in (3, 5) for have in tables(plan, kept)["schedule"].records.values())
    assert all(
        verdict.outcome != "not tested" for verdict in tables(plan, kept)["schedule"].verdicts
    )


def test_claims_on_gates_rest_on_every_seed_whose_record_holds_them(tmp_path: Path) -> None:
    smoke = read_plan("smoke", ["role_of_excitation"], seeds=3)
    rows = smoke.runs_with_gates("role_of_excitation")
    names = ("SE_2_1", "SE_3_1", "SE_4_1")
    blocks = zip(paper_network(), names, strict=False)
    gates = tuple(block.model_copy(update={"name": name}) for block, name in blocks)
    records = {run.id: record(run) for run in smoke.runs()}
    for run in rows:
        records[run.id] = records[run.id].model_copy(update={"class_gates": gates})
    held = records_with_gates(smoke, "role_of_excitation", records)
    assert [one.class_gates for one in held] == [gates] * 3
    for one in records.values():
        write_record(tmp_path, "smoke", one)
    page = report_files(smoke, tmp_path, records)["README.md"].decode()
    assert "[3 networks]" in page and "[1 network]" not in page
