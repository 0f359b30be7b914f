"""Gather-excite without parameters, GE-theta-minus (arXiv:1810.12348, Section 3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate import SESpec


class GatherExcite(nn.Module):
    """x * sigmoid(mean(x)), N x C x H x W in and out: the global extent, which is SE without
    excitation."""

    extent: int | None = None
    """Ratio of the map's size to the gathered one's; None: a value a map."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.gather(x))

    def gather(self, x: Tensor) -> Tensor:
        """Means over windows of 2 * extent - 1 pixels, one every `extent`, given to their nearest
        pixels: N x C x H x W to the same, or to N x C x 1 x 1."""
        if self.extent is None:
            return x.mean((2, 3), keepdim=True)
        window = 2 * self.extent - 1
        means = F.avg_pool2d(x, window, self.extent, window // 2, count_include_pad=False)
        return F.interpolate(means, x.shape[2:], mode="nearest")


class GatherExcite4(GatherExcite):
    """The same with extent 4: a gate every fourth pixel."""

    extent = 4
