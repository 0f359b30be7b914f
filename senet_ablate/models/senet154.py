"""SENet-154 (paper, Section 5.4 and appendix):

a 64x4d ResNeXt-152 with four changes, stages 2 to 5.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import classified, conv_norm_relu, stem_strides
from senet_ablate.models.se import Slots
from senet_ablate.models.units import bottleneck_unit, stacked
from senet_ablate.spec.spec import SESpec

OUTPUTS = {2: 256, 3: 512, 4: 1024, 5: 2048}


def senet154(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """SENet-154: 115.0 M parameters with SE, 108.5 M without, 20.7 G multiply-adds at 224 pixels.

    The first 1x1 of each unit has half the channels of the 3x3 (64 groups of 4); the stem is three
    3x3 convolutions; a projection that halves the size is 3x3; dropout 0.2 precedes the classifier.
    The first pooling aligns left, as in the released Caffe model. Label smoothing and frozen batch
    norms are the recipe's.
    """
    first, second = stem_strides("senet154", stem)
    slots = Slots("senet154", se, stages=tuple(OUTPUTS))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_norm_relu(3, 64, 3, first),
        conv2=conv_norm_relu(64, 64, 3),
        conv3=conv_norm_relu(64, 128, 3),
    )
    if second == 2:
        layers["pool"] = nn.MaxPool2d(3, 2, ceil_mode=True)

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        widths = (outputs // 2, outputs)
        return bottleneck_unit(
            *(inputs, outputs, stride, stage, slots),
            widths=widths,
            groups=64,
            stride_in_3x3=True,
            projection_kernel=3,
        )

    stages = stacked(128, OUTPUTS, (3, 8, 36, 3), unit)
    slots.close()
    return classified(
        OrderedDict(stem=nn.Sequential(layers), **stages), OUTPUTS[5], num_classes, dropout=0.2
    )
