"""Networks by name, plain or with SE, from the same code."""

from dataclasses import replace
from typing import get_args

import torch
from torch import nn

from senet_ablate.models.layers import initialise
from senet_ablate.models.se import CannotHost, se_blocks
from senet_ablate.spec import BACKBONES, PLACEMENTS, BadInput, Placement, SESpec


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
    initial weights, which a network on the meta device has not. Raises BadInput for an unknown name
    or stem, CannotHost (a BadInput) if the network has no place for the block.
    """
    builder = BACKBONES[name]
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
    if se is not None and ":" in name:  # what a user's network draws as it is built itself
        plain = build_model(name, num_classes, stem=stem, seed=seed).state_dict()
        own = {key: value.shape for key, value in model.state_dict().items()}
        shared = {key: value for key, value in plain.items() if own.get(key) == value.shape}
        model.load_state_dict(shared, strict=False)
    initialise(model, seed)
    return model


def native_pixels(name: str) -> int:
    """Edge of the square input that a network was made for: 224 unless `made_for` says another."""
    return int(getattr(BACKBONES[name], "pixels", 224))
