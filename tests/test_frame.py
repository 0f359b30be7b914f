"""A stranger's mean is the table's mean, and nothing there is not "all is well"."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fabricated import record as fabricated

from senet_ablate import SESpec, load_records
from senet_ablate.analysis.exclusions import health
from senet_ablate.analysis.frame import strangers, tidy
from senet_ablate.analysis.tables import tables
from senet_ablate.cli.main import _guarded, app
from senet_ablate.records import Epoch
from senet_ablate.records.store import Record, read_records, write_record
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run


def guessing(record: Record) -> Record:
    return record.model_copy(update={"majority": record.tested - record.wrong_top1})


def exit_code(*words: str) -> int:
    return _guarded(lambda: app(list(words), standalone_mode=True))


def test_all_seeds_make_the_mean_of_the_table_and_the_sound_ones_that_beside_it() -> None:
    plan = read_plan("digits", ["role_of_squeeze"], seeds=4)
    records = {run.id: fabricated(run) for run in plan.runs()}
    spoiled = next(run for run in plan.runs() if run.se == SESpec() and run.seed == 2)
    records[spoiled.id] = guessing(records[spoiled.id])
    d = tidy(records.values())
    row = tables(plan, records)["role_of_squeeze"].rows.loc["SE"]
    mine = d[d["squeeze"] == "avg"]
    assert (len(mine), mine.top1.mean()) == (row["n"], pytest.approx(row["top1"]))
    sound = mine[mine.left_out == ""]
    assert (len(sound), sound.top1.mean()) == (3, pytest.approx(row["sound_top1"]))
    assert row["failed"] == 1 and row["sound_top1"] != pytest.approx(row["top1"])
    assert set(d[d.left_out != ""]["id"]) == {spoiled.id}
    assert d.set_index("id").left_out[spoiled.id] == health(records[spoiled.id])


def test_fields_that_a_block_does_not_depend_on_are_missing() -> None:
    train = read_plan("cue").recipe.train
    rows = [None, SESpec(gate="constant"), SESpec(excitation="none"), SESpec(stages=(2,))]
    d = tidy([fabricated(Run(train, se, 0)) for se in rows])
    missing = [
        {name for name in ("reduction", "squeeze", "excitation", "stages") if pd.isna(row[name])}
        for row in d.to_dict("records")
    ]
    assert missing[1] == {"reduction", "squeeze", "excitation", "stages"} == missing[0]
    assert missing[2:] == [{"reduction"}, set()] and d["stages"][3] == "(2,)"


def test_records_of_another_state_of_the_recipe_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = read_plan("smoke", ["role_of_squeeze"])
    run = plan.runs()[0]
    other = Run(run.train.model_copy(update={"lr": 0.04}), run.se, 0)
    odd = Run(run.train, SESpec(reduction=5), 0)
    records = {one.id: fabricated(one) for one in (run, other, odd)}
    found = strangers("smoke", records)
    assert found == {
        "the recipe differs: lr 0.04": [other.id],
        "no experiment has such a block": [odd.id],
    }
    for one in records.values():
        write_record(tmp_path, "smoke", one)
    with caplog.at_level(logging.WARNING):
        assert len(load_records(tmp_path, "smoke")) == 3
    assert (
        "1 records belong to no row of recipe 'smoke': the recipe differs: lr 0.04" in caplog.text
    )


@pytest.mark.usefixtures("blank_plots")
def test_the_page_and_verify_name_records_of_another_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_plan("smoke", ["role_of_squeeze"]).runs()[0]
    other = Run(run.train.model_copy(update={"lr": 0.04}), run.se, 0)
    for one in (run, other):
        write_record(tmp_path, "smoke", fabricated(one))
    assert exit_code("report", "--recipe", "smoke", "--results", str(tmp_path)) == 0
    page = (tmp_path / "smoke" / "README.md").read_text()
    assert "2 runs, of which 1 belong to no row here (the recipe differs: lr 0.04)" in page
    assert exit_code("verify", "--recipe", "smoke", "--results", str(tmp_path)) == 1
    assert (
        "1 records belong to no row of the recipe as it stands (the recipe differs: lr 0.04):"
        f" {other.id}" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("blank_plots")
def test_an_experiment_on_request_is_shown_where_other_tables_have_all_its_runs(
    tmp_path: Path,
) -> None:
    from senet_ablate.analysis.tables import read_reported

    for run in read_plan("smoke", ["backbones"]).runs():
        write_record(tmp_path, "smoke", fabricated(run))
    assert [
        name
        for name in read_reported("smoke", read_records(tmp_path, "smoke")).experiments
        if name in ("backbones", "depth")
    ] == ["backbones", "depth"]


@pytest.mark.parametrize("verb", ["report", "verify"])
def test_nothing_there_is_said_and_nothing_is_written(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typo = tmp_path / "typo"
    assert exit_code(verb, "--results", str(typo)) == 2
    assert f"{typo}: no such folder" in capsys.readouterr().err and not typo.exists()
    assert exit_code(verb, "--recipe", "smoke", "--results", str(typo)) == 2 and not typo.exists()
    (tmp_path / "empty" / "stray").mkdir(parents=True)
    assert exit_code(verb, "--recipe", "smoke", "--results", str(tmp_path / "empty")) == 2
    assert (
        "no records of any recipe, no <recipe>/runs/*.json; it holds stray"
        in capsys.readouterr().err
    )
    assert exit_code(verb, "--results", str(tmp_path / "empty")) == 2
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["stray"]


def test_load_records_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        load_records(tmp_path / "typo", "cue")
    write_record(tmp_path, "smoke", fabricated(read_plan("smoke").runs()[0]))
    with pytest.raises(BadInput, match="no records of recipe 'smoek'; did you mean 'smoke'"):
        load_records(tmp_path, "smoek")
    with pytest.raises(BadInput, match="it holds runs"):
        load_records(tmp_path / "smoke", "smoke")


def test_records_of_a_recipe_that_this_checkout_lacks_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path, "theirs", fabricated(read_plan("smoke").runs()[0]))
    assert exit_code("report", "--results", str(tmp_path)) == 0
    assert (
        "no recipe of that name" in capsys.readouterr().err
        and not (tmp_path / "theirs" / "README.md").exists()
    )
    assert exit_code("verify", "--results", str(tmp_path)) == 1
    assert len(load_records(tmp_path, "theirs")) == 1, "reading needs no recipe"


@pytest.mark.usefixtures("blank_plots")
def test_report_and_verify_read_each_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "smoke", fabricated(read_plan("smoke", ["conv3x3"]).runs()[0]))
    whole, seen = Path.read_text, list[Path]()

    def read_text(path: Path, *words: Any, **options: Any) -> str:
        seen.append(path)
        return whole(path, *words, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    for verb in ("report", "verify"):
        assert exit_code(verb, "--recipe", "smoke", "--results", str(tmp_path)) == 0
        assert [path.parent.name for path in seen].count("runs") == 1, verb
        seen.clear()


def test_curves_are_read_at_their_ends_and_over_their_length() -> None:
    def epoch(loss: float, error: float) -> Epoch:
        return Epoch(lr=0.1, train_loss=loss, train_top1=error, test_loss=loss, test_top1=error)

    run = Run(read_plan("cue").recipe.train, None, 0)
    one = fabricated(run).model_copy(update={"epochs": (epoch(3.0, 30.0), epoch(1.0, 20.0))})
    assert one.throughout == 25 and list(tidy([one]).train_loss) == [1.0]
