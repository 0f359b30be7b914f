"""Training steps on buffers that stay where they are, with plain calls in the place of CUDA
graphs.
"""

import copy
import gc
import threading
import weakref
from collections import deque
from functools import partial, partialmethod
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from senet_ablate import SESpec, build_model
from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.records.store import Epoch
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train import cuda_graph as cuda_graph_module
from senet_ablate.train.checkpoint import TrainState
from senet_ablate.train.compute import compile_training
from senet_ablate.train.cuda_graph import (
    WARM,
    Call,
    CaptureError,
    CaptureLost,
    Step,
    cuda_graph,
    graphed,
)
from senet_ablate.train.loop import (
    ProgressMeter,
    evaluate,
    make_step,
    on_host,
    prepared,
    train_epoch,
    train_step,
)

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


def fresh(run: Run, digits: ImageSet) -> tuple[TrainState, Batches, Step]:
    """A run that begins, with its step captured."""
    model, optimizer, batches = prepared(run, digits, CPU)
    plain = partial(train_step, model, optimizer, spec=run.train)
    with patch.object(cuda_graph_module, "cuda_graph", like_a_graph):
        step = graphed(plain, model.train(), optimizer, *batches.empty())
    return TrainState(model, optimizer, CPU), batches, step


def plain(run: Run, digits: ImageSet) -> tuple[TrainState, Batches, Step]:
    model, optimizer, batches = prepared(run, digits, CPU)
    return (
        TrainState(model, optimizer, CPU),
        batches,
        make_step(run.train, model, optimizer, batches),
    )


def test_a_capture_leaves_buffers_that_are_not_saved_as_they_were() -> None:
    class Counting(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)  # type: ignore[operator]
            return super().forward(x)

    model, x = Counting(), torch.ones(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = model.weight.clone()

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach(), y

    with patch.object(cuda_graph_module, "cuda_graph", like_a_graph):
        graphed(step, model, optimizer, x, x)
    assert model.calls == 0 and torch.equal(model.weight, before)


def epochs(
    state: TrainState, batches: Batches, step: Step, run: Run, until: int = 3
) -> list[tuple[float, float, float]]:
    """Rate, loss and error of each epoch."""
    found = []
    while state.epoch <= until:
        lr, loss, error = train_epoch(state, batches, run, step)
        state.end_epoch(Epoch(lr=lr, train_loss=loss, train_top1=error))
        found.append((lr, loss, error))
    return found


@pytest.mark.parametrize(
    "se", [None, SESpec(), SESpec(squeeze="random")], ids=["plain", "SE", "random"]
)
def test_a_captured_step_trains_what_the_step_as_written_trains(
    se: SESpec | None, tiny: Training, digits: ImageSet
) -> None:
    """Bit for bit: the capture trained on a black batch, and none of it is left."""
    spec = tiny.model_copy(update={"epochs": 3, "schedule": "onecycle"})
    run = Run(spec, se, 1)
    captured, written = fresh(run, digits), plain(run, digits)
    assert epochs(*captured, run) == epochs(*written, run)
    for one, other in zip(
        captured[0].model.state_dict().values(), written[0].model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_run_resumes_from_its_checkpoint_in_the_graph_that_it_captured(
    tiny: Training, digits: ImageSet
) -> None:
    run = Run(tiny, SESpec(squeeze="random"), 1)
    state, batches, step = plain(run, digits)
    epochs(state, batches, step, run, 1)
    saved = copy.deepcopy(state.state_dict())
    expected = epochs(state, batches, step, run)
    resumed = fresh(run, digits)
    resumed[0].load_state_dict(saved)
    assert epochs(*resumed, run) == expected


class FakeGraph:
    """What torch.cuda.graph does when a call within it fails: the end of the capture fails, too."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        raise RuntimeError("capture_end: invalidated")


def test_a_failed_capture_names_the_error_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def wait_stream(self, other: object) -> None:
            pass

    fakes: dict[str, Any] = {
        "Stream": Stream,
        "current_stream": Stream,
        "default_stream": Stream,
        "stream": lambda stream: torch.no_grad(),
        "CUDAGraph": object,
        "graph": lambda graph, stream, capture_error_mode: FakeGraph(),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(cuda_graph_module.torch.cuda, name, fake)
    monkeypatch.setattr(cuda_graph_module, "_capture_failed", threading.Event())
    calls = 0

    def step() -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        if calls > WARM:
            raise RuntimeError("operation not permitted when stream is capturing")
        return torch.zeros(1), torch.zeros(1)

    with pytest.raises(CaptureError, match="not permitted when stream is capturing") as error:
        cuda_graph(step)
    assert "not permitted" in str(error.value.__cause__) and error.value.__cause__.__traceback__
    with pytest.raises(CaptureLost, match="a capture failed in this process"):
        cuda_graph(lambda: (torch.zeros(1), torch.zeros(1)))


class Waits(TorchDispatchMode):
    """Counts what makes a host wait for a GPU: a number read from a tensor, a copy between them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(call) or "nonzero" in str(call):
            self.count += 1
        return call(*args, **(kwargs or {}))


READS = ("tolist", "item", "cpu", "numpy")


def test_the_host_waits_at_the_end_of_an_epoch_alone(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny.model_copy(update={"flip": True, "pad_crop": 1}), SESpec(), 0)
    state, batches, step = plain(run, digits)
    reads = list[str]()

    def noted(tensor: Tensor, name: str, read: Any, *args: Any) -> Any:
        reads.append(name)
        return read(tensor, *args)

    for name in READS:
        read = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, partialmethod(noted, name, read))
    with Waits() as waits:
        train_epoch(state, batches, run, step)
    assert waits.count == 0 and state.step == 3
    assert reads == ["tolist"], "of the sums"


def test_the_host_waits_at_the_end_of_an_evaluation_alone_and_once(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, _ = prepared(Run(tiny, SESpec(), 0), digits, CPU)
    batches, read = Batches(digits.test, digits, tiny, CPU), list[int]()

    def counted(*values: Tensor) -> list[Tensor]:
        read.append(len(values))
        waits.__exit__(None, None, None)  # from here on all is on the host
        return on_host(*values)

    monkeypatch.setattr("senet_ablate.train.loop.on_host", counted)
    waits = Waits()
    waits.__enter__()
    evaluate(model, batches, tiny)
    assert waits.count == 0 and read == [2 + 3], "answers, loss and the gates of three blocks"


def test_the_bar_of_a_gpu_counts_finished_steps_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = 0
    events = deque[Any]()

    class Event:
        def record(self) -> None:
            events.append(self)
            self.number = len(events)

        def query(self) -> bool:
            return self.number <= finished

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr("senet_ablate.train.loop.REPORT_EVERY_S", 0.0)
    seen: list[int] = []
    meter = ProgressMeter(seen.append, torch.device("cuda"))
    for _ in range(3):
        meter.add(32)
    assert seen == []
    finished = 2
    meter.report()
    assert seen == [32, 32]
    finished = 4
    meter.report()
    assert sum(seen) == 96


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the compiler's own
def test_compiled_units_train_alike_share_compilations_and_let_evaluations_see_hooks() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    x, losses = torch.randn(2, 3, 16, 16), []
    model = build_model("resnet29_bottleneck", 10, SESpec(), stem="default").train()
    compiled = copy.deepcopy(model)
    units = compile_training(compiled, units=True, backend="aot_eager")
    for called in (model, compiled):
        loss = called(x).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for one, other in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert len(units) == 9 and graphs == 6, "a first unit and the others in each stage"
    seen: list[int] = []
    inner = compiled.get_submodule("stage2.0.branch")
    inner.register_forward_hook(lambda *words: seen.append(1))
    compiled.eval()(x)
    assert seen == [1], "an evaluation runs the network as written"
    gone = [weakref.ref(one) for one in units]
    gc.disable()
    try:
        del compiled, units, inner, called, loss, other
        assert not any(one() for one in gone), "it goes with its run, and its graphs' memory"
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize(
    ("name", "units", "parts", "graphs"),
    [("sequential", True, 1, 1), ("resnet20_bottleneck", False, 1, 1), ("resnet20", True, 9, 5)],
)
def test_what_is_compiled_is_compiled_whole(
    name: str, units: bool, parts: int, graphs: int
) -> None:
    """A network, or each shape of its units, is one graph: no part of it runs as written."""
    compiled_graphs = list[torch.fx.GraphModule]()

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compiled_graphs.append(graph)
        return graph

    sequential = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    written = sequential if name == "sequential" else build_model(name, 10, SESpec())
    compiled, x = copy.deepcopy(written), torch.randn(2, 3, 32, 32)
    assert len(compile_training(compiled, units, backend)) == parts
    torch.testing.assert_close(compiled(x), written(x))
    assert len(compiled_graphs) == graphs
    compiled.eval()(x)
    assert len(compiled_graphs) == graphs, "evaluations run as written"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA_VISIBLE_DEVICES names no GPU")
def test_a_graph_has_the_loss_curve_of_the_plain_loop(tiny: Training, digits: ImageSet) -> None:
    device, curves = torch.device("cuda"), []
    run = Run(tiny, SESpec(), 0)
    for graph in (True, False):
        model, optimizer, batches = prepared(run, digits, device)
        step = make_step(run.train, model, optimizer, batches, graph)
        curves.append(epochs(TrainState(model, optimizer, device), batches, step, run, 1))
    for ours, written in zip(*curves, strict=True):
        assert ours == pytest.approx(written, rel=1e-3)
