"""A positive control: small images whose answer can be read only with knowledge of another part of
the image.

A 16x16 image is a shuffled grid of 4x4 cells. Stripes come in three colours, and in each image
every colour has one of four orientations to itself. Three solid squares, the cues, name the colour
that counts; the label is the orientation of that colour's stripes. Three orientations are always
there, so the stripes alone leave one guess in three: a network has to carry the colour of the cue
across the image, which is what the squeeze supplies. It shows the mechanism and says nothing about
natural images.
"""

from pathlib import Path

import numpy as np

from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.spec.registry import BadInput

CELL, GRID = 4, 4  # pixels; cells a side
CUES, STRIPES, NOISE = 3, 4, 0.05  # cells of cue; cells of each colour's stripes; of 0 to 1
COLOURS = np.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.2], [0.3, 0.3, 1.0]])
CLASSES = ("horizontal", "vertical", "falling", "rising")


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """2,000 training and 1,000 test images, 16x16, 4 classes; drawn anew, the same every time."""
    if image_size not in (None, CELL * GRID):
        raise BadInput(f"cue images are {CELL * GRID}x{CELL * GRID} pixels, not {image_size}")
    generator = np.random.default_rng(1709_01507)
    return image_set(_draw(generator, 2000), _draw(generator, 1000), CLASSES)


def _draw(generator: np.random.Generator, count: int) -> Split:
    row, column = np.indices((CELL, CELL))
    shapes = np.stack(
        [across % CELL < CELL // 2 for across in (row, column, row - column, row + column)]
    )
    images = np.empty((count, CELL * GRID, CELL * GRID, 3))
    labels = np.empty(count, dtype=np.int64)
    for index in range(count):
        orientation = generator.permutation(4)  # of each colour's stripes
        target = generator.integers(len(COLOURS))
        labels[index] = orientation[target]
        cells = np.zeros((GRID * GRID, CELL, CELL, 3))
        places = generator.permutation(GRID * GRID)
        for place in places[:CUES]:
            cells[place] = COLOURS[target]
        for place, colour in zip(
            places[CUES:], np.repeat(np.arange(len(COLOURS)), STRIPES), strict=False
        ):
            cells[place][shapes[orientation[colour]]] = COLOURS[colour]
        images[index] = (
            cells.reshape(GRID, GRID, CELL, CELL, 3)
            .swapaxes(1, 2)
            .reshape(CELL * GRID, CELL * GRID, 3)
        )
    noisy = images + NOISE * generator.standard_normal(images.shape)
    return Split((np.clip(noisy, 0, 1) * 255).round().astype(np.uint8), labels)
