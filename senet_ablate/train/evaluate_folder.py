"""The error of a network with public weights on a folder of images in ImageNet's layout."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from senet_ablate.data import Batches, ImageSet
from senet_ablate.data.files import class_folders, class_names, of_size
from senet_ablate.data.images import listed
from senet_ablate.models import native_pixels
from senet_ablate.spec import BadInput, Training
from senet_ablate.train.loop import Evaluation, evaluate

log = logging.getLogger(__name__)

# the shorter edge over the crop (paper, Section 5.1; 352 over 299 there for Inception)
RESIZED = 256 / 224
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
# mean and standard deviation on 0 to 255: torchvision's and timm's, and timm's after TF-Slim
IMAGENET: Colours = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
NORMALISED: dict[str, Colours] = {"inception_resnet_v2": ((127.5,) * 3, (127.5,) * 3)}


def evaluate_folder(
    model: nn.Module,
    backbone: str,
    root: Path,
    size: int | None = None,
    device: torch.device | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> Evaluation:
    """The errors of `model` on the images in `<root>/val/<class>/`, or `<root>/<class>/`.

    Classes are numbered in the sorted order of their folders' names: for ImageNet's synsets that is
    the order of the published networks. Folders named 0 to K - 1 are in the order of these numbers;
    for other names a warning says the order. Images are resized to 256/224 of `size` at their
    shorter edge and cropped in the centre; size: by default what the network was made for.
    progress: called with the number of images done since. Raises BadInput for a folder without
    images, or with another number of classes than the network has.
    """
    folder = root / "val" if (root / "val").is_dir() else root
    classes = class_names(folder)
    classifier = model.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    if len(classes) != classifier.out_features:
        raise BadInput(
            f"{folder}: {len(classes)} folders of classes, but the network tells"
            f" {classifier.out_features} apart"
        )
    classes = _ordered(classes)
    crop = size or native_pixels(backbone)
    spec = Training(
        dataset="image-stream",
        image_size=round(crop * RESIZED),
        crop_size=crop,
        backbone=backbone,
        epochs=1,
        batch_size=1,
        lr=1.0,  # nothing is trained
    )
    device = device or torch.device("cpu")
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    split = of_size(class_folders(folder, classes), round(crop * RESIZED))
    if split.left_out:
        log.warning("%s: left out: %s", folder, listed(split.left_out))
    images = ImageSet(split, split, tuple(classes), *NORMALISED.get(backbone, IMAGENET), "")
    return evaluate(model, Batches(split, images, spec, device), spec, progress)


def _ordered(names: list[str]) -> list[str]:
    """Folder names in the order in which a network numbers its classes, as far as they tell it."""
    if all(name.isdecimal() for name in names):
        by_number = sorted(names, key=int)
        if [int(name) for name in by_number] == list(range(len(names))):
            return by_number
    if not all(re.fullmatch(r"n\d{8}", name) for name in names):
        log.warning(
            "the folders are no WordNet ids: the network's classes 0, 1, 2 are taken to be %s, in"
            " the order of their names",
            ", ".join(names[:3]),
        )
    return names
