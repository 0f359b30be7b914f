"""Images a second: ours against other loops in training, many runs at once, and decoding alone."""

import importlib.util
import io
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from PIL import Image

from senet_ablate.bench.competitors import Competitor, Step, airbench, classic, ours, together
from senet_ablate.bench.parts import Network, Timed, in_a_line, networks, seconds, sizes
from senet_ablate.data import Batches, load_images
from senet_ablate.records.bench import Measured
from senet_ablate.spec import Training
from senet_ablate.train.compute import set_flags

AT_ONCE = 4  # runs on one GPU
FILES, CROP = 64, 224  # the sizes of ImageNet: about 500 x 375, seen at 224
# steps before each measurement: they use up what the classic loader made ready while others ran
WARM = 4


def loop(device: str, rounds: int) -> Timed:
    """Ours as written and compiled, the classic loop, and airbench's loader; plain and SE."""
    cores, gpu, base = cpu_count(), device != "cpu", "classic loop"
    way = partial(Competitor, threads=cores)
    ways = [
        way(base, classic),
        way("classic, step alone", classic, base, data=False),
        way("classic loop, compiled", classic, base, compiled="default"),
        way("ours, one process", ours, base),
    ]
    if gpu:
        amp, tuned = "classic loop, bfloat16", "classic loop, max-autotune, bfloat16"
        way = partial(way, bf16=True)
        ways += [
            way(amp, classic),
            way(tuned, classic, amp, compiled="max-autotune"),
            way("ours, bfloat16", ours, amp, threads=1),
            way("ours, compiled, bfloat16", ours, amp, threads=1, compiled="model"),
            way("ours, units compiled, bfloat16", ours, amp, threads=1, compiled="units"),
        ]
    else:
        name = "ours, compiled, a process a core"
        ways += [
            Competitor("ours, a process a core", ours, base, cores),
            Competitor(name, ours, base, cores, compiled="model"),
        ]
    if importlib.util.find_spec("airbench"):
        ways.append(way("airbench's loader, compiled", airbench, base))
    else:
        print("loop: no row of airbench's loader: pip install airbench")
    settings = (
        "Random uint8 images, crops and flips, SGD with momentum, float32 unless it says"
        f" otherwise. {sizes(device)}. A loop runs while the others wait."
    )
    return "images/s", settings, _compare(ways, networks(device), device, rounds)


def many(device: str, rounds: int) -> Timed:
    """All runs together: one after another, each in a process, or on a GPU all in one process."""
    gpu, base = device != "cpu", "one after another"
    count = AT_ONCE if gpu else cpu_count()
    ways = [
        Competitor(base, ours, threads=cpu_count(), bf16=gpu),
        Competitor("a process each", ours, base, count, bf16=gpu),
    ]
    if gpu:
        ways.append(Competitor("all in one process", together, base, bf16=True, runs=count))
    numbers = "bfloat16" if gpu else "float32"
    settings = f"{count} equal runs, {numbers}. {sizes(device)}."
    return "images/s", settings, _compare(ways, networks(device), device, rounds)


def _compare(
    ways: list[Competitor], trained: list[Network], device: str, rounds: int
) -> list[Measured]:
    """Images a second of each competitor, network by network.

    Each has processes of its own, which wait while the others run. One that fails has no row, and
    a line says why.
    """
    found = {(network, way): list[float]() for network in trained for way in ways}
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = {
            way: [
                stack.enter_context(
                    ProcessPoolExecutor(1, context, torch.set_num_threads, (way.threads,))
                )
                for _ in range(way.processes)
            ]
            for way in ways
        }
        for number in range(rounds):
            for (network, way), rates in found.items():
                if way not in pools:
                    continue
                try:
                    calls = [
                        pool.submit(_step_seconds, way, network, device) for pool in pools[way]
                    ]
                    images = network.batch * way.runs
                    rates.append(sum(images / call.result() for call in calls))
                except Exception as error:  # a missing compiler, too little memory, a lost process
                    del pools[way]
                    print(f"no row of {way.name}: {in_a_line(error)}")
            print(f"round {number + 1} of {rounds}")
    return [
        Measured(group=network.label, name=way.name, rounds=tuple(rates), over=way.over)
        for (network, way), rates in found.items()
        if way in pools
    ]


def _step_seconds(way: Competitor, network: Network, device: str) -> float:
    """Seconds a step in this process, which keeps the network from one round to the next."""
    step, on = _step(way, network, device), torch.device(device)
    seconds(step, on, WARM)
    return seconds(step, on, network.steps)


@cache
def _step(way: Competitor, network: Network, device: str) -> Step:
    set_flags()  # those of training
    on = torch.device(device)
    if on.type == "cuda":
        torch.cuda.set_device(on)  # a graph is captured on the current one
    return way.make(network, way, on)


def loader(device: str, rounds: int) -> Timed:
    """Images a second of data set image-stream, which decodes and crops them, on one core."""
    train = Training(
        dataset="image-stream",
        image_size=256,
        crop_size=CROP,
        scale_crop=(0.08, 1),  # as the ImageNet recipes draw crops
        backbone="resnet50",
        epochs=1,
        batch_size=FILES,
        lr=0.1,
    )
    cpu, rates = torch.device("cpu"), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        images = load_images(train, Path(folder))
        batches = Batches(images.train, images, train, cpu)
        for number in range(rounds + 1):
            rates.append(FILES / seconds(lambda: list(batches.shuffled(0, 1)), cpu))
            print(f"loader: round {number} of {rounds}")
    rows = [Measured(group="one core", name="Pillow, as in image-stream", rounds=tuple(rates[1:]))]
    settings = (
        f"{FILES} JPEG files of 375 x 500 pixels and the like, random crops resized to {CROP}, one"
        " thread."
    )
    return "images/s", settings, rows


def write_images(root: Path) -> None:
    """JPEG files of two classes, smooth colour and fine noise, which decode as slowly as
    photographs do (about 75 kB each).
    """
    generator = np.random.default_rng(0)
    names = [f"train/{number % 2}/{number}.jpg" for number in range(FILES)]
    for number, name in enumerate([*names, "val/0/0.jpg", "val/1/0.jpg"]):
        height, width = ((375, 500), (500, 375), (333, 500), (480, 640))[number % 4]
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height)), dtype=np.float32)
        pixels = smooth + generator.normal(0, 8, (height, width, 3))
        content = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.getvalue())
