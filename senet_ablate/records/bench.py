"""What `bench` measured: parts of a machine's page, and the networks of a recipe side by side."""

import statistics
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from senet_ablate.records.facts import read_facts, readable, slug, write_facts
from senet_ablate.records.store import Provenance
from senet_ablate.spec import BadInput, Plan, Run, SESpec
from senet_ablate.spec.schema import Count, Flag, Frozen

PARTS = {
    "loop": "Training throughput",
    "many": "Many runs at once",
    "floor": "Distance from the floor",
    "overhead": "What SE adds to a large network",
    "loader": "Decoding of large data sets",
}
WORK = {
    "training_step": "training step",
    "inference": "inference, one image",
    "inference_batch": "inference, a batch",
}
"""Groups of rows that time a network, by the names that claims and the paper's times have."""


class Measured(Frozen):
    """One quantity, round by round; round i of every quantity of a part was measured in the same
    minute.

    over: the name of the quantity in the same group that it is divided by; empty: none. run: id of
    the run with seed 0 whose network was timed; empty where it is of no recipe.
    """

    group: str
    name: str
    rounds: Annotated[tuple[float, ...], Field(min_length=1)]
    over: str = ""
    run: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


class Part(Frozen):
    """The quantities of one part.

    settings: how they were measured, in words. others: cores that other processes used meanwhile,
    on average; None where the system does not say.
    """

    unit: str
    more_is_better: Flag
    settings: str
    others: float | None = None
    rows: tuple[Measured, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _equal_rounds(self) -> Self:
        if len({len(row.rounds) for row in self.rows}) > 1:
            raise ValueError("quantities of one part have different numbers of rounds")
        return self

    def row(self, group: str, name: str) -> Measured | None:
        """The quantity of a group by its name, if it was measured."""
        return next((row for row in self.rows if (row.group, row.name) == (group, name)), None)

    def ratio(self, row: Measured, over: str = "") -> tuple[float, float, float] | None:
        """Quartiles of `row` divided, round by round, by the row named `over` in its group.

        over: by default the one that `row` itself names. None if there is no such row.
        """
        other = self.row(row.group, over or row.over)
        if other is None:
            return None
        ratios = np.asarray(row.rounds) / np.asarray(other.rounds)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @property
    def device(self) -> str:
        """The device as a heading, with PyTorch's threads where they matter."""
        return machine(self.provenance.device, self.provenance.threads, "thread")


class Bench(Frozen):
    """All parts measured on one device."""

    device: str
    cores: Count
    parts: dict[str, Part]

    @model_validator(mode="after")
    def _known_parts(self) -> Self:
        if unknown := set(self.parts) - set(PARTS):
            raise ValueError(f"unknown part {min(unknown)!r}")
        return self


def counted(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count} {what}{'s' * (count > 1)}"


def machine(device: str, count: int, what: str) -> str:
    """A device as a heading, a CPU with so many cores or threads."""
    name = device.removeprefix("cpu: ")
    return name if name == device else f"{name}, {counted(count, what)}"


def _file_name(device: str, count: int, what: str) -> str:
    name = f"{device} {count} {what}" if device.startswith("cpu: ") else device
    return f"{slug(name)}.json"


def bench_path(results: Path, device: str, cores: int) -> Path:
    """Where the facts of a device lie; a CPU's say how many cores were allowed."""
    return results / "bench" / _file_name(device, cores, "cores")


def add_part(results: Path, device: str, cores: int, name: str, part: Part) -> Path:
    """Write a part in place of an older one of the same device; returns the path of the facts."""
    path = bench_path(results, device, cores)
    parts = {**(read_facts(path, Bench).parts if path.exists() else {}), name: part}
    ordered = {key: parts[key] for key in PARTS if key in parts}
    return write_facts(path, Bench(device=device, cores=cores, parts=ordered))


def read_benches(results: Path) -> list[Bench]:
    """The sound facts of every device; an unsound file is named in a warning."""
    return readable(results.glob("bench/*.json"), lambda path: read_facts(path, Bench))


def plain_and_se(plan: Plan) -> dict[str, Run]:
    """The two networks that the paper timed, plain and with SE, under this recipe."""
    return {"plain": Run(plan.recipe.train, None, 0), "SE": Run(plan.recipe.train, SESpec(), 0)}


def write_timing(results: Path, recipe: str, timing: Part) -> Path:
    """Write the times of a recipe's networks in place of older ones of that device; the path."""
    where = timing.provenance
    name = f"timing-{_file_name(where.device, where.threads, 'threads')}"
    return write_facts(results / recipe / name, timing)


def read_timing(path: Path, plan: Plan) -> Part:
    """The times in a file. Raises BadInput if it is damaged or of another recipe's networks."""
    timing = read_facts(path, Part)
    timed = {row.run for row in timing.rows}
    missing = [label for label, run in plain_and_se(plan).items() if run.id not in timed]
    if missing:
        raise BadInput(
            f"{path}: has no time of {' and '.join(missing)} under recipe {plan.recipe_name!r} as"
            " it is now"
        )
    return timing


def timing_files(results: Path, recipe: str) -> list[Path]:
    """Every file of times of a recipe."""
    return sorted((results / recipe).glob("timing-*.json"))


def read_timings(plan: Plan, results: Path) -> list[Part]:
    """The sound times of a recipe, one a device; an unsound file is named in a warning."""
    files = timing_files(results, plan.recipe_name)
    return readable(files, lambda path: read_timing(path, plan))
