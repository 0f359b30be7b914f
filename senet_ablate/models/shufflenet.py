"""ShuffleNet v1 (arXiv:1707.01083, Table 1), stages 3 to 5 by size:

28, 14 and 7 pixels of 224 (its own 2 to 4).
"""

from collections import OrderedDict

from torch import nn
from torch.nn import ChannelShuffle

from senet_ablate.models.layers import (
    classified,
    conv,
    conv_norm_relu,
    max_pool,
    norm,
    stem_strides,
)
from senet_ablate.models.se import Slots
from senet_ablate.models.units import ResidualUnit, concatenate, stacked
from senet_ablate.spec.spec import SESpec

GROUPS = 3
OUTPUTS = {3: 240, 4: 480, 5: 960}


def shufflenet_v1_g3(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ShuffleNet 1x, 3 groups: 1.9 M parameters, 138 M multiply-adds at 224 pixels.

    SE stands on the residual branch, so that of a unit that concatenates it sees the new channels
    alone.
    """
    first, second = stem_strides("shufflenet_v1_g3", stem)
    slots = Slots("shufflenet_v1_g3", se, stages=tuple(OUTPUTS))
    layers = OrderedDict(conv_norm_relu(3, 24, 3, first).named_children())
    if second == 2:
        layers["pool"] = max_pool()

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        width = outputs // 4
        new = outputs - inputs if stride == 2 else outputs
        branch = OrderedDict(
            conv1=conv(
                inputs, width, 1, groups=1 if inputs == 24 else GROUPS
            ),  # 24 channels are too few to group
            norm1=norm(width),
            relu1=nn.ReLU(),
            shuffle=ChannelShuffle(GROUPS),  # arXiv:1707.01083, Fig. 1
            conv2=conv(width, width, 3, stride, groups=width),
            norm2=norm(width),
            se_conv3x3=slots("conv3x3", stage, width),
            conv3=conv(width, new, 1, groups=GROUPS),
            norm3=norm(new),
        )
        body = nn.Sequential(branch)
        if stride == 2:
            pool = nn.AvgPool2d(3, 2, 1)
            return ResidualUnit(body, pool, inputs, outputs, slots, stage, merge=concatenate)
        return ResidualUnit(body, nn.Identity(), inputs, outputs, slots, stage)

    stages = stacked(24, OUTPUTS, (4, 8, 4), unit, first_stride=2)
    slots.close()
    return classified(OrderedDict(stem=nn.Sequential(layers), **stages), OUTPUTS[5], num_classes)
