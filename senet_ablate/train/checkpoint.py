"""A run that goes on where it was cut off: its state in one file without pickle, written seldom
enough to cost nothing.

The file holds the network, the momentum, the sums of the epoch in progress and the random state as
safetensors, and in its metadata how far the run had come, what it was run with, and a SHA-256 over
all of that. On the CPU a run that goes on from it ends with the record of one that was never cut
off, bit for bit. The random state is that of the run's own generator and, for a user's own block
that draws from it, of torch's global one. What such a block keeps outside of parameters, buffers
and generators is not in it.
"""

import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from senet_ablate.models.layers import generator_of
from senet_ablate.records.store import Epoch, set_aside, write_whole
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Frozen, parse
from senet_ablate.spec.spec import Run
from senet_ablate.train.provenance import own_operators, training_code

log = logging.getLogger(__name__)

# a checkpoint is due after 50 times the seconds of the last one, so that they take less than 2%
SHARE = 50
SLOW_DISK = 100e6  # bytes a second: the guess that spaces the first one
EVERY = 30.0  # seconds between two checkpoints at least; a run of seconds writes none


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, by the signal that is the argument; what it had done lies in its
    checkpoint.
    """


class Origin(Frozen):
    """What a run is trained with. A checkpoint of another origin would not end in the record that
    the run has.

    data: SHA-256 of pixels and labels. operators: a user's own parts -> SHA-256 of their source.
    code: SHA-256 of the modules that decide a run's numbers. device: cpu or cuda.
    """

    run: str
    data: str
    operators: dict[str, str]
    code: str
    torch_version: str
    device: str
    processes: int = 1

    @classmethod
    def of(cls, run: Run, data: str, device: torch.device, processes: int = 1) -> Self:
        """The origin of `run` on images with the checksum `data`, here and now."""
        return cls(
            run=run.id,
            data=data,
            operators=own_operators(run),
            code=training_code(),
            torch_version=torch.__version__,
            device=device.type,
            processes=processes,
        )


class Reached(Frozen):
    """How far a run has come:

    whole epochs, the epoch in progress, its finished steps, seconds of training so far.
    """

    epochs: tuple[Epoch, ...]
    epoch: int
    step: int
    seconds: float


@dataclass
class Loop:
    """The state of a training loop; with the random state, all that the rest of a run depends on.

    epoch: the one in progress, from 1. step: how many of its steps are done. loss_sum, right: of
    these steps, on the device. began: when the run began, or would have, had it not been cut off
    (seconds of time.monotonic). told: of each finished epoch with its number, also of those before
    a checkpoint.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    epochs: list[Epoch] = field(default_factory=list)
    epoch: int = 1
    step: int = 0
    began: float = field(default_factory=time.monotonic)
    told: Callable[[int, Epoch], None] = lambda number, epoch: None
    loss_sum: Tensor = field(init=False)
    right: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._zero()

    def end_epoch(self, epoch: Epoch) -> None:
        """Write down a finished epoch; the next one begins."""
        self.epochs.append(epoch)
        self.told(self.epoch, epoch)
        self.epoch, self.step = self.epoch + 1, 0
        self._zero()

    def _zero(self) -> None:
        self.loss_sum = torch.zeros((), device=self.device)
        self.right = torch.zeros((), dtype=torch.int64, device=self.device)

    @property
    def reached(self) -> Reached:
        """How far the run has come."""
        seconds = time.monotonic() - self.began
        return Reached(epochs=tuple(self.epochs), epoch=self.epoch, step=self.step, seconds=seconds)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all tensors of the state, on the CPU, by name."""
        found = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                found[f"momentum/{name}"] = momentum
        found |= {
            "loss_sum": self.loss_sum,
            "right": self.right,
            "random/cpu": torch.get_rng_state(),
        }
        if generator := generator_of(self.model):
            found["random/own"] = generator.get_state()
        if self.device.type == "cuda":
            found["random/cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in found.items()
        }

    def restore(self, reached: Reached, tensors: dict[str, Tensor]) -> None:
        """Go back to a state that `tensors` were copied from. Raises BadInput, and changes nothing,
        if they do not fit.

        Values are copied into the tensors that are there, so that these keep their place and layout
        in memory.
        """
        fresh = self.tensors()
        kept = {name: value for name, value in tensors.items() if not name.startswith("momentum/")}
        if {name: (t.shape, t.dtype) for name, t in kept.items()} != {
            name: (t.shape, t.dtype)
            for name, t in fresh.items()
            if not name.startswith("momentum/")
        }:
            raise BadInput("its tensors are not those of this network")
        self.model.load_state_dict(
            {n.removeprefix("model/"): t for n, t in kept.items() if n.startswith("model/")}
        )
        for name, parameter in self.model.named_parameters():
            if f"momentum/{name}" in tensors:
                state = self.optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.empty_like(parameter, requires_grad=False)
                state["momentum_buffer"].copy_(tensors[f"momentum/{name}"])
        self.loss_sum.copy_(tensors["loss_sum"])
        self.right.copy_(tensors["right"])
        torch.set_rng_state(tensors["random/cpu"])
        if generator := generator_of(self.model):
            generator.set_state(tensors["random/own"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], self.device)
        self.epochs, self.epoch, self.step = list(reached.epochs), reached.epoch, reached.step
        self.began = time.monotonic() - reached.seconds
        for number, epoch in enumerate(self.epochs, start=1):
            self.told(number, epoch)


def save_checkpoint(path: Path, origin: Origin, loop: Loop) -> None:
    """Write the state of a run; the file appears whole or not at all."""
    facts = json.dumps(
        {"origin": origin.model_dump(mode="json"), "reached": loop.reached.model_dump(mode="json")}
    )
    tensors = loop.tensors()
    write_whole(
        path, save(tensors, metadata={"facts": facts, "checksum": _checksum(facts, tensors)})
    )


def load_checkpoint(path: Path, origin: Origin, loop: Loop) -> None:
    """Bring `loop` to the state in a file.

    Raises BadInput that says why the file cannot be used; `loop` stays.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"cannot be read as safetensors ({error})") from error
    facts = metadata.get("facts", "")
    if metadata.get("checksum") != _checksum(facts, tensors):
        raise BadInput("its content does not match its checksum")
    content: dict[str, Any] = json.loads(facts)
    for key, now in origin.model_dump(mode="json").items():
        if (then := content["origin"].get(key)) != now:
            raise BadInput(
                f"it was written with {key} {str(then)[:40]!r}, this is {str(now)[:40]!r}"
            )
    loop.restore(parse(Reached, content["reached"]), tensors)


def _checksum(facts: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the facts and of every tensor with its name, type and shape."""
    hashed = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name]
        hashed.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hashed.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


class Unkept:
    """What `train` tells of its progress when nobody keeps it:

    nothing is written, nothing goes on from anywhere.
    """

    @contextmanager
    def of(self, loop: Loop) -> Iterator[None]:
        """Keep the state of `loop` while the context is open."""
        yield

    def after_step(self, loop: Loop) -> None:
        """Told after every training step, when the state is whole."""

    def between(self) -> None:
        """Told between two batches of an evaluation, when training's random state is put away."""


class Checkpoints(Unkept):
    """The checkpoint file of one run: read at the start, written when due, and when the process is
    asked to end.

    SIGTERM and Ctrl-C are answered between two steps: the state is written, then Interrupted is
    raised. A file that is torn, or of another origin, is set aside with a warning, and the run
    starts anew; one that cannot be written (a full disk) is a warning, the one before stays, and
    training goes on.
    """

    def __init__(self, path: Path, origin: Origin, every: float = EVERY) -> None:
        self.path, self.origin, self.every = path, origin, every
        self.asked, self.warned = 0, False
        self.written, self.took = time.monotonic(), 0.0

    @contextmanager
    def of(self, loop: Loop) -> Iterator[None]:
        self._resume(loop)
        size = sum(value.nbytes for value in loop.model.state_dict().values())
        self.written, self.took = time.monotonic(), 2 * size / SLOW_DISK
        before = {number: signal.getsignal(number) for number in self._signals()}
        for number in before:
            signal.signal(number, self._ask)
        try:
            yield
        except Interrupted:
            self._write(loop)
            raise
        except Exception as error:
            # what the signal ended around this process, such as a loader's workers; the last one
            # holds
            if self.asked:
                raise Interrupted(self.asked) from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(
                    number, signal.SIG_DFL if handler is None else handler
                )  # None: not set from Python

    def after_step(self, loop: Loop) -> None:
        self.between()
        if self._due():
            self._write(loop)

    def _due(self) -> bool:
        return time.monotonic() - self.written >= max(self.every, SHARE * self.took)

    def between(self) -> None:
        if self.asked:
            raise Interrupted(self.asked)

    def _resume(self, loop: Loop) -> None:
        if self.path.exists():
            try:
                load_checkpoint(self.path, self.origin, loop)
            except BadInput as error:
                log.warning(
                    "%s: %s; set aside as %s, the run starts anew",
                    self.path,
                    error,
                    set_aside(self.path).name,
                )

    def _write(self, loop: Loop) -> None:
        if loop.device.type == "cuda":
            torch.cuda.synchronize(
                loop.device
            )  # the steps still under way are training, not the cost of writing
        began = time.monotonic()
        try:
            save_checkpoint(self.path, self.origin, loop)
        except OSError as error:
            if not self.warned:
                log.warning(
                    "%s: no checkpoint could be written (%s); training goes on", self.path, error
                )
            self.warned = True
        self.written = time.monotonic()
        self.took = self.written - began

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = number

    @staticmethod
    def _signals() -> list[signal.Signals]:
        """The signals to answer; none outside of the main thread, where Python cannot."""
        if threading.current_thread() is not threading.main_thread():
            return []
        wanted = (signal.SIGTERM, signal.SIGINT)
        return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
