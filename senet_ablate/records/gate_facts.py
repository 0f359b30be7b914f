"""The file of facts behind figures 6 and 7:

what the gates of one trained network did for the test images, by class.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from senet_ablate.records.class_gates import ClassGates, Curves
from senet_ablate.records.store import Provenance, Record, read_sealed, weights_path, write_sealed
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Frozen, parse

log = logging.getLogger(__name__)

DRAWN = 50  # channels a panel at most, "fifty uniformly sampled channels" (paper, Section 7.2)


class Excitation(Frozen):
    """The gates of one trained network by class.

    run: whose network it is. weights: SHA-256 of the file of weights. images: test images of each
    class named, in the order asked for. blocks: all SE blocks in order of depth. curves: of the
    blocks that the paper would draw.
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


def panels(names: Sequence[str]) -> list[str]:
    """The blocks that the paper would draw: the last of each stage, and the last three of the last
    stage.

    Blocks of networks without numbered stages: the last six.
    """
    stages: dict[str, list[str]] = {}
    for name in names:
        match = re.fullmatch(r"SE_(\d+)_\d+", name)
        stages.setdefault(match[1] if match else "", []).append(name)
    if "" in stages:
        return list(names[-6:])
    *early, last = stages.values()
    return [blocks[-1] for blocks in early] + last[-3:]


def facts_path(results: Path, recipe: str) -> Path:
    """Where the facts of a recipe's network lie."""
    return results / recipe / "excitation.json"


def write_excitation(results: Path, recipe: str, facts: Excitation) -> Path:
    """Write the facts with their checksum; returns the path."""
    path = facts_path(results, recipe)
    write_sealed(path, facts.model_dump(mode="json"))
    return path


def read_excitation(results: Path, recipe: str) -> Excitation | None:
    """The facts of a recipe's network, None if there are none.

    Raises BadInput for a file that is not sound.
    """
    path = facts_path(results, recipe)
    if not path.exists():
        return None
    content = read_sealed(path)
    try:
        return parse(Excitation, content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def current_excitation(
    plan: Plan, results: Path, records: Mapping[str, Record]
) -> Excitation | None:
    """The facts, if they are of the network that the recipe asks for and it has a record; else
    None, with a warning.
    """
    try:
        facts = read_excitation(results, plan.recipe_name)
    except BadInput as error:
        log.warning("left out: %s", error)
        return None
    problem = misfit(plan, results, records, facts) if facts else ""
    if problem:
        log.warning("left out: %s", problem)
    return None if problem else facts


def misfit(plan: Plan, results: Path, records: Mapping[str, Record], facts: Excitation) -> str:
    """Why the facts are not those of the network that the recipe asks for; empty if they are."""
    path = facts_path(results, plan.recipe_name)
    if not plan.kept or facts.run != plan.kept[0].id:
        return (
            f"{path}: run {facts.run} is not the one that recipe {plan.recipe_name!r} keeps the"
            " weights of"
        )
    if facts.run not in records:
        return f"{path}: run {facts.run} has no record"
    if facts.provenance.data != records[facts.run].provenance.data:
        return f"{path}: its test images are not those of the record of run {facts.run}"
    weights = weights_path(results, plan.recipe_name, facts.run)
    if weights.is_file() and hashlib.sha256(weights.read_bytes()).hexdigest() != facts.weights:
        return f"{path}: was measured on other weights than {weights}"
    return ""
