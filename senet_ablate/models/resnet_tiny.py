"""A bottleneck ResNet for images of 8 or 16 pixels, small enough for a sweep on a laptop.

One unit a stage, 16, 16 and 32 wide inside and 64, 64 and 128 outside: the least that can host
every placement at r = 16 and the standard one at r = 32.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import classified, conv_norm_relu
from senet_ablate.models.se import Slots
from senet_ablate.models.units import bottleneck_unit, stacked
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import SESpec

STEM_STRIDES = {"default": 1, "32px": 1, "16px": 2}  # 32px: kept whole, dear but possible


def resnet_tiny_bottleneck(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet of three bottleneck units for 8 pixels (stem default) or 16 (stem 16px)."""
    if stem not in STEM_STRIDES:
        raise BadInput(
            f"resnet_tiny_bottleneck: unknown stem {stem!r}; known: {', '.join(STEM_STRIDES)}"
        )
    slots = Slots("resnet_tiny_bottleneck", se, stages=(2, 3, 4))

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        return bottleneck_unit(
            inputs, outputs, stride, stage, slots, widths=(outputs // 4, outputs // 4)
        )

    stages = stacked(16, {2: 64, 3: 64, 4: 128}, (1, 1, 1), unit)
    slots.close()
    return classified(
        OrderedDict(stem=conv_norm_relu(3, 16, 3, STEM_STRIDES[stem]), **stages), 128, num_classes
    )


resnet_tiny_bottleneck.pixels = 8  # type: ignore[attr-defined]
