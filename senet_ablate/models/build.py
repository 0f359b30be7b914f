"""Networks by name, plain or with SE, from the same code."""

from torch import nn

from senet_ablate.models.layers import initialise
from senet_ablate.spec.registry import BACKBONES
from senet_ablate.spec.spec import SESpec


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
    initial weights. Raises BadInput for an unknown name or stem, CannotHost (a BadInput) if the
    network has no place for the block.
    """
    model: nn.Module = BACKBONES[name](num_classes, se, stem)
    initialise(model, seed)
    return model
