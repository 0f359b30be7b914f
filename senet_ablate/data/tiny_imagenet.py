"""Tiny ImageNet: 64x64, train/<wnid>/images/, val/images/ with val_annotations.txt."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from senet_ablate.data.files import class_folders, class_names, decoded
from senet_ablate.data.images import NO_FILES, ImageSet, Split, undecoded
from senet_ablate.spec import BadInput

CLASSES, TRAIN, TEST = 200, 500, 50  # of each class so many images
log = logging.getLogger(__name__)


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """500 training and, as the test, 50 validation images of each class found in train/.

    Raises BadInput, naming the line, for annotations that contradict each other or miss a class.
    """
    folder = root / "tiny-imagenet-200"
    annotations = folder / "val" / "val_annotations.txt"
    wnids = class_names(folder / "train") if annotations.is_file() else []
    how_to_get = (
        f"Tiny ImageNet is not in {folder} (train/, val/val_annotations.txt); get it with `curl -O"
        " http://cs231n.stanford.edu/tiny-imagenet-200.zip && unzip tiny-imagenet-200.zip -d"
        f" {root}`"
    )
    train = class_folders(folder / "train", wnids)
    test = _validation_files(annotations, wnids) if wnids else NO_FILES
    for split, each in ((train, TRAIN), (test, TEST)):
        counts = np.bincount(split.labels, minlength=len(wnids)).tolist()
        if wnids and counts != [each] * CLASSES:
            log.warning(
                "%s: %d classes of %d to %d images, where the whole set has %d of %d: results are"
                " not comparable",
                *(folder, len(wnids), min(counts), max(counts), CLASSES, each),
            )
    name, names = f"tiny-imagenet-{image_size or 64}", _names(folder / "words.txt", wnids)
    beside = [annotations] if wnids else []
    return decoded(name, root, train, test, image_size, names, how_to_get, beside)


def _validation_files(annotations: Path, wnids: list[str]) -> Split:
    known: dict[str, str] = {}  # images to WordNet ids
    text = annotations.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        image, *fields = line.split("\t")
        if not line.strip():
            continue
        if len(fields) < 5:  # the class and four corners
            raise BadInput(
                f"{annotations}: line {number} has {len(fields) + 1} fields, and 6 apart by tabs"
                " are needed; unzip the archive again"
            )
        if image in known:
            raise BadInput(f"{annotations}: line {number} names {image} a second time")
        known[image] = fields[0]
    for wnid in wnids:
        if wnid not in known.values():
            raise BadInput(f"{annotations}: no image of class {wnid!r}; unzip the archive again")
    images = [image for image in sorted(known) if known[image] in wnids]
    beside = class_folders(annotations.parent, ["images"])
    left_out = Counter(
        {
            "validation image of a class that train/ has not": len(known) - len(images),
            "validation image without an annotation": len(beside) - len(known),
        }
    )
    paths = [annotations.parent / "images" / image for image in images]
    return undecoded(paths, [wnids.index(known[image]) for image in images], +left_out)


def _names(words: Path, wnids: list[str]) -> list[str]:
    """The first English name of each class, else its WordNet id; both where two have one name."""
    text = words.read_text(encoding="utf-8", errors="replace") if words.is_file() else ""
    lines = (line.partition("\t") for line in text.splitlines())
    known = {wnid: text.split(",")[0] for wnid, _, text in lines}
    names = [known.get(wnid, wnid) for wnid in wnids]
    return [
        f"{name} ({wnid})" if names.count(name) > 1 else name
        for name, wnid in zip(names, wnids, strict=True)
    ]
