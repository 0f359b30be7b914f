"""Images a second in training: ours against other loops, and many runs at once."""

import importlib.util
import time

from joblib import cpu_count

from senet_ablate.bench.contest import Contest, Network, Way
from senet_ablate.bench.parts import Tell, networks, part, sizes
from senet_ablate.records.bench import Measured, Part

AT_ONCE = 4  # runs on one GPU
AIRBENCH = "airbench's loader, compiled"


def loop(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Ours, the classic loop, and airbench's loader with the network compiled; plain and SE."""
    began, cores = time.monotonic(), cpu_count()
    classic = Way("classic loop", "classic", 1, cores)
    ours = Way("ours, one process", "ours", 1, cores)
    ways = {classic: "", Way("classic, step alone", "classic", 1, cores, data=False): classic.name}
    if device == "cpu":
        each, compiled = "ours, a process a core", "ours, compiled, a process a core"
        ways |= {ours: classic.name, Way(each, "ours", cores, 1): classic.name}
        ways |= {Way(compiled, "ours", cores, 1, compiled=True): classic.name}
    else:
        amp = Way("classic loop, bfloat16", "classic", 1, cores, bf16=True)
        ways |= {
            amp: "",
            ours: classic.name,
            Way("ours, bfloat16", "ours", 1, cores, bf16=True): amp.name,
        }
        ways |= {
            Way("ours, compiled, bfloat16", "ours", 1, cores, bf16=True, compiled=True): amp.name
        }
    if importlib.util.find_spec("airbench"):
        ways[Way(AIRBENCH, "airbench", 1, cores, bf16=device != "cpu")] = classic.name
    else:
        tell(f"loop: no row of {AIRBENCH}: pip install airbench")
    rows = _contest(ways, networks(device), device, rounds, lambda line: tell(f"loop: {line}"))
    settings = (
        "Random uint8 images, crops and flips, SGD with momentum, float32 unless it says"
        f" otherwise. {sizes(device)}. A loop runs while the others wait."
    )
    return part("images/s", True, settings, rows, device, command, began)


def many(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """All runs together, where one process trains one after the other, or each run has a process of
    its own.
    """
    began, cores, gpu = time.monotonic(), cpu_count(), device != "cpu"
    alone = Way("one after another", "ours", 1, cores, bf16=gpu)
    count = AT_ONCE if gpu else cores
    ways = {alone: "", Way("a process each", "ours", count, 1, bf16=gpu): alone.name}
    rows = _contest(ways, networks(device), device, rounds, lambda line: tell(f"many: {line}"))
    numbers = "bfloat16" if gpu else "float32"
    settings = f"{count} runs that differ in their seeds, {numbers}. {sizes(device)}."
    return part("images/s", True, settings, rows, device, command, began)


def _contest(
    ways: dict[Way, str], trained: list[Network], device: str, rounds: int, tell: Tell
) -> list[Measured]:
    """Images a second of every way, network by network; ways:

    each with the name of the one it is compared with.
    """
    found: dict[tuple[Network, Way], list[float]] = {
        (network, way): [] for network in trained for way in ways
    }
    with Contest(list(ways), trained, device) as contest:
        for number in range(rounds):
            for (network, way), values in found.items():
                if (rate := contest.images_per_second(way, network)) is not None:
                    values.append(rate)
            tell(f"round {number + 1} of {rounds}")
    for way, why in contest.failed.items():
        tell(f"no row of {way.name}: {why}")
    return [
        Measured(group=network.label, name=way.name, rounds=tuple(values), over=ways[way])
        for (network, way), values in found.items()
        if way not in contest.failed
    ]
