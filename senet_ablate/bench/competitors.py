"""Ways to train the same network: a training step, its data path included, for each."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from senet_ablate.bench.parts import CLASSES, Network, random_images
from senet_ablate.data.loader import Batches
from senet_ablate.models.build import build_model
from senet_ablate.train.launch.local import own_stream
from senet_ablate.train.loop import make_step, prepared, train_step

WORKERS = 2  # of the classic loop's DataLoader; each makes two batches ready, the default

Step = Callable[[], object]


@dataclass(frozen=True)
class Competitor:
    """A way to train: `make` gives its step in each of so many processes of so many threads.

    compiled: a mode of torch.compile, or for ours what of the network is compiled; empty: nothing.
    data: whether images are loaded. runs: how many a process trains at once.
    """

    name: str
    make: Callable[[Network, "Competitor", torch.device], Step]
    processes: int = 1
    threads: int = 1
    bf16: bool = False
    compiled: str = ""
    data: bool = True
    runs: int = 1


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images that become PIL images one by one, as torchvision's CIFAR10 hands them out."""

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self.pixels, self.labels = pixels, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(pixels.shape[1], padding=pixels.shape[1] // 8),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class ClassicTraining:
    """The loop of popular CIFAR repositories: forward, backward, update, and the loss and the count
    of right answers read at every step.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, amp: bool = False, compiled: str = ""
    ) -> None:
        self.device, self.amp = device, amp
        self.model: Any = model.to(device).train()
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
        )
        if compiled:
            self.model = torch.compile(self.model, mode=compiled)
        self.loss, self.right = 0.0, 0

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """One step on a batch of the loader."""
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            outputs = self.model(inputs)
            loss = self.criterion(outputs, targets)
        loss.backward()
        self.optimizer.step()
        self.loss += loss.item()
        self.right += outputs.max(1)[1].eq(targets).sum().item()


def classic(network: Network, way: Competitor, device: torch.device) -> Step:
    """Popular CIFAR repositories: PIL images, torchvision's transforms, a DataLoader with workers
    that stay alive.
    """
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    model = build_model(network.backbone, CLASSES, network.run().se, stem=network.stem)
    training = ClassicTraining(model, device, way.bf16, way.compiled)
    if not way.data:
        x = torch.randn(network.batch, 3, network.pixels, network.pixels)
        return partial(training.step, x, torch.arange(network.batch) % CLASSES)
    images = random_images(network.pixels, device.type).train
    loader = DataLoader(
        PilImages(images.images, images.labels),
        network.batch,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        drop_last=True,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",
    )
    batches = _endless(lambda epoch: loader)
    return lambda: training.step(*next(batches))


def airbench(network: Network, way: Competitor, device: torch.device) -> Step:
    """airbench's loader (epochs of half-precision images made at once on the device) and the
    compiled network.
    """
    from airbench import CifarLoader

    images = random_images(network.pixels, device.type).train
    content = {
        "images": torch.from_numpy(images.images),
        "labels": torch.from_numpy(images.labels),
        "classes": list(range(CLASSES)),
    }
    with tempfile.TemporaryDirectory() as folder:  # where it looks for a CIFAR-10 of its own format
        torch.save(content, Path(folder) / "train.pt")
        augmentation = {"flip": True, "translate": network.pixels // 8}
        loader = CifarLoader(
            folder, train=True, batch_size=network.batch, aug=augmentation, gpu=str(device)
        )
    run = network.run(way.bf16)
    model, optimizer, _ = prepared(run, random_images(network.pixels), device)
    compiled: Any = torch.compile(model.train())
    batches = _endless(lambda epoch: loader)

    def step() -> Tensor:
        x, y = next(batches)
        return train_step(compiled, optimizer, x if way.bf16 else x.float(), y, run.train)[0]

    return step


def ours(network: Network, way: Competitor, device: torch.device) -> Step:
    """This package's loader and training step; on a GPU in a CUDA graph."""
    run = network.run(way.bf16)
    model, optimizer, batches = prepared(run, random_images(network.pixels, device.type), device)
    what = {"": False, "model": True, "units": "units"}[way.compiled]
    train = run.train.model_copy(update={"compile": what})
    step = make_step(train, model.train(), optimizer, batches)
    shuffled = _endless(partial(Batches.shuffled, batches, 0))
    return lambda: step(*next(shuffled))


def together(network: Network, way: Competitor, device: torch.device) -> Step:
    """A step of each of several runs in one process, each in a thread with a stream of its own."""
    pool = ThreadPoolExecutor(way.runs)
    streams = [own_stream(device) for _ in range(way.runs)]

    def make(stream: AbstractContextManager[object]) -> Step:
        with stream:
            return ours(network, way, device)

    def call(step: Step, stream: AbstractContextManager[object]) -> None:
        with stream:
            step()

    steps = [make(stream) for stream in streams]
    return lambda: list(pool.map(call, steps, streams))


def _endless(
    epoch_of: Callable[[int], Any],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, epoch after epoch."""
    for epoch in count(1):
        yield from epoch_of(epoch)
