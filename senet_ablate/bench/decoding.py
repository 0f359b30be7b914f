"""How fast one core decodes and crops JPEG files."""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from senet_ablate.bench.parts import Log, part
from senet_ablate.data.streaming import Box, cropped
from senet_ablate.records.bench import Measured, Part

FILES, CROP = 64, 224  # the sizes of ImageNet: about 500 x 375, seen at 224


def loader(device: str, rounds: int, command: str, log: Log) -> Part:
    """Images a second that one core decodes and crops, as data set image-stream does it."""
    began, rates = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        for number in range(rounds + 1):
            rates.append(images_per_second(paths))
            log(f"loader: round {number} of {rounds}")
    rows = [Measured(group="one core", name="Pillow, as in image-stream", rounds=tuple(rates[1:]))]
    settings = (
        f"{len(paths)} JPEG files of 375 x 500 pixels and the like, random crops resized to {CROP},"
        " one thread."
    )
    return part("images/s", settings, rows, device, command, began)


def write_images(folder: Path) -> list[Path]:
    """JPEG files of smooth colour and fine noise, which decode as slowly as photographs do (about
    75 kB each).
    """
    generator, paths = np.random.default_rng(0), []
    for number in range(FILES):
        height, width = ((375, 500), (500, 375), (333, 500), (480, 640))[number % 4]
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height)), dtype=np.float32)
        pixels = smooth + generator.normal(0, 8, (height, width, 3))
        content = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(content.getvalue())
    return paths


def images_per_second(paths: list[Path]) -> float:
    """How many crops a second one thread makes of files that lie in the page cache."""
    generator = np.random.default_rng(1)
    area = generator.uniform(0.08, 1, len(paths))  # as the ImageNet recipes draw crops
    aspect = np.exp(generator.uniform(-1, 1, len(paths)) * np.log(4 / 3))
    corners = generator.uniform(-1, 1, (len(paths), 2))
    boxes: list[Box] = [
        ((a / r) ** 0.5, (a * r) ** 0.5, y, x, False)
        for a, r, (y, x) in zip(area, aspect, corners.tolist(), strict=True)
    ]
    started = time.perf_counter()
    for path, box in zip(paths, boxes, strict=True):
        cropped(path, CROP, box)
    return len(paths) / (time.perf_counter() - started)
