"""The training loop of popular CIFAR repositories as they write it, for `bench loop`."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WORKERS = 2  # each makes two batches ready, the loader's default


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


def endless(images: PilImages, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches from worker processes that stay alive, epoch after epoch."""
    loader = DataLoader(
        images,
        batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        drop_last=True,
        pin_memory=torch.cuda.is_available(), multiprocessing_context="fork",
    )  # fmt: skip
    while True:
        yield from loader


class ClassicTraining:
    """Forward, backward, update, and the loss and the count of right answers read at every step."""

    def __init__(self, model: nn.Module, device: torch.device, amp: bool = False) -> None:
        self.model, self.device, self.amp = model.to(device).train(), device, amp
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
        )
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
