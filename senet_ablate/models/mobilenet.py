"""MobileNet v1 (arXiv:1704.04861, Table 1), stages 1 to 5 by size:

112, 56, 28, 14 and 7 pixels of 224.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import classified, conv, conv_norm_relu, norm, stem_strides
from senet_ablate.models.plain import PlainUnit
from senet_ablate.models.se import Slots
from senet_ablate.models.units import stacked
from senet_ablate.spec.spec import SESpec

OUTPUTS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 1024}


def mobilenet_v1(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """1.0 MobileNet-224: 4.2 M parameters, 569 M multiply-adds at 224 pixels.

    SE follows a unit's last ReLU, as in VGG: of the places in the unit, this one adds the 0.5 M
    parameters of the paper's Table 3. `conv3x3` follows the depthwise convolution and its norm.
    """
    first, second = stem_strides("mobilenet_v1", stem)
    slots = Slots("mobilenet_v1", se, stages=tuple(OUTPUTS))

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        depthwise = OrderedDict(
            conv1=conv(
                inputs, inputs, 3, min(stride, second) if stage == 2 else stride, groups=inputs
            ),
            norm1=norm(inputs),
            se_conv3x3=slots("conv3x3", stage, inputs),
            relu1=nn.ReLU(),
        )
        pointwise = OrderedDict(
            conv2=conv(inputs, outputs, 1), norm2=norm(outputs), relu2=nn.ReLU()
        )
        return PlainUnit(nn.Sequential(depthwise | pointwise), outputs, slots, stage)

    stages = stacked(32, OUTPUTS, (1, 2, 2, 6, 2), unit)
    slots.close()
    return classified(
        OrderedDict(stem=conv_norm_relu(3, 32, 3, first), **stages), OUTPUTS[5], num_classes
    )
