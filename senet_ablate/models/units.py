"""Units, the parts of a stage, with a place for SE wherever the paper puts it (Section 3.3, Fig. 5
and Table 15); and stages of them."""

from collections.abc import Callable
from itertools import chain, repeat

import torch
from torch import Tensor, nn

from senet_ablate.models.layers import conv, norm, sequential
from senet_ablate.models.se import SEPlacement

Merge = Callable[[Tensor, Tensor], Tensor]
UnitMaker = Callable[[int, int, int, int, SEPlacement], nn.Module]
"""Called with (inputs, outputs, stride, stage number, place)."""


class PlainUnit(nn.Module):
    """standard(body(x)), a unit without a shortcut: SE takes the whole of it for its transformation
    (paper, Section 3.3 and Fig. 2)."""

    def __init__(self, body: nn.Module, outputs: int, place: SEPlacement, stage: int) -> None:
        super().__init__()
        self.body = body
        self.se_standard = place("standard", stage, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.se_standard(self.body(x))


def concatenate(residual: Tensor, shortcut: Tensor) -> Tensor:
    """Shortcut and residual side by side in channels (arXiv:1707.01083, Fig. 2 c)."""
    return torch.cat((shortcut, residual), 1)


class ResidualUnit(nn.Module):
    """post(activation(merge(standard(branch(pre(x))), identity(shortcut(x))))); places without SE
    are identities.

    `entry`, if there is any, is what branch and shortcut share: both see entry(x) in place of x,
    and so does `pre`.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module,
        inputs: int,
        outputs: int,
        place: SEPlacement,
        stage: int,
        *,
        entry: nn.Module | None = None,
        merge: Merge = torch.add,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        joined = merge is concatenate
        self.entry = entry or nn.Identity()
        self.se_pre = place("pre", stage, inputs)
        self.branch = branch
        self.se_standard = place("standard", stage, outputs - inputs if joined else outputs)
        self.shortcut = shortcut
        self.se_identity = place("identity", stage, inputs if joined else outputs)
        self.merge = merge
        self.activation = activation or nn.ReLU()
        self.se_post = place("post", stage, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        residual = self.se_standard(self.branch(self.se_pre(x)))
        shortcut = self.se_identity(self.shortcut(x))
        return self.se_post(self.activation(self.merge(residual, shortcut)))


def projection(inputs: int, outputs: int, stride: int, kernel: int = 1) -> nn.Module:
    """The shortcut: an identity where nothing changes, else a convolution and its norm
    (arXiv:1512.03385, option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return sequential(conv=conv(inputs, outputs, kernel, stride), norm=norm(outputs))


def basic_unit(
    inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement
) -> ResidualUnit:
    """Two 3x3 convolutions (arXiv:1512.03385, Fig. 5 left). It has no place `conv3x3`: neither of
    the two is `the` 3x3."""
    branch = sequential(
        conv1=conv(inputs, outputs, 3, stride),
        norm1=norm(outputs),
        relu1=nn.ReLU(),
        conv2=conv(outputs, outputs, 3),
        norm2=norm(outputs),
    )
    shortcut = projection(inputs, outputs, stride)
    return ResidualUnit(branch, shortcut, inputs, outputs, place, stage)


def bottleneck_unit(
    inputs: int,
    outputs: int,
    stride: int,
    stage: int,
    place: SEPlacement,
    *,
    divisors: tuple[int, int] = (4, 4),
    groups: int = 1,
    stride_in_3x3: bool = False,
    projection_kernel: int = 1,
) -> ResidualUnit:
    """1x1, 3x3 and 1x1 convolution (arXiv:1512.03385, Fig. 5 right), the first two narrower than
    the last by `divisors`.

    The stride is in the first 1x1, as in the paper's ResNets, or in the 3x3. The place `conv3x3`
    follows the 3x3 convolution and its norm, before the ReLU, as the standard one follows the last.
    """
    first, middle = (outputs // divisor for divisor in divisors)
    branch = sequential(
        conv1=conv(inputs, first, 1, 1 if stride_in_3x3 else stride),
        norm1=norm(first),
        relu1=nn.ReLU(),
        conv2=conv(first, middle, 3, stride if stride_in_3x3 else 1, groups),
        norm2=norm(middle),
        se_conv3x3=place("conv3x3", stage, middle),
        relu2=nn.ReLU(),
        conv3=conv(middle, outputs, 1),
        norm3=norm(outputs),
    )
    shortcut = projection(inputs, outputs, stride, projection_kernel if stride == 2 else 1)
    return ResidualUnit(branch, shortcut, inputs, outputs, place, stage)


def make_stages(
    inputs: int,
    outputs: dict[int, int],
    counts: tuple[int, ...],
    make_unit: UnitMaker,
    place: SEPlacement,
    strides: tuple[int, ...] = (1,),
) -> dict[str, nn.Module]:
    """`stage<N>` for each stage number N of `outputs` (N to width), with its count of units.

    strides: of the first unit of each stage; 2 where none is given.
    """
    stages: dict[str, nn.Module] = {}
    for (stage, width), count, first in zip(
        outputs.items(), counts, chain(strides, repeat(2)), strict=False
    ):
        units = []
        for index in range(count):
            units.append(make_unit(inputs, width, 1 if index else first, stage, place))
            inputs = width
        stages[f"stage{stage}"] = nn.Sequential(*units)
    return stages
