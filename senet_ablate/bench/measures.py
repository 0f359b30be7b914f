"""The parts of a machine's page by name."""

from senet_ablate.bench.parts import Clock, Log, networks, part, random_images
from senet_ablate.bench.steps import floor, overhead
from senet_ablate.bench.throughput import loader, loop, many
from senet_ablate.records import Part

MEASURES = {"loop": loop, "many": many, "floor": floor, "overhead": overhead, "loader": loader}


def measure(name: str, device: str, rounds: int, command: str, log: Log) -> Part:
    """Measure a part on "cpu" or "cuda:N"; log: where progress is printed."""
    began = Clock.now()
    timed = MEASURES[name](device, rounds, log)
    run, images = networks(device)[0].run(), random_images(8)
    return part(timed, run, images, device, command, began)
