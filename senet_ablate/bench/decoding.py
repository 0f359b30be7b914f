"""Decoding and cropping of JPEG files by one core, as data set image-stream does it."""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from senet_ablate.bench.parts import Tell, part
from senet_ablate.data.streaming import Box, cropped
from senet_ablate.records.bench import Measured, Part

FILES, CROP = 64, 224  # the sizes of ImageNet: about 500 x 375, seen at 224


def loader(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Images a second that one core decodes and crops."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        rates = []
        for number in range(rounds + 1):
            rates.append(images_per_second(paths))
            tell(f"loader: round {number} of {rounds}")
    rows = [Measured(group="one core", name="Pillow, as in image-stream", rounds=tuple(rates[1:]))]
    settings = (
        f"{len(paths)} JPEG files of 375 x 500 pixels and the like, random crops resized to {CROP},"
        " one thread."
    )
    return part("images/s", True, settings, rows, device, command, began)


def write_images(folder: Path) -> list[Path]:
    """JPEG files of smooth colour and fine noise, which decode as slowly as photographs do (about
    75 kB each).
    """
    generator, paths = np.random.default_rng(0), []
    for number in range(FILES):
        height, width = ((375, 500), (500, 375), (333, 500), (480, 640))[number % 4]
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            (width, height)
        )
        pixels = np.asarray(coarse, dtype=np.float32) + generator.normal(0, 8, (height, width, 3))
        content = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(content.getvalue())
    return paths


def boxes() -> list[Box]:
    """A crop for each file, drawn as the ImageNet recipes draw it:

    8% to all of the area, aspect 3/4 to 4/3.
    """
    generator = np.random.default_rng(1)
    area, aspect = (
        generator.uniform(0.08, 1, FILES),
        np.exp(generator.uniform(-1, 1, FILES) * np.log(4 / 3)),
    )
    places = generator.uniform(-1, 1, (FILES, 2))
    return [
        ((a / r) ** 0.5, (a * r) ** 0.5, y, x, False)
        for a, r, (y, x) in zip(area, aspect, places.tolist(), strict=True)
    ]


def images_per_second(paths: list[Path]) -> float:
    """How many crops a second one thread makes of files that lie in the page cache."""
    started = time.perf_counter()
    for path, box in zip(paths, boxes(), strict=True):
        cropped(path, CROP, box)
    return len(paths) / (time.perf_counter() - started)
