"""Images a second in training: ours against other loops, and many runs at once."""

import importlib.util
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache

import torch
from joblib import cpu_count

from senet_ablate.bench.competitors import (
    Competitor,
    Step,
    airbench,
    classic,
    ours,
    together,
)
from senet_ablate.bench.parts import Log, Network, in_a_line, networks, part, seconds, sizes
from senet_ablate.records.bench import Measured, Part

AT_ONCE = 4  # runs on one GPU
# steps before each measurement: they use up what the classic loader made ready while others ran
WARM = 4


def loop(device: str, rounds: int, command: str, log: Log) -> Part:
    """Ours as written and compiled, the classic loop, and airbench's loader; plain and SE."""
    began, cores, gpu = time.monotonic(), cpu_count(), device != "cpu"
    base = Competitor("classic loop", classic, threads=cores)
    ways = {
        base: "",
        Competitor("classic, step alone", classic, threads=cores, data=False): base.name,
        Competitor("classic loop, compiled", classic, threads=cores, compiled="default"): base.name,
        Competitor("ours, one process", ours, threads=cores): base.name,
    }
    if gpu:
        amp = "classic loop, bfloat16"
        tuned, graph = "classic loop, max-autotune, bfloat16", "ours, compiled, bfloat16"
        ways |= {
            Competitor(amp, classic, threads=cores, bf16=True): "",
            Competitor(tuned, classic, threads=cores, bf16=True, compiled="max-autotune"): amp,
            Competitor("ours, bfloat16", ours, bf16=True): amp,
            Competitor(graph, ours, bf16=True, compiled="model"): amp,
            Competitor("ours, units compiled, bfloat16", ours, bf16=True, compiled="units"): amp,
        }
    else:
        compiled = "ours, compiled, a process a core"
        ways |= {
            Competitor("ours, a process a core", ours, cores): base.name,
            Competitor(compiled, ours, cores, compiled="model"): base.name,
        }
    if importlib.util.find_spec("airbench"):
        name = "airbench's loader, compiled"
        ways[Competitor(name, airbench, threads=cores, bf16=gpu)] = base.name
    else:
        log("loop: no row of airbench's loader: pip install airbench")
    rows = _compare(ways, networks(device), device, rounds, log)
    settings = (
        "Random uint8 images, crops and flips, SGD with momentum, float32 unless it says"
        f" otherwise. {sizes(device)}. A loop runs while the others wait."
    )
    return part("images/s", settings, rows, device, command, began)


def many(device: str, rounds: int, command: str, log: Log) -> Part:
    """All runs together: one after another, each in a process, or on a GPU all in one process."""
    began, cores, gpu = time.monotonic(), cpu_count(), device != "cpu"
    count = AT_ONCE if gpu else cores
    alone = Competitor("one after another", ours, threads=cores, bf16=gpu)
    ways = {alone: "", Competitor("a process each", ours, count, bf16=gpu): alone.name}
    if gpu:
        ways[Competitor("all in one process", together, bf16=True, runs=count)] = alone.name
    rows = _compare(ways, networks(device), device, rounds, log)
    numbers = "bfloat16" if gpu else "float32"
    settings = f"{count} runs that differ in their seeds, {numbers}. {sizes(device)}."
    return part("images/s", settings, rows, device, command, began)


def _compare(
    ways: dict[Competitor, str], trained: list[Network], device: str, rounds: int, log: Log
) -> list[Measured]:
    """Images a second of each competitor, network by network.

    ways: each with the name of the one that it is compared with. Each has processes of its own,
    which wait while the others run. One that fails has no row, and the log says why.
    """
    found = {(network, way): list[float]() for network in trained for way in ways}
    failed: set[Competitor] = set()
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
                if way in failed:
                    continue
                try:
                    calls = [
                        pool.submit(_step_seconds, way, network, device) for pool in pools[way]
                    ]
                    images = network.batch * way.runs
                    rates.append(sum(images / call.result() for call in calls))
                except Exception as error:  # a missing compiler, too little memory, a lost process
                    failed.add(way)
                    log(f"no row of {way.name}: {in_a_line(error)}")
            log(f"round {number + 1} of {rounds}")
    return [
        Measured(group=network.label, name=way.name, rounds=tuple(rates), over=ways[way])
        for (network, way), rates in found.items()
        if way not in failed
    ]


def _step_seconds(way: Competitor, network: Network, device: str) -> float:
    """Seconds a step in this process, which keeps the network from one round to the next."""
    step, on = _step(way, network, device), torch.device(device)
    seconds(step, on, WARM)
    return seconds(step, on, network.steps)


@cache
def _step(way: Competitor, network: Network, device: str) -> Step:
    torch.backends.cudnn.allow_tf32 = False  # float32 of a recipe is float32
    return way.make(network, way, torch.device(device))
