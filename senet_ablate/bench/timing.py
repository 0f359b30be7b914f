"""How long a training step and an inference take, several networks side by side on one device.

A machine's speed drifts with its temperature and its other users. So every round times each network
once, in an order that turns from round to round, and networks are compared within a round.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import torch

from senet_ablate.bench.clock import seconds
from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.records.timing import NetworkTime, Timing
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run
from senet_ablate.train.cuda_graph import step_for
from senet_ablate.train.loop import precision, prepared, train_step
from senet_ablate.train.provenance import provenance

# a measurement repeats its call until it lasts so long: shorter ones drown in the clock's noise
AT_LEAST_S = 0.05
AT_MOST = 50  # calls

Call = Callable[[], object]


def measure(
    networks: dict[str, Run],
    images: ImageSet,
    device: torch.device,
    rounds: int,
    command: str,
    progress: Callable[[], None] = lambda: None,
) -> Timing:
    """Time every network (label -> run) in `rounds` rounds; `progress` is told after each
    measurement.

    All networks are held on the device at once. Raises BadInput if they do not fit it.
    """
    began = time.monotonic()
    try:
        calls = {label: _calls(run, images, device) for label, run in networks.items()}
        repeats = {
            label: {what: _repeats(call, device) for what, call in mine.items()}
            for label, mine in calls.items()
        }
    except torch.cuda.OutOfMemoryError as error:
        raise BadInput(
            f"{len(networks)} networks at once do not fit this device's memory; leave out --all"
        ) from error
    found: dict[str, dict[str, list[float]]] = {
        label: {what: [] for what in mine} for label, mine in calls.items()
    }
    order = list(networks)
    for _ in range(rounds):
        for what in ("training_step", "inference", "inference_batch"):
            for label in order:
                found[label][what].append(seconds(calls[label][what], device, repeats[label][what]))
                progress()
        order = order[1:] + order[:1]
    first = next(iter(networks.values()))
    return Timing(
        batch_size=first.train.batch_size,
        pixels=first.train.crop_size or images.train.images.shape[1],
        threads=torch.get_num_threads(),
        networks={
            run.id: NetworkTime(
                label=label, **{what: tuple(times) for what, times in found[label].items()}
            )
            for label, run in networks.items()
        },
        provenance=provenance(first, images.checksum, device, command, began, 0.0),
    )


def _calls(run: Run, images: ImageSet, device: torch.device) -> dict[str, Call]:
    """What is timed, on a network and optimizer of its own and one batch that lies on the device
    already.
    """
    model, optimizer, batches = prepared(run, images, device)
    step = step_for(model, optimizer, device, partial(train_step, spec=run.train))
    x, y = next(batches.shuffled(run.seed, 1))
    one = next(Batches(images.test, images, run.train, device).in_order())[0][:1]

    def training_step() -> None:
        model.train()
        step(x, y)

    @torch.inference_mode()
    def inference(images: torch.Tensor) -> None:
        model.eval()
        with precision(run.train, device):
            model(images)

    return {
        "training_step": training_step,
        "inference": lambda: inference(one),
        "inference_batch": lambda: inference(x),
    }


def _repeats(call: Call, device: torch.device) -> int:
    """How often to make a call in one measurement; warms it up."""
    seconds(call, device, 2)
    return min(AT_MOST, math.ceil(AT_LEAST_S / max(seconds(call, device), 1e-6)))
