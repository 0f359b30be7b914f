"""The networks of a plan, built without memory before anything is trained:

can they host their rows, do they differ?
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from senet_ablate.models.build import build_model
from senet_ablate.models.se import CannotHost
from senet_ablate.spec.plan import Plan, Row
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run


@dataclass(frozen=True)
class Network:
    """A row of the plan with its network on the meta device."""

    row: Row
    model: nn.Module


def check_compiler() -> None:
    """Raises BadInput if torch.compile does not work on this machine."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8))
    except Exception as error:  # compilers fail in many ways
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = lines[0][:200]
        raise BadInput(
            f"compile: true, and torch.compile does not work here: {why}; install a C++ compiler"
        ) from error


def survey(plan: Plan, classes: int) -> list[Network]:
    """The network of every row. Raises BadInput if one cannot be built, or two of a table are the
    same network.

    A row that the recipe declares as impossible (`cannot_host`) must be impossible.
    """
    if plan.recipe.train.compile:
        check_compiler()
    networks = [Network(row, _build(plan, row, classes)) for row in plan.rows()]
    for experiment in plan.experiments:
        seen: dict[tuple[str, str], str] = {}
        for network in networks:
            if network.row.experiment == experiment:
                key = repr(network.model), network.row.runs[0].train.model_dump_json()
                if key in seen:
                    raise BadInput(
                        f"experiment {experiment!r}: under recipe {plan.recipe_name!r} the variants"
                        f" {seen[key]!r} and {network.row.variant!r} are the same network, trained"
                        " in the same way"
                    )
                seen[key] = network.row.variant
    for experiment, variant, run in _declared_impossible(plan):
        try:
            _network(run, classes)
        except CannotHost:
            continue
        raise BadInput(
            f"recipe {plan.recipe_name!r}, key cannot_host: {experiment}/{variant} can be built"
            " after all"
        )
    return networks


def _build(plan: Plan, row: Row, classes: int) -> nn.Module:
    try:
        return _network(row.runs[0], classes)
    except CannotHost as error:
        raise BadInput(
            f"{row.experiment}/{row.variant}: {error}; if that is as it should be, say so under "
            f"`cannot_host` in recipe {plan.recipe_name!r}"
        ) from error


def _network(run: Run, classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(run.train.backbone, classes, run.se, stem=run.train.stem)


def _declared_impossible(plan: Plan) -> Iterator[tuple[str, str, Run]]:
    for entry in plan.recipe.cannot_host:
        experiment, _, variant = entry.partition("/")
        if experiment in plan.experiments:
            value = plan.experiments[experiment].variants[variant]
            yield experiment, variant, plan.run(value, seed=0)
