"""Image files in class folders, and their pixels.

The files and pixels are those of torchvision's ImageFolder, but that hidden files are left out,
samples of 16 bits are not clipped, and what is left out is counted.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from senet_ablate.data.cache import cached
from senet_ablate.data.images import ImageSet, Pixels, Split, image_set, listed, undecoded
from senet_ablate.spec import BadInput

DECODED_AT_ONCE = 4096  # images
# those of torchvision, whose import takes as long as PyTorch's
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""What a file may be, whatever its suffix: GIFs are often called .jpg. A PostScript file would be
given to another program."""
T = TypeVar("T")


def class_names(root: Path) -> list[str]:
    """Names of the folders in `root` but hidden ones, sorted, or none. Raises BadInput."""
    folders = [name for name, is_folder in _entries(root) if is_folder]
    return sorted(name for name in folders if not name.startswith("."))


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """The names in a folder, if it is one, and which of them are folders. Raises BadInput."""
    try:
        return [(entry.name, entry.is_dir()) for entry in list(os.scandir(folder))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def class_folders(root: Path, classes: Sequence[str]) -> Split:
    """The images in `<root>/<class>/` at any depth, sorted. Raises BadInput if a class has none."""
    files, labels, left_out = list[Path](), list[int](), Counter[str]()
    for label, name in enumerate(classes):
        found = sorted(image_files(root / name, left_out))
        if not found:
            beside = f" (left out so far: {listed(left_out)})" if left_out else ""
            raise BadInput(f"{root / name}: no image of class {name!r} here{beside}")
        files += found
        labels += [label] * len(found)
    for name, is_folder in _entries(root) if classes else ():
        if not (is_folder or name.startswith(".")):
            left_out[f"{_kind(name)} beside the class folders"] += 1
    return undecoded(files, labels, left_out)


def of_size(split: Split, size: int) -> Split:
    """A split of files whose centre squares are decoded when they are needed, `size` pixels."""
    return replace(split, images=np.empty((0, size, size, 3), np.uint8))


def image_files(
    folder: Path, left_out: Counter[str], parents: frozenset[str] = frozenset()
) -> list[Path]:
    """The images below a folder; a link to one of the folders that it lies in leads nowhere."""
    found: list[Path] = []
    real = os.path.realpath(folder)
    if real in parents:
        left_out["folder linked into itself"] += 1
        return found
    for name, is_folder in _entries(folder):
        if name.startswith("."):
            left_out["hidden"] += 1
        elif is_folder:
            found += image_files(folder / name, left_out, parents | {real})
        elif name.lower().endswith(SUFFIXES):
            found.append(folder / name)
        else:
            left_out[_kind(name)] += 1
    return found


def shorter_edge(path: Path) -> int:
    """Of an image, in pixels, from the file's head alone. Raises BadInput."""
    return min(_read(path, lambda image: image.size))


def _kind(name: str) -> str:
    return shown(Path(name).suffix.lower()) or "without a suffix"


def shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def decoded(
    name: str,
    root: Path,
    train: Split,
    test: Split,
    size: int | None,
    classes: Sequence[str],
    how_to_get: str,
    beside: Sequence[Path] = (),
) -> ImageSet:
    """The image set of the files for training and test, see `cached`; beside: other sources."""

    def build(folder: Path) -> ImageSet:
        return image_set(
            decode(train, size, into=folder / "train_images.npy"),
            decode(test, size, into=folder / "test_images.npy"),
            [shown(name) for name in classes],
        )

    images = cached(name, root, [*train.files, *test.files, *beside], build, how_to_get)
    return replace(images, left_out=train.left_out + test.left_out)


def decode(
    split: Split, size: int | None, edge: int | None = None, into: Path | None = None
) -> Split:
    """Decode every file to RGB; `size`: shorter edge resized to it, centre square kept. Raises
    BadInput with the path of a file that does not give a square of `edge` pixels, by default as
    high as the first.

    into: a .npy file that takes the pixels as they come, for sets that are larger than memory;
    OSError where there is no room for it.
    """
    advice = "" if edge else "; resize it, or give the recipe an image_size"
    edge = edge or len(decode_one(split.files[0], size))
    shape = (len(split), edge, edge, 3)
    images = np.empty(shape, np.uint8) if into is None else _on_disk(into, shape)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        for start in range(0, len(split.files), DECODED_AT_ONCE):
            paths = split.files[start : start + DECODED_AT_ONCE]
            decoding = pool.map(lambda path: decode_one(path, size), paths)
            for index, pixels in enumerate(decoding, start):
                if pixels.shape != shape[1:]:
                    raise BadInput(
                        f"{split.files[index]}: {pixels.shape[1]}x{pixels.shape[0]} pixels, not"
                        f" {edge}x{edge}{advice}"
                    )
                images[index] = pixels
    return Split(images, split.labels)


def _on_disk(path: Path, shape: tuple[int, ...]) -> Pixels:
    """An array in a file whose room is reserved: without, a full disk is a bus error later."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    room = path.stat().st_size
    with path.open("rb+") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, room)
        except OSError as error:
            words = f"{error.strerror}, {room:,} bytes are needed"
            raise OSError(error.errno, words, str(path)) from error
    return images


def decode_one(path: Path, size: int | None) -> Pixels:
    """The image as H x W x 3, or the centre square of edge `size`. Raises BadInput."""
    image = opened(path)
    if size is not None and image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(edge * scale)) for edge in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)


def opened(path: Path) -> Image.Image:
    """The image in a file, decoded, in RGB. Raises BadInput with the path."""
    return _read(path, _rgb)


def _read(path: Path, read: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return read(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"{path}: cannot be read as an image ({why}); restore or remove the file"
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    """As torchvision has it, but that a sample of 16 bits (9 to 15) counts by its highest eight."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        bits = image.tag_v2[258][0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise ValueError(f"32 bits a sample, mode {mode}, of unknown range; save it with 8 or 16")
    image.info.pop("transparency", None)  # of no effect on the colours, but for a warning
    return image.convert("RGB")
