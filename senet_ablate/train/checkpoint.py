"""Exact resume: the state of a run in one file, and the weights of a finished one.

On the CPU a resumed run ends with the record of one that was never interrupted, bit for bit. The
file is `torch.save` of one dict without pickled code, after a line with its SHA-256: torch itself
reads most flipped bits as other numbers, without a word. Random state is that of the run's own
generator and torch's global one; what a user's own block keeps outside of parameters, buffers and
generators is not in it.
"""

import hashlib
import io
import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from senet_ablate.models import build_model
from senet_ablate.models.layers import generator_of
from senet_ablate.records import Epoch
from senet_ablate.records.commit import training_code
from senet_ablate.records.facts import set_aside, write_whole
from senet_ablate.spec import BadInput, Run
from senet_ablate.train.distributed import all_reduce, broadcast, rank, rank_seed, world_size
from senet_ablate.train.provenance import own_operators, processor

log = logging.getLogger(__name__)

SHARE = 50  # a checkpoint is due after 50 times the seconds of the last one: less than 2%
EVERY_S = 30.0  # seconds between two checkpoints at least; a run of seconds writes none
AGREE_EVERY = 10  # steps after which processes agree on whether to stop or to write


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, by the signal that is the argument; its checkpoint is written."""


@dataclass
class TrainState:
    """All that the rest of a run depends on.

    epochs: those that are finished. step: finished steps of the one in progress; loss_sum and
    correct are their sums, on the device. started: time.monotonic() when the run began, less what
    it was cut off for. on_epoch_end: called with each finished epoch and its number, also those of
    a checkpoint.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    epochs: list[Epoch] = field(default_factory=list)
    step: int = 0
    started: float = field(default_factory=time.monotonic)
    on_epoch_end: Callable[[int, Epoch], None] = lambda number, epoch: None
    loss_sum: Tensor = field(init=False)
    correct: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.loss_sum = torch.zeros((), device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    @property
    def epoch(self) -> int:
        """The number of the epoch in progress, from 1."""
        return len(self.epochs) + 1

    def end_epoch(self, epoch: Epoch) -> None:
        """Add a finished epoch; the next one begins."""
        self.on_epoch_end(self.epoch, epoch)
        self.epochs.append(epoch)
        self.step = 0
        self.__post_init__()

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and copies of its tensors on the CPU."""
        generator, cuda = generator_of(self.model), self.device.type == "cuda"
        steps = self.optimizer.state  # of a parameter: nothing before its first step
        return {
            "model": {name: _copy(value) for name, value in self.model.state_dict().items()},
            "momentum": [
                _copy(steps.get(one, {}).get("momentum_buffer")) for one in self.model.parameters()
            ],
            "loss_sum": _copy(self.loss_sum),
            "correct": _copy(self.correct),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "rng_model": generator.get_state() if generator else None,
            "epochs": [epoch.model_dump(mode="json") for epoch in self.epochs],
            "step": self.step,
            "seconds": time.monotonic() - self.started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state. Raises BadInput, and changes nothing, if it is of another network.

        Values are copied into the tensors that are there, which keep their place in memory.
        """
        own, saved = (
            {name: getattr(value, "shape", None) for name, value in tensors.items()}
            for tensors in (self.model.state_dict(), state["model"])
        )
        if own != saved:
            raise BadInput("its tensors are not those of this network")
        self.model.load_state_dict(state["model"])
        for parameter, momentum in zip(self.model.parameters(), state["momentum"], strict=True):
            if momentum is not None:
                empty = torch.empty_like(parameter, requires_grad=False)
                of_parameter = self.optimizer.state[parameter]
                of_parameter.setdefault("momentum_buffer", empty).copy_(momentum)
        self.loss_sum.copy_(state["loss_sum"])
        self.correct.copy_(state["correct"])
        torch.set_rng_state(state["rng"])
        if state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"], self.device)
        if generator := generator_of(self.model):
            generator.set_state(state["rng_model"])
        self.epochs = [Epoch.model_validate(epoch) for epoch in state["epochs"]]
        self.step, self.started = state["step"], time.monotonic() - state["seconds"]
        for number, epoch in enumerate(self.epochs, start=1):
            self.on_epoch_end(number, epoch)


def _copy(value: Any) -> Any:
    """A tensor's values alone: a view would be saved with all that it is a view of."""
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def origin(run: Run, data: str, device: torch.device) -> dict[str, Any]:
    """What a run on images of checksum `data` is trained with; a checkpoint's must be equal."""
    return {
        "run": run.id,
        "data": data,
        "operators": own_operators(run),
        "code": training_code(),
        "torch_version": str(torch.__version__),
        "device": device.type,
        # portable bits go on on any processor, others where they began
        "processor": ""
        if (device.type, run.train.numerics) != ("cpu", "native")
        else f"{processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "processes": world_size(),
    }


def save_checkpoint(path: Path, origin: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of a run; the file appears whole or not at all."""
    file = io.BytesIO()
    torch.save({"origin": origin, **state}, file)
    content = file.getvalue()
    write_whole(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_checkpoint(path: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """The state in a file. Raises BadInput that says why it cannot be used."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise BadInput(f"cannot be read ({error})") from error
    if checksum != hashlib.sha256(content).hexdigest().encode():
        raise BadInput("its content does not match its checksum")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # what a user's module keeps beside its tensors
        raise BadInput(f"it holds more than tensors and plain values ({error})") from error
    then = state.pop("origin")
    for key, now in origin.items():
        if then.get(key) != now:
            found = str(then.get(key))
            raise BadInput(f"it was written with {key} {found[:40]!r}, this is {str(now)[:40]!r}")
    return state


class StopRequest:
    """The signal that asked this process to stop; 0: none. All of its runs answer it."""

    signal = 0

    @classmethod
    def made(cls) -> bool:
        return bool(cls.signal)


def request_stop(number: int, frame: Any) -> None:
    """The handler of such a signal, which Python calls in the main thread."""
    StopRequest.signal = number


class NoCheckpoints:
    """What `train` calls where no state is kept: nothing is written, nothing is resumed."""

    @contextmanager
    def attach(self, state: TrainState) -> Iterator[None]:
        """Resume `state` from the file, and keep it while the context is open."""
        yield

    def on_batch_end(self, state: TrainState) -> None:
        """Called after every training step, when the state is whole."""

    def on_eval_batch_end(self, images: int) -> None:
        """Called after every batch of an evaluation."""


class Checkpoints(NoCheckpoints):
    """The checkpoint file of one run: read at the start, written when due and when asked to stop.

    SIGTERM and Ctrl-C are answered between two steps: the state is written, then Interrupted is
    raised. A file that is torn, or of another origin, is set aside with a warning, and the run
    starts anew; one that cannot be written (a full disk) is a warning, and training goes on.

    Of several processes rank 0 reads and writes, at a step that all agree on. Rank 0's random state
    is kept; the others draw anew from the place in the run. Sums of the epoch are kept as totals.
    """

    def __init__(self, path: Path, origin: dict[str, Any], every_s: float = EVERY_S) -> None:
        self.path, self.origin, self.every_s = path, origin, every_s
        self.steps, self.warned = 0, False

    @contextmanager
    def attach(self, state: TrainState) -> Iterator[None]:
        self._resume(state)
        self.due = time.monotonic() + self.every_s
        # outside of the main thread Python sets no handlers
        main = threading.current_thread() is threading.main_thread()
        if main:
            StopRequest.signal = 0
        handlers = {
            number: signal.signal(number, request_stop)
            for number in (signal.SIGTERM, signal.SIGINT)
            if main and signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        except Interrupted:
            self._write(state)
            raise
        except Exception as error:
            if StopRequest.signal:
                # it ended a loader's workers, say: seen between two steps, when the state is whole,
                # unless in a main thread (torch may raise anywhere) or among several processes
                if "DataLoader worker" in str(error) and not main and world_size() == 1:
                    self._write(state)
                raise Interrupted(StopRequest.signal) from error
            raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None: not set from Python

    def on_batch_end(self, state: TrainState) -> None:
        stop, due = bool(StopRequest.signal), time.monotonic() >= self.due
        if world_size() > 1:
            self.steps += 1
            if self.steps % AGREE_EVERY:
                return
            flags = torch.tensor([stop, due and rank() == 0], device=state.device)
            stop, due = all_reduce(flags.int()).bool().tolist()
        if stop:
            raise Interrupted(StopRequest.signal)
        if due:
            self._write(state)

    def on_eval_batch_end(self, images: int) -> None:
        # processes that left an evaluation would leave the others waiting in all_reduce
        if StopRequest.signal and world_size() == 1:
            raise Interrupted(StopRequest.signal)

    def _resume(self, state: TrainState) -> None:
        saved = None
        if rank() == 0 and self.path.exists():
            try:
                saved = load_checkpoint(self.path, self.origin)
                state.load_state_dict(saved)
            except BadInput as error:
                saved, aside = None, set_aside(self.path).name
                log.warning("%s: %s; set aside as %s, the run starts anew", self.path, error, aside)
        saved = broadcast(saved)
        if rank() and saved is not None:
            state.load_state_dict(saved)
            state.loss_sum.zero_()
            state.correct.zero_()
            seed = rank_seed(state.epoch * 10**9 + state.step, rank())
            torch.manual_seed(seed)
            if generator := generator_of(state.model):
                generator.manual_seed(seed)

    def _write(self, state: TrainState) -> None:
        if state.device.type == "cuda":
            # steps under way are training, not writing; other streams may be capturing theirs
            torch.cuda.current_stream(state.device).synchronize()
        began = time.monotonic()
        totals = {"loss_sum": all_reduce(state.loss_sum), "correct": all_reduce(state.correct)}
        if rank() == 0:
            try:
                save_checkpoint(self.path, self.origin, state.state_dict() | totals)
            except OSError as error:
                if not self.warned:
                    what = "no checkpoint could be written"
                    log.warning("%s: %s (%s); training goes on", self.path, what, error)
                self.warned = True
        now = time.monotonic()
        self.due = now + max(self.every_s, SHARE * (now - began))


def save_weights(path: Path, model: nn.Module, run: Run) -> None:
    """Write a trained network's weights and the run's id as safetensors, whole or not at all."""
    state = {  # copies, since safetensors refuses weights that layers share
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in model.state_dict().items()
    }
    write_whole(path, save(state, metadata={"run": run.id}))


def load_weights(path: Path, run: Run, classes: int) -> nn.Module:
    """The network that `run` trained, for evaluation. Raises BadInput for another's file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = (file.metadata() or {}).get("run")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: cannot be read as safetensors ({error})") from error
    if found != run.id:
        raise BadInput(f"{path}: holds the weights of run {found}, not of run {run.id}")
    model = build_model(run.train.backbone, classes, run.se, stem=run.train.stem)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise BadInput(f"{path}: does not fit the network of run {run.id}: {why}") from error
    return model.to(memory_format=torch.channels_last).eval()
