"""MobileNet v1 (arXiv:1704.04861, Table 1), stages 1 to 5 by size: 112 to 7 pixels of 224."""

from torch import nn

from senet_ablate.models.layers import conv, conv_norm_relu, head, norm, sequential, stem_strides
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import PlainUnit, make_stages
from senet_ablate.spec import SESpec

OUTPUTS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 1024}


def _unit(inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement) -> PlainUnit:
    """SE follows the last ReLU, as in VGG: of the places in the unit, this one adds the 0.5 M
    parameters of the paper's Table 3. `conv3x3` follows the depthwise convolution and its norm."""
    body = sequential(
        conv1=conv(inputs, inputs, 3, stride, groups=inputs),
        norm1=norm(inputs),
        se_conv3x3=place("conv3x3", stage, inputs),
        relu1=nn.ReLU(),
        conv2=conv(inputs, outputs, 1),
        norm2=norm(outputs),
        relu2=nn.ReLU(),
    )
    return PlainUnit(body, outputs, place, stage)


def mobilenet_v1(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """1.0 MobileNet-224: 4.2 M parameters, 569 M multiply-adds at 224 px."""
    first, second = stem_strides(stem)
    place = SEPlacement(se, tuple(OUTPUTS))
    return sequential(
        stem=conv_norm_relu(3, 32, 3, first),
        **make_stages(32, OUTPUTS, (1, 2, 2, 6, 2), _unit, place, strides=(1, second)),
        **head(OUTPUTS[5], num_classes),
    )
