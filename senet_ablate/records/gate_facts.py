"""The facts behind figures 6 and 7: gates by class of one trained network over the test images."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from senet_ablate.records.class_gates import ClassGates, Curves, places
from senet_ablate.records.facts import read_facts, readable
from senet_ablate.records.store import Provenance, Record, weights_path
from senet_ablate.spec import BadInput, Plan
from senet_ablate.spec.schema import Frozen

DRAWN = 50  # channels a panel at most, "fifty uniformly sampled channels" (paper, Section 7.2)


class GateFacts(Frozen):
    """The gates of one trained network by class.

    run: whose network it is. weights: SHA-256 of the file of weights. images: test images of each
    class named, in the order asked for (0: all, by a record, which does not count them). blocks:
    all SE blocks in order of depth. curves: of the blocks that the paper would draw.
    """

    run: str
    weights: str
    tested: int
    images: dict[str, int]
    blocks: tuple[ClassGates, ...]
    curves: dict[str, Curves]
    provenance: Provenance


def drawn_channels(channels: int) -> range:
    """Every ceil(C/50)-th channel, as the paper's figures have them."""
    return range(0, channels, -(-channels // DRAWN))


def drawn_blocks(names: Sequence[str]) -> list[str]:
    """The blocks that the paper would draw; the last six of a network without numbered stages."""
    return list(dict.fromkeys(places(names).values())) or list(names[-6:])


def facts_path(results: Path, recipe: str) -> Path:
    """Where the facts of a recipe's network lie."""
    return results / recipe / "excitation.json"


def current_gates(plan: Plan, results: Path, records: Mapping[str, Record]) -> GateFacts | None:
    """The facts on the network whose weights the recipe keeps, by `excitation`, or, where that was
    not called or, with a warning, what it wrote is unsound or of another network, by its record;
    None if there are none.
    """
    path = facts_path(results, plan.recipe_name)
    measured = readable([path] * path.exists(), lambda _: read_gates(plan, results, records))
    recorded = [_recorded(records[run.id]) for run in plan.kept if run.id in records]
    return next(iter([*measured, *recorded]), None)


def _recorded(record: Record) -> GateFacts | None:
    """The gates by class that a record holds: of default classes, over all their images."""
    if not record.class_gates:
        return None
    return GateFacts(
        run=record.id,
        weights="",
        tested=record.tested,
        images=dict.fromkeys(record.class_gates[0].class_means, 0),
        blocks=record.class_gates,
        curves=record.class_curves,
        provenance=record.provenance,
    )


def read_gates(plan: Plan, results: Path, records: Mapping[str, Record]) -> GateFacts:
    """The facts in a file. Raises BadInput if they are not of network, data and weights at hand."""
    path = facts_path(results, plan.recipe_name)
    facts = read_facts(path, GateFacts)
    weights = weights_path(results, plan.recipe_name, facts.run)
    why = ""
    if not plan.kept or facts.run != plan.kept[0].id:
        why = f"is not the one that recipe {plan.recipe_name!r} keeps the weights of"
    elif facts.run not in records:
        why = "has no record"
    elif facts.provenance.data != records[facts.run].provenance.data:
        why = "was recorded with other test images"
    elif weights.is_file() and hashlib.sha256(weights.read_bytes()).hexdigest() != facts.weights:
        why = f"was measured with other weights than {weights}"
    if why:
        raise BadInput(f"{path}: run {facts.run} {why}")
    return facts
