"""The 1,797 handwritten 8x8 digits that scikit-learn ships: real images that need no download."""

from pathlib import Path

import numpy as np

from senet_ablate.data.images import ImageSet, Split, divided, image_set
from senet_ablate.spec import BadInput


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """1,297 training and 500 test images, 8x8, grey in three channels, in equal shares."""
    from sklearn.datasets import load_digits

    if image_size not in (None, 8):
        raise BadInput(f"digits are 8x8 pixels, not {image_size}")
    grey, labels = load_digits(return_X_y=True)
    pixels = np.rint(grey * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1).repeat(3, axis=3)
    train, test = divided(Split(pixels, labels.astype(np.int64)), 1297, "digits")
    return image_set(train, test, [str(digit) for digit in range(10)])
