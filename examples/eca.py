"""Efficient channel attention (arXiv:1910.03151), as a block of one's own; see README.md."""

import math

from torch import Tensor, nn

from senet_ablate import SESpec


class ECA(nn.Module):
    """x * sigmoid(conv1d(mean(x))): a gate a channel from its k neighbours alone, N x C x H x W in
    and out (Section 3.2; k by Eq. 12 with gamma 2 and b 1). k weights a block, no bias."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        nearest_odd = 2 * int((math.log2(channels) + 1) / 4) + 1
        self.conv = nn.Conv1d(1, 1, nearest_odd, padding=nearest_odd // 2, bias=False)
        self.gate = nn.Sigmoid()  # under this name, its values are recorded as SE's are

    def forward(self, x: Tensor) -> Tensor:
        descriptor = x.mean((2, 3))
        logits = self.conv(descriptor[:, None])[:, 0]
        return x * self.gate(logits)[:, :, None, None]
