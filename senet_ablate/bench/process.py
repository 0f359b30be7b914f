"""Fresh processes: seconds to the first step, peak memory; and how fast one core decodes JPEGs."""

import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from senet_ablate.bench.parts import Log, networks, part, random_images
from senet_ablate.data.streaming import Box, cropped
from senet_ablate.records.bench import Measured, Part
from senet_ablate.train.loop import prepared, train_step

FILES, CROP = 64, 224  # the sizes of ImageNet: about 500 x 375, seen at 224


def start(device: str, rounds: int, command: str, log: Log) -> Part:
    """Seconds of a fresh process that takes one training step, and of one that only imports
    PyTorch.
    """
    began = time.monotonic()
    first = f"from senet_ablate.bench.process import peak; peak({device!r}, True, 1)"
    codes = {"import torch alone": "import torch", "to the first step": first}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(rounds):
        for name, code in codes.items():
            begun = time.perf_counter()
            _output_of(code)
            times[name].append(time.perf_counter() - begun)
        log(f"start: round {number + 1} of {rounds}")
    rows = [
        Measured(group="process", name=name, rounds=tuple(values)) for name, values in times.items()
    ]
    settings = f"{networks(device)[-1].label}, one thread."
    return part("s", settings, rows, device, command, began)


def memory(device: str, rounds: int, command: str, log: Log) -> Part:
    """Peak memory of fresh processes that take three training steps, plain and SE."""
    began, rows, network = time.monotonic(), [], networks(device)[-1]
    for name, over in (("plain", ""), ("SE", "plain")):
        code = f"from senet_ablate.bench.process import peak; print(peak({device!r}, {bool(over)}))"
        found = tuple(float(_output_of(code).split()[-1]) for _ in range(rounds))
        rows.append(Measured(group=network.backbone, name=name, rounds=found, over=over))
        log(f"memory: {name}")
    settings = f"{network.backbone}, {network.pixels} px, batch {network.batch}, float32."
    return part("MB", settings, rows, device, command, began)


def peak(device: str, se: bool, steps: int = 3) -> float:
    """Peak memory in MB after so many training steps of the last network of `networks`."""
    torch.set_num_threads(1)
    network = next(one for one in reversed(networks(device)) if one.se == se)
    images, train = random_images(network.pixels), network.run().train
    model, optimizer, batches = prepared(network.run(), images, torch.device(device))
    x, y = next(batches.shuffled(0, 1))
    for _ in range(steps):
        float(train_step(model.train(), optimizer, x, y, train)[0])
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes a unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _output_of(code: str) -> str:
    """What a Python process of its own prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
