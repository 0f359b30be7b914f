"""Counts what every network costs, plain and with SE, at the input size that it was made for."""

from collections.abc import Callable

import torch

from senet_ablate.models.build import list_backbones
from senet_ablate.models.complexity import cost
from senet_ablate.records.cost import ALL_BUT_LAST, PAPERS_NETWORK, NetworkCost, StageCost, printed
from senet_ablate.spec.registry import BACKBONES
from senet_ablate.spec.spec import SESpec


def to_count() -> list[tuple[str, SESpec | None]]:
    """Each registered network without and with SE, then the versions of which the paper prints or
    tells a cost.
    """
    every = [(name, se) for name in list_backbones() for se in (None, SESpec())]
    told = [(PAPERS_NETWORK, ALL_BUT_LAST), *((one.backbone, one.se) for one in printed())]
    return list(dict.fromkeys([*every, *told]))


def count(backbone: str, se: SESpec | None) -> NetworkCost:
    """The cost of a network at its own input size, with ImageNet's 1,000 classes or, for 64 pixels
    or fewer, 100.
    """
    pixels = own_pixels(backbone)
    classes = 1000 if pixels > 64 else 100
    with torch.device("meta"):
        model = BACKBONES[backbone](
            classes, se, "default"
        )  # initial weights cost time and no multiply-adds
    counted = cost(model, (3, pixels, pixels))
    parts = {
        name: StageCost(params=counted.params_by_module[name], macs=counted.macs_by_module[name])
        for name, _ in model.named_children()
    }
    return NetworkCost(
        backbone=backbone,
        se=se,
        pixels=pixels,
        classes=classes,
        params=counted.params,
        macs=counted.macs,
        parts=parts,
    )


def own_pixels(backbone: str) -> int:
    """Edge of the square input that a network was made for: 224 pixels unless it says otherwise."""
    return int(getattr(BACKBONES[backbone], "pixels", 224))


def count_all(progress: Callable[[int], None] = lambda networks: None) -> list[NetworkCost]:
    """The cost of all of `to_count`; `progress` is told of each that is done."""
    costs = []
    for backbone, se in to_count():
        costs.append(count(backbone, se))
        progress(1)
    return costs
