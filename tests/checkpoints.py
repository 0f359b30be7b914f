"""Other people's networks with random weights, and their logits beside ours."""

import torch
from torch import nn


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """Draws batch norms anew, in place, so that a norm that is left out or swapped shows;
    evaluation mode.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_(0, 0.2)
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return model.eval()


@torch.no_grad()
def difference(ours: nn.Module, theirs: nn.Module, pixels: int) -> float:
    """Largest difference of the logits of two images in float64, relative to their spread over the
    classes.
    """
    images = torch.randn(
        2, 3, pixels, pixels, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    expected = theirs.double()(images)
    assert expected.std() > 1e-3, "logits that are all alike compare nothing"
    return float((ours.double()(images) - expected).abs().max() / expected.std())
