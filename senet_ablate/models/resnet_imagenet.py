"""ResNets and ResNeXts for ImageNet (arXiv:1512.03385, arXiv:1611.05431; SE versions: paper, Table
1), stages 2 to 5.

The ResNets have their stride in the first 1x1, the ResNeXts in the 3x3, as the models that the
authors released.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import classified, stem_7x7
from senet_ablate.models.se import Slots
from senet_ablate.models.units import bottleneck_unit, stacked
from senet_ablate.spec.spec import SESpec

OUTPUTS = {2: 256, 3: 512, 4: 1024, 5: 2048}


def _resnet(
    name: str,
    counts: tuple[int, ...],
    num_classes: int,
    se: SESpec | None,
    stem: str,
    *,
    resnext: bool = False,
) -> nn.Module:
    slots = Slots(name, se, stages=tuple(OUTPUTS))

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        width = outputs // 2 if resnext else outputs // 4
        groups = 32 if resnext else 1
        return bottleneck_unit(
            inputs,
            outputs,
            stride,
            stage,
            slots,
            widths=(width, width),
            groups=groups,
            stride_in_3x3=resnext,
        )

    stages = stacked(64, OUTPUTS, counts, unit)
    slots.close()
    return classified(
        OrderedDict(stem=nn.Sequential(stem_7x7(name, stem)), **stages), OUTPUTS[5], num_classes
    )


def resnet50(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-50: 25.6 M parameters, 3.86 G multiply-adds at 224 pixels."""
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, se, stem)


def resnet101(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-101: 44.5 M parameters, 7.58 G multiply-adds at 224 pixels."""
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, se, stem)


def resnet152(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-152: 60.2 M parameters, 11.3 G multiply-adds at 224 pixels."""
    return _resnet("resnet152", (3, 8, 36, 3), num_classes, se, stem)


def resnext50_32x4d(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNeXt-50, 32 groups of 4 channels: 25.0 M parameters, 4.24 G multiply-adds at 224 px."""
    return _resnet("resnext50_32x4d", (3, 4, 6, 3), num_classes, se, stem, resnext=True)


def resnext101_32x4d(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNeXt-101, 32 groups of 4 channels: 44.2 M parameters, 7.99 G multiply-adds at 224 px."""
    return _resnet("resnext101_32x4d", (3, 4, 23, 3), num_classes, se, stem, resnext=True)
