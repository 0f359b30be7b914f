"""The parts of a machine's page by name."""

from senet_ablate.bench.parts import Clock, networks, part
from senet_ablate.bench.steps import floor, overhead
from senet_ablate.bench.throughput import loader, loop, many
from senet_ablate.records import Part

MEASURES = {"loop": loop, "many": many, "floor": floor, "overhead": overhead, "loader": loader}


def measure(name: str, device: str, rounds: int, command: str) -> Part:
    """Measure a part on "cpu" or "cuda:N"; prints a line of progress now and then."""
    began = Clock.now()
    timed = MEASURES[name](device, rounds)
    return part(timed, networks(device)[0].run(), "made up", device, command, began)
