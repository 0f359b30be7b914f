"""What a data set is."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from senet_ablate.spec import BadInput

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Colour = tuple[float, float, float]  # by channel, 0 to 255
COPIED_WHOLE = 2**30  # bytes of pixels


@dataclass(frozen=True)
class Split:
    """images: N x H x W x 3 uint8, possibly memory-mapped; labels: N.

    index: which of the images are meant, for a part of a set that is too large to copy; labels are
    those of the part. files: where the images lie, where they are not decoded; `images` is then
    empty. left_out: files beside these that are no images, by kind.
    """

    images: Pixels
    labels: Labels
    index: Labels | None = None
    files: tuple[Path, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "Split":
        """The images at `indices`, in that order: a copy, or an index where it would be large."""
        labels = self.labels[indices]
        if self.files:
            return Split(self.images, labels, files=tuple(self.files[place] for place in indices))
        places = indices if self.index is None else self.index[indices]
        if len(indices) * self.images[:1].nbytes <= COPIED_WHOLE:
            return Split(self.images[places], labels)
        return Split(self.images, labels, places)


def undecoded(files: Sequence[Path], labels: Sequence[int], left_out: Counter[str]) -> Split:
    """The images in files."""
    nothing = np.empty((0, 0, 0, 3), np.uint8)
    return Split(nothing, np.asarray(labels, np.int64), files=tuple(files), left_out=left_out)


NO_FILES = undecoded((), (), Counter())


@dataclass(frozen=True)
class ImageSet:
    """A data set: its splits, class names, mean and standard deviation by channel (0 to 255) of the
    training images.

    checksum: SHA-256 of the pixels and labels of both splits as loaded, before a recipe takes a
    subset. left_out: files beside the images, by kind. cache: where the set is kept decoded.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: Colour
    std: Colour
    checksum: str
    validation: Split | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    cache: Path | None = None

    def summary(self) -> str:
        """What was found, in one line."""
        height, width = self.train.images.shape[1:3]
        held_out = f", {len(self.validation):,} held out" if self.validation else ""
        cache = f"; cache {self.cache}" if self.cache else ""
        more = ", ..." if len(self.classes) > 3 else ""
        return (
            f"{len(self.classes):,} classes ({', '.join(self.classes[:3])}{more}),"
            f" {len(self.train):,} training and {len(self.test):,}"
            f" test images of {width}x{height} pixels{held_out}{cache}"
        )


def divided(split: Split, count: int | None, key: str) -> tuple[Split, Split]:
    """`count` images (none: all), equal shares of classes, and the others; always the same ones."""
    if count in (None, len(split)):
        return split, split.take(np.arange(0))
    if count > len(split):
        raise BadInput(f"{key}: {count:,} of {len(split):,} images")
    from sklearn.model_selection import train_test_split  # takes as long as half of PyTorch

    try:
        some, others = train_test_split(
            np.arange(len(split)), train_size=count, stratify=split.labels, random_state=0
        )
    except ValueError as error:
        raise BadInput(f"{key}: cannot take {count} of {len(split)} images: {error}") from error
    return split.take(np.sort(some)), split.take(np.sort(others))


def listed(left_out: Mapping[str, int]) -> str:
    """Kinds of files with their counts, in words."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))


def image_set(train: Split, test: Split, classes: Sequence[str]) -> ImageSet:
    """An ImageSet with its statistics and checksum computed."""
    mean, std = statistics(train.images)
    return ImageSet(train, test, tuple(classes), mean, std, checksum(train, test))


def statistics(images: Pixels) -> tuple[Colour, Colour]:
    """Mean and standard deviation by channel, 0 to 255."""
    sums = np.zeros((2, 3), dtype=np.uint64)  # of values and of squares, exact
    for start in range(0, len(images), 1000):
        values = images[start : start + 1000].reshape(-1, 3).T.astype(np.uint16, "C")
        sums += [values.sum(1), (values**2).sum(1)]
    mean, square = sums / images[..., 0].size
    std = np.sqrt(np.maximum(square - mean**2, 1.0))  # a channel of one colour divides by 1
    return tuple(mean.tolist()), tuple(std.tolist())


def checksum(*splits: Split) -> str:
    """SHA-256 of pixels and labels, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for split in splits:
        total.update(f"{split.images.shape}".encode())
        total.update(np.ascontiguousarray(split.images).data)
        total.update(split.labels.astype("<i8").tobytes())
    return total.hexdigest()
