"""The channel part of CBAM (arXiv:1807.06521, Section 3.1)."""

from torch import Tensor, nn

from senet_ablate import SESpec
from senet_ablate.models.se import FCExcitation


class ChannelAttention(nn.Module):
    """x * sigmoid(mlp(mean(x)) + mlp(max(x))), N x C x H x W in and out; the two share SE's layers,
    so it has the parameters of SE."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.mlp = FCExcitation(channels, spec)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * self.gate(self.mlp(mean) + self.mlp(maximum))
