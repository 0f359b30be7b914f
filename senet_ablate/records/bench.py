"""What `bench` measured on one device, part by part."""

import logging
import re
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from senet_ablate.records.store import Provenance, read_sealed, write_sealed
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Count, Flag, Frozen, parse

log = logging.getLogger(__name__)

PARTS = {
    "loop": "Training throughput",
    "many": "Many runs at once",
    "floor": "Distance from the floor",
    "overhead": "What SE adds to a large network",
    "start": "From process start to the first step",
    "memory": "Peak memory",
    "loader": "Decoding of large data sets",
}


class Measured(Frozen):
    """One quantity, round by round; round i of every quantity of a part was measured in the same
    minute.

    over: the name of the quantity in the same group that it is divided by; empty: none.
    """

    group: str
    name: str
    rounds: Annotated[tuple[float, ...], Field(min_length=1)]
    over: str = ""


class Part(Frozen):
    """The quantities of one part.

    settings: how they were measured, in words. load: what waited for a core on average over the 15
    minutes before the end; None where the system does not say.
    """

    unit: str
    more_is_better: Flag
    settings: str
    load: float | None = None
    rows: tuple[Measured, ...]
    provenance: Provenance

    def ratio(self, row: Measured, over: str = "") -> tuple[float, float, float] | None:
        """Lower quartile, median and upper quartile of `row` divided, round by round, by the row
        named `over`.

        over: a row of the same group; empty: the one that `row` itself names. None if there is no
        such row.
        """
        for other in self.rows:
            if other.group == row.group and other.name == (over or row.over):
                low, middle, high = np.quantile(
                    np.asarray(row.rounds) / np.asarray(other.rounds), (0.25, 0.5, 0.75)
                )
                return float(low), float(middle), float(high)
        return None


class Bench(Frozen):
    """All parts measured on one device."""

    device: str
    cores: Count
    parts: dict[str, Part]


def bench_path(results: Path, device: str, cores: int) -> Path:
    """Where the facts of a device lie; a CPU's say how many cores were allowed."""
    name = f"{device} {cores} cores" if device.startswith("cpu: ") else device
    return results / "bench" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def add_part(results: Path, device: str, cores: int, name: str, part: Part) -> Path:
    """Write a part in place of an older one of the same device; the other parts stay.

    Returns the path of the facts.
    """
    path = bench_path(results, device, cores)
    parts = read_bench(path).parts if path.exists() else {}
    ordered = {key: ({**parts, name: part})[key] for key in PARTS if key in parts or key == name}
    write_sealed(path, Bench(device=device, cores=cores, parts=ordered).model_dump(mode="json"))
    return path


def read_bench(path: Path) -> Bench:
    """The facts in a file. Raises BadInput if they are not sound."""
    content = read_sealed(path)
    try:
        bench = parse(Bench, content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    if unknown := set(bench.parts) - set(PARTS):
        raise BadInput(f"{path}: unknown part {min(unknown)!r}")
    if any(len({len(row.rounds) for row in part.rows}) > 1 for part in bench.parts.values()):
        raise BadInput(f"{path}: quantities of one part have different numbers of rounds")
    return bench


def bench_files(results: Path) -> list[Path]:
    """The files of facts, one a device."""
    return sorted((results / "bench").glob("*.json"))


def read_benches(results: Path) -> list[Bench]:
    """The sound facts of every device; an unsound file is named in a warning."""
    found = []
    for path in bench_files(results):
        try:
            found.append(read_bench(path))
        except BadInput as error:
            log.warning("left out: %s", error)
    return found
