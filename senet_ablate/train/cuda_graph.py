"""A training step as one CUDA graph: forward, backward and update replayed without Python."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

from senet_ablate.models.layers import generator_of
from senet_ablate.spec import BadInput

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""N x 3 x H x W images, N labels in; mean loss, N x K logits out (detached until the next call)."""
Call = Callable[[], tuple[Tensor, Tensor]]
WARM = 3  # calls before the capture, in which libraries choose their algorithms

one_at_a_time = threading.Lock()  # what no other run of this process may be captured beside
# A capture, or a replay or emptying the cache, never both: every graph registers the process's
# default generator, whose state counts one capture at a time (torch 2.11).
graph_lock = threading.Lock()
_capture_failed = threading.Event()


class CaptureError(BadInput):
    """The step cannot be captured; its cause is the error behind it.

    The process may not capture or empty its cache any more (torch 2.11): end it.
    """


class CaptureLost(RuntimeError):
    """The capture of another run in this process failed, which it does not survive."""


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate; one that is a tensor stays the same tensor, as graphs need it."""
    (group,) = optimizer.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def graphed(
    step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> Step:
    """`step` as a CUDA graph for batches of the shape and layout of x and y.

    Capturing trains: so weights, buffers and random state are set again afterwards, momentum is
    zero. A replay runs no Python: what a module counts in an attribute stays as it is. A state that
    is copied into the network later (a checkpoint) is what the next replay sees. Raises
    CaptureError.
    """
    inputs = x.clone(), y.clone()
    (group,) = optimizer.param_groups
    group["lr"] = torch.tensor(float(group["lr"]), device=x.device)
    state = [*model.parameters(), *model.buffers()]
    initial = [value.detach().clone() for value in state]
    generator = generator_of(model)
    drawn = generator.get_state() if generator else None
    # one after another; each thread's launches are its own
    with one_at_a_time, torch.random.fork_rng([x.device] if x.is_cuda else []):
        replay = cuda_graph(lambda: step(*inputs), generator)
    with torch.no_grad():
        for value, before in zip(state, initial, strict=True):
            value.copy_(before)
    for of_parameter in optimizer.state.values():
        of_parameter["momentum_buffer"].zero_()
    if generator and drawn is not None:
        generator.set_state(drawn)

    def call(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for buffer, value in zip(inputs, (x, y), strict=True):
            buffer.copy_(value)
        return replay()

    return call


def cuda_graph(call: Call, generator: torch.Generator | None = None) -> Call:
    """`call` as one CUDA graph, which writes its results to the same places at every replay.

    generator: what the network draws from; it goes on from replay to replay. Raises CaptureError.
    """
    current = torch.cuda.current_stream()
    # cuBLAS keeps its workspaces by stream: no two runs' graphs may share one
    usual = current == torch.cuda.default_stream()
    stream = torch.cuda.Stream() if usual else current  # type: ignore[no-untyped-call]
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            call()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # torch 2.15 registers it at its first draw, and is to lose the method
    if generator is not None and hasattr(graph, "register_generator_state"):
        graph.register_generator_state(generator)
    with graph_lock:
        _check_captures()
        try:
            # thread_local: other threads (other runs, a loader that pins memory) go on meanwhile
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                results = call()
        except Exception as error:  # torch raises another one while it ends the capture
            _capture_failed.set()
            cause = error.__context__ or error
            raise CaptureError(f"the training step is no CUDA graph: {cause}") from cause

    # a graph does not hold the tensors that it computes with: freed, it would write to nowhere
    def replay(holds: Call = call) -> tuple[Tensor, Tensor]:
        with graph_lock:
            _check_captures()
            graph.replay()
        return results

    return replay


def _check_captures() -> None:
    if _capture_failed.is_set():
        raise CaptureLost("a capture failed in this process")
