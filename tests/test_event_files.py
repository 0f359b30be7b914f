"""--tensorboard: what TensorBoard reads back is what the records say."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from senet_ablate.cli.main import _guarded, app
from senet_ablate.data import load_images
from senet_ablate.records.store import Epoch, read_records, write_record
from senet_ablate.report.tensorboard import curves_of
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.train.loop import train


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SE and the plain network of a two-epoch smoke recipe."""
    folder = tmp_path_factory.mktemp("results")
    for row in plan().rows():
        write_record(
            folder,
            "smoke",
            train(row.runs[0], load_images(row.runs[0].train, folder), torch.device("cpu")),
        )
    return folder


def plan() -> Plan:
    whole = read_plan("smoke", ["role_of_excitation"])
    two = whole.recipe.train.model_copy(update={"epochs": 2})
    return Plan("smoke", whole.recipe.model_copy(update={"train": two}), whole.experiments, 1)


def read(folder: Path) -> Iterator[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    (path,) = folder.iterdir()
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            yield value.tag, event.step, float(tensor_util.make_ndarray(value.tensor))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_event_files_hold_what_the_records_say(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an optional extra")
    assert curves_of(plan(), tmp_path).mirror(read_records(results, "smoke").values()) == 2
    folders = {path.name.rpartition(" ")[2]: path for path in (tmp_path / "smoke").iterdir()}
    records = read_records(results, "smoke")
    assert set(folders) == set(records)
    for name, record in records.items():
        expected = "SE" if record.run.se is not None else "plain"
        assert folders[name].name == f"role_of_excitation {expected} seed 0 {name}"
        found = {(tag, step): value for tag, step, value in read(folders[name])}
        assert found["loss/train", 2] == pytest.approx(record.epochs[1].train_loss)
        assert found["error/test", 1] == pytest.approx(record.epochs[0].test_top1)
        assert found["error/test", 2] == pytest.approx(record.top1) and found[
            "lr", 1
        ] == pytest.approx(record.epochs[0].lr)
        gates = {tag for tag, step in found if tag.startswith("gates ") and step in (1, 2)}
        assert len(gates) == 5 * len(record.gates)
        for block, one in record.gates.items():
            assert found[f"gates mean/{block}", 2] == pytest.approx(one.mean)
            assert 0 < found[f"gates mean/{block}", 1] < 1
    assert curves_of(plan(), tmp_path).mirror(read_records(results, "smoke").values()) == 0, (
        "written once"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_is_followed_epoch_by_epoch_also_where_it_goes_on_from_a_checkpoint(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard", reason="an optional extra")
    run, curves = next(iter(plan().rows())).runs[0], curves_of(plan(), tmp_path)
    seen: list[set[int]] = []
    with curves.follow(run) as told:

        def watch(number: int, epoch: Epoch) -> None:
            told(number, epoch)
            seen.append({step for _, step, _ in read(curves.of(run))})

        record = train(
            run, load_images(run.train, tmp_path), torch.device("cpu"), on_epoch_end=watch
        )
    assert seen == [{1}, {1, 2}, {1, 2}], "each epoch can be seen before the next one is trained"
    live = {(tag, step): value for tag, step, value in read(curves.of(run))}
    assert live["error/test", 2] == pytest.approx(record.top1)
    with curves.follow(run) as told:  # again, from a checkpoint after epoch 1: the old file is gone
        told(1, record.epochs[0])
    assert {step for _, step, _ in read(curves.of(run))} == {1}


def test_gates_are_on_record_at_every_epoch_that_is_read(results: Path) -> None:
    records = read_records(results, "smoke").values()
    for record in records:
        assert set(record.epochs[0].gates) == set(record.gates) and not record.epochs[-1].gates
    assert any(record.gates for record in records)


def test_a_missing_tensorboard_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    words = [
        "run",
        "--recipe",
        "smoke",
        "--results",
        str(tmp_path),
        "--tensorboard",
        str(tmp_path / "tb"),
    ]
    assert _guarded(lambda: app(words)) == 2
    assert "pip install tensorboard" in capsys.readouterr().err and not list(tmp_path.iterdir())
