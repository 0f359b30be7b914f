"""Parameters and multiply-adds of every network, as facts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from senet_ablate.records.facts import read_facts, readable, write_facts
from senet_ablate.spec import BadInput, SESpec, read_experiment
from senet_ablate.spec.paper import paper_facts, published
from senet_ablate.spec.schema import Frozen

COMPARED = ("backbones", "mobile", "reduction", "stages", "conv3x3", "role_of_squeeze")
"""Experiments whose tables (2, 3, 10, 13, 15, 16) print parameters or multiply-adds."""
PAPERS_NETWORK = "resnet50"
ALL_BUT_LAST = SESpec(stages="all_but_last")  # of which the paper tells the cost in Section 4


class StageCost(Frozen):
    """Learnable parameters of a stage (or stem, pool, classifier), multiply-adds of one image."""

    params: int
    macs: int


class NetworkCost(Frozen):
    """A network at one input size (pixels: edge of the square), as a whole and by its stages."""

    backbone: str
    se: SESpec | None
    pixels: int
    classes: int
    params: int
    macs: int
    parts: dict[str, StageCost]


class Printed(NamedTuple):
    """A row of the paper that prints a cost: millions of params, 1e9 multiply-adds."""

    table: str
    row: str
    backbone: str
    se: SESpec | None
    params: float | None
    gflops: float | None


def printed() -> Iterator[Printed]:
    """Every cost that the paper prints in a table, in the order of the tables."""
    for name in COMPARED:
        experiment = read_experiment(name)
        where = paper_facts()["tables"][experiment.paper_table]["paper_table"]
        for variant, value in experiment.variants.items():
            of_this_table = value.paper_row.partition("/")[0] in ("", experiment.paper_table)
            params, gflops = map(published(experiment, variant).get, ("params", "gflops"))
            if of_this_table and (params or gflops):
                network = value.backbone or PAPERS_NETWORK
                yield Printed(where, variant, network, value.se, params, gflops)


class CostFacts(Frozen):
    """The file of facts."""

    networks: tuple[NetworkCost, ...]


Costs = dict[tuple[str, SESpec | None], NetworkCost]


def facts_path(results: Path) -> Path:
    """Where the facts lie."""
    return results / "cost" / "facts.json"


def write_costs(results: Path, costs: Sequence[NetworkCost]) -> Path:
    """Write the facts; returns the path."""
    return write_facts(facts_path(results), CostFacts(networks=tuple(costs)))


def read_costs(results: Path) -> Costs:
    """The facts by backbone and SE specification. Raises BadInput."""
    try:
        costs = read_facts(facts_path(results), CostFacts).networks
    except BadInput as error:
        raise BadInput(f"{error}; `python -m senet_ablate cost` writes it") from error
    return {(one.backbone, one.se): one for one in costs}


def read_costs_if_any(results: Path) -> Costs:
    """As `read_costs`; nothing where there are none, or, with a warning, no sound ones."""
    path = facts_path(results)
    return next(iter(readable([path] * path.exists(), lambda _: read_costs(results))), {})
