"""Ways to train the same networks, in processes of their own that wait for each other in
between.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from senet_ablate.bench.clock import seconds
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.data.loader import Batches
from senet_ablate.models.build import build_model
from senet_ablate.spec.spec import Run, SESpec, Training
from senet_ablate.train.cuda_graph import step_for
from senet_ablate.train.loop import prepared, train_step

CLASSES = 10
# steps before each measurement: they use up what the classic loader made ready while the others ran
WARM = 4

Code = Literal["classic", "airbench", "ours"]
Maker = Callable[["Network", "Way", torch.device], Callable[[], object]]


@dataclass(frozen=True)
class Network:
    """A network to be trained in every way; steps: how many a measurement takes."""

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

    def run(self, bf16: bool = False, seed: int = 0) -> Run:
        """A run that trains it here: random crops and flips, SGD with momentum."""
        fields = {
            "dataset": "cifar10",
            "backbone": self.backbone,
            "stem": self.stem,
            "batch_size": self.batch,
        }
        fields |= {
            "epochs": 1,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "flip": True,
            "pad_crop": self.pixels // 8,
        }
        fields |= {"precision": "bf16" if bf16 else "float32"}
        return Run(Training.model_validate(fields), SESpec() if self.se else None, seed)


@dataclass(frozen=True)
class Way:
    """A way to train: whose code, and how many processes at once with so many threads each."""

    name: str
    code: Code
    processes: int
    threads: int
    bf16: bool = False
    data: bool = True
    compiled: bool = False


def random_images(pixels: int, device: str = "cpu") -> ImageSet:
    """Noise in place of CIFAR:

    as dear to load and to train on; on a GPU as many images, since an epoch has a start.
    """
    generator = np.random.default_rng(0)
    count = 2048 if device == "cpu" else 50_000
    pixel_values = generator.integers(0, 256, (count, pixels, pixels, 3), dtype=np.uint8)
    split = Split(pixel_values, np.arange(count, dtype=np.int64) % CLASSES)
    return image_set(split, split, [str(name) for name in range(CLASSES)])


class Contest:
    """The processes of all ways, started once; `images_per_second` lets one way run while the
    others wait.

    failed: the ways that cannot run here, with the reason.
    """

    def __init__(self, ways: list[Way], networks: list[Network], device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.workers: dict[Way, list[Connection]] = {}
        self.failed: dict[Way, str] = {}
        self.processes = []
        for way in ways:
            for _ in range(way.processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=_compete, args=(theirs, way, networks, device))
                process.start()
                theirs.close()
                self.processes.append(process)
                self.workers.setdefault(way, []).append(ours)
        for way in ways:
            self._answers(way)  # they are ready

    def images_per_second(self, way: Way, network: Network) -> float | None:
        """Of all processes of a way together; None if it has failed."""
        if way in self.failed:
            return None
        for worker in self.workers[way]:
            worker.send(network)
        step_seconds = self._answers(way)
        return None if way in self.failed else sum(network.batch / value for value in step_seconds)

    def _answers(self, way: Way) -> list[float]:
        """What each process of a way says; a process that ends, or says in words what went wrong,
        fails the way.
        """
        answers = []
        for worker in self.workers[way]:
            try:
                answer: float | str = worker.recv()
            except (EOFError, OSError):
                answer = "a process ended"
            if isinstance(answer, str):
                self.failed[way] = answer
            else:
                answers.append(answer)
        return answers

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *error: object) -> None:
        for workers in self.workers.values():
            for worker in workers:
                worker.close()
        for process in self.processes:
            process.join(20)
            process.terminate()


def _compete(connection: Connection, way: Way, networks: list[Network], device: str) -> None:
    torch.set_num_threads(way.threads)
    torch.backends.cudnn.allow_tf32 = (
        way.code == "classic"
    )  # PyTorch's default; a recipe's float32 is float32
    on = torch.device(device)
    makers: dict[Code, Maker] = {"classic": _classic, "airbench": _airbench, "ours": _ours}
    try:
        steps = {network: makers[way.code](network, way, on) for network in networks}
        connection.send(0.0)
        while True:
            network = connection.recv()
            seconds(steps[network], on, WARM)
            connection.send(seconds(steps[network], on, network.steps))
    except EOFError:
        return  # nobody asks any more
    except (
        Exception
    ) as error:  # a compiler that is missing, memory that does not suffice: the other ways go on
        connection.send(in_a_line(error))


def in_a_line(error: Exception) -> str:
    """What an exception is and says, cut short."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _classic(network: Network, way: Way, device: torch.device) -> Callable[[], object]:
    from senet_ablate.bench.classic import (
        ClassicTraining,
        PilImages,
        endless,
    )  # torchvision, which no other way needs

    images = random_images(network.pixels, device.type)
    model = build_model(network.backbone, CLASSES, network.run().se, stem=network.stem)
    training = ClassicTraining(model, device, way.bf16)
    batches = endless(PilImages(images.train.images, images.train.labels), network.batch)
    if not way.data:
        fixed = (
            torch.randn(network.batch, 3, network.pixels, network.pixels),
            torch.arange(network.batch) % CLASSES,
        )
        return lambda: training.step(*fixed)
    return lambda: training.step(*next(batches))


def _airbench(network: Network, way: Way, device: torch.device) -> Callable[[], Tensor]:
    """airbench's loader (epochs of half-precision images made at once on the device) and the
    compiled network.
    """
    from airbench import CifarLoader

    images = random_images(network.pixels, device.type).train
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # where it looks for the CIFAR-10 that it has converted
        content = {
            "images": torch.from_numpy(images.images),
            "labels": torch.from_numpy(images.labels),
        }
        torch.save({**content, "classes": list(range(CLASSES))}, Path(folder) / "train.pt")
        augmentation = {"flip": True, "translate": network.pixels // 8}
        loader = CifarLoader(
            folder, train=True, batch_size=network.batch, aug=augmentation, gpu=str(device)
        )
    run = network.run(way.bf16)
    model, optimizer, _ = prepared(run, random_images(network.pixels), device)
    compiled: Any = torch.compile(model.train())

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    source = forever()

    def step() -> Tensor:
        x, y = next(source)
        return train_step(compiled, optimizer, x if way.bf16 else x.float(), y, run.train)[0]

    return step


def _ours(network: Network, way: Way, device: torch.device) -> Callable[[], object]:
    run = network.run(way.bf16)
    model, optimizer, batches = prepared(run, random_images(network.pixels, device.type), device)
    model.train()
    called: torch.nn.Module = torch.compile(model) if way.compiled else model  # type: ignore[assignment]
    step = step_for(called, optimizer, batches.device, partial(train_step, spec=run.train))
    source = _forever(batches)
    return lambda: step(*next(source))


def _forever(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in count(1):
        yield from batches.shuffled(0, epoch)
