"""ShuffleNet v1 (arXiv:1707.01083, Table 1), stages 3 to 5 by size: 28, 14 and 7 pixels of 224 (its
own 2 to 4)."""

from torch import nn

from senet_ablate.models.layers import (
    conv,
    conv_norm_relu,
    head,
    max_pool,
    norm,
    sequential,
    stem_strides,
)
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import ResidualUnit, concatenate, make_stages
from senet_ablate.spec import SESpec

GROUPS = 3
OUTPUTS = {3: 240, 4: 480, 5: 960}


def _unit(inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement) -> ResidualUnit:
    """SE stands on the residual branch, so that of a unit that concatenates it sees the new
    channels alone."""
    width, halves = outputs // 4, stride == 2
    new = outputs - inputs if halves else outputs
    groups = 1 if inputs == 24 else GROUPS  # 24 channels are too few to group
    branch = sequential(
        conv1=conv(inputs, width, 1, groups=groups),
        norm1=norm(width),
        relu1=nn.ReLU(),
        shuffle=nn.ChannelShuffle(GROUPS),  # arXiv:1707.01083, Fig. 1
        conv2=conv(width, width, 3, stride, groups=width),
        norm2=norm(width),
        se_conv3x3=place("conv3x3", stage, width),
        conv3=conv(width, new, 1, groups=GROUPS),
        norm3=norm(new),
    )
    if halves:
        pool = nn.AvgPool2d(3, 2, 1)
        return ResidualUnit(branch, pool, inputs, outputs, place, stage, merge=concatenate)
    return ResidualUnit(branch, nn.Identity(), inputs, outputs, place, stage)


def shufflenet_v1_g3(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ShuffleNet 1x, 3 groups: 1.9 M parameters, 138 M multiply-adds at 224 px."""
    first, second = stem_strides(stem)
    place = SEPlacement(se, tuple(OUTPUTS))
    layers = dict(conv_norm_relu(3, 24, 3, first).named_children())
    if second == 2:
        layers["pool"] = max_pool()
    return sequential(
        stem=sequential(**layers),
        **make_stages(24, OUTPUTS, (4, 8, 4), _unit, place, strides=(2,)),
        **head(OUTPUTS[5], num_classes),
    )
