"""A positive control by proof, and the negative control beside it: images made by the program.

A 20x20 image has a coloured band on one side and diagonal stripes on the other. Red says that the
stripes are to be read as drawn, blue that they are to be read mirrored; the label is the direction
so read. Every layout (places, phase, contrast, noise) is drawn once and shown in all four ways.

The two bands lie 16 pixels apart, and no position of the last map sees so far. So what a network
without a squeeze computes for "rising" less what it computes for "falling", a mean over positions,
is a sum s(colour) + s(direction). Then s(red, falling) + s(blue, rising) equals s(red, rising) +
s(blue, falling): the first two are labelled falling and the others rising, so at least one of the
four is answered wrong. No such network, however it is trained, errs on less than 25% of the test
images; one that multiplies by what the squeeze saw on the other side can be right on all.

In training only each fifth layout shows blue rising stripes. A sum then does best to give up
those; were all four equally frequent, it could only guess, and errors would scatter around 50%.

The negative control has the same pixels. The label is the direction as drawn, and a coin that is
not in the image turns one label in four: 25% again is the least to expect, with or without context.
"""

from pathlib import Path

import numpy as np

from senet_ablate.data.images import ImageSet, Pixels, Split, image_set
from senet_ablate.spec import BadInput

SIZE, BAND, PERIOD, NOISE = 20, 2, 4, 0.12  # pixels; noise of 0 to 1
COLOURS = np.array([[0.9, 0.3, 0.3], [0.3, 0.3, 0.9]])  # as drawn, mirrored
CLASSES = ("falling", "rising")
TRAIN_LAYOUTS, TEST_LAYOUTS, RARE = 400, 200, 5  # of so many layouts one shows blue and rising


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """1,280 training and 800 test images, 20x20, 2 classes; drawn anew, the same every time.

    Test images come in fours: red falling, red rising, blue falling, blue rising.
    """
    return _load(image_size, context=True)


def load_negative(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """The same images, labelled without the context and, one in four, wrong."""
    return _load(image_size, context=False)


def _load(image_size: int | None, *, context: bool) -> ImageSet:
    if image_size not in (None, SIZE):
        raise BadInput(f"cue images are {SIZE}x{SIZE} pixels, not {image_size}")
    generator = np.random.default_rng(1709_01507)
    pixels = [_draw(generator, layouts) for layouts in (TRAIN_LAYOUTS, TEST_LAYOUTS)]
    train, test = (_split(generator, drawn, context) for drawn in pixels)
    shown = np.ones((TRAIN_LAYOUTS, 4), dtype=bool)
    shown[:, 3] = np.arange(TRAIN_LAYOUTS) % RARE == 0
    return image_set(train.take(np.flatnonzero(shown)), test, CLASSES)


def _split(generator: np.random.Generator, pixels: Pixels, context: bool) -> Split:
    blue, rising = np.indices((2, 2)).reshape(2, 4)
    labels = np.tile(blue ^ rising if context else rising, (len(pixels) // 4, 1))
    if not context:
        labels[np.arange(len(labels)), generator.integers(4, size=len(labels))] ^= 1
    return Split(pixels, labels.ravel().astype(np.int64))


def _draw(generator: np.random.Generator, layouts: int) -> Pixels:
    """Each layout in all four ways: N x SIZE x SIZE x 3."""
    one = (layouts, 1, 1, 1, 1, 1)  # the others: colour, direction, row, column, channel
    contrast, strength = generator.uniform(0.3, 1, one), generator.uniform(0.8, 1, one)
    phase, direction = generator.integers(PERIOD, size=one), np.array([-1, 1]).reshape(2, 1, 1, 1)
    row, column = np.indices((SIZE, BAND))[..., None]
    lit = (row + direction * column + phase) % PERIOD < PERIOD // 2
    images = np.full((layouts, 2, 2, SIZE, SIZE, 3), 0.5)
    images[..., :BAND, :] += strength * (COLOURS.reshape(2, 1, 1, 1, 3) - 0.5)
    images[..., -BAND:, :] += contrast * (lit - 0.5)
    left, middle, right = np.split(images, [BAND, SIZE - BAND], axis=4)
    swapped = generator.integers(2, size=one) == 1
    images = np.where(swapped, np.concatenate([right, middle, left], axis=4), images)
    noise = NOISE * generator.standard_normal((layouts, 1, 1, SIZE, SIZE, 3))
    values = np.clip(images + noise, 0, 1) * 255
    return values.round().astype(np.uint8).reshape(-1, SIZE, SIZE, 3)
