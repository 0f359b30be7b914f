"""Ways to train the same network: a training step, its data path included, for each."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, repeat
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
from senet_ablate.models import build_model
from senet_ablate.train.launch.local import own_stream
from senet_ablate.train.loop import make_step, prepared, train_step

WORKERS = 2  # of the classic loop's DataLoader; each makes two batches ready, the default

Step = Callable[[], object]


@dataclass(frozen=True)
class Competitor:
    """A way to train: `make` gives its step in each of so many processes of so many threads.

    over: the name of the one that it is compared with. compiled: a mode of torch.compile, or for
    ours what of the network is compiled; empty: nothing. data: whether images are loaded. runs: how
    many a process trains at once.
    """

    name: str
    make: Callable[[Network, "Competitor", torch.device], Step]
    over: str = ""
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


def classic_step(
    model: nn.Module, device: torch.device, bf16: bool = False, compiled: str = ""
) -> Callable[[Tensor, Tensor], tuple[float, int]]:
    """Forward, backward, update, and the loss and the count of right answers read at every step."""
    network: Any = model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    if compiled:
        network = torch.compile(network, mode=compiled)

    def step(inputs: Tensor, targets: Tensor) -> tuple[float, int]:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = network(inputs)
            loss = nn.functional.cross_entropy(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item(), outputs.max(1)[1].eq(targets).sum().item()

    return step


def classic(network: Network, way: Competitor, device: torch.device) -> Step:
    """Popular CIFAR repositories: PIL images, torchvision's transforms, a DataLoader with workers
    that stay alive.
    """
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False  # as usual
    model = build_model(network.backbone, CLASSES, network.run().se, stem=network.stem)
    step = classic_step(model, device, way.bf16, way.compiled)
    if not way.data:
        x = torch.randn(network.batch, 3, network.pixels, network.pixels)
        return partial(step, x, torch.arange(network.batch) % CLASSES)
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
    batches = chain.from_iterable(repeat(loader))
    return lambda: step(*next(batches))


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
    batches = chain.from_iterable(repeat(loader))

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
    endless = chain.from_iterable(batches.shuffled(0, epoch) for epoch in count(1))
    return lambda: step(*next(endless))


def together(network: Network, way: Competitor, device: torch.device) -> Step:
    """A step of each of several runs in one process, each in a thread with a stream of its own."""

    def step_of_one() -> Step:
        stream = own_stream(device)
        with stream:
            step = ours(network, way, device)

        def call() -> None:
            with stream:
                step()

        return call

    pool, steps = ThreadPoolExecutor(way.runs), [step_of_one() for _ in range(way.runs)]
    return lambda: list(pool.map(lambda step: step(), steps))
