"""CIFAR-10 and CIFAR-100, from torchvision's files or from class folders; both give the same set,
image for image.
"""

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from senet_ablate.data.cache import cached
from senet_ablate.data.files import Files, class_folders, class_names, decode
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.spec.registry import BadInput

if TYPE_CHECKING:  # what is cached needs no torchvision, which takes as long to import as torch
    from torchvision.datasets import CIFAR10

SIZES = [50_000, 10_000]  # images of the two splits
PIXELS = 32


def load_cifar10(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """50,000 training and 10,000 test images, 32x32, 10 classes."""
    return _load(10, "cifar-10-batches-py", root, image_size, download)


def load_cifar100(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """50,000 training and 10,000 test images, 32x32, 100 classes."""
    return _load(100, "cifar-100-python", root, image_size, download)


def _load(
    classes: int, archive_name: str, root: Path, image_size: int | None, download: bool
) -> ImageSet:
    name = f"cifar{classes}"
    if image_size not in (None, PIXELS):
        raise BadInput(f"{name} images are 32x32 pixels, not {image_size}")
    folders, archive = root / name, root / archive_name
    how_to_get = (
        f"{name} is not in {root}: neither {folders}/train/<class>/*.png nor {archive}; get it with"
        f" `python -m senet_ablate run --recipe {name} --data {root} --download`"
    )
    if (folders / "train").is_dir():
        names = class_names(folders / "train")
        files = [class_folders(folders / split, names) for split in ("train", "test")]
        if len(names) != classes or [len(split.paths) for split in files] != SIZES:
            raise BadInput(
                f"{folders}: {len(names)} classes, {[len(s.paths) for s in files]} images: not"
                f" whole {name}"
            )
        sources = [path for split in files for path in split.paths]
        return cached(name, root, sources, lambda _: _from_folders(files, names), how_to_get)
    if download:
        _open(classes, root, download=True)
    sources = sorted(path for path in archive.glob("*") if path.is_file())
    return cached(name, root, sources, lambda _: _from_archive(classes, root), how_to_get)


def _open(classes: int, root: Path, download: bool = False) -> "list[CIFAR10]":
    from torchvision.datasets import CIFAR10, CIFAR100

    source = CIFAR10 if classes == 10 else CIFAR100
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torchvision's pickles warn about NumPy's old dtype form
            return [source(root, train=flag, download=download) for flag in (True, False)]
    except (RuntimeError, OSError, EOFError) as error:
        raise BadInput(
            f"{root / source.base_folder}: {error}; delete it and run with --download"
        ) from error


def _from_archive(classes: int, root: Path) -> ImageSet:
    train, test = _open(classes, root)
    return _canonical(_split(train), _split(test), train.classes)


def _from_folders(files: list[Files], classes: list[str]) -> ImageSet:
    train, test = (decode(split, None) for split in files)
    for split, found in zip(files, (train, test), strict=True):
        if found.images.shape[1] != PIXELS:
            size = "x".join(map(str, found.images.shape[1:3]))
            raise BadInput(f"{split.paths[0]}: {size} pixels, where CIFAR's images have 32x32")
    return _canonical(train, test, classes)


def _split(source: "CIFAR10") -> Split:
    return Split(source.data, np.asarray(source.targets, dtype=np.int64))


def _canonical(train: Split, test: Split, classes: list[str]) -> ImageSet:
    """The set with classes by name and images by a hash of their pixels, so that every source of it
    is the same set.
    """
    order = np.argsort(np.asarray(classes))
    rank = np.argsort(order)
    splits = []
    for split in (train, test):
        keys = [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]
        labels = rank[split.labels]
        splits.append(Split(split.images, labels).take(np.lexsort((np.asarray(keys), labels))))
    return image_set(splits[0], splits[1], [classes[index] for index in order])
