"""The learning rate as a function of the step number, without a scheduler's state."""

import math
from collections.abc import Sequence

from senet_ablate.spec import Training

# torch's defaults for OneCycleLR: share of the steps that rise, first and last rate over the peak
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 1 / 25, 1 / 250_000


def lr_at(
    train: Training, step: int, steps_per_epoch: int, losses: Sequence[float | None] = ()
) -> float:
    """Learning rate of a step, counted from 0. losses: validation loss by epoch (plateau only)."""
    steps = train.epochs * steps_per_epoch
    warmup = round(train.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    if train.schedule == "cosine":
        return train.lr * _half_cosine((step - warmup) / (steps - warmup))
    if train.schedule == "onecycle":
        peak, last = max(ONECYCLE_RISE * steps - 1, 1.0), max(steps - 1, 2)  # as in torch
        if step <= peak:
            return train.lr * (1 - (1 - ONECYCLE_START) * _half_cosine(step / peak))
        falling = _half_cosine((step - peak) / (last - peak))
        return train.lr * (ONECYCLE_END + (1 - ONECYCLE_END) * falling)
    if train.schedule == "multistep":
        drops = sum(step >= milestone * steps_per_epoch for milestone in train.milestones)
    else:
        drops = plateaus(losses, train.patience, train.drops)
    return train.lr * 0.1**drops


def plateaus(losses: Sequence[float | None], patience: int, most: int) -> int:
    """How often `patience` epochs in a row brought no new best loss, at most `most` times."""
    count, waited, best = 0, 0, math.inf
    for loss in losses:
        if loss is not None and loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= patience:
            count, waited = count + 1, 0
    return min(count, most)


def _half_cosine(share: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
