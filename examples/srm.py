"""Style-based recalibration (arXiv:1903.10829)."""

import torch
from torch import Tensor, nn

from senet_ablate import SESpec


class SRM(nn.Module):
    """x * sigmoid(norm(w . (mean, std))), N x C x H x W in and out: each channel by its own two
    statistics alone (Section 3). 2 weights and a batch norm a channel."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.integrate = nn.Conv1d(channels, channels, 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        # the paper has no epsilon, but where a map is constant a square root has no slope
        std = ((x - mean).square().mean((2, 3)) + 1e-5).sqrt()
        style = torch.stack((mean[:, :, 0, 0], std), 2)  # N x C x 2
        gates = self.gate(self.norm(self.integrate(style)[:, :, 0]))
        return x * gates[:, :, None, None]
