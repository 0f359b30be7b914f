"""Image folders too large to be held decoded: each image is decoded anew whenever it is needed,
crop by crop.

PyTorch's DataLoader does it, in worker processes that run ahead of the network, and Pillow decodes
and resizes, as it does for the cache; dev/LOG.md has the measurement behind that choice. What is
random about a crop is drawn before, by the same generator as for images in memory, so workers
change no number.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from senet_ablate.data.cache import Facts, cache_folder, writing
from senet_ablate.data.files import decode, decode_one, of_size, opened, shown
from senet_ablate.data.image_folder import find, missing
from senet_ablate.data.images import ImageSet, Pixels, statistics
from senet_ablate.records.facts import write_whole
from senet_ablate.spec import BadInput

SAMPLE = 2000  # training images that the channels' mean and standard deviation are taken from
AHEAD = 4  # batches that each worker decodes in advance
Box = tuple[float, float, float, float, bool]  # edges (height, width), place (y, x), flipped
Job = Callable[[], Pixels]  # what a worker process calls
Draws = dict[str, Tensor]
"""The numbers of images, and what is random about each, by name."""


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """The folder's images by path; the checksum is over files' names, sizes and labels. Mean and
    standard deviation are those of some of the training images.
    """
    classes, train, test = find(root)
    if not classes:
        raise BadInput(missing(root, "train/<class>/ and val/<class>/"))
    if image_size is None:
        raise BadInput(
            "dataset image-stream needs an image_size: the shorter edge at which images are judged"
        )
    checksum = hashlib.sha256()
    for split in (train, test):
        for path, label in zip(split.files, split.labels, strict=True):
            name = os.fsencode(path.relative_to(root))
            checksum.update(name + f"\0{path.stat().st_size}\0{label}\n".encode())
    path = cache_folder(root) / f"image-stream-{image_size}-{checksum.hexdigest()[:16]}.json"
    try:
        facts = Facts.read(path)
    except (OSError, ValueError, TypeError):  # not there, or not whole: it is soon computed
        chosen = np.random.default_rng(0).permutation(len(train))[:SAMPLE]
        mean, std = statistics(decode(train.take(chosen), image_size).images)
        names = tuple(map(shown, classes))
        facts = Facts(classes=names, mean=mean, std=std, checksum=checksum.hexdigest())
        with writing(path.parent):
            write_whole(path, facts.sealed())
    left_out = train.left_out + test.left_out
    train, test = of_size(train, image_size), of_size(test, image_size)
    return ImageSet(train, test, **dict(facts), left_out=left_out)


class Stream:
    """Batches of uint8 images, N x H x W x 3, decoded ahead in processes (0: in this one).

    files: of the images by number. size: edge of the crops; square: of the centre squares.
    """

    def __init__(self, files: Sequence[Path], square: int, size: int, workers: int) -> None:
        self.files, self.square, self.size = files, square, size
        self.batches: Iterable[list[Job]] = ()
        self.loader = DataLoader(
            _Decoded(),
            batch_sampler=self,
            num_workers=workers,
            collate_fn=_stacked,
            # else each epoch, and each resume, takes a draw of the network's random state
            generator=torch.Generator(),
            persistent_workers=workers > 0,
            prefetch_factor=AHEAD if workers else None,
            multiprocessing_context="spawn" if workers else None,
            pin_memory=workers > 0 and torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[list[Job]]:
        """What the loader decodes in the epoch that begins, in this process."""
        return iter(self.batches)

    def crops(self, batches: Iterable[Draws]) -> Iterator[Tensor]:
        """Crops of `size` for batches of draws as `Batches` makes them."""
        return self._decoded(map(self._crops, batches))

    def squares(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The centre squares of batches of images, their shorter edge resized to `square`."""
        return self._decoded(
            [partial(decode_one, self.files[number], self.square) for number in chosen.tolist()]
            for chosen in batches
        )

    def _crops(self, draws: Draws) -> list[Job]:
        boxes = torch.cat([draws["edges"], draws["place"]], 1).tolist()
        flips = draws["flip"].tolist() if "flip" in draws else [False] * len(boxes)
        return [
            partial(cropped, self.files[number], self.size, (*box, flip))
            for number, box, flip in zip(draws["image"].tolist(), boxes, flips, strict=True)
        ]

    def _decoded(self, batches: Iterable[list[Job]]) -> Iterator[Tensor]:
        self.batches = batches
        try:
            yield from self.loader
        except BadInput as error:  # a worker's message is the last line of its traceback
            raise BadInput(str(error).strip().rpartition("BadInput: ")[2]) from None


class _Decoded(Dataset[Pixels]):
    def __getitem__(self, job: Job) -> Pixels:
        return job()


def _stacked(images: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(images))


def cropped(path: Path, size: int, box: Box) -> Pixels:
    """A crop of an image as size x size x 3.

    The edges of a box count in the square root of the image's area, so that their product is a
    share of it; one that is higher or wider than the image shrinks, and keeps its aspect. Its place
    runs from -1 to 1 over the room that is left.
    """
    image, (height, width, y, x, flipped) = opened(path), box
    root = (image.height * image.width) ** 0.5
    root *= min(1.0, image.height / (height * root), image.width / (width * root))
    h, w = max(1, round(height * root)), max(1, round(width * root))
    top, left = round((image.height - h) * (y + 1) / 2), round((image.width - w) * (x + 1) / 2)
    crop = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    pixels = np.asarray(crop)
    return pixels[:, ::-1] if flipped else pixels


def workers(device: torch.device) -> int:
    """Decoding processes for one training process: the machine's cores shared among its GPUs; none
    beside a CPU run, which has a core to itself and no other."""
    if device.type != "cuda":
        return 0
    return max(1, cpu_count() // torch.cuda.device_count())
