"""The learning rate as a function of the step number, never of a scheduler's state."""

import math
from collections.abc import Sequence

from senet_ablate.spec.spec import Training

ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = (
    0.3,
    1 / 25,
    1 / 250_000,
)  # shares of the steps and of lr (torch's defaults)


def lr_at(
    train: Training, step: int, steps_per_epoch: int, watched: Sequence[float | None] = ()
) -> float:
    """Learning rate of a step, counted from 0; `watched`:

    validation loss of each finished epoch (plateau only).
    """
    steps = train.epochs * steps_per_epoch
    warmup = round(train.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    if train.schedule == "cosine":
        return train.lr * _falling((step - warmup) / (steps - warmup))
    if train.schedule == "onecycle":
        peak, last = (
            max(ONECYCLE_RISE * steps - 1, 1.0),
            max(steps - 1, 2),
        )  # may lie between two steps, as in torch
        if step <= peak:
            return train.lr * (1 - (1 - ONECYCLE_START) * _falling(step / peak))
        return train.lr * (
            ONECYCLE_END + (1 - ONECYCLE_END) * _falling((step - peak) / (last - peak))
        )
    if train.schedule == "multistep":
        passed = sum(step >= milestone * steps_per_epoch for milestone in train.milestones)
    else:
        passed = plateaus(watched, train.patience, train.drops)
    return train.lr * 0.1**passed


def plateaus(losses: Sequence[float | None], patience: int, most: int) -> int:
    """How often the loss has gone `patience` epochs without a new best since the last such time, at
    most `most`.
    """
    passed, waited, best = 0, 0, math.inf
    for loss in losses:
        if loss is not None and loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= patience:
            passed, waited = passed + 1, 0
    return min(passed, most)


def _falling(share: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
