"""One run: train, evaluate, record. Nothing is read from the device within an epoch.

Everything that is random in a run is drawn from generators of its own, so equal runs on a CPU give
equal records, bit for bit but for times.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from senet_ablate.data import Batches, ImageSet, Split
from senet_ablate.models import build_model, cost, se_blocks
from senet_ablate.models.layers import draw_from, drawing_from
from senet_ablate.records import Epoch, Gates, Record
from senet_ablate.records.store import pack
from senet_ablate.spec import Run, Training
from senet_ablate.train.checkpoint import NoCheckpoints, TrainState
from senet_ablate.train.compute import compile_training, compute_of, set_flags
from senet_ablate.train.cuda_graph import Step, graphed, one_at_a_time, set_lr
from senet_ablate.train.distributed import (
    all_gather,
    all_reduce,
    rank,
    rank_seed,
    sync_batch_norm,
    world_size,
)
from senet_ablate.train.numerics import check_numerics
from senet_ablate.train.provenance import provenance
from senet_ablate.train.schedule import lr_at

REPORT_EVERY_S = 0.5


def batches_of(split: Split, images: ImageSet, spec: Training, device: torch.device) -> Batches:
    """This process's share of a split."""
    return Batches(split, images, spec, device, (rank(), world_size()))


def prepared(
    run: Run, images: ImageSet, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
    """The network with its initial weights, its optimizer and the training batches, on `device`."""
    spec = run.train
    model = build_model(spec.backbone, len(images.classes), run.se, stem=spec.stem, seed=run.seed)
    set_flags()  # again: a user's own part may have set others as it was imported
    model = sync_batch_norm(model, device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    seed = rank_seed(run.seed, rank())
    draw_from(model, torch.Generator(device).manual_seed(seed))
    torch.manual_seed(seed)  # for a user's own block that draws from torch's global generator
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )
    return model, optimizer, batches_of(images.train, images, spec, device)


def first_steps(
    run: Run, images: ImageSet, device: torch.device, steps: int, graph: bool = True
) -> Iterator[None]:
    """Take the first steps of a run, to measure them; yields when each is done."""
    model, optimizer, batches = prepared(run, images, device)
    step = make_step(run.train, model.train(), optimizer, batches, graph)
    endless = chain.from_iterable(batches.shuffled(run.seed, epoch) for epoch in count(1))
    for x, y in islice(endless, steps):
        step(x, y)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield


def train(
    run: Run,
    images: ImageSet,
    device: torch.device,
    command: str = "",
    *,
    plan: str = "",
    graph: bool = True,
    runs_at_once: int = 1,
    checkpoints: NoCheckpoints = NoCheckpoints(),  # noqa: B008
    progress: Callable[[int], None] = lambda images: None,
    on_epoch_end: Callable[[int, Epoch], None] = lambda number, epoch: None,
    on_train_end: Callable[[nn.Module, bool], dict[str, Any]] = lambda model, finite: {},
) -> Record:
    """The record of `run`, in every process that trains it.

    A loss or a logit that is not finite ends the run early; the record says after which epoch.
    command, plan, runs_at_once: of the provenance; plan is the hash of the analysis plan,
    runs_at_once how many this process trains. graph: whether the step is a CUDA graph on a GPU.
    progress: called twice a second with the number of images seen since. on_epoch_end: called with
    each epoch's number and curves, for the last one twice. on_train_end: called with the final
    network and whether its evaluation is finite; may return more fields of the record. Raises
    BadInput if this process does not compute with the recipe's numerics.
    """
    spec = run.train
    if device.type == "cpu":
        check_numerics(spec)
    model, optimizer, batches = prepared(run, images, device)
    state = TrainState(model, optimizer, device, on_epoch_end=on_epoch_end)
    graph = graph and device.type == "cuda" and world_size() == 1
    compute = compute_of(spec, graph, runs_at_once)
    stamp = partial(provenance, run, images.checksum, device, command, plan=plan, compute=compute)
    stamp(state.started)  # what it cannot read fails now, not after training
    with one_at_a_time:  # it counts by hooks that all threads would run
        counted = cost(model, (3, batches.size, batches.size))
    step = make_step(spec, model, optimizer, batches, graph)
    test = batches_of(images.test, images, spec, device)
    held_out = None
    if spec.schedule == "plateau" and images.validation is not None:
        held_out = batches_of(images.validation, images, spec, device)
    check = partial(evaluate, model, spec=spec, on_batch_end=checkpoints.on_eval_batch_end)
    meter = ProgressMeter(progress, device)

    def on_batch_end(state: TrainState) -> None:
        meter.add(spec.batch_size)
        checkpoints.on_batch_end(state)

    with checkpoints.attach(state):
        meter.add(((state.epoch - 1) * len(batches) + state.step) * spec.batch_size)
        while state.epoch <= spec.epochs:
            lr, loss, error = train_epoch(state, batches, run, step, on_batch_end)
            meter.report()
            curves: dict[str, Any] = {"lr": lr, "train_loss": loss, "train_top1": error}
            finite = math.isfinite(loss)
            if finite and state.epoch % spec.test_every == 0 and state.epoch != spec.epochs:
                tested = check(test)
                finite = tested.finite
                curves |= tested.curves | {"gates": tested.gates}
            if finite and held_out is not None:
                judged = check(held_out)
                finite, curves["validation_loss"] = judged.finite, judged.loss
            if not finite:
                break
            state.end_epoch(Epoch(**curves))
        train_s = time.monotonic() - state.started
        final = check(test)
        meter.report()
    epochs = state.epochs
    if len(epochs) == spec.epochs and not final.finite:
        epochs.pop()
    diverged = len(epochs) < spec.epochs
    if not diverged:
        epochs[-1] = epochs[-1].model_copy(update=final.curves)
        on_epoch_end(len(epochs), epochs[-1].model_copy(update={"gates": final.gates}))
    more = on_train_end(model, final.finite)
    return Record(
        id=run.id,
        run=run,
        classes=len(images.classes),
        train_images=len(images.train),
        tested=len(final.correct),
        wrong_top1=int((~final.correct).sum()),
        wrong_top5=final.wrong_top5,
        correct=pack(final.correct),
        majority=int(np.bincount(images.test.labels).max()),
        answered=final.answered,
        params=counted.params,
        macs=counted.macs,
        epochs=tuple(epochs),
        gates={} if diverged else final.gates,
        diverged=len(epochs) if diverged else None,
        provenance=stamp(state.started, train_s),  # a resumed run began when first started
        **more,
    )


class ProgressMeter:
    """Reports how many images were trained on since, at most every REPORT_EVERY_S seconds.

    On a GPU those of finished steps: it looks at events and never waits for one.
    """

    def __init__(self, progress: Callable[[int], None], device: torch.device) -> None:
        self.progress, self.images, self.reported = progress, 0, time.monotonic()
        self.on_gpu, self.under_way = device.type == "cuda", deque[tuple[torch.Event, int]]()

    def add(self, images: int) -> None:
        """Count the images of a step that was started."""
        self.images += images
        if time.monotonic() - self.reported >= REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        """Report what is counted and done."""
        self.reported = time.monotonic()
        if not self.on_gpu:
            self.progress(self.images)
        else:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self.under_way.append((event, self.images))
            while self.under_way and self.under_way[0][0].query():
                self.progress(self.under_way.popleft()[1])
        self.images = 0


def train_epoch(
    state: TrainState,
    batches: Batches,
    run: Run,
    step: Step,
    on_batch_end: Callable[[TrainState], None] = lambda state: None,
) -> tuple[float, float, float]:
    """Train the rest of the epoch in progress: last learning rate, mean loss, top-1 error in %.

    Nothing is read from the device before its end, unless `on_batch_end` does.
    """
    state.model.train()
    first = (state.epoch - 1) * len(batches)
    losses = [epoch.validation_loss for epoch in state.epochs]
    for x, y in batches.shuffled(run.seed, state.epoch, state.step):
        set_lr(state.optimizer, lr_at(run.train, first + state.step, len(batches), losses))
        loss, logits = step(x, y)
        state.loss_sum += loss
        state.correct += (logits.argmax(1) == y).sum()
        state.step += 1
        on_batch_end(state)
    lr = lr_at(run.train, first + len(batches) - 1, len(batches), losses)
    sums = [all_reduce(state.loss_sum).double(), all_reduce(state.correct).double()]
    loss_sum, correct = torch.stack(sums).tolist()  # the one time that the host waits
    seen = len(batches) * run.train.batch_size
    return lr, loss_sum / world_size() / len(batches), 100 * (1 - correct / seen)


def on_host(*values: Tensor) -> list[Tensor]:
    """Copies of tensors of one device, in float64; the host waits for the device once."""
    flat = torch.cat([value.flatten().double() for value in values]).cpu()
    parts = torch.split(flat, [value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def make_step(
    train: Training,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    graph: bool = True,
) -> Step:
    """The training step of a run that begins: compiled as the recipe says, over all processes that
    train together; on a GPU a CUDA graph, which leaves the network as it was. Raises CaptureError.
    """
    if train.compile:
        compile_training(model, units=train.compile == "units")
    on_gpu = batches.device.type == "cuda"
    if world_size() > 1:
        together = DistributedDataParallel(model, [batches.device.index] if on_gpu else None)
        return partial(train_step, together, optimizer, spec=train)
    step = partial(train_step, model, optimizer, spec=train)
    return graphed(step, model.train(), optimizer, *batches.empty()) if graph and on_gpu else step


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, spec: Training
) -> tuple[Tensor, Tensor]:
    """Forward, backward, update on N x 3 x H x W images and N labels: mean loss, N x K logits."""
    with precision(spec, x.device):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), y, label_smoothing=spec.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), logits.detach()


def precision(spec: Training, device: torch.device) -> torch.autocast:
    """The number format that a recipe computes the network in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16")


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, which images were correct at top 1, and the gates by SE block.

    wrong_top5: None with five classes or fewer. answered: how many different classes were answered.
    finite: whether the loss and every logit were; an image with a logit that is not is wrong.
    """

    loss: float
    correct: npt.NDArray[np.bool_]
    wrong_top5: int | None
    answered: int
    finite: bool
    gates: dict[str, Gates]

    @property
    def curves(self) -> dict[str, float]:
        """Its point of the curves of the test images; the error in percent."""
        return {"test_loss": self.loss, "test_top1": 100 * float(np.mean(~self.correct))}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    spec: Training,
    on_batch_end: Callable[[int], object] = lambda images: None,
    on_gate: Callable[[str, Tensor, Tensor], None] = lambda name, gate, labels: None,
) -> Evaluation:
    """Evaluate the network on every image of `batches`; training's random state stays as it was.

    Nothing is read from the device before the end, and then all at once. on_batch_end: called with
    the number of images of a batch. on_gate: called with each SE block's name, what its gate
    returned for a batch, N x C x H x W, and the N labels. A user's own gate may return N x C; one
    that returns no value for each image is left out.
    """
    model.eval()
    losses, answers, sums = list[Tensor](), list[Tensor](), dict[str, Tensor]()
    left_out = set[str]()  # for good: processes agree on what they add up

    def look(name: str, gate: Tensor) -> None:
        if gate.ndim not in (2, 4) or len(gate) != len(y):
            left_out.add(name)
        elif name not in left_out:
            gate = gate.reshape(*gate.shape[:2], *(gate.shape[2:] or (1, 1)))
            sums[name] = sums.get(name, 0) + gate_sums(gate)
            on_gate(name, gate, y)

    with evaluation_rng(model, batches.device), gate_hooks(model, look):
        for x, y in batches.in_order():
            with precision(spec, batches.device):
                logits = model(x).float()
            losses.append(F.cross_entropy(logits, y, reduction="sum"))
            finite = logits.isfinite().all(1)
            ranked = logits.topk(min(5, logits.shape[1])).indices
            right = (ranked == y[:, None]) & finite[:, None]
            answers.append(torch.stack([right[:, 0], right.any(1), finite, ranked[:, 0]], 1))
            on_batch_end(len(x))
    totals = map(all_reduce, [torch.stack(losses).sum(), *sums.values()])
    of_image, loss_sum, *of_block = on_host(all_gather(torch.cat(answers)), *totals)
    top1, top5, finite, answered = of_image.T
    loss = float(loss_sum) / len(top1)
    return Evaluation(
        loss=loss,
        correct=top1.bool().numpy(),
        wrong_top5=int((top5 == 0).sum()) if logits.shape[1] > 5 else None,
        answered=len(answered.unique()),
        finite=math.isfinite(loss) and bool(finite.all()),
        gates={
            name: gates_of(block)
            for name, block in zip(sums, of_block, strict=True)
            if block[1] == len(top1)  # not a gate that happened to suit one batch
        },
    )


@contextmanager
def evaluation_rng(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Every evaluation draws the same random numbers; training's random state stays as it was."""
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        drawing_from(model, torch.Generator(device).manual_seed(0)),
    ):
        torch.manual_seed(0)
        yield


@contextmanager
def gate_hooks(model: nn.Module, look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call look(block, gate) with what the gates of SE blocks return; of one that is called several
    times in a forward pass the first call counts.
    """
    seen = set[str]()

    def hook(name: str, module: nn.Module, inputs: Any, gate: Tensor) -> None:
        if name not in seen:
            seen.add(name)
            look(name, gate)

    handles = [model.register_forward_pre_hook(lambda module, inputs: seen.clear())]
    for name, block in se_blocks(model).items():
        gate = getattr(block, "gate", None)
        if isinstance(gate, nn.Module):
            handles.append(gate.register_forward_hook(partial(hook, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def gate_sums(gate: Tensor) -> Tensor:
    """Sums over the gates of a block for a batch of images, N x C x H x W, to be added up."""
    gate = gate.double()
    mean = gate.mean((2, 3))  # N x C
    counts = gate.new_full((), gate.numel()), gate.new_full((), len(gate))
    low, high = (gate < 0.1).sum(), (gate > 0.9).sum()
    sums = torch.stack([*counts, gate.sum(), gate.square().sum(), low, high])
    return torch.cat([sums, mean.sum(0), mean.square().sum(0)])


def gates_of(sums: Tensor) -> Gates:
    """What the gates were, from their sums."""
    count, images, total, squares, low, high = sums[:6].tolist()
    by_channel, channel_squares = (sums[6:] / images).chunk(2)
    mean, variance = total / count, channel_squares - by_channel.square()
    return Gates(
        mean=mean,
        std=max(squares / count - mean**2, 0.0) ** 0.5,
        within=float(variance.clamp(min=0).sqrt().mean()),
        low=low / count,
        high=high / count,
    )
