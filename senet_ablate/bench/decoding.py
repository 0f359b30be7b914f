"""Decoding and cropping of JPEG files by one core, library by library: why `data.streaming` decodes as it does."""

import importlib
import importlib.util
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from senet_ablate.bench.parts import Tell, part
from senet_ablate.bench_facts import Measured, Part
from senet_ablate.data.streaming import Box, cropped, edges

FILES, CROP = 64, 224  # the sizes of ImageNet: about 500 x 375, seen at 224
Decode = Callable[[Path, Box], object]


def loader(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Images a second that one core decodes and crops, library by library."""
    started, found = time.time(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        for number in range(rounds + 1):
            for name, decode in ways().items():
                rate = images_per_second(decode, paths)
                if number:
                    found.setdefault(name, []).append(rate)
            tell(f"loader: round {number} of {rounds}")
    ours = next(iter(found))
    rows = [
        Measured(group="one core", name=name, rounds=tuple(values), over="" if name == ours else ours)
        for name, values in found.items()
    ]
    settings = f"{len(paths)} JPEG files of 375 x 500 pixels and the like, random crops resized to {CROP}, one thread."
    return part("images/s", True, settings, rows, device, command, started)


def ways() -> dict[str, Decode]:
    """The libraries that are installed, by name; each gives a crop of CROP x CROP."""
    found: dict[str, Decode] = {"Pillow, as in image-stream": lambda path, box: cropped(path, CROP, box)}
    if importlib.util.find_spec("torchvision.io"):
        found["torchvision"] = _torchvision
    if importlib.util.find_spec("cv2"):
        found["OpenCV"] = _opencv
    return found


def write_images(folder: Path) -> list[Path]:
    """JPEG files of smooth colour and fine noise, which decode as slowly as photographs do (about 75 kB each)."""
    generator, paths = np.random.default_rng(0), []
    for number in range(FILES):
        height, width = ((375, 500), (500, 375), (333, 500), (480, 640))[number % 4]
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(coarse, dtype=np.float32) + generator.normal(0, 8, (height, width, 3))
        content = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(content.getvalue())
    return paths


def boxes() -> list[Box]:
    """A crop for each file, drawn as the ImageNet recipes draw it: 8% to all of the area, aspect 3/4 to 4/3."""
    generator = np.random.default_rng(1)
    area, aspect = generator.uniform(0.08, 1, FILES), np.exp(generator.uniform(-1, 1, FILES) * np.log(4 / 3))
    places = generator.uniform(-1, 1, (FILES, 2))
    return [
        ((a / r) ** 0.5, (a * r) ** 0.5, y, x, False)
        for a, r, (y, x) in zip(area, aspect, places.tolist(), strict=True)
    ]


def images_per_second(decode: Decode, paths: list[Path]) -> float:
    """How many crops a second one thread makes of files that lie in memory's cache."""
    started = time.perf_counter()
    for path, box in zip(paths, boxes(), strict=True):
        decode(path, box)
    return len(paths) / (time.perf_counter() - started)


def _torchvision(path: Path, box: Box) -> object:
    import warnings

    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2.functional import resized_crop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision 0.29 gives its decoders up
        pixels = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)
    top, left, h, w = edges(pixels.shape[1], pixels.shape[2], box)
    return resized_crop(pixels, top, left, h, w, [CROP, CROP], antialias=True)


def _opencv(path: Path, box: Box) -> object:
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(0)
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    top, left, h, w = edges(pixels.shape[0], pixels.shape[1], box)
    how = cv2.INTER_AREA if h * w > CROP * CROP else cv2.INTER_LINEAR
    return torch.from_numpy(cv2.resize(pixels[top : top + h, left : left + w], (CROP, CROP), interpolation=how))
