"""What a data set is, and the cache that decodes image files into it once."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from senet_ablate.spec.registry import BadInput

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
CACHE_VERSION = 1
DECODED_AT_ONCE = 4096  # images
COPIED_WHOLE = 2**30  # bytes of pixels
HASHED_WHOLE = (
    2**30
)  # bytes; larger sets are trusted by size after they were once written with their checksum


@dataclass(frozen=True)
class Split:
    """images: N x H x W x 3 uint8, possibly memory-mapped; labels: N.

    index: which of the images are meant, for a part of a set that is too large to copy; labels are
    those of the part. files: where the images lie, for a set that is too large to be held decoded;
    `images` is then empty, of their size.
    """

    images: Pixels
    labels: Labels
    index: Labels | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "Split":
        """The images at `indices`, in that order:

        a copy, or an index where the copy would be large.
        """
        if self.files:
            return Split(
                self.images,
                self.labels[indices],
                files=tuple(self.files[number] for number in indices),
            )
        places = indices if self.index is None else self.index[indices]
        if len(indices) * self.images[:1].nbytes <= COPIED_WHOLE:
            return Split(self.images[places], self.labels[indices])
        return Split(self.images, self.labels[indices], places)


@dataclass(frozen=True)
class ImageSet:
    """A data set: its splits, class names, mean and standard deviation by channel (0 to 255) of the
    training images.

    checksum: SHA-256 of the pixels and labels of both splits as loaded, before a recipe takes a
    subset.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    checksum: str
    validation: Split | None = None


def image_set(train: Split, test: Split, classes: Sequence[str]) -> ImageSet:
    """An ImageSet with its statistics and checksum computed."""
    mean, std = statistics(train.images)
    return ImageSet(train, test, tuple(classes), mean, std, _checksum(train, test))


def statistics(images: Pixels) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation by channel, 0 to 255."""
    counts = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, len(images), 1000):
        for channel in range(3):
            counts[channel] += np.bincount(
                images[start : start + 1000, ..., channel].ravel(), minlength=256
            )
    values = np.arange(256)
    mean = counts @ values / counts.sum(1)
    variance = counts @ values**2 / counts.sum(1) - mean**2
    std = np.sqrt(np.maximum(variance, 1.0))  # a channel of one colour divides by 1
    return tuple(mean.tolist()), tuple(std.tolist())


def _checksum(*splits: Split) -> str:
    total = hashlib.sha256()
    for split in splits:
        total.update(f"{split.images.shape}".encode())
        for start in range(0, len(split), 1000):
            total.update(split.images[start : start + 1000].tobytes())
        total.update(split.labels.astype("<i8").tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Files:
    """Image files of one split with their labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def class_folders(root: Path, classes: Sequence[str]) -> Files:
    """The image files in `<root>/<class>/`, below any depth, sorted.

    Raises BadInput if a class has none.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise BadInput(f"{root / name}: no image of class {name!r} here")
        paths += found
        labels += [label] * len(found)
    return Files(tuple(paths), tuple(labels))


def subfolders(root: Path) -> list[str]:
    """Names of the folders in `root`, sorted: the classes of a class-folder layout."""
    return sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def cached(
    name: str,
    root: Path,
    sources: Sequence[Path],
    build: Callable[[Path], ImageSet],
    how_to_get: str,
) -> ImageSet:
    """The image set that `build` makes from `sources`, decoded once and memory-mapped from then on.

    The key is a hash of every source file's path, size and time of change, so an edited source is
    decoded anew. The cache is a folder that appears whole by a rename; its pixels are checked
    against their checksum when it is read. Without any source, a single cache of that name is used
    as it is: that is how a cache travels without its images. Raises BadInput: `how_to_get` where
    there is neither, the damage where a cache is damaged.
    """
    folder = root / "cache"
    if sources:
        target = folder / f"{name}-{_key(root, sources)}"
    else:
        found = sorted(folder.glob(f"{name}-*"))
        if len(found) != 1:
            raise BadInput(
                f"{how_to_get} (nor is there one cache of it in {folder}: {len(found)} found)"
            )
        target = found[0]
    if not target.is_dir():
        _write(target, build)
    return _read(target)


def _key(root: Path, sources: Sequence[Path]) -> str:
    total = hashlib.sha256(f"{CACHE_VERSION}".encode())
    for source in sources:
        status = source.stat()
        total.update(
            f"{os.path.relpath(source, root)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode()
        )
    return total.hexdigest()[:16]


def _write(target: Path, build: Callable[[Path], ImageSet]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=target.parent))
    try:
        images = build(partial)
        for name, split in (("train", images.train), ("test", images.test)):
            if not (partial / f"{name}_images.npy").exists():
                np.save(partial / f"{name}_images.npy", split.images)
            np.save(partial / f"{name}_labels.npy", split.labels)
        facts = {
            "classes": images.classes,
            "mean": images.mean,
            "std": images.std,
            "checksum": images.checksum,
        }
        (partial / "facts.json").write_text(json.dumps(facts))
        for path in partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        try:
            partial.rename(target)
        except (
            OSError
        ):  # another process was first; its cache has the same key, hence the same content
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path) -> ImageSet:
    try:
        facts = json.loads((folder / "facts.json").read_text())
        train, test = (
            Split(
                np.load(folder / f"{name}_images.npy", mmap_mode="c"),
                np.load(folder / f"{name}_labels.npy"),
            )
            for name in ("train", "test")
        )
        small = train.images.nbytes + test.images.nbytes <= HASHED_WHOLE
        if small and _checksum(train, test) != facts["checksum"]:
            raise ValueError("its pixels do not match their checksum")
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"cache {folder} is damaged ({error}); delete it and run again") from error
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return ImageSet(train, test, tuple(facts["classes"]), mean, std, facts["checksum"])


def decode(files: Files, size: int | None, into: Path | None = None) -> Split:
    """Decode every file to RGB; `size`: shorter edge resized to it, centre square kept. Raises
    BadInput with path.

    into: a .npy file that takes the pixels as they come, for sets that are larger than memory.
    """
    first = decode_one(files.paths[0], size)
    shape = (len(files.paths), *first.shape)
    images = (
        np.empty(shape, np.uint8)
        if into is None
        else np.lib.format.open_memmap(into, "w+", np.uint8, shape)
    )
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # Pillow decodes outside the interpreter's lock
        for start in range(0, len(files.paths), DECODED_AT_ONCE):
            paths = files.paths[start : start + DECODED_AT_ONCE]
            for index, pixels in enumerate(
                pool.map(lambda path: decode_one(path, size), paths), start
            ):
                if pixels.shape != first.shape:
                    raise BadInput(
                        f"{files.paths[index]}: {pixels.shape[1]}x{pixels.shape[0]} pixels, the"
                        f" first image has {first.shape[1]}x{first.shape[0]}; give the recipe an"
                        " image_size"
                    )
                images[index] = pixels
    return Split(images, np.asarray(files.labels, dtype=np.int64))


def decoded(
    train: Files, test: Files, size: int | None, classes: Sequence[str], folder: Path
) -> ImageSet:
    """The image set of two lists of files, its pixels written into `folder` as they are decoded."""
    splits = [
        decode(files, size, folder / f"{name}_images.npy")
        for name, files in (("train", train), ("test", test))
    ]
    return image_set(splits[0], splits[1], classes)


def opened(path: Path) -> Image.Image:
    """The image in a file, decoded, in RGB. Raises BadInput with the path."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (
        OSError,
        UnidentifiedImageError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise BadInput(
            f"{path}: cannot be read as an image ({error}); restore or remove the file"
        ) from error


def decode_one(path: Path, size: int | None) -> Pixels:
    """The image as H x W x 3; `size`: its shorter edge resized to it, the centre square kept.

    Raises BadInput.
    """
    image = opened(path)
    if size is not None and image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(edge * scale)) for edge in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)
