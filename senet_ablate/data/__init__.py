"""Image sets by name: decoded once, held whole as uint8, augmented by one explicit generator."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from senet_ablate.data.images import ImageSet, Split, divided
from senet_ablate.data.loader import Batches
from senet_ablate.spec import DATASETS, BadInput, Training

__all__ = ["Batches", "ImageSet", "Split", "load_images"]


def load_images(train: Training, root: Path, download: bool = False) -> ImageSet:
    """The images a recipe trains and is judged on; with `evaluate: validation` the held-out ones
    stand in for the test.

    Raises BadInput if the data set is missing, damaged or too small, with the command that gets it.
    """
    try:
        images: ImageSet = DATASETS[train.dataset](root, train.image_size, download)
        _check(images, train.dataset)
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        if isinstance(error, BadInput) or ":" not in train.dataset:
            raise
        raise BadInput(f"{train.dataset}: {type(error).__name__}: {error}") from error
    rest, _ = divided(images.train, train.train_images, "train_images")
    test, _ = divided(images.test, train.test_images, "test_images")
    held_out = None
    if train.validation:
        held_out, rest = divided(rest, round(train.validation * len(rest)), "validation")
        if train.evaluate == "validation":
            test = held_out
    if len(rest) < train.batch_size:
        raise BadInput(
            f"{train.dataset}: {len(rest)} training images are fewer than one batch of"
            f" {train.batch_size}"
        )
    return replace(images, train=rest, test=test, validation=held_out)


def _check(images: ImageSet, name: str) -> None:
    """Raises BadInput for a data set that no network could be trained or judged on."""
    if len(images.classes) < 2:
        raise BadInput(f"{name}: fewer than two classes: {', '.join(images.classes) or 'none'}")
    for split, kind in ((images.train, "training"), (images.test, "test")):
        if not split.files and (split.images.dtype != np.uint8 or split.images.shape[3:] != (3,)):
            found = f"{split.images.dtype} of shape {split.images.shape}"
            raise BadInput(f"{name}: images are uint8, N x H x W x 3, found {found}")
        counts = np.bincount(split.labels, minlength=len(images.classes))
        if len(counts) > len(images.classes):
            largest = f"label {len(counts) - 1} of {len(images.classes)} classes"
            raise BadInput(f"{name}: {largest} among the {kind} images; they are counted from 0")
        if not counts.all():
            raise BadInput(f"{name}: no {kind} image of class {images.classes[counts.argmin()]!r}")
    (height, width), test = images.train.images.shape[1:3], images.test.images.shape[1:3]
    if height != width or test != (height, width):
        raise BadInput(
            f"{name}: training images of {width}x{height} pixels and test images of"
            f" {test[1]}x{test[0]}, not squares of one size; give the recipe an image_size"
        )
