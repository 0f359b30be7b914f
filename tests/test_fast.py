"""Steps on buffers that stay where they are, with plain calls in the place of CUDA graphs."""

from functools import partial

import pytest
import torch
from torch import Tensor

from senet_ablate import SESpec
from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.records.store import Epoch
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.checkpoint import TrainState
from senet_ablate.train.cuda_graph import WARM, Call, Step, Steps, step_for
from senet_ablate.train.loop import prepared, train_epoch, train_step

CPU = torch.device("cpu")


def like_a_graph(call: Call, generator: torch.Generator | None) -> Call:
    """Warms up as a capture does, and writes results to the same places."""
    for _ in range(WARM):
        results = call()

    def replay() -> tuple[Tensor, Tensor]:
        for place, value in zip(results, call(), strict=True):
            place.copy_(value)
        return results

    return replay


def curve(
    run: Run, digits: ImageSet, steps: Steps | None = None
) -> list[tuple[float, float, float]]:
    """Rate, loss and error of each epoch."""
    model, optimizer, batches = prepared(run, digits, CPU)
    if steps is not None:
        model, optimizer = steps.model, steps.optimizer
    return epochs(TrainState(model, optimizer, CPU), batches, run, 3, steps)


def epochs(
    loop: TrainState, batches: Batches, run: Run, until: int, step: Step | None
) -> list[tuple[float, float, float]]:
    found = []
    while loop.epoch <= until:
        lr, loss, error = train_epoch(loop, batches, run, step)
        loop.end_epoch(Epoch(lr=lr, train_loss=loss, train_top1=error))
        found.append((lr, loss, error))
    return found


def fresh(run: Run, digits: ImageSet) -> Steps:
    model, optimizer, _ = prepared(run, digits, CPU)
    return Steps(model, optimizer, partial(train_step, spec=run.train), like_a_graph)


@pytest.mark.parametrize(
    "se", [None, SESpec(), SESpec(squeeze="random")], ids=["plain", "SE", "random"]
)
def test_the_fast_loop_has_the_loss_curve_of_the_plain_one(
    se: SESpec | None, tiny: Training, digits: ImageSet
) -> None:
    spec = tiny.model_copy(update={"epochs": 3, "schedule": "onecycle"})
    run = Run(spec, se, 1)
    for fast, plain in zip(curve(run, digits, fresh(run, digits)), curve(run, digits), strict=True):
        assert fast == pytest.approx(plain, rel=1e-5)


def test_a_step_whose_optimizer_was_loaded_is_captured_again(
    tiny: Training, digits: ImageSet
) -> None:
    steps = fresh(Run(tiny, None, 0), digits)
    curve(Run(tiny, None, 0), digits, steps)
    before, state = steps.replay, steps.optimizer.state_dict()
    momentum = next(iter(state["state"].values()))["momentum_buffer"].clone()
    steps.optimizer.load_state_dict(
        {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.0}]}
    )
    _, _, batches = prepared(Run(tiny, None, 0), digits, CPU)
    weights = [p.detach().clone() for p in steps.model.parameters()]
    steps(*next(batches.shuffled(0, 1)))
    assert steps.replay is not before
    assert all(torch.equal(a, b) for a, b in zip(weights, steps.model.parameters(), strict=True)), (
        "the rate is 0"
    )
    assert not torch.equal(momentum, next(iter(steps.optimizer.state.values()))["momentum_buffer"])


def test_what_cannot_be_captured_is_run_step_by_step(
    tiny: Training, digits: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(call: Call, generator: torch.Generator | None) -> Call:
        raise RuntimeError("operation not permitted when stream is capturing")

    run = Run(tiny, None, 0)
    steps = fresh(run, digits)
    steps.capture = refuse
    for fast, plain in zip(curve(run, digits, steps), curve(run, digits), strict=True):
        assert fast == pytest.approx(plain, rel=1e-5)
    assert "steps start one by one: operation not permitted" in caplog.text


def test_a_cpu_takes_the_step_as_written(tiny: Training, digits: ImageSet) -> None:
    run = Run(tiny, None, 0)
    model, optimizer, _ = prepared(run, digits, CPU)
    assert not isinstance(step_for(model, optimizer, CPU, partial(train_step, spec=tiny)), Steps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_has_the_loss_curve_of_the_plain_loop(tiny: Training, digits: ImageSet) -> None:
    device, curves = torch.device("cuda"), []
    spec, run = tiny, Run(tiny, SESpec(), 0)
    for fast in (True, False):
        model, optimizer, batches = prepared(run, digits, device)
        step = None
        if fast:
            step = step_for(model, optimizer, device, partial(train_step, spec=spec))
        curves.append(epochs(TrainState(model, optimizer, device), batches, run, 2, step))
    for ours, plain in zip(*curves, strict=True):
        assert ours == pytest.approx(plain, rel=1e-3)


def test_a_run_goes_on_from_its_checkpoint_in_a_graph(tiny: Training, digits: ImageSet) -> None:
    """The graph writes to the momentum that it was taken with, so the checkpoint's must come to lie
    there.
    """
    run = Run(tiny, SESpec(squeeze="random"), 1)
    model, optimizer, batches = prepared(run, digits, CPU)
    loop = TrainState(model, optimizer, CPU)
    epochs(loop, batches, run, 1, None)
    state = loop.state_dict()
    expected = epochs(loop, batches, run, 3, None)

    steps = fresh(run, digits)
    epochs(TrainState(steps.model, steps.optimizer, CPU), batches, run, 1, steps)
    replay, other = steps.replay, TrainState(steps.model, steps.optimizer, CPU)
    other.load_state_dict(state)
    found = epochs(other, batches, run, 3, steps)
    assert steps.replay is replay, "not taken anew"
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
