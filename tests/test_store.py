import logging
import os
from pathlib import Path

import pytest
import torch
from fabricated import resealed

from senet_ablate import SESpec, load_records
from senet_ablate.data.images import ImageSet
from senet_ablate.records.facts import set_aside, write_whole
from senet_ablate.records.store import Record, read_record, read_records, write_record
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.loop import train


@pytest.fixture
def record(tiny: Training, digits: ImageSet) -> Record:
    spec = tiny.model_copy(update={"epochs": 1})
    return train(Run(spec, SESpec(stages=(2, 3)), 7), digits, torch.device("cpu"), command="test")


def test_a_record_comes_back_whole(record: Record, tmp_path: Path) -> None:
    path = write_record(tmp_path, "r", record)
    assert read_record(path) == record
    assert path.name == f"{record.id}.json"


def test_the_table_of_records_is_tidy(record: Record, tmp_path: Path) -> None:
    write_record(tmp_path, "r", record)
    frame = load_records(tmp_path, "r")
    row = frame.iloc[0]
    assert len(frame) == 1 and row["seed"] == 7 and row["stages"] == "(2, 3)" and not row["plain"]
    assert row["top1"] == 100 * record.wrong_top1 / record.tested
    with pytest.raises(BadInput, match="no records of recipe 'nothing'; known: r"):
        load_records(tmp_path, "nothing")


def test_every_changed_byte_is_found(record: Record, tmp_path: Path) -> None:
    path = write_record(tmp_path, "r", record)
    content = path.read_bytes()
    found = same = 0
    for place in range(0, len(content), 37):
        if content[place : place + 1].isspace():
            continue
        changed = bytearray(content)
        changed[place] = ord("7") if changed[place] != ord("7") else ord("8")
        path.write_bytes(bytes(changed))
        try:
            # The 17th digit of a float can be another spelling of the same number.
            assert read_record(path) == record
        except BadInput as error:
            assert path.name in str(error)
            found += 1
        else:
            same += 1
    assert found > 20 * same


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"checksum": "x"}', '"text"', "\x00"]
)
def test_a_foreign_file_is_named_and_left_alone(
    content: str, record: Record, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = write_record(tmp_path, "r", record)
    bad = good.with_name("0123456789abcdef.json")
    bad.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert set(read_records(tmp_path, "r")) == {record.id}
    assert bad.name in caplog.text and bad.read_text() == content


def test_a_record_under_another_name_or_of_another_run_is_refused(
    record: Record, tmp_path: Path
) -> None:
    path = write_record(tmp_path, "r", record)
    other = path.rename(path.with_name("0123456789abcdef.json"))
    with pytest.raises(BadInput, match="id"):
        read_record(other)
    content = record.model_dump(mode="json")
    content["run"]["seed"] = 8  # consistent with its checksum, not with its id
    with pytest.raises(BadInput, match="specification's id"):
        read_record(resealed(path, content))


def test_a_record_from_before_a_field_with_a_default_was_added_stays_readable(
    record: Record, tmp_path: Path
) -> None:
    content = record.model_dump(mode="json")
    del (
        content["diverged"],
        content["provenance"]["operators"],
        content["epochs"][0]["validation_loss"],
    )
    del content["provenance"]["processes"]
    assert read_record(resealed(tmp_path / f"{record.id}.json", content)) == record


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "file.json"
    write_whole(path, "old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = os.umask(0o027)
    write_whole(path, "old")
    os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640, "as any other file of the user's"
    monkeypatch.setattr("senet_ablate.records.facts.os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_provenance_says_what_made_the_record(record: Record) -> None:
    where = record.provenance
    assert where.command == "test" and where.threads >= 1 and where.wall_s >= where.train_s > 0
    assert where.versions["torch"] == torch.__version__.split("+")[0] and len(where.data) == 64
    assert where.device.startswith("cpu")


def test_a_record_that_another_version_wrote_says_which(record: Record, tmp_path: Path) -> None:
    content = record.model_dump(mode="json")
    path = resealed(tmp_path / f"{record.id}.json", content | {"a_later_field": 1})
    with pytest.raises(
        BadInput,
        match=f"unknown key 'a_later_field'.*written at commit {record.provenance.commit[:7]}",
    ):
        read_record(path)
    train = record.run.fields["train"] | {"backbone": "resnet_of_old"}
    run = record.run.fields | {"train": train}
    with pytest.raises(
        BadInput, match=r"unknown backbone 'resnet_of_old'.*another version reads it"
    ):
        read_record(resealed(path, content | {"run": run}))


def test_counts_that_contradict_each_other_are_no_record_whatever_the_checksum(
    record: Record, tmp_path: Path
) -> None:
    content, path = record.model_dump(mode="json"), tmp_path / f"{record.id}.json"
    with pytest.raises(BadInput, match="counts 0 wrong images and marks"):
        read_record(resealed(path, content | {"wrong_top1": 0}))
    for tested in (999, 10**13):
        with pytest.raises(BadInput, match=f"does not say of {tested} images"):
            read_record(resealed(path, content | {"tested": tested}))
    for tested in (0, -1):
        with pytest.raises(BadInput, match="key 'tested'"):
            read_record(resealed(path, content | {"tested": tested}))
    with pytest.raises(BadInput, match="not in base 64"):
        read_record(resealed(path, content | {"correct": "é" * len(record.correct)}))
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(BadInput, match="no such file"):
        read_record(path)


def test_what_is_set_aside_keeps_its_bytes_and_never_takes_a_name_that_is_taken(
    tmp_path: Path,
) -> None:
    names = []
    for content in ("one", "two", "three"):
        (tmp_path / "a.json").write_text(content)
        names.append(set_aside(tmp_path / "a.json").name)
    assert names == ["a.json.bad", "a.json.bad2", "a.json.bad3"]
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "three"]
