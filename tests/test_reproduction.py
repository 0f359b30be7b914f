"""`reproduce`: training committed runs anew and comparing, by record, by row and by verdict."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import alone
from fabricated import TESTED, record
from test_cli import inside as senet

from senet_ablate import SESpec
from senet_ablate.analysis.reproduction import (
    Reproduction,
    _outcome,
    committed_records,
    compare_records,
    read_reproduction,
    reproductions,
    summary,
)
from senet_ablate.analysis.stats import Estimate
from senet_ablate.records.store import Record, pack, read_records, write_record
from senet_ablate.report.reproduction import page, sentences, write_reproduction
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.registry import BadInput


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two runs of the smoke recipe."""
    results = tmp_path_factory.mktemp("work") / "results"
    words = ["--recipe", "smoke", "--device", "cpu", "--results", str(results), "--no-report"]
    with alone():
        assert senet("run", "role_of_excitation", *words)[0] == 0
    return results


@pytest.mark.usefixtures("one_worker")
def test_this_machine_gives_its_own_records_again_bit_for_bit(committed: Path) -> None:
    before = {path: path.read_bytes() for path in committed.rglob("*") if path.is_file()}
    words = ["reproduce", "--recipe", "smoke", "--device", "cpu", "--results", str(committed)]
    code, out, errors = senet(*words)
    assert code == 0, errors
    assert "2 of 2 records are equal bit for bit" in out and "2 rows: 2 bit for bit" in out
    assert {path: path.read_bytes() for path in before} == before, "nothing committed is touched"
    folder = committed.parent / "reproductions" / "smoke"
    assert f"see {folder / 'agreement.md'}" in out and (folder / "agreement.csv").is_file()
    (facts,) = folder.glob("cpu-*.json")
    times = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    code, out, _ = senet(*words)
    assert code == 0 and "2 runs done, 0 to do" in out, "it resumes like any run"
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (committed / "smoke" / "reproductions").mkdir()
    (committed / "smoke" / "reproductions" / facts.name).write_bytes(facts.read_bytes())
    found = reproductions(committed, "smoke")
    records = read_records(committed, "smoke")
    assert summary(found, records).startswith("reproduced on 1 machine, bit for bit on 1 (cpu: ")
    assert summary(found, {}) == "", "of records that are no longer there"
    words = ["--recipe", "smoke", "--results", str(committed)]
    assert senet("report", *words)[0] == 0
    readme = (committed / "smoke" / "README.md").read_text()
    assert "reproduced on 1 machine, bit for bit on 1" in readme
    assert senet("verify", *words)[0] == 0
    copy = committed / "smoke" / "reproductions" / facts.name
    copy.write_text(copy.read_text().replace('"other": []', '"other": ["0000000000000000"]'))
    code, _, errors = senet("verify", *words)
    assert code == 1 and facts.name in errors and "checksum" in errors


def test_what_cannot_be_compared_is_one_clear_line(committed: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        code, _, errors = senet("reproduce", "--device", "cpu", "--results", str(tmp_path), *words)
        assert code == 2 and len(errors.splitlines()) == 1, errors
        return errors

    (tmp_path / "smoke" / "runs").mkdir(parents=True)
    assert "no records" in refused("--recipe", "smoke")
    one, other = read_records(committed, "smoke").values()
    path = write_record(tmp_path, "smoke", one)
    sound = path.read_text()
    path.write_text(sound.replace('"tested": 100', '"tested": 101'))
    assert "checksum" in refused("--recipe", "smoke")
    path.write_text(sound)
    train = one.run.train.model_copy(update={"lr": 0.123})
    stranger = type(one.run)(train, one.run.se, one.run.seed)
    foreign = one.model_copy(update={"id": stranger.id, "run": stranger})
    strange = write_record(tmp_path, "smoke", foreign)
    assert "belong to no row" in refused("--recipe", "smoke")
    strange.unlink()
    where = one.provenance.model_copy(update={"data": "0" * 64})
    write_record(tmp_path, "smoke", other.model_copy(update={"provenance": where}))
    assert "of other images" in refused("--recipe", "smoke")
    assert "unknown recipe" in refused("--recipe", "smokey")
    assert not (tmp_path.parent / "reproductions" / "smoke" / "runs").exists()


def plan() -> Plan:
    return read_plan("digits", ["role_of_excitation"], seeds=4)


def moved(one: Record, points: float) -> Record:
    """The same record with an error that is so many points higher."""
    if not points:
        return one
    wrong = one.wrong_top1 + round(points / 100 * TESTED)
    right = np.arange(TESTED) >= wrong
    return one.model_copy(update={"wrong_top1": wrong, "correct": pack(right)})


def compared(points: dict[bool, list[float]]) -> Reproduction:
    """Against records whose errors, of plain (True) and SE rows, are moved by so many points."""
    theirs = {run.id: record(run) for run in plan().runs()}
    ours = {
        name: moved(one, points[one.run.se is None][one.run.seed]) for name, one in theirs.items()
    }
    return compare_records(plan(), theirs, ours, "test")


def test_rows_agree_differ_or_have_too_few_seeds_to_say() -> None:
    facts = compared({True: [0, 0, 0, 0], False: [30, 30, 30.5, 30]})
    plain, se = sorted(facts.rows, key=lambda row: row.variant != "plain")
    assert (plain.outcome, plain.equal, plain.seeds) == ("bit for bit", 4, 4)
    assert se.outcome == "differs" and se.equal == 0
    assert se.ours - se.committed == pytest.approx(30.125, abs=0.2)
    assert se.low is not None and se.margin is not None and se.low > se.margin
    said = sentences(facts)
    assert "4 of 8 records are equal" in said[0] and any("differs: role" in one for one in said)
    assert compared({True: [0, 0, 0, 0.5], False: [0.5, 0, 0, 0]}).rows[0].outcome == (
        "too few seeds to say"
    ), "a quarter of a point of margin takes more than four seeds"


def test_a_row_agrees_where_the_interval_lies_within_the_margin() -> None:
    runs = plan().runs()
    theirs = {run.id: moved(record(run), 0) for run in runs}
    flat = {name: one.model_copy(update={"wrong_top1": 160}) for name, one in theirs.items()}
    theirs = {name: moved(one, 0.25 * (one.run.seed % 2)) for name, one in flat.items()}
    ours = {name: moved(one, 0.25 * (one.run.seed < 2)) for name, one in flat.items()}
    facts = compare_records(plan(), theirs, ours, "test")
    for row in facts.rows:
        assert row.outcome == "agrees" and row.margin == pytest.approx(0.58, abs=0.02)
        assert row.low is not None and row.high is not None and row.low < 0 < row.high


def test_verdicts_are_made_from_the_same_runs_on_both_sides() -> None:
    plan = read_plan("digits", ["controls"], seeds=4)
    theirs = {run.id: record(run) for run in plan.runs()}
    standard = {name for name, one in theirs.items() if one.run.se == SESpec()}
    worse = {name: moved(one, 30) if name in standard else one for name, one in theirs.items()}
    same = compare_records(plan, theirs, theirs, "test")
    assert not same.other and all(one.committed == one.ours for one in same.verdicts)
    other = {one.claim: one for one in compare_records(plan, theirs, worse, "test").verdicts}
    assert other["control.4"].ours == "contradicted" != other["control.4"].committed
    assert other["control.1"].ours == other["control.1"].committed
    assert any(
        "claim control.4: contradicted here" in one
        for one in sentences(compare_records(plan, theirs, worse, "test"))
    )


def test_facts_are_sealed_and_the_page_names_what_differs(tmp_path: Path) -> None:
    facts = compared({True: [0, 0, 0, 0], False: [30, 30, 30.5, 30]})
    write_reproduction(tmp_path, facts)
    (path,) = tmp_path.glob("*.json")
    assert read_reproduction(path) == facts
    text = page(tmp_path, facts).markdown()
    assert "**" not in text and "| role" in text and "agreement.csv" in text
    content = json.loads(path.read_text())
    content["equal"] = content["equal"] + content["other"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="checksum"):
        read_reproduction(path)


def test_committed_records_are_read_strictly(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no records of recipe 'digits'"):
        committed_records(plan(), tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.4, 0.4, "agrees"), (0.6, 1, "differs"), (-1, -0.6, "differs"), (-1, 0, "too few seeds")],
)
def test_an_interval_outside_the_margin_on_either_side_differs(
    low: float, high: float, said: str
) -> None:
    assert _outcome(Estimate(0, low=low, high=high), 0.5, 3).startswith(said)


def test_rows_that_err_alike_in_every_seed_agree() -> None:
    assert _outcome(Estimate(0.0), 0.5, 3) == "agrees"
    assert _outcome(Estimate(0.0), 0.5, 1) == _outcome(Estimate(0.1), 0.5, 3)
