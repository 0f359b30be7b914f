"""The residual unit, with a slot for every place where the paper puts an SE block (Fig. 5 and Table 15)."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.backbones.layers import conv, norm
from senet_ablate.se import Slots


class ResidualUnit(nn.Module):
    """post(ReLU(standard(branch(pre(x))) + identity(shortcut(x)))); unused slots are identities."""

    def __init__(self, branch: nn.Module, inputs: int, outputs: int, stride: int, slots: Slots, stage: int) -> None:
        super().__init__()
        self.se_pre = slots("pre", stage, inputs)
        self.branch = branch
        self.se_standard = slots("standard", stage, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(OrderedDict(conv=conv(inputs, outputs, 1, stride), norm=norm(outputs)))
        )
        self.se_identity = slots("identity", stage, outputs)
        self.se_post = slots("post", stage, outputs)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.se_standard(self.branch(self.se_pre(x)))
        return self.se_post(F.relu(residual + self.se_identity(self.shortcut(x))))


def basic_branch(inputs: int, width: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions (arXiv:1512.03385, Fig. 5 left). No `conv3x3` slot: neither of the two is `the` 3x3."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv(inputs, width, 3, stride),
            norm1=norm(width),
            relu1=nn.ReLU(),
            conv2=conv(width, width, 3),
            norm2=norm(width),
        )
    )


def bottleneck_branch(inputs: int, width: int, stride: int, slots: Slots, stage: int) -> nn.Sequential:
    """1x1, 3x3, 1x1 to 4 * width (arXiv:1512.03385, Fig. 5 right), stride in the first 1x1 as in the paper's models.

    The `conv3x3` slot follows the 3x3 convolution and its norm, before the ReLU, as the standard one follows the last.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=conv(inputs, width, 1, stride),
            norm1=norm(width),
            relu1=nn.ReLU(),
            conv2=conv(width, width, 3),
            norm2=norm(width),
            se_conv3x3=slots("conv3x3", stage, width),
            relu2=nn.ReLU(),
            conv3=conv(width, 4 * width, 1),
            norm3=norm(4 * width),
        )
    )


def residual_stages(
    inputs: int, widths: dict[int, int], units: tuple[int, ...], bottleneck: bool, slots: Slots
) -> OrderedDict[str, nn.Module]:
    """`stage<N>` for each stage number N of `widths`; every stage but the first halves the size in its first unit."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    first = min(widths)
    for (stage, width), count in zip(widths.items(), units, strict=True):
        outputs = 4 * width if bottleneck else width
        rows = []
        for index in range(count):
            stride = 2 if index == 0 and stage != first else 1
            branch = (
                bottleneck_branch(inputs, width, stride, slots, stage)
                if bottleneck
                else basic_branch(inputs, width, stride)
            )
            rows.append(ResidualUnit(branch, inputs, outputs, stride, slots, stage))
            inputs = outputs
        stages[f"stage{stage}"] = nn.Sequential(*rows)
    return stages
