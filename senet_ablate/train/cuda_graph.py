"""The training step as one CUDA graph: forward, backward and update replayed at once, no call from
Python between.

Each run captures its own.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from senet_ablate.models.layers import generator_of

log = logging.getLogger(__name__)

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""N x 3 x H x W images, N labels in; mean loss, N x K logits out (detached until the next call)."""
Call = Callable[[], tuple[Tensor, Tensor]]
WARM = 3  # calls before the capture, in which libraries choose their algorithms


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group; a rate that is a tensor stays the same tensor, as
    graphs need it.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def step_for(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    plain: Callable[..., object],
) -> Step:
    """The training step of a run that begins: on a GPU a graph, on a CPU the step as written.

    plain(model, optimizer, x, y) is the step as written.
    """
    if device.type != "cuda":
        return lambda x, y: plain(model, optimizer, x, y)  # type: ignore[return-value]
    return Steps(model, optimizer, plain, capture)


class Steps:
    """Training steps of one network on buffers that stay where they are."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        plain: Callable[..., object],
        capture: Callable[[Call, torch.Generator | None], Call],
    ) -> None:
        self.model, self.optimizer, self.plain, self.capture = model, optimizer, plain, capture
        self.replay: Call | None = None
        self.lr: Tensor | None = None

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if (
            self.replay is None or self.optimizer.param_groups[0]["lr"] is not self.lr
        ):  # new, or its state was loaded
            self._prepare(x, y)
        assert self.replay is not None
        self.x.copy_(x)
        self.y.copy_(y)
        return self.replay()

    def _prepare(self, x: Tensor, y: Tensor) -> None:
        """Capture the step; weights, statistics, momentum and random state are afterwards what they
        were.
        """
        self.x, self.y = x.clone(), y.clone()
        self.lr = torch.as_tensor(self.optimizer.param_groups[0]["lr"], dtype=torch.float32).to(
            x.device
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        state = [(value, value.clone()) for value in self.model.state_dict().values()]
        state += [(value, value.clone()) for value in self._momenta()]
        had_momentum = bool(self._momenta())
        generator = generator_of(self.model)
        drawn = generator.get_state() if generator else None

        def call() -> tuple[Tensor, Tensor]:
            return self.plain(self.model, self.optimizer, self.x, self.y)  # type: ignore[return-value]

        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            try:
                self.replay = self.capture(call, generator)
            except RuntimeError as error:
                log.warning(
                    "no CUDA graph of this network, so steps start one by one: %s",
                    str(error).splitlines()[0],
                )
                self.replay = call
        if generator and drawn is not None:
            generator.set_state(drawn)
        with torch.no_grad():
            for value, before in state:
                value.copy_(before)
            for momentum in () if had_momentum else self._momenta():
                momentum.zero_()

    def _momenta(self) -> list[Tensor]:
        found = (state.get("momentum_buffer") for state in self.optimizer.state.values())
        return [momentum for momentum in found if momentum is not None]


def capture(call: Call, generator: torch.Generator | None = None) -> Call:
    """`call` as one CUDA graph, which writes its results to the same places at every replay.

    generator: what the network draws from, which goes on from replay to replay.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return results

    return replay
