"""The residual unit, with a slot for every place where the paper puts an SE block (Fig.

5 and Table 15).
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from senet_ablate.models.layers import conv, norm
from senet_ablate.models.se import Slots

Merge = Callable[[Tensor, Tensor], Tensor]
UnitMaker = Callable[[int, int, int, int], nn.Module]


def concatenate(residual: Tensor, shortcut: Tensor) -> Tensor:
    """Shortcut and residual side by side in channels, in place of their sum (arXiv:1707.01083, Fig.

    2 c).
    """
    return torch.cat((shortcut, residual), 1)


class ResidualUnit(nn.Module):
    """post(activation(merge(standard(branch(pre(x))), identity(shortcut(x))))); unused slots are
    identities.

    `entry`, if there is any, is what branch and shortcut share: both see entry(x) in place of x,
    and so does `pre`.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module,
        inputs: int,
        outputs: int,
        slots: Slots,
        stage: int,
        *,
        entry: nn.Module | None = None,
        merge: Merge = torch.add,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        residual_width, shortcut_width = (
            (outputs - inputs, inputs) if merge is concatenate else (outputs, outputs)
        )
        self.entry = entry or nn.Identity()
        self.se_pre = slots("pre", stage, inputs)
        self.branch = branch
        self.se_standard = slots("standard", stage, residual_width)
        self.shortcut = shortcut
        self.se_identity = slots("identity", stage, shortcut_width)
        self.merge = merge
        self.activation = activation or nn.ReLU()
        self.se_post = slots("post", stage, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        residual = self.se_standard(self.branch(self.se_pre(x)))
        return self.se_post(
            self.activation(self.merge(residual, self.se_identity(self.shortcut(x))))
        )


def projection(inputs: int, outputs: int, stride: int, kernel: int = 1) -> nn.Module:
    """The shortcut:

    an identity where nothing changes, else a convolution and its norm (arXiv:1512.03385, option B).
    """
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(
        OrderedDict(conv=conv(inputs, outputs, kernel, stride), norm=norm(outputs))
    )


def basic_unit(inputs: int, outputs: int, stride: int, stage: int, slots: Slots) -> ResidualUnit:
    """Two 3x3 convolutions (arXiv:1512.03385, Fig. 5 left). No `conv3x3` slot:

    neither of the two is `the` 3x3.
    """
    branch = OrderedDict(
        conv1=conv(inputs, outputs, 3, stride),
        norm1=norm(outputs),
        relu1=nn.ReLU(),
        conv2=conv(outputs, outputs, 3),
        norm2=norm(outputs),
    )
    return ResidualUnit(
        nn.Sequential(branch), projection(inputs, outputs, stride), inputs, outputs, slots, stage
    )


def bottleneck_unit(
    inputs: int,
    outputs: int,
    stride: int,
    stage: int,
    slots: Slots,
    *,
    widths: tuple[int, int],
    groups: int = 1,
    stride_in_3x3: bool = False,
    projection_kernel: int = 1,
) -> ResidualUnit:
    """1x1, 3x3 and 1x1 convolution (arXiv:1512.03385, Fig. 5 right), the first two `widths` wide.

    The stride is in the first 1x1, as in the paper's ResNets, or in the 3x3. The `conv3x3` slot
    follows the 3x3 convolution and its norm, before the ReLU, as the standard one follows the last.
    """
    first, middle = widths
    branch = OrderedDict(
        conv1=conv(inputs, first, 1, 1 if stride_in_3x3 else stride),
        norm1=norm(first),
        relu1=nn.ReLU(),
        conv2=conv(first, middle, 3, stride if stride_in_3x3 else 1, groups),
        norm2=norm(middle),
        se_conv3x3=slots("conv3x3", stage, middle),
        relu2=nn.ReLU(),
        conv3=conv(middle, outputs, 1),
        norm3=norm(outputs),
    )
    shortcut = projection(inputs, outputs, stride, projection_kernel if stride == 2 else 1)
    return ResidualUnit(nn.Sequential(branch), shortcut, inputs, outputs, slots, stage)


def stacked(
    inputs: int,
    outputs: dict[int, int],
    counts: tuple[int, ...],
    make_unit: UnitMaker,
    *,
    first_stride: int = 1,
) -> OrderedDict[str, nn.Module]:
    """`stage<N>` for each stage number N of `outputs` (N to width), with its count of units.

    A unit is make_unit(inputs, outputs, stride, N). Every stage halves the size in its first unit;
    the first one has `first_stride` there.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for (stage, width), count in zip(outputs.items(), counts, strict=True):
        units = []
        for index in range(count):
            stride = 1 if index else 2 if stages else first_stride
            units.append(make_unit(inputs, width, stride, stage))
            inputs = width
        stages[f"stage{stage}"] = nn.Sequential(*units)
    return stages
