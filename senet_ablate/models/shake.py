"""Shake-Shake networks for 32-pixel images (arXiv:1705.07485), stages 2 to 4, at the image level.

Two residual branches are mixed by a random share an image. The paper says nothing of where SE
stands in them; here it follows the mixture, before the addition: the two branches together are the
non-identity branch of Section 3.3.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.models.layers import Random, classified, conv, norm, small_stem_stride
from senet_ablate.models.se import Slots
from senet_ablate.models.units import ResidualUnit, stacked
from senet_ablate.spec.spec import SESpec


class Shaken(Random):
    """alpha * one(x) + (1 - alpha) * two(x), with gradients as if the share were beta, N x C x H x
    W.

    In training alpha is uniform in [0, 1) an image, and so is beta, or 0.5
    if `even_backward`; in evaluation both are 0.5.
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
    shifted by a pixel.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs // 2, 1, stride)
        self.conv2 = conv(inputs, outputs // 2, 1, stride)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (1, -1, 1, -1))
        return self.norm(torch.cat((self.conv1(x), self.conv2(shifted)), 1))


def _basic(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            relu1=nn.ReLU(),
            conv1=conv(inputs, outputs, 3, stride),
            norm1=norm(outputs),
            relu2=nn.ReLU(),
            conv2=conv(outputs, outputs, 3),
            norm2=norm(outputs),
        )
    )


def _grouped(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            relu1=nn.ReLU(),
            conv1=conv(inputs, outputs, 1),
            norm1=norm(outputs),
            relu2=nn.ReLU(),
            conv2=conv(outputs, outputs, 3, stride, groups=4),
            norm2=norm(outputs),
            relu3=nn.ReLU(),
            conv3=conv(outputs, outputs, 1),
            norm3=norm(outputs),
        )
    )


def _network(
    name: str, outputs: dict[int, int], count: int, num_classes: int, se: SESpec | None, stem: str
) -> nn.Module:
    slots = Slots(name, se, stages=tuple(outputs))
    even = name.startswith("shake_even")
    branch = _grouped if even else _basic

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        pair = Shaken(
            branch(inputs, outputs, stride), branch(inputs, outputs, stride), even_backward=even
        )
        shortcut = nn.Identity() if inputs == outputs else ShiftedShortcut(inputs, outputs, stride)
        return ResidualUnit(pair, shortcut, inputs, outputs, slots, stage, activation=nn.Identity())

    stages = stacked(16, outputs, (count,) * 3, unit)
    slots.close()
    first = nn.Sequential(
        OrderedDict(conv=conv(3, 16, 3, small_stem_stride(name, stem)), norm=norm(16))
    )
    return classified(OrderedDict(stem=first, **stages, last=nn.ReLU()), outputs[4], num_classes)


def shake_shake_26_2x96d(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Shake-Shake 26 2x96d, random forward and backward:

    26.2 M parameters, 3.8 G multiply-adds at 32 pixels.
    """
    return _network("shake_shake_26_2x96d", {2: 96, 3: 192, 4: 384}, 4, num_classes, se, stem)


def shake_even_29_2x4x64d(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Shake-Even 29 2x4x64d, random forward, even backward:

    34.4 M parameters, 5.3 G multiply-adds at 32 pixels.
    """
    return _network("shake_even_29_2x4x64d", {2: 256, 3: 512, 4: 1024}, 3, num_classes, se, stem)


for _builder in (shake_shake_26_2x96d, shake_even_29_2x4x64d):
    _builder.pixels = 32  # type: ignore[attr-defined]
