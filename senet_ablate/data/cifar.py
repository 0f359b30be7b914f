"""CIFAR-10 and CIFAR-100, the same set from torchvision's files and from class folders."""

import hashlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import numpy as np

from senet_ablate.data.cache import cached
from senet_ablate.data.files import class_folders, class_names, decode
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.spec import BadInput

if TYPE_CHECKING:  # what is cached needs no torchvision, which takes as long to import as torch
    from torchvision.datasets import CIFAR10

SIZES = [50_000, 10_000]  # images of the two splits
PIXELS = 32


def _load(
    classes: int, archive_name: str, root: Path, image_size: int | None, download: bool
) -> ImageSet:
    """50,000 training and 10,000 test images, 32x32."""
    name = f"cifar{classes}"
    if image_size not in (None, PIXELS):
        raise BadInput(f"{name} images are 32x32 pixels, not {image_size}")
    folders, archive = root / name, root / archive_name
    how_to_get = (
        f"{name} is not in {root}: neither {folders}/train/<class>/*.png nor {archive}; get it with"
        f" `python -m senet_ablate plan --recipe {name} --data {root} --download`"
    )
    if (folders / "train").is_dir():
        names = class_names(folders / "train")
        files = [class_folders(folders / split, names) for split in ("train", "test")]
        counts = [len(split) for split in files]
        if len(names) != classes or counts != SIZES:
            raise BadInput(f"{folders}: {len(names)} classes, {counts} images: not whole {name}")

        def build(_: Path) -> ImageSet:
            return _canonical([decode(split, None, PIXELS) for split in files], names)

        return cached(name, root, [*files[0].files, *files[1].files], build, how_to_get)
    if download:
        _open(classes, root, download=True)
    sources = sorted(path for path in archive.glob("*") if path.is_file())
    return cached(name, root, sources, lambda _: _from_archive(classes, root), how_to_get)


def _open(classes: int, root: Path, download: bool = False) -> "list[CIFAR10]":
    from torchvision.datasets import CIFAR10, CIFAR100

    source = CIFAR10 if classes == 10 else CIFAR100
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickles of NumPy's old dtype form warn
            return [source(root, train=flag, download=download) for flag in (True, False)]
    except URLError as error:
        hint = "; Python from python.org needs its `Install Certificates.command` to be run once"
        hint *= sys.platform == "darwin"
        raise BadInput(f"{source.url} cannot be downloaded: {error.reason}{hint}") from error
    except (RuntimeError, OSError, EOFError) as error:
        raise BadInput(
            f"{root / source.base_folder}: {error}; delete it and run with --download"
        ) from error


def _from_archive(classes: int, root: Path) -> ImageSet:
    sets = _open(classes, root)
    splits = [Split(one.data, np.asarray(one.targets, dtype=np.int64)) for one in sets]
    return _canonical(splits, sets[0].classes)


def _canonical(splits: list[Split], classes: list[str]) -> ImageSet:
    """The set with classes by name and images by a hash of pixels, whatever its source."""
    rank = np.argsort(np.argsort(np.asarray(classes)))
    found = []
    for split in splits:
        keys = [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]
        labels = rank[split.labels]
        found.append(Split(split.images, labels).take(np.lexsort((np.asarray(keys), labels))))
    return image_set(found[0], found[1], sorted(classes))


def load_cifar10(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """CIFAR-10: the pickled batches as published, or class folders."""
    return _load(10, "cifar-10-batches-py", root, image_size, download)


def load_cifar100(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """CIFAR-100: the pickled batches as published, or class folders."""
    return _load(100, "cifar-100-python", root, image_size, download)
