"""The paper's mechanism and the networks that host it."""

from senet_ablate.models.build import build_model, list_backbones, native_pixels
from senet_ablate.models.complexity import Cost, cost
from senet_ablate.models.se import CannotHost, SEBlock, SEPlacement, se_blocks

__all__ = [
    "CannotHost",
    "Cost",
    "SEBlock",
    "SEPlacement",
    "build_model",
    "cost",
    "list_backbones",
    "native_pixels",
    "se_blocks",
]
