"""Tiny ImageNet in its standard layout:

64x64, train/<wnid>/images/, val/images/ with val_annotations.txt.
"""

import logging
from pathlib import Path

from senet_ablate.data.images import Files, ImageSet, cached, class_folders, decoded, subfolders


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """500 training and 50 validation images of each class found in train/; the validation images
    serve as the test.
    """
    folder = root / "tiny-imagenet-200"
    annotations = folder / "val" / "val_annotations.txt"
    wnids = (
        subfolders(folder / "train")
        if annotations.is_file() and (folder / "train").is_dir()
        else []
    )
    how_to_get = (
        f"Tiny ImageNet is not in {folder} (train/, val/val_annotations.txt); get it with `curl -O"
        " http://cs231n.stanford.edu/tiny-imagenet-200.zip && unzip tiny-imagenet-200.zip -d"
        f" {root}`"
    )
    if wnids and len(wnids) < 200:
        logging.getLogger(__name__).warning(
            "%s has %d of 200 classes: results are not comparable", folder, len(wnids)
        )
    train = class_folders(folder / "train", wnids)
    test = _validation_files(folder, wnids)
    return cached(
        f"tiny-imagenet-{image_size or 64}",
        root,
        [*train.paths, *test.paths, *([annotations] if wnids else [])],
        lambda partial: decoded(
            train, test, image_size, _names(folder / "words.txt", wnids), partial
        ),
        how_to_get,
    )


def _validation_files(folder: Path, wnids: list[str]) -> Files:
    label = {wnid: index for index, wnid in enumerate(wnids)}
    text = (folder / "val" / "val_annotations.txt").read_text() if wnids else ""
    lines = (line.split("\t") for line in text.splitlines() if line.strip())
    known = sorted((file, label[wnid]) for file, wnid, *_ in lines if wnid in label)
    return Files(
        tuple(folder / "val" / "images" / file for file, _ in known),
        tuple(number for _, number in known),
    )


def _names(words: Path, wnids: list[str]) -> list[str]:
    """The first English name of each class where words.txt is there, the WordNet id otherwise."""
    if not words.is_file():
        return wnids
    lines = (line.partition("\t") for line in words.read_text().splitlines())
    names = {wnid: text.split(",")[0] for wnid, _, text in lines}
    return [names.get(wnid, wnid) for wnid in wnids]
