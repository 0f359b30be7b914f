"""Batches of augmented, normalised images: whole-batch tensor operations, no worker processes, no
Pillow.

All that is random in an epoch is drawn at its start by one generator on the CPU, seeded by the
run's seed and the epoch's number. So every variant of a seed sees the same batches on any device,
and an epoch can be repeated by itself.
"""

import hashlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from senet_ablate.data.images import ImageSet, Split
from senet_ablate.data.streaming import Draws, Stream, workers
from senet_ablate.spec import BadInput, Training

# of the free memory of a GPU may hold images; a larger split stays memory-mapped on the host
DEVICE_SHARE = 0.5
EPOCH_BYTES = 2**30  # of images that a GPU augments and normalises at once
EVALUATION_BATCH, EVALUATION_PIXELS = 1000, 4_096_000  # images at most, pixels at most

Batch = tuple[Tensor, Tensor]  # images, labels


class Batches:
    """One split on its way to the network.

    Yields images as N x 3 x H x W float32 in channels-last memory, and labels as N int64, on
    `device`. share: this is part i of n, as (i, n): of every batch in random order, and of all
    images in order.
    """

    def __init__(
        self,
        split: Split,
        images: ImageSet,
        train: Training,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        stored = split.images.shape[1]  # pixels of an edge
        self.train, self.device, self.size = train, device, train.crop_size or stored
        self.part, self.parts = share
        self.own = train.batch_size // self.parts  # images of each batch that are this process's
        self.images = torch.from_numpy(split.images)
        self.labels = torch.from_numpy(split.labels).to(device)
        self.index = None if split.index is None else torch.from_numpy(split.index)
        self.stream: Stream | None = None
        if split.files:
            self.stream = Stream(split.files, stored, self.size, workers(device))
        if self.size > stored:
            raise BadInput(f"crop_size {self.size} exceeds the stored images, {stored} pixels")
        if device.type == "cuda":
            kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            room = DEVICE_SHARE * (torch.cuda.mem_get_info(device)[0] + kept)
            self.images = self.images.to(device if self.images.nbytes < room else "cpu")
        if self.index is not None:
            self.index = self.index.to(self.images.device)
        self.mean = torch.tensor(images.mean, device=device)
        std = images.std if train.normalise == "mean_std" else (255.0,) * 3
        self.std = torch.tensor(std, device=device)

    def __len__(self) -> int:
        """Steps of an epoch; a last, smaller batch has other batch statistics and is left out."""
        return len(self.labels) // self.train.batch_size

    def shuffled(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """One epoch in random order with the recipe's augmentation, from batch `start` on.

        Raises BadInput for a recipe without scale_crop where images are decoded as they are needed.
        """
        if self.stream and not self.train.scale_crop:
            raise BadInput(
                f"dataset {self.train.dataset} is cropped as it is decoded: give the recipe a"
                " scale_crop"
            )
        key = hashlib.sha256(f"data/{seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7]))
        count = len(self) * self.train.batch_size
        places = torch.arange(count).view(len(self), self.parts, self.own)
        mine = places[start:, self.part].flatten()
        draws = {name: draw[mine] for name, draw in self._draw(count, generator).items()}
        if self.device.type == "cuda" and not self.stream:  # copied while the host goes on
            for name, draw in draws.items():
                where = self.images.device if name == "image" else self.device
                draws[name] = draw.pin_memory().to(where, non_blocking=True)
        step = self.own * self.batches_at_once
        parts = [
            {name: draw[first : first + step] for name, draw in draws.items()}
            for first in range(0, len(mine), step)
        ]
        crops = self.stream.crops(parts) if self.stream else map(self._augmented, parts)
        for now, pixels in zip(parts, crops, strict=True):
            x, image = self._normalised(pixels), now["image"].to(self.device, non_blocking=True)
            y = self.labels[image]
            if "hole" in now:
                x = _cut_out(x, self.train.cutout, now["hole"].to(self.device, non_blocking=True))
            yield from zip(torch.split(x, self.own), torch.split(y, self.own), strict=True)

    @property
    def batches_at_once(self) -> int:
        """How many batches are augmented at once: of images on a GPU what fits EPOCH_BYTES."""
        if self.stream or self.images.device.type == "cpu":
            return 1
        image = 3 * max(self.size, self.images.shape[1]) ** 2 * 4  # float32
        return max(1, EPOCH_BYTES // (image * self.own))

    def empty(self) -> Batch:
        """A black batch, in the shape and layout of those in random order."""
        x = torch.zeros(self.own, self.size, self.size, 3, device=self.device)
        return x.permute(0, 3, 1, 2), torch.zeros(self.own, dtype=torch.int64, device=self.device)

    def in_order(self) -> Iterator[Batch]:
        """Every image once, unaugmented, centre-cropped where the recipe crops."""
        step = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // self.size**2))
        first, end = (len(self.labels) * part // self.parts for part in (self.part, self.part + 1))
        batches = torch.split(torch.arange(first, end, device=self.device), step)
        squares = self.stream.squares(batches) if self.stream else map(self._take, batches)
        for chosen, pixels in zip(batches, squares, strict=True):
            pixels = pixels.to(self.device, non_blocking=True)
            top, left = ((edge - self.size) // 2 for edge in pixels.shape[1:3])
            square = pixels[:, top : top + self.size, left : left + self.size]
            yield self._normalised(square), self.labels[chosen]

    def _take(self, chosen: Tensor) -> Tensor:
        chosen = chosen.to(self.images.device)
        pixels = self.images[chosen if self.index is None else self.index[chosen]]
        if pixels.device.type != self.device.type:  # copied while the GPU computes
            pixels = pixels.pin_memory()
        return pixels.to(self.device, non_blocking=True)

    def _normalised(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self.device, non_blocking=True).float()
        return ((pixels - self.mean) / self.std).permute(0, 3, 1, 2)

    def _draw(self, count: int, generator: torch.Generator) -> Draws:
        """Images in random order and what is random about them: `count` rows, on the host."""
        train = self.train
        draws = {"image": torch.randperm(len(self.labels), generator=generator)[:count]}
        if train.flip:
            draws["flip"] = torch.rand(count, generator=generator) < 0.5
        if train.pad_crop or (self.size < self.images.shape[1] and not train.scale_crop):
            span = self.images.shape[1] + 2 * train.pad_crop - self.size + 1
            draws["corner"] = torch.randint(span, (count, 2), generator=generator)
        if train.scale_crop:
            low, high = train.scale_crop
            area = low + (high - low) * torch.rand(count, generator=generator)
            aspect = torch.exp(
                (torch.rand(count, generator=generator) * 2 - 1) * torch.tensor(4 / 3).log()
            )
            edges = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1)
            # height, width; of a square at most the whole, of a file as far as the file goes
            draws["edges"] = edges if self.stream else edges.clamp(max=1.0)
            draws["place"] = torch.rand(count, 2, generator=generator) * 2 - 1
        if train.cutout:
            draws["hole"] = torch.randint(self.size, (count, 2), generator=generator)
        return draws

    def _augmented(self, draws: Draws) -> Tensor:
        """The images drawn as N x size x size x 3; crop and flip are one gather."""
        pixels = self._take(draws["image"])
        if "edges" in draws:
            return _scale_cropped(pixels, self.size, draws)
        if not draws.keys() & {"flip", "corner"}:
            return pixels
        count, pad = len(pixels), self.train.pad_crop
        steps = torch.arange(self.size, device=pixels.device)
        rows = columns = steps.expand(count, self.size)
        if "flip" in draws:
            columns = torch.where(draws["flip"][:, None], self.size - 1 - steps, steps)
        if "corner" in draws:
            rows, columns = rows + draws["corner"][:, :1], columns + draws["corner"][:, 1:]
        if pad:
            pixels = F.pad(pixels, (0, 0, pad, pad, pad, pad))
        images = torch.arange(count, device=pixels.device)[:, None, None]
        return pixels[images, rows[:, :, None], columns[:, None, :]]


def _scale_cropped(pixels: Tensor, size: int, draws: Draws) -> Tensor:
    """Crops of relative edges (height, width) at a place of -1 to 1, resized to `size`; float32."""
    edges = draws["edges"]
    mirror = 1.0 - 2.0 * draws["flip"].float() if "flip" in draws else 1.0
    centre = draws["place"] * (1 - edges)
    transform = torch.zeros(len(pixels), 2, 3, device=pixels.device)
    transform[:, 0, 0], transform[:, 0, 2] = edges[:, 1] * mirror, centre[:, 1]
    transform[:, 1, 1], transform[:, 1, 2] = edges[:, 0], centre[:, 0]
    grid = F.affine_grid(transform, [len(pixels), 3, size, size], align_corners=False)
    crops = F.grid_sample(
        pixels.permute(0, 3, 1, 2).float(),
        grid,
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return crops.permute(0, 2, 3, 1)


def _cut_out(x: Tensor, edge: int, centres: Tensor) -> Tensor:
    """Zeros (the mean colour) in a square around each image's centre (arXiv:1708.04552)."""
    steps = torch.arange(x.shape[2], device=x.device)
    start = centres - edge // 2
    inside = (steps >= start[..., None]) & (steps < start[..., None] + edge)  # N x 2 x size
    return x.masked_fill((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], 0.0)
