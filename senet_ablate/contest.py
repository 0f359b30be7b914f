"""Loops that train the same networks in processes of their own, and wait for each other in between."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import Tensor

from senet_ablate.backbones import build_model
from senet_ablate.classic import WORKERS, ClassicTraining, PilImages, endless
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.fast import steps_for
from senet_ablate.kernels.engine import forced
from senet_ablate.spec import Run, SESpec, Training
from senet_ablate.train import prepared, train_step

CLASSES, IMAGES = 10, 2048
AHEAD = 2 * WORKERS  # batches that the classic loader has ready, by its default


@dataclass(frozen=True)
class Network:
    """A network to be trained by every loop; steps: how many a measurement takes."""

    backbone: str
    se: bool
    pixels: int
    batch: int
    steps: int
    stem: str = "default"

    @property
    def label(self) -> str:
        """Name, with SE or not."""
        return f"{self.backbone}{' + SE' if self.se else ''}"

    @property
    def run(self) -> Run:
        """The run that trains it here: random crops and flips, SGD with momentum, float32."""
        fields = {"dataset": "cifar10", "backbone": self.backbone, "stem": self.stem, "batch_size": self.batch}
        fields |= {"epochs": 1, "lr": 0.1, "weight_decay": 5e-4, "flip": True, "pad_crop": self.pixels // 8}
        return Run(Training.model_validate(fields), SESpec() if self.se else None, 0)


@dataclass(frozen=True)
class Loop:
    """A way to train: which code, how many processes at once, with so many threads each."""

    name: str
    classic: bool
    processes: int
    threads: int
    amp: bool = False
    data: bool = True


def random_images(pixels: int) -> ImageSet:
    """Noise in place of CIFAR: as dear to load and to train on."""
    generator = np.random.default_rng(0)
    shape = (IMAGES, pixels, pixels, 3)
    split = Split(generator.integers(0, 256, shape, dtype=np.uint8), np.arange(IMAGES, dtype=np.int64) % CLASSES)
    return image_set(split, split, [str(name) for name in range(CLASSES)])


class Contest:
    """The processes of all loops, started once; `images_per_second` lets one loop run while the others wait."""

    def __init__(self, loops: list[Loop], networks: list[Network], device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.workers: dict[str, list[Connection]] = {}
        self.processes = []
        for loop in loops:
            for _ in range(loop.processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=_compete, args=(theirs, loop, networks, device))
                process.start()
                theirs.close()
                self.processes.append(process)
                self.workers.setdefault(loop.name, []).append(ours)
                ours.recv()  # it is ready

    def images_per_second(self, loop: str, network: Network) -> float:
        """Of all processes of a loop together."""
        for worker in self.workers[loop]:
            worker.send(network)
        seconds = [worker.recv() for worker in self.workers[loop]]
        return sum(network.steps * network.batch / value for value in seconds)

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *error: object) -> None:
        for workers in self.workers.values():
            for worker in workers:
                worker.close()
        for process in self.processes:
            process.join(20)
            process.terminate()


def _compete(connection: Connection, loop: Loop, networks: list[Network], device: str) -> None:
    torch.set_num_threads(loop.threads)
    steps = {
        network: _classic(network, loop, device) if loop.classic else _ours(network, device) for network in networks
    }
    way: AbstractContextManager[None] = forced("naive") if loop.classic else nullcontext()
    connection.send("ready")
    with way:
        while True:
            try:
                network = connection.recv()
            except EOFError:
                return
            connection.send(_seconds(steps[network], network.steps, device, AHEAD if loop.classic and loop.data else 1))


def _seconds(step: Callable[[], object], count: int, device: str, ahead: int) -> float:
    """Seconds of `count` steps, after `ahead` that use up what was loaded while the others ran."""
    for _ in range(ahead):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _classic(network: Network, loop: Loop, device: str) -> Callable[[], object]:
    images = random_images(network.pixels)
    model = build_model(network.backbone, CLASSES, network.run.se, stem=network.stem)
    training = ClassicTraining(model, torch.device(device), loop.amp)
    batches = endless(PilImages(images.train.images, images.train.labels), network.batch)
    if not loop.data:
        fixed = torch.randn(network.batch, 3, network.pixels, network.pixels), torch.arange(network.batch) % CLASSES
        return lambda: training.step(*fixed)
    return lambda: training.step(*next(batches))


def _ours(network: Network, device: str) -> Callable[[], object]:
    run, images = network.run, random_images(network.pixels)
    model, optimizer, batches = prepared(run, images, torch.device(device))
    model.train()
    model, optimizer, step = steps_for(run, model, optimizer, batches.device, partial(train_step, spec=run.train))

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            epoch += 1
            yield from batches.shuffled(0, epoch)

    source = forever()
    return lambda: step(*next(source))
