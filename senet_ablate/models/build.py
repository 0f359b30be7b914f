"""Networks by name, plain or with SE, from the same code."""

import operator
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from senet_ablate.models.layers import initialise
from senet_ablate.models.se import CannotHost, se_blocks
from senet_ablate.spec import (
    BACKBONES,
    BLOCKS,
    EXCITATIONS,
    GATES,
    PLACEMENTS,
    SQUEEZES,
    BadInput,
    Placement,
    SESpec,
)
from senet_ablate.spec.schema import Count, parse


def list_backbones() -> list[str]:
    """Every registered network name."""
    return sorted(BACKBONES)


def build_model(
    name: str,
    num_classes: int = 1000,
    se: SESpec | None = None,
    *,
    stem: str = "default",
    seed: int = 0,
) -> nn.Module:
    """The network `name`: N x 3 x H x W in, N x num_classes logits out; `se=None` is the plain one.

    stem: "default", or one for smaller inputs that the network knows ("64px", "32px"). seed: of the
    initial weights, which do not depend on `torch.manual_seed`; a network on the meta device has
    none. Raises BadInput for a wrong argument, CannotHost (a BadInput) if the network has no place
    for the block.
    """
    if not isinstance(se, SESpec | None):
        raise BadInput(f"{name}: se is an SESpec, or None for the plain network; found {se!r}")
    try:
        num_classes = parse(Count, num_classes)
    except BadInput as error:
        raise BadInput(f"{name}: num_classes: {error}") from error
    builder, seed = BACKBONES[name], operator.index(seed)
    try:
        with torch.random.fork_rng(devices=[]):  # for what a user's block draws as it is built
            torch.default_generator.manual_seed(seed)
            model: nn.Module = builder(num_classes, se, stem)
        if se is not None and not se_blocks(model):
            with torch.device("meta"):
                elsewhere = [
                    placement
                    for placement in get_args(Placement)
                    if se_blocks(builder(num_classes, replace(se, placement=placement), stem))
                ]
            has = ", ".join(elsewhere) or "none; see SEPlacement"
            raise CannotHost(
                f"no place {se.placement!r} ({PLACEMENTS[se.placement]}); it has: {has}"
            )
    except BadInput as error:
        raise type(error)(f"{name}: {error}") from error
    if se is not None and own_parts(name, None):
        # what a user's network draws as it is built
        plain = build_model(name, num_classes, stem=stem, seed=seed).state_dict()
        own = {key: value.shape for key, value in model.state_dict().items()}
        shared = {key: value for key, value in plain.items() if own.get(key) == value.shape}
        model.load_state_dict(shared, strict=False)
    initialise(model, seed)
    return model


def own_parts(backbone: str, se: SESpec | None) -> list[tuple[str, str, Any]]:
    """The network and the parts of the block, as far as they are a user's own: each by name, with
    its `module:name`, which is empty for an object that was added to a registry.
    """
    named = [(backbone, BACKBONES)]
    if se is not None:
        parts = (se.squeeze, se.excitation, se.gate, se.block)
        named += zip(parts, (SQUEEZES, EXCITATIONS, GATES, BLOCKS), strict=True)
    entries = [(name, registry, registry.get(name, name)) for name, registry in named]
    return [
        (name, entry if isinstance(entry, str) else "", registry[name])
        for name, registry, entry in entries
        if not str(entry).startswith("senet_ablate.")
    ]


def build_to_count(name: str, num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """As `build_model`, on the meta device; with weights where a part is a user's own, which may
    read them.
    """
    with torch.device("cpu" if own_parts(name, se) else "meta"):
        return build_model(name, num_classes, se, stem=stem)


def native_pixels(name: str) -> int:
    """Edge of the square input that a network was made for: 224 unless `made_for` says another."""
    return int(getattr(BACKBONES[name], "pixels", 224))
