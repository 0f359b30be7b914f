"""What is wrong with a plan is found before training: networks are built without memory."""

import torch
from torch import nn

from senet_ablate.models.build import build_model
from senet_ablate.models.se import CannotHost
from senet_ablate.spec.plan import Plan, Row
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run


def check_compiler() -> None:
    """Raises BadInput if torch.compile does not work on this machine."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8))
    except Exception as error:  # compilers fail in many ways
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"compile: true, and torch.compile does not work here: {why}; install a C++ compiler"
        ) from error


def build_networks(plan: Plan, classes: int) -> list[tuple[Row, nn.Module]]:
    """Every row with its network on the meta device.

    Raises BadInput if a network cannot host its SE block, two of a table are the same network, or a
    row that the recipe declares as impossible (`cannot_host`) can be built.
    """
    if plan.recipe.train.compile:
        check_compiler()
    networks = []
    seen: dict[tuple[str, str, str], str] = {}
    for row in plan.rows():
        run = row.runs[0]
        try:
            model = _on_meta(run, classes)
        except CannotHost as error:
            raise BadInput(
                f"{row.experiment}/{row.variant}: {error}; if that is as it should be, say so under"
                f" `cannot_host` in recipe {plan.recipe_name!r}"
            ) from error
        other = seen.setdefault(
            (row.experiment, repr(model), run.train.model_dump_json()), row.variant
        )
        if other != row.variant:
            raise BadInput(
                f"experiment {row.experiment!r}: under recipe {plan.recipe_name!r} the variants"
                f" {other!r} and {row.variant!r} are the same network, trained in the same way"
            )
        networks.append((row, model))
    for entry in plan.recipe.cannot_host:
        experiment, _, variant = entry.partition("/")
        if experiment in plan.experiments:
            run = plan.run(plan.experiments[experiment].variants[variant], seed=0)
            try:
                _on_meta(run, classes)
            except CannotHost:
                continue
            raise BadInput(
                f"recipe {plan.recipe_name!r}, key cannot_host: {entry} can be built after all"
            )
    return networks


def _on_meta(run: Run, classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(run.train.backbone, classes, run.se, stem=run.train.stem)
