"""What the parts of a machine's bench have in common:

the networks trained, and how facts are put together.
"""

import os
from collections.abc import Callable

import torch

from senet_ablate.bench.contest import Network, random_images
from senet_ablate.records.bench import Measured, Part
from senet_ablate.train.provenance import provenance

Tell = Callable[[str], None]
Measure = Callable[[str, int, str, Tell], Part]
"""device ("cpu" or "cuda:N"), rounds, command, and what is told of progress."""


def networks(device: str) -> list[Network]:
    """What is trained: on a GPU the networks of the cifar recipes, on a CPU smaller ones."""
    if device != "cpu":
        names, batch, steps = ("resnet20", "resnet56_bottleneck"), 128, 100
        return [Network(name, se, 32, batch, steps) for name in names for se in (False, True)]
    tiny = [Network("resnet_tiny_bottleneck", se, 16, 32, 20, "16px") for se in (False, True)]
    larger = (
        ("resnet20", 64, "default"),
        ("resnet29_bottleneck", 32, "default"),
        ("resnet20_bottleneck", 128, "stride2"),
    )
    return tiny + [
        Network(name, se, 32, batch, 4, stem)
        for name, batch, stem in larger
        for se in (False, True)
    ]


def sizes(device: str) -> str:
    """The networks' images and batches, in words."""
    return "; ".join(
        dict.fromkeys(f"{n.backbone}: {n.pixels} px, batch {n.batch}" for n in networks(device))
    )


def threads(device: str) -> str:
    """How many threads PyTorch uses here, where that matters, in words that end with a comma."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}, " if device == "cpu" else ""


def part(
    unit: str,
    more: bool,
    settings: str,
    rows: list[Measured],
    device: str,
    command: str,
    began: float,
) -> Part:
    """The facts of a part whose measurement began at `began` (seconds of time.monotonic)."""
    run = networks(device)[0].run()
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else None
    where = provenance(run, random_images(8).checksum, torch.device(device), command, began, 0.0)
    return Part(
        unit=unit,
        more_is_better=more,
        settings=settings,
        load=load,
        rows=tuple(rows),
        provenance=where,
    )
