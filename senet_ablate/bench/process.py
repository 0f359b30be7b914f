"""Fresh processes: seconds to their first training step, and their peak memory."""

import subprocess
import sys
import time

import torch

from senet_ablate.bench.contest import random_images
from senet_ablate.bench.parts import Tell, networks, part
from senet_ablate.records.bench import Measured, Part
from senet_ablate.train.loop import prepared, train_step


def start(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Seconds of a fresh process that takes one training step, and of one that only imports
    PyTorch.
    """
    began = time.monotonic()
    first = f"from senet_ablate.bench.process import first_step; first_step({device!r})"
    times: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, code in (("import torch alone", "import torch"), ("to the first step", first)):
            begun = time.perf_counter()
            _fresh(code)
            times.setdefault(name, []).append(time.perf_counter() - begun)
        tell(f"start: round {number + 1} of {rounds}")
    rows = [
        Measured(group="process", name=name, rounds=tuple(values)) for name, values in times.items()
    ]
    return part(
        "s", False, "The SE network of the first row of `loop`.", rows, device, command, began
    )


def memory(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Peak memory of fresh processes that take three training steps, plain and SE."""
    began, rows = time.monotonic(), []
    network = networks(device)[-1]
    for name, over in (("plain", ""), ("SE", "plain")):
        code = (
            f"from senet_ablate.bench.process import peak; print(peak({device!r}, {name == 'SE'}))"
        )
        found = tuple(float(_fresh(code).split()[-1]) for _ in range(rounds))
        rows.append(Measured(group=network.backbone, name=name, rounds=found, over=over))
        tell(f"memory: {name}")
    settings = f"{network.backbone}, {network.pixels} px, batch {network.batch}, float32."
    return part("MB", False, settings, rows, device, command, began)


def first_step(device: str) -> None:
    """One training step of the first SE network."""
    network = networks(device)[1]
    model, optimizer, batches = prepared(
        network.run(), random_images(network.pixels), torch.device(device)
    )
    x, y = next(batches.shuffled(0, 1))
    float(train_step(model.train(), optimizer, x, y, network.run().train)[0])


def peak(device: str, se: bool) -> float:
    """Peak memory in MB after three training steps of the last network of `networks`."""
    import resource

    torch.set_num_threads(1)
    network = next(n for n in reversed(networks(device)) if n.se == se)
    model, optimizer, batches = prepared(
        network.run(), random_images(network.pixels), torch.device(device)
    )
    x, y = next(batches.shuffled(0, 1))
    for _ in range(3):
        train_step(model.train(), optimizer, x, y, network.run().train)
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes a unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _fresh(code: str) -> str:
    """What a process of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
