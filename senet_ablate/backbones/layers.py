"""Layers and initialisation, stated once for all networks, plain and with SE."""

import hashlib

import torch
from torch import nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1; no bias, since a batch norm follows."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with epsilon 1e-5 and a running average that takes 10% of each batch."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


class GlobalPool(nn.Module):
    """Mean over space, N x C x H x W to N x C."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Set every parameter from `seed` and its own name, in place.

    Convolutions: He's normal, fan out; linear layers (classifier and SE): He's normal, fan in, bias 0
    (arXiv:1502.01852, the paper's ref. [66]); batch norms: 1 and 0, no zero-gamma. Other modules use their own
    `reset_parameters`. A layer that two networks share by name starts from the same values in both, so the variants of
    one seed differ in the SE blocks alone.
    """
    with torch.random.fork_rng(devices=[]):
        for name, module in model.named_modules():
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7]))
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
