"""ResNets for 32-pixel images (arXiv:1512.03385, Section 4.2): three stages, 16, 32 and 64 wide,
with projections.

Their stages carry the numbers 2, 3 and 4, as convN_x does in the ImageNet networks.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from senet_ablate.models.layers import classified, conv_norm_relu, small_stem_stride
from senet_ablate.models.se import Slots
from senet_ablate.models.units import basic_unit, bottleneck_unit, stacked
from senet_ablate.spec.spec import SESpec

Builder = Callable[[int, SESpec | None, str], nn.Module]


def _resnet(name: str, depth: int, bottleneck: bool) -> Builder:
    units, rest = divmod(depth - 2, 9 if bottleneck else 6)
    assert rest == 0, f"{name}: no CIFAR ResNet is {depth} deep"
    outputs = {2: 64, 3: 128, 4: 256} if bottleneck else {2: 16, 3: 32, 4: 64}

    def build(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
        first_stride = small_stem_stride(name, stem)
        slots = Slots(name, se, stages=(2, 3, 4))

        def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
            if bottleneck:
                return bottleneck_unit(
                    inputs, outputs, stride, stage, slots, widths=(outputs // 4, outputs // 4)
                )
            return basic_unit(inputs, outputs, stride, stage, slots)

        stages = stacked(16, outputs, (units,) * 3, unit)
        slots.close()
        return classified(
            OrderedDict(stem=conv_norm_relu(3, 16, 3, first_stride), **stages),
            outputs[4],
            num_classes,
        )

    kind = "bottleneck units, 64 to 256" if bottleneck else "basic units, 16 to 64"
    build.__doc__ = f"CIFAR ResNet, {depth} layers, {kind} channels."
    build.pixels = 32  # type: ignore[attr-defined]
    return build


resnet20 = _resnet("resnet20", 20, bottleneck=False)
resnet32 = _resnet("resnet32", 32, bottleneck=False)
resnet44 = _resnet("resnet44", 44, bottleneck=False)
resnet56 = _resnet("resnet56", 56, bottleneck=False)
resnet110 = _resnet("resnet110", 110, bottleneck=False)
resnet20_bottleneck = _resnet("resnet20_bottleneck", 20, bottleneck=True)
resnet29_bottleneck = _resnet("resnet29_bottleneck", 29, bottleneck=True)
resnet56_bottleneck = _resnet("resnet56_bottleneck", 56, bottleneck=True)
resnet164 = _resnet("resnet164", 164, bottleneck=True)
