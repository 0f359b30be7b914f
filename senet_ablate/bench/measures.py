"""The parts of a machine's page by name."""

from senet_ablate.bench.decoding import loader
from senet_ablate.bench.parts import Measure
from senet_ablate.bench.steps import floor, overhead
from senet_ablate.bench.throughput import loop, many

MEASURES: dict[str, Measure] = {
    "loop": loop,
    "many": many,
    "floor": floor,
    "overhead": overhead,
    "loader": loader,
}
