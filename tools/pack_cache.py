"""Pack a decoded image set into small files for a machine without a network, and back.

    python tools/pack_cache.py pack DATA/cache/NAME-KEY OUT [--mib N]
    python tools/pack_cache.py unpack OUT DATA/cache

Images become sheets of lossless WebP (CIFAR-100: about half its size), gathered in tar files of at
most N MiB (more where one sheet of images is larger). `unpack` proves every pixel and label by the cache's SHA-256. Needs Pillow and NumPy.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SHEET = 1000  # images at most
EDGE = 16_383  # pixels of a WebP image at most
COLUMNS = 25
SPLITS = ("train", "test")


def checksum(folder: Path) -> str:
    """SHA-256 of both splits' shapes, pixels and labels, as the package computes it."""
    total = hashlib.sha256()
    for split in SPLITS:
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        total.update(f"{images.shape}".encode())
        for start in range(0, len(images), SHEET):
            total.update(images[start : start + SHEET].tobytes())
        total.update(np.load(folder / f"{split}_labels.npy").astype("<i8").tobytes())
    return total.hexdigest()


def sheets(images: np.ndarray, most: float = 2**30) -> Iterator[bytes]:
    """Images N x H x W x 3 as WebP sheets, COLUMNS images wide, of at most `most` bytes of pixels
    but for one row; the last one is filled with black.
    """
    count, height, width, _ = images.shape
    columns = min(COLUMNS, EDGE // width)
    fitting = int(most / (3 * height * width * columns))
    rows = min(SHEET // columns, EDGE // height, max(1, fitting))
    for start in range(0, count, rows * columns):
        part = images[start : start + rows * columns]
        lines = -(-len(part) // columns)
        whole = np.zeros((lines * columns, height, width, 3), np.uint8)
        whole[: len(part)] = part
        sheet = whole.reshape(lines, columns, height, width, 3).swapaxes(1, 2)
        content = io.BytesIO()
        image = Image.fromarray(sheet.reshape(lines * height, columns * width, 3))
        image.save(content, "WEBP", lossless=True, quality=50, method=2)
        yield content.getvalue()


def cut(content: bytes, height: int, width: int) -> np.ndarray:
    """The images of a sheet, N x H x W x 3, those that fill it among them."""
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    lines, columns = sheet.shape[0] // height, sheet.shape[1] // width
    return (
        sheet.reshape(lines, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
    )


def pack(folder: Path, out: Path, mib: float) -> list[Path]:
    """Write the tar files; returns them."""
    facts = json.loads((folder / "facts.json").read_text())
    if checksum(folder) != facts["checksum"]:
        raise SystemExit(f"{folder}: its pixels do not match their checksum")
    shapes = {s: np.load(folder / f"{s}_images.npy", mmap_mode="r").shape for s in SPLITS}
    about = {"name": folder.name, "shapes": shapes}
    files = [("about.json", json.dumps(about).encode())]
    files.append(("facts.json", (folder / "facts.json").read_bytes()))
    files += [(f"{s}_labels.npy", (folder / f"{s}_labels.npy").read_bytes()) for s in SPLITS]
    out.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    room = 0.0

    def add(name: str, content: bytes) -> None:
        nonlocal room
        if not parts or len(content) + 1024 > room:
            parts.append(out / f"cache-{len(parts):03d}.tar")
            room = mib * 2**20 - 10_240
        info = tarfile.TarInfo(name)
        info.size = len(content)
        with tarfile.open(parts[-1], "a") as tar:
            tar.addfile(info, io.BytesIO(content))
        room -= -(-len(content) // 512) * 512 + 512

    for old in out.glob("cache-*.tar"):
        old.unlink()
    for name, content in files:
        add(name, content)
    for split in SPLITS:
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        for number, content in enumerate(sheets(images, mib * 2**20 - 20_480)):
            add(f"{split}-{number:05d}.webp", content)
    return parts


def unpack(packed: Path, caches: Path) -> Path:
    """Write the cache from its tar files, which may lie in any folders below `packed`."""
    found: dict[str, bytes] = {}
    for path in sorted(packed.rglob("cache-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    if "about.json" not in found:
        raise SystemExit(f"{packed}: no cache-*.tar that holds about.json")
    about = json.loads(found["about.json"])
    folder = about["name"]
    if not re.fullmatch(r"\w[\w.\-]*", folder):  # no folder outside
        raise SystemExit(f"{packed}: {folder!r} is no name of a cache")
    target, partial = caches / folder, caches / f"unpacking-{folder}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("facts.json", *(f"{split}_labels.npy" for split in SPLITS)):
        (partial / name).write_bytes(found[name])
    for split in SPLITS:
        count, height, width, _ = shape = about["shapes"][split]
        path = partial / f"{split}_images.npy"
        images = np.lib.format.open_memmap(path, "w+", np.uint8, tuple(shape))
        start = 0
        for name in sorted(name for name in found if name.startswith(f"{split}-")):
            some = cut(found[name], height, width)[: count - start]
            images[start : start + len(some)] = some
            start += len(some)
        images.flush()
    if checksum(partial) != json.loads((partial / "facts.json").read_text())["checksum"]:
        raise SystemExit(
            f"{packed}: what was unpacked does not match its checksum: a part is missing"
        )
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def main() -> None:
    """The command line."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("verb", choices=("pack", "unpack"))
    words.add_argument("source", type=Path)
    words.add_argument("target", type=Path)
    words.add_argument("--mib", type=float, default=16.0, help="of a tar file at most")
    given = words.parse_args()
    if given.verb == "unpack":
        print(f"unpacked {unpack(given.source, given.target)}")
    else:
        parts = pack(given.source, given.target, given.mib)
        size = sum(path.stat().st_size for path in parts) / 2**20
        print(f"{len(parts)} files, {size:.1f} MiB, in {given.target}")


if __name__ == "__main__":
    main()
