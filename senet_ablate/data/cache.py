"""Image sets that are decoded once, and memory-mapped from then on."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import numpy as np
from filelock import FileLock, Timeout
from pydantic import Field

from senet_ablate.data.images import ImageSet, Split, checksum
from senet_ablate.spec import BadInput
from senet_ablate.spec.schema import Frozen, Number, Text, parse
from senet_ablate.spec.spec import digest

CACHE_VERSION = 1
# bytes; larger sets are trusted by size after they were once written with their checksum
HASHED_WHOLE = 2**30
ELSEWHERE = "name another folder by --cache or $SENET_ABLATE_CACHE"
Deviation = Annotated[Number, Field(gt=0)]


class Facts(Frozen):
    """What a cache keeps beside the pixels; checksum: of pixels and labels."""

    classes: tuple[Text, ...]
    mean: tuple[Number, Number, Number]
    std: tuple[Deviation, Deviation, Deviation]
    checksum: Text

    def sealed(self) -> str:
        """As JSON, with a checksum of the facts themselves."""
        content = self.model_dump(mode="json")
        return json.dumps({**content, "seal": digest(content)})

    @staticmethod
    def read(path: Path) -> "Facts":
        """The facts in a file. Raises ValueError, TypeError or OSError."""
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        seal = content.pop("seal", "")  # the oldest files have none
        facts = parse(Facts, content)
        if seal and seal != digest(content):
            raise ValueError(f"{path.name} was changed after it was written")
        return facts


def cache_folder(root: Path) -> Path:
    """Where the caches of a data root lie."""
    return Path(os.environ.get("SENET_ABLATE_CACHE") or root / "cache")


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
    there is neither, the damage where a cache is damaged, the reason where it cannot be written.
    """
    folder = cache_folder(root)
    if sources:
        target = folder / f"{name}-{_key(root, sources)}"
    else:
        found = sorted(folder.glob(f"{name}-*"))
        if len(found) != 1:
            several = f" ({folder} has {len(found)} decoded caches of it; one would do)"
            raise BadInput(how_to_get + several * bool(found))
        target = found[0]
    if not target.is_dir():
        with writing(folder):
            _write(target, build)
    return _read(target)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what goes wrong while a cache is written to `folder` into BadInput."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = f"free some room, or {ELSEWHERE}" if full else ELSEWHERE
        raise BadInput(f"{folder}: a cache cannot be written here ({error}); {way_out}") from error


def _key(root: Path, sources: Sequence[Path]) -> str:
    total = hashlib.sha256(f"{CACHE_VERSION}".encode())
    for source in sources:
        status = source.stat()
        total.update(os.fsencode(os.path.relpath(source, root)))
        total.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return total.hexdigest()[:16]


def _write(target: Path, build: Callable[[Path], ImageSet]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for remains in {path.with_suffix("") for path in target.parent.glob("partial-*")}:
        with suppress(OSError, Timeout), _held(remains, wait=False):
            pass
    with _held(target.parent / f"partial-{target.name}") as partial:
        if target.is_dir():  # another process was first
            return
        partial.mkdir()  # not as a temporary folder, which its maker alone may read
        images = build(partial)
        for name, split in (("train", images.train), ("test", images.test)):
            if not (partial / f"{name}_images.npy").exists():
                np.save(partial / f"{name}_images.npy", split.images)
            np.save(partial / f"{name}_labels.npy", split.labels)
        facts = Facts(
            classes=images.classes, mean=images.mean, std=images.std, checksum=images.checksum
        )
        (partial / "facts.json").write_text(facts.sealed(), encoding="utf-8")
        for path in partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        partial.rename(target)


@contextmanager
def _held(partial: Path, wait: bool = True) -> Iterator[Path]:
    """A folder that this process alone may fill; what is left in it goes, before and after."""
    lock = FileLock(f"{partial}.lock", timeout=-1 if wait else 0, mode=0o666)
    with lock:
        shutil.rmtree(partial, ignore_errors=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            with suppress(OSError):
                Path(lock.lock_file).unlink()  # while it is held: who waits opens it anew


def _read(folder: Path) -> ImageSet:
    try:
        facts = Facts.read(folder / "facts.json")
        splits = []
        for name in ("train", "test"):
            images = np.load(folder / f"{name}_images.npy", mmap_mode="c")
            labels = np.load(folder / f"{name}_labels.npy")
            if images.shape[:1] != labels.shape or images.dtype != np.uint8:
                raise ValueError("its images and labels do not belong together")
            splits.append(Split(images, labels))
        train, test = splits
        small = train.images.nbytes + test.images.nbytes <= HASHED_WHOLE
        if small and checksum(train, test) != facts.checksum:
            raise ValueError("its pixels do not match their checksum")
    except PermissionError as error:
        raise BadInput(f"{error.filename}: you may not read this cache; {ELSEWHERE}") from error
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise BadInput(f"cache {folder} is damaged ({error}); delete it and run again") from error
    return ImageSet(train, test, **dict(facts), cache=folder)
