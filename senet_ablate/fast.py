"""The training step as one CUDA graph: forward, backward and update replayed at once, no call from Python between.

A graph belongs to a network's memory, not to its weights. So the runs of one architecture that a process trains, which
differ in their seeds, share one network and one graph: the next run copies its initial weights in.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from senet_ablate.spec import Run, digest

log = logging.getLogger(__name__)

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""N x 3 x H x W images and N labels in; mean loss and N x K logits out, detached, good until the next call."""
Call = Callable[[], tuple[Tensor, Tensor]]
KEPT = 4  # architectures whose graphs a process keeps
WARM = 3  # calls before the capture, in which libraries choose their algorithms

_kept: OrderedDict[str, "Steps"] = OrderedDict()


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group; a rate that is a tensor stays the same tensor, as graphs need it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def steps_for(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, plain: Callable[..., object]
) -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """Network, optimizer and training step of a run that begins: on a GPU a graph, and the network it was taken of.

    plain(model, optimizer, x, y) is the step as written; on a CPU it is what is returned.
    """
    if device.type != "cuda":
        return model, optimizer, lambda x, y: plain(model, optimizer, x, y)  # type: ignore[return-value]
    key = digest({name: value for name, value in run.fields.items() if name != "seed"} | {"device": str(device)})
    if key in _kept:
        _kept[key].begin(model)
    else:
        _kept[key] = Steps(model, optimizer, plain, capture)
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    steps = _kept[key]
    return steps.model, steps.optimizer, steps


class Steps:
    """Training steps of one network on buffers that stay where they are."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        plain: Callable[..., object],
        capture: Callable[[Call], Call],
    ) -> None:
        self.model, self.optimizer, self.plain, self.capture = model, optimizer, plain, capture
        self.replay: Call | None = None
        self.lr: Tensor | None = None

    def begin(self, fresh: nn.Module) -> None:
        """Start again from the weights of `fresh`, a network of the same architecture, with no momentum."""
        self.model.load_state_dict(fresh.state_dict())
        for momentum in self._momenta():
            momentum.zero_()

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.replay is None or self.optimizer.param_groups[0]["lr"] is not self.lr:  # new, or its state was loaded
            self._prepare(x, y)
        assert self.replay is not None
        self.x.copy_(x)
        self.y.copy_(y)
        return self.replay()

    def _prepare(self, x: Tensor, y: Tensor) -> None:
        """Capture the step; weights, statistics, momentum and random state are afterwards what they were."""
        self.x, self.y = x.clone(), y.clone()
        self.lr = torch.as_tensor(self.optimizer.param_groups[0]["lr"], dtype=torch.float32).to(x.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        state = [(value, value.clone()) for value in self.model.state_dict().values()]
        state += [(value, value.clone()) for value in self._momenta()]
        had_momentum = bool(self._momenta())

        def call() -> tuple[Tensor, Tensor]:
            return self.plain(self.model, self.optimizer, self.x, self.y)  # type: ignore[return-value]

        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            try:
                self.replay = self.capture(call)
            except RuntimeError as error:
                log.warning("no CUDA graph of this network, so steps start one by one: %s", str(error).splitlines()[0])
                self.replay = call
        with torch.no_grad():
            for value, before in state:
                value.copy_(before)
            for momentum in () if had_momentum else self._momenta():
                momentum.zero_()

    def _momenta(self) -> list[Tensor]:
        found = (state.get("momentum_buffer") for state in self.optimizer.state.values())
        return [momentum for momentum in found if momentum is not None]


def capture(call: Call) -> Call:
    """`call` as one CUDA graph, which writes its results to the same places at every replay."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return results

    return replay
