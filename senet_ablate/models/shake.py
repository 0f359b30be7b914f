"""Shake-Shake networks for 32-pixel images (arXiv:1705.07485), stages 2 to 4, at the image level.

Two residual branches are mixed by a random share an image. The paper says nothing of where SE
stands in them; here it follows the mixture, before the addition: the two branches together are the
non-identity branch of Section 3.3.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.models.layers import (
    SMALL_STEMS,
    Builder,
    Random,
    conv,
    norm,
    sequential,
    stem_strides,
)
from senet_ablate.models.resnet import residual_network
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import ResidualUnit


class Shaken(Random):
    """alpha * one(x) + (1 - alpha) * two(x), N x C x H x W, with gradients as if the share were
    beta.

    In training alpha is uniform in [0, 1) an image, and so is beta, or 0.5 if `even_backward`; in
    evaluation both are 0.5.
    """

    def __init__(self, one: nn.Module, two: nn.Module, even_backward: bool) -> None:
        super().__init__()
        self.one, self.two, self.even_backward = one, two, even_backward

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x), self.two(x)
        even = 0.5 * (one + two)
        if not self.training:
            return even
        backward = even if self.even_backward else torch.lerp(two, one, self._shares(one))
        forward = torch.lerp(two, one, self._shares(one))
        return backward + (forward - backward).detach()

    def _shares(self, like: Tensor) -> Tensor:
        return torch.rand(
            len(like), 1, 1, 1, dtype=like.dtype, device=like.device, generator=self.generator
        )


class ShiftedShortcut(nn.Module):
    """ReLU, then two strided 1x1 convolutions of half the width each, the second one on the map
    shifted by a pixel."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs // 2, 1, stride)
        self.conv2 = conv(inputs, outputs // 2, 1, stride)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (1, -1, 1, -1))
        return self.norm(torch.cat((self.conv1(x), self.conv2(shifted)), 1))


def _branch(inputs: int, outputs: int, stride: int, even: bool) -> nn.Sequential:
    """Two 3x3 convolutions, or for Shake-Even 1x1, grouped 3x3 and 1x1."""
    convolutions = (
        [conv(inputs, outputs, 1), conv(outputs, outputs, 3, stride, 4), conv(outputs, outputs, 1)]
        if even
        else [conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3)]
    )
    layers: dict[str, nn.Module] = {}
    for index, layer in enumerate(convolutions, 1):
        layers |= {f"relu{index}": nn.ReLU(), f"conv{index}": layer, f"norm{index}": norm(outputs)}
    return sequential(**layers)


def _unit(
    inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement, *, even: bool
) -> ResidualUnit:
    one, two = (_branch(inputs, outputs, stride, even) for _ in range(2))
    return ResidualUnit(
        Shaken(one, two, even_backward=even),
        nn.Identity() if inputs == outputs else ShiftedShortcut(inputs, outputs, stride),
        *(inputs, outputs, place, stage),
        activation=nn.Identity(),
    )


def shake_network(summary: str, width: int, count: int, *, even: bool = False) -> Builder:
    """The builder of a network of `count` units a stage, the first stage `width` wide."""
    return residual_network(
        summary,
        partial(_unit, even=even),
        (count,) * 3,
        {2: width, 3: 2 * width, 4: 4 * width},
        lambda stem: sequential(
            conv=conv(3, 16, 3, stem_strides(stem, SMALL_STEMS)[0]), norm=norm(16)
        ),
        make_last=nn.ReLU,
    )


shake_shake_26_2x96d = shake_network(
    "Shake-Shake 26 2x96d, random forward and backward: 26.2 M parameters, 3.8 G multiply-adds.",
    96,
    4,
)
shake_even_29_2x4x64d = shake_network(
    "Shake-Even 29 2x4x64d, even backward: 34.4 M parameters, 5.3 G multiply-adds at 32 px.",
    256,
    3,
    even=True,
)
