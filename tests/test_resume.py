"""A run that is cut off anywhere ends, on the CPU, with the very record of one that never was."""

import copy
import datetime
import errno
import logging
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.data.images import ImageSet
from senet_ablate.records.store import Record, checkpoint_path, read_records, runs_folder
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.checkpoint import (
    Checkpoints,
    Interrupted,
    NoCheckpoints,
    StopRequest,
    TrainState,
    load_checkpoint,
    origin,
    save_checkpoint,
)
from senet_ablate.train.job import RunStatus, SweepContext, remove_finished, train_if_missing
from senet_ablate.train.loop import prepared, train

CPU = torch.device("cpu")
TIMES = {"provenance": {"started", "wall_s", "train_s"}}


def context(results: Path, every_s: float = 0.0) -> SweepContext:
    return SweepContext(results, "own", results, "cpu", "test", checkpoint_every_s=every_s)


def settled(record: Record) -> dict[str, Any]:
    """A record without its times."""
    return record.model_dump(exclude=TIMES)


class Cut(NoCheckpoints):
    """Ends a run after so many steps in all, its state kept."""

    def __init__(self, path: Path, origin: dict[str, Any], steps: int) -> None:
        self.kept, self.left = Checkpoints(path, origin, every_s=1e9), steps

    @contextmanager
    def attach(self, state: TrainState) -> Iterator[None]:
        with self.kept.attach(state):
            yield

    def on_batch_end(self, state: TrainState) -> None:
        self.left -= 1
        if not self.left:
            raise Interrupted

    def on_eval_batch_end(self, images: int) -> None:
        if self.left == -1:
            raise Interrupted


PLATEAU = {"schedule": "plateau", "validation": 0.25, "drops": 1, "patience": 1, "batch_size": 24}


@pytest.mark.parametrize(
    ("fields", "se"),
    [
        ({"flip": True, "pad_crop": 1, "nesterov": True}, SESpec()),
        ({"cutout": 2}, SESpec(squeeze="random")),
        (PLATEAU, SESpec(placement="pre")),
        ({"momentum": 0.0, "test_every": 2}, None),
        ({"lr": 1e30}, SESpec()),
        ({"precision": "bf16"}, SESpec()),
    ],
    ids=["augmented", "random squeeze", "plateau", "no momentum", "diverging", "bf16"],
)
def test_a_run_cut_off_after_any_step_ends_with_the_same_record(
    fields: dict[str, Any], se: SESpec | None, tiny: Training, tmp_path: Path
) -> None:
    from senet_ablate.data import load_images

    spec = Training.model_validate({**tiny.model_dump(), **fields})
    run, images = Run(spec, se, 3), load_images(spec, tmp_path)
    whole, of_run = train(run, images, CPU), origin(run, images.checksum, CPU)
    for steps in range(1, 7):  # an epoch has 3
        path = tmp_path / f"{steps}.pt"
        try:
            train(run, images, CPU, checkpoints=Cut(path, of_run, steps))
        except Interrupted:
            torch.manual_seed(99)  # whatever happened in between
        else:
            assert whole.diverged == 0 and steps > 3, (
                "it diverges in the first epoch and has no step 4"
            )
            continue
        assert settled(train(run, images, CPU, checkpoints=Checkpoints(path, of_run))) == settled(
            whole
        )


def test_a_run_asked_to_stop_in_an_evaluation_loses_no_step(
    tiny: Training, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny, SESpec(squeeze="random"), 0)
    whole, kept = (
        train(run, digits, CPU),
        Checkpoints(tmp_path / "c", origin(run, digits.checksum, CPU), 1e9),
    )
    asked = iter([False, False, False, True])  # three steps, then the first batch of the evaluation
    monkeypatch.setattr(kept, "on_batch_end", lambda state: next(asked))
    on_eval_batch_end = kept.on_eval_batch_end

    def asked_to_stop(images: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        on_eval_batch_end(images)

    monkeypatch.setattr(kept, "on_eval_batch_end", asked_to_stop)
    with pytest.raises(Interrupted):
        train(run, digits, CPU, checkpoints=kept)
    state = load_checkpoint(kept.path, kept.origin)
    assert (len(state["epochs"]), state["step"]) == (0, 3)
    assert settled(
        train(run, digits, CPU, checkpoints=Checkpoints(kept.path, kept.origin))
    ) == settled(whole)


def test_a_run_whose_decoders_a_signal_ended_writes_its_checkpoint(
    tiny: Training, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm signals every process; training, in a thread, may wait for a batch just then."""
    run = Run(tiny, None, 0)
    kept = Checkpoints(tmp_path / "c", origin(run, digits.checksum, CPU), 1e9)
    monkeypatch.setattr(StopRequest, "signal", 0)

    def waits_for_a_batch(state: TrainState) -> None:
        if state.step == 2:
            StopRequest.signal = signal.SIGTERM
            raise RuntimeError("DataLoader worker (pid(s) 1234) exited unexpectedly")

    monkeypatch.setattr(kept, "on_batch_end", waits_for_a_batch)
    with ThreadPoolExecutor(1) as threads, pytest.raises(Interrupted):
        threads.submit(train, run, digits, CPU, checkpoints=kept).result()
    state = load_checkpoint(kept.path, kept.origin)
    assert (len(state["epochs"]), state["step"]) == (0, 2)


SMALL = Training(
    dataset="digits",
    train_images=96,
    test_images=50,
    backbone="resnet_tiny_bottleneck",
    epochs=2,
    batch_size=8,
    lr=0.05,
    flip=True,
)
RUNS = [Run(SMALL, se, 0) for se in (None, SESpec(), SESpec(squeeze="random"))]


def sweep(results: Path) -> None:
    """What a launcher does, in this process."""
    torch.set_num_threads(1)
    remove_finished(context(results))
    for run in RUNS:
        train_if_missing(run, context(results), CPU, lambda images: None)


def _in_a_child(
    function: Callable[[Path], None], results: Path
) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=function, args=(results,))
    child.start()
    return child


def test_a_sweep_killed_at_20_random_moments_loses_nothing_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    """kill -9 and SIGTERM in turn, a checkpoint after every step; each sweep ends whole and another
    begins.
    """
    started = time.monotonic()
    sweep(tmp_path / "whole")
    took = time.monotonic() - started
    whole = read_records(tmp_path / "whole", "own")
    generator, kills, sweeps, cut = random.Random(20), 0, 0, 0
    while kills < 20:
        results, sweeps = tmp_path / f"cut{sweeps}", sweeps + 1
        done: dict[Path, int] = {}
        while True:
            child = _in_a_child(sweep, results)
            child.join(generator.uniform(0, 0.7 * took))
            if child.is_alive() and child.pid:
                os.kill(child.pid, signal.SIGKILL if kills % 2 else signal.SIGTERM)
                kills += 1
                child.join()
            cut += len(list((results / "own" / "checkpoints").glob("*.pt")))
            now = {
                path: path.stat().st_mtime_ns for path in runs_folder(results, "own").glob("*.json")
            }
            assert done.items() <= now.items(), "a record was lost or written twice"
            done = now
            if child.exitcode == 0:
                break
        found = read_records(results, "own")
        assert {name: settled(record) for name, record in found.items()} == {
            name: settled(record) for name, record in whole.items()
        }
        assert sorted(
            path.name for path in (results / "own").rglob("*") if path.is_file()
        ) == sorted(f"{run.id}.json" for run in RUNS), "no checkpoint, lock or fragment is left"
    assert cut >= 5, "checkpoints were there to go on from"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first run, trained without a stop."""
    return settled(train(RUNS[0], _images(tmp_path_factory.getbasetemp()), CPU, "test"))


@pytest.fixture
def cut_off(tmp_path: Path) -> tuple[Run, Path]:
    """A run that was cut off after 5 steps, and its checkpoint."""
    run, (images, path) = RUNS[0], (_images(tmp_path), checkpoint_path(tmp_path, "own", RUNS[0].id))
    with pytest.raises(Interrupted):
        train(run, images, CPU, checkpoints=Cut(path, origin(run, images.checksum, CPU), 5))
    return run, path


def _images(root: Path) -> ImageSet:
    from senet_ablate.data import load_images

    return load_images(RUNS[0].train, root)


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _rewritten(**other: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        images = _images(path.parent)
        model, optimizer, _ = prepared(RUNS[0], images, CPU)
        state = TrainState(model, optimizer, CPU).state_dict()
        save_checkpoint(path, origin(RUNS[0], images.checksum, CPU) | other, state)

    return write


def _other_network(path: Path) -> None:
    images = _images(path.parent)
    model, optimizer, _ = prepared(RUNS[1], images, CPU)
    state = TrainState(model, optimizer, CPU).state_dict()
    save_checkpoint(path, origin(RUNS[0], images.checksum, CPU), state)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_torn, "checksum"),
        (_empty, "checksum"),
        (_flipped, "checksum"),
        (_rewritten(run="0" * 16), "with run '0000"),
        (_rewritten(data="0" * 64), "with data '0000"),
        (_rewritten(code="0" * 64), "with code '0000"),
        (_rewritten(torch_version="1.0"), "with torch_version '1.0'"),
        (_rewritten(device="cuda"), "with device 'cuda'"),
        (_other_network, "not those of this network"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_set_aside_with_one_warning(
    damage: Callable[[Path], None],
    why: str,
    cut_off: tuple[Run, Path],
    reference: dict[str, Any],
    tmp_path: Path,
    caplog: Any,
) -> None:
    run, path = cut_off
    damage(path)
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        assert (
            train_if_missing(run, context(tmp_path, 1e9), CPU, lambda images: None)
            is RunStatus.TRAINED
        )
    assert [
        why in line.getMessage() and "starts anew" in line.getMessage() for line in caplog.records
    ] == [True]
    assert path.with_name(f"{path.name}.bad").read_bytes() == content and not path.exists()
    record = read_records(tmp_path, "own")[run.id]
    assert settled(record) == reference


def test_a_sound_checkpoint_is_used(cut_off: tuple[Run, Path], tmp_path: Path, caplog: Any) -> None:
    run, path = cut_off
    images = _images(tmp_path)
    state = load_checkpoint(path, origin(run, images.checksum, CPU))
    assert (len(state["epochs"]), state["step"]) == (0, 5) and float(state["loss_sum"]) > 0
    assert (
        train_if_missing(run, context(tmp_path), CPU, lambda images: None) is RunStatus.TRAINED
        and not caplog.records
    )


def test_a_full_disk_stops_no_training_and_loses_no_checkpoint(
    cut_off: tuple[Run, Path],
    reference: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    run, path = cut_off
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr("senet_ablate.records.facts.os.fsync", full)
        with pytest.raises(
            OSError, match="No space left"
        ):  # of the record, once the training is through
            train_if_missing(run, context(tmp_path), CPU, lambda images: None)
    assert len(caplog.records) == 1 and "training goes on" in caplog.text
    assert path.read_bytes() == before and not read_records(tmp_path, "own")
    assert not list(tmp_path.rglob("*.tmp"))
    assert train_if_missing(run, context(tmp_path), CPU, lambda images: None) is RunStatus.TRAINED
    assert settled(read_records(tmp_path, "own")[run.id]) == reference


def test_runs_of_seconds_write_no_checkpoint_and_writing_takes_less_than_a_fiftieth(
    tiny: Training, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny, None, 0)
    model, optimizer, _ = prepared(run, digits, CPU)
    state, of_run = TrainState(model, optimizer, CPU), origin(run, digits.checksum, CPU)
    now, writes = [0.0], []
    monkeypatch.setattr("senet_ablate.train.checkpoint.time.monotonic", lambda: now[0])

    def slow(path: Path, origin: dict[str, Any], state: dict[str, Any]) -> None:
        writes.append(now[0])
        now[0] += 3.0

    monkeypatch.setattr("senet_ablate.train.checkpoint.save_checkpoint", slow)
    kept = Checkpoints(tmp_path / "c", of_run, every_s=30.0)
    with kept.attach(state):
        while now[0] < 29.5:
            now[0] += 0.5
            kept.on_batch_end(state)
        assert not writes
        while now[0] < 2000:
            now[0] += 0.5
            kept.on_batch_end(state)
    assert len(writes) > 10 and 3.0 * (len(writes) - 1) / (writes[-1] - writes[0]) < 0.02


def test_an_unfit_file_leaves_the_state_as_it_was(
    cut_off: tuple[Run, Path], tmp_path: Path
) -> None:
    run, path = cut_off
    images = _images(tmp_path)
    model, optimizer, _ = prepared(run, images, CPU)
    state = TrainState(model, optimizer, CPU)
    before = copy.deepcopy(state.state_dict()["model"])
    _other_network(path)
    other = load_checkpoint(path, origin(run, images.checksum, CPU))
    with pytest.raises(BadInput, match="not those of this network"):
        state.load_state_dict(other)
    after = state.state_dict()["model"]
    assert all(torch.equal(value, before[name]) for name, value in after.items())


class _Odd(torch.nn.Module):
    """A module whose state is more than tensors of their own: a view of the weight in another
    type, a slice of a large table, and a dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 2))
        self.register_buffer("same", self.weight.detach().view(torch.int32))
        self.register_buffer("slice", torch.randn(1_000_000)[:3])
        self.seen = {"images": 0}

    def get_extra_state(self) -> dict[str, int]:
        return self.seen

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seen = state


def test_a_state_is_kept_by_its_values(tmp_path: Path) -> None:
    one, other, path = _Odd(), _Odd(), tmp_path / "checkpoint.pt"
    one.seen = {"images": 3}
    states = [TrainState(m, torch.optim.SGD(m.parameters(), lr=0.1), CPU) for m in (one, other)]
    save_checkpoint(path, {}, states[0].state_dict())
    assert path.stat().st_size < 100_000, "not with the table"
    states[1].load_state_dict(load_checkpoint(path, {}))
    assert torch.equal(one.weight, other.weight) and other.seen == {"images": 3}


def test_a_state_that_cannot_be_read_back_is_said(tmp_path: Path) -> None:
    path, model = tmp_path / "checkpoint.pt", _Odd()
    model.seen = {"images": Path()}  # type: ignore[dict-item]
    save_checkpoint(
        path, {}, TrainState(model, torch.optim.SGD(model.parameters()), CPU).state_dict()
    )
    with pytest.raises(BadInput, match="more than tensors and plain values"):
        load_checkpoint(path, {})


def test_a_resumed_run_began_when_it_was_first_started(tiny: Training, tmp_path: Path) -> None:
    from senet_ablate.data import load_images

    run, images, path = Run(tiny, None, 3), load_images(tiny, tmp_path), tmp_path / "one.pt"
    of_run = origin(run, images.checksum, CPU)
    with pytest.raises(Interrupted):
        train(run, images, CPU, checkpoints=Cut(path, of_run, 4))
    state = load_checkpoint(path, of_run)
    save_checkpoint(path, of_run, state | {"seconds": state["seconds"] + 1000})
    made = train(run, images, CPU, checkpoints=Checkpoints(path, of_run)).provenance
    assert made.wall_s >= made.train_s > 1000
    began = datetime.datetime.fromisoformat(made.started)
    assert (datetime.datetime.now(datetime.UTC) - began).total_seconds() > 1000


def test_native_bits_go_on_only_on_the_processor_where_they_began(
    tiny: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    portable = tiny.model_copy(update={"numerics": "portable"})
    runs = Run(tiny, None, 0), Run(portable, None, 0)
    native, same = (origin(run, "0", CPU) for run in runs)
    monkeypatch.setattr("senet_ablate.train.checkpoint.processor", lambda: "cpu: another")
    assert origin(runs[0], "0", CPU) != native and origin(runs[1], "0", CPU) == same
