"""What the parts of a machine's page share: networks, images, the clock, and facts put together."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from senet_ablate.data import ImageSet, Split
from senet_ablate.data.images import image_set
from senet_ablate.records import Part
from senet_ablate.records.bench import Measured, counted
from senet_ablate.spec import Run, SESpec, Training
from senet_ablate.train.provenance import provenance

CLASSES = 10

Timed = tuple[str, str, list[Measured]]
"""Unit, settings in words, and what was timed."""


@dataclass(frozen=True)
class Network:
    """A network to be timed; steps: how many a measurement takes."""

    backbone: str
    se: bool
    pixels: int
    batch: int
    steps: int
    stem: str = "default"

    @property
    def label(self) -> str:
        return f"{self.backbone}{' + SE' if self.se else ''}"

    def run(self, bf16: bool = False) -> Run:
        """A run that trains it: random crops and flips, SGD with momentum."""
        train = Training(
            dataset="cifar10",
            backbone=self.backbone,
            stem=self.stem,
            batch_size=self.batch,
            epochs=1,
            lr=0.1,
            weight_decay=5e-4,
            flip=True,
            pad_crop=self.pixels // 8,
            precision="bf16" if bf16 else "float32",
        )
        return Run(train, SESpec() if self.se else None, 0)


def networks(device: str) -> list[Network]:
    """What is trained: on a GPU the networks of the cifar recipes, on a CPU smaller ones."""
    if device == "cpu":
        plain = [
            Network("resnet_tiny_bottleneck", False, 16, 32, 20, "16px"),
            Network("resnet20", False, 32, 64, 4),
            Network("resnet29_bottleneck", False, 32, 32, 4),
            Network("resnet20_bottleneck", False, 32, 128, 4, "stride2"),
        ]
    else:
        names = ("resnet20", "resnet29_bottleneck", "resnet56_bottleneck")
        plain = [Network(name, False, 32, 128, 100) for name in names]
    return [replace(network, se=se) for network in plain for se in (False, True)]


def sizes(device: str) -> str:
    """The networks' images and batches, in words."""
    found = [f"{one.backbone}: {one.pixels} px, batch {one.batch}" for one in networks(device)]
    return "; ".join(dict.fromkeys(found))


def threads(device: str) -> str:
    """PyTorch's threads, where they matter, in words that end with a comma."""
    return f"{counted(torch.get_num_threads(), 'thread')}, " if device == "cpu" else ""


def random_images(pixels: int, device: str = "cpu") -> ImageSet:
    """Noise in place of CIFAR; on a GPU as many images, since an epoch has a start."""
    generator = np.random.default_rng(0)
    count = 2048 if device == "cpu" else 50_000
    pixel_values = generator.integers(0, 256, (count, pixels, pixels, 3), dtype=np.uint8)
    split = Split(pixel_values, np.arange(count, dtype=np.int64) % CLASSES)
    return image_set(split, split, [str(name) for name in range(CLASSES)])


def seconds(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Seconds of one call, the mean of `repeats` in a row, after the device has finished what it
    had to do before.

    torch.utils.benchmark.Timer makes two calls more at every measurement, a third of the time of a
    large network's step.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    if cuda:
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / repeats


@dataclass(frozen=True)
class Clock:
    """The time at which a measurement began, and what of the CPUs was used until then.

    machine, own: CPU seconds of all processes since the machine started, of this one and its ended
    children; NaN where the system does not say.
    """

    time: float
    machine: float
    own: float

    @staticmethod
    def now() -> "Clock":
        """The clock of this moment."""
        try:
            words = Path("/proc/stat").read_text(encoding="ascii").split(None, 9)[1:9]
            user, nice, system, _, _, *others = map(int, words)  # without idle and iowait
            machine = (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
        except OSError:
            machine = math.nan
        return Clock(time.monotonic(), machine, sum(os.times()[:4]))

    def others(self) -> float | None:
        """Cores that other processes have used since, on average; None where nobody knows."""
        now = Clock.now()
        used = now.machine - self.machine - (now.own - self.own)
        return None if math.isnan(used) else max(0.0, used / (now.time - self.time))


def part(timed: Timed, run: Run, data: str, device: str, command: str, began: Clock) -> Part:
    """The facts of a part whose measurement began at `began`; data: checksum of the images."""
    unit, settings, rows = timed
    return Part(
        unit=unit,
        more_is_better=unit == "images/s",
        settings=settings,
        others=began.others(),
        rows=tuple(rows),
        provenance=provenance(run, data, torch.device(device), command, began.time),
    )


def in_a_line(error: Exception) -> str:
    """What an exception is and says, cut short."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
