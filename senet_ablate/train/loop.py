"""One run: build the network, train it, judge it once at the last epoch, and say what happened."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.models.build import build_model
from senet_ablate.models.complexity import cost
from senet_ablate.models.layers import draw_from, drawing_from
from senet_ablate.models.se import se_blocks
from senet_ablate.records.class_gates import ClassGates, Curves
from senet_ablate.records.store import Epoch, Gates, Record, pack
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.checkpoint import Loop, Unkept
from senet_ablate.train.cuda_graph import Step, set_lr, step_for
from senet_ablate.train.numerics import check_numerics
from senet_ablate.train.provenance import provenance
from senet_ablate.train.schedule import lr_at
from senet_ablate.train.single import ALONE, Team, own_seed

REPORT_EVERY = 0.5  # seconds
Observed = tuple[tuple[ClassGates, ...], dict[str, Curves]]
"""Gates by class of a trained network: of all blocks, and by channel for those that are drawn."""


def prepared(
    run: Run, images: ImageSet, device: torch.device, team: Team = ALONE
) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
    """The network with its initial weights, its optimizer, and the training batches, on
    `device`.
    """
    spec = run.train
    model = build_model(spec.backbone, len(images.classes), run.se, stem=spec.stem, seed=run.seed)
    model = team.synchronised(model)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    seed = own_seed(run.seed, team.rank)
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
    return model, optimizer, Batches(images.train, images, spec, device, (team.rank, team.size))


def train(
    run: Run,
    images: ImageSet,
    device: torch.device,
    command: str = "",
    progress: Callable[[int], None] = lambda images: None,
    keep: Callable[[nn.Module], None] = lambda model: None,
    checkpoints: Unkept = Unkept(),  # noqa: B008
    team: Team = ALONE,
    told: Callable[[int, Epoch], None] = lambda number, epoch: None,
    plan: str = "",
    observe: Callable[[nn.Module], Observed] = lambda model: ((), {}),
) -> Record:
    """The record of `run`.

    On the CPU, equal runs give equal records, bit for bit, but for times, also where they go on
    from a checkpoint. A loss or a logit that is not finite ends the run early; the record says
    after which epoch. progress: called twice a second with the number of images seen since. keep:
    called with the final network. team: the processes that train the run together; each gets the
    whole record. told: called with each epoch and its number, for the last one twice. plan: hash of
    the analysis plan. observe: gives the gates by class of the final network. Raises BadInput if
    this process does not compute with the recipe's numerics.
    """
    spec = run.train
    if device.type == "cpu":
        check_numerics(spec)
    model, optimizer, batches = prepared(run, images, device, team)
    called: nn.Module = torch.compile(model) if spec.compile else model  # type: ignore[assignment]
    if team.size == 1:
        step = step_for(called, optimizer, device, partial(train_step, spec=spec))
    else:
        step = partial(train_step, team.spread(called), optimizer, spec=spec)
    share = (team.rank, team.size)
    tests = Batches(images.test, images, spec, device, share)
    counted = cost(model, (3, batches.size, batches.size))
    loop = Loop(model, optimizer, device, told=told)
    provenance(
        run, images.checksum, device, command, loop.began, 0.0, team.size, plan
    )  # fail now, not at the end
    watch = (
        Batches(images.validation, images, spec, device, share)
        if images.validation is not None and spec.schedule == "plateau"
        else None
    )
    meter = Meter(progress)

    def after_step(loop: Loop) -> None:
        meter.add(spec.batch_size)
        checkpoints.after_step(loop)

    with checkpoints.of(loop):
        meter.add(
            ((loop.epoch - 1) * len(batches) + loop.step) * spec.batch_size
        )  # of a checkpoint
        while loop.epoch <= spec.epochs:
            lr, loss, error = train_epoch(loop, batches, run, step, after_step, team)
            meter.report()
            if not math.isfinite(loss):
                break
            read = loop.epoch % spec.test_every == 0 and loop.epoch != spec.epochs
            with GateWatch(model, team) as gates:
                test = evaluate(model, tests, spec, checkpoints.between, team) if read else None
            validation = (
                None if watch is None else evaluate(model, watch, spec, checkpoints.between, team)
            )
            if not all(one.finite for one in (test, validation) if one):
                break
            loop.end_epoch(
                Epoch(
                    lr=lr,
                    train_loss=loss,
                    train_top1=error,
                    test_loss=test.loss if test else None,
                    test_top1=test.top1 if test else None,
                    validation_loss=validation.loss if validation else None,
                    gates=gates.summary(),
                )
            )
        train_s = time.monotonic() - loop.began
        with GateWatch(model, team) as gates:
            final = evaluate(model, tests, spec, checkpoints.between, team)
    keep(model)
    blocks, curves = observe(model) if final.finite else ((), {})
    epochs = loop.epochs
    if len(epochs) == spec.epochs and not final.finite:
        epochs.pop()
    diverged = len(epochs) < spec.epochs
    if not diverged:
        epochs[-1] = epochs[-1].model_copy(
            update={"test_loss": final.loss, "test_top1": final.top1}
        )
        told(len(epochs), epochs[-1].model_copy(update={"gates": gates.summary()}))
    return Record(
        id=run.id,
        run=run,
        classes=len(images.classes),
        train_images=len(images.train),
        tested=len(final.right),
        wrong_top1=int((~final.right).sum()),
        wrong_top5=final.wrong_top5,
        correct=pack(final.right),
        majority=int(np.bincount(images.test.labels).max()),
        answered=final.answered,
        params=counted.params,
        macs=counted.macs,
        epochs=tuple(epochs),
        gates={} if diverged else gates.summary(),
        class_gates=blocks,
        class_curves=curves,
        diverged=len(epochs) if diverged else None,
        provenance=provenance(
            run, images.checksum, device, command, loop.began, train_s, team.size, plan
        ),
    )


class Meter:
    """Reports how many images were trained on since the last report, at most every REPORT_EVERY
    seconds.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.progress, self.images, self.reported = progress, 0, time.monotonic()

    def add(self, images: int) -> None:
        """Count images; on a GPU their step may be still under way."""
        self.images += images
        if time.monotonic() - self.reported >= REPORT_EVERY:
            self.report()

    def report(self) -> None:
        """Report what is counted."""
        self.progress(self.images)
        self.images, self.reported = 0, time.monotonic()


def train_epoch(
    loop: Loop,
    batches: Batches,
    run: Run,
    step: Step | None = None,
    after_step: Callable[[Loop], None] = lambda loop: None,
    team: Team = ALONE,
) -> tuple[float, float, float]:
    """Train what is left of the epoch that `loop` is in: its last learning rate, mean loss, top-1
    error in percent.

    Nothing is read from the device before the epoch's end, unless `after_step` does. `step`: what
    takes one, if not `train_step`.
    """
    step = step or partial(train_step, loop.model, loop.optimizer, spec=run.train)
    loop.model.train()
    first, watched = (
        (loop.epoch - 1) * len(batches),
        [epoch.validation_loss for epoch in loop.epochs],
    )
    for x, y in batches.shuffled(run.seed, loop.epoch, loop.step):
        set_lr(loop.optimizer, lr_at(run.train, first + loop.step, len(batches), watched))
        loss, logits = step(x, y)
        loop.loss_sum += loss
        loop.right += (logits.argmax(1) == y).sum()
        loop.step += 1
        after_step(loop)
    lr = lr_at(run.train, first + len(batches) - 1, len(batches), watched)
    seen = len(batches) * run.train.batch_size
    loss_sum, right = float(team.total(loop.loss_sum)) / team.size, int(team.total(loop.right))
    return lr, loss_sum / len(batches), 100 * (1 - right / seen)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, spec: Training
) -> tuple[Tensor, Tensor]:
    """Forward, backward and update on N x 3 x H x W images and N labels:

    mean loss and N x K logits, detached.
    """
    with precision(spec, x.device):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), y, label_smoothing=spec.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), logits.detach()


@dataclass(frozen=True)
class Judgement:
    """Mean cross-entropy; which images were right at top 1; how many were wrong at top 5 (none: too
    few classes).

    answered: how many different classes were answered. finite: whether the loss and every logit
    were; an image with a logit that is not finite counts as wrong.
    """

    loss: float
    right: npt.NDArray[np.bool_]
    wrong_top5: int | None
    answered: int
    finite: bool

    @property
    def top1(self) -> float:
        """Top-1 error, percent."""
        return 100 * float(np.mean(~self.right))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    spec: Training,
    between: Callable[[], None] = lambda: None,
    team: Team = ALONE,
) -> Judgement:
    """Judge the network on every image of `batches`; the random state of training is left as it
    was.

    `between` is called after each batch; what it raises leaves the random state as it was, too.
    """
    model.eval()
    losses, top1, top5, finite, answers = [], [], [], [], []
    with drawing_for_evaluation(model, batches.device):
        for x, y in batches.in_order():
            with precision(spec, batches.device):
                logits = model(x).float()
            losses.append(F.cross_entropy(logits, y, reduction="sum"))
            finite.append(logits.isfinite().all(1))
            ranked = logits.topk(min(5, logits.shape[1])).indices
            right = (ranked == y[:, None]) & finite[-1][:, None]
            top1.append(right[:, 0])
            top5.append(right.any(1))
            answers.append(F.one_hot(ranked[:, 0], logits.shape[1]).sum(0))
            between()
    right = team.joined(torch.cat(top1)).cpu().numpy()
    wrong5 = int(team.total((~torch.cat(top5)).sum())) if logits.shape[1] > 5 else None
    loss = float(team.total(torch.stack(losses).sum())) / len(right)
    unsound = int(team.total((~torch.cat(finite)).sum()))
    answered = int((team.total(torch.stack(answers).sum(0)) > 0).sum())
    return Judgement(loss, right, wrong5, answered, finite=math.isfinite(loss) and unsound == 0)


@contextmanager
def drawing_for_evaluation(model: nn.Module, device: torch.device) -> Iterator[None]:
    """What is random inside a network is the same in every evaluation; training's random state
    stays as it was.
    """
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        drawing_from(model, torch.Generator(device).manual_seed(0)),
    ):
        torch.manual_seed(0)
        yield


class GateWatch:
    """Sums what the gates of a network's SE blocks return while the context is open."""

    def __init__(self, model: nn.Module, team: Team = ALONE) -> None:
        self.team, self.sums = team, dict[str, list[Tensor]]()
        gates = {name: getattr(block, "gate", None) for name, block in se_blocks(model).items()}
        self.hooks = [
            gate.register_forward_hook(self._hook(name))
            for name, gate in gates.items()
            if isinstance(gate, nn.Module)
        ]

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def watch(module: nn.Module, inputs: Any, gate: Tensor) -> None:
            if gate.ndim not in (2, 4):
                # a user's own gate of another shape: N x C and N x C x H x W are what can be summed
                # up
                return
            gate = gate.detach().double().reshape(*gate.shape[:2], *(gate.shape[2:] or (1, 1)))
            image = gate.mean((2, 3))  # N x C
            facts = [
                torch.tensor(gate.numel(), dtype=torch.float64, device=gate.device),
                gate.sum(),
                gate.square().sum(),
                (gate < 0.1).sum(),
                (gate > 0.9).sum(),
                torch.tensor(len(image), dtype=torch.float64, device=gate.device),
                image.sum(0),
                image.square().sum(0),
            ]
            old = self.sums.get(name)
            self.sums[name] = (
                facts if old is None else [a + b for a, b in zip(old, facts, strict=True)]
            )

        return watch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def summary(self) -> dict[str, Gates]:
        """What the gates were, by block."""
        summary = {}
        for name, sums in self.sums.items():
            count, total, squares, low, high, images, by_channel, channel_squares = map(
                self.team.total, sums
            )
            mean = float(total / count)
            centred = channel_squares / images - (by_channel / images).square()
            summary[name] = Gates(
                mean=mean,
                std=max(float(squares / count) - mean**2, 0.0) ** 0.5,
                within=float(centred.clamp(min=0).sqrt().mean()),
                low=float(low / count),
                high=float(high / count),
            )
        return summary


def precision(spec: Training, device: torch.device) -> torch.autocast:
    """The number format that a recipe computes the network in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16")
