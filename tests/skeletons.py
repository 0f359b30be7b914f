"""Networks on the meta device: every shape, no memory for the weights, and no time to draw them."""

from contextlib import ExitStack
from unittest import mock

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from senet_ablate.models.build import build_model
from senet_ablate.spec.spec import SESpec


def skeleton(
    name: str, num_classes: int, se: SESpec | None = None, stem: str = "default"
) -> nn.Module:
    """The network `name` as `build_model` builds it, on the meta device."""
    with ExitStack() as stack:
        for layer in (_ConvNd, _BatchNorm, nn.Linear):
            stack.enter_context(mock.patch.object(layer, "reset_parameters", lambda self: None))
        stack.enter_context(torch.device("meta"))
        return build_model(name, num_classes, se, stem=stem)
