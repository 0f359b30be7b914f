"""Pre-activation ResNets for 32-pixel images (arXiv:1603.05027), and the wide one
(arXiv:1605.07146), stages 2 to 4.

The paper's CIFAR baselines (Tables 4 and 5). It gives no detail for them beyond Section 3.3; here
SE stands at the end of the residual branch before the addition, after the last convolution, and no
ReLU follows the addition.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import classified, conv, norm, small_stem_stride
from senet_ablate.models.se import Slots
from senet_ablate.models.units import ResidualUnit, stacked
from senet_ablate.spec.spec import SESpec


def _norm_relu(index: int, channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict({f"norm{index}": norm(channels), f"relu{index}": nn.ReLU()})


def _unit(
    inputs: int, outputs: int, stride: int, stage: int, slots: Slots, bottleneck: bool
) -> ResidualUnit:
    """Norm, ReLU and convolution, twice or three times. Where the width changes, the shortcut is a
    1x1 convolution and shares the first norm and ReLU with the branch, as in the released code of
    both papers."""
    width = outputs // 4 if bottleneck else outputs
    first = _norm_relu(1, inputs)
    layers: OrderedDict[str, nn.Module]
    if bottleneck:
        layers = OrderedDict(
            conv1=conv(inputs, width, 1),
            **_norm_relu(2, width),
            conv2=conv(width, width, 3, stride),
            se_conv3x3=slots("conv3x3", stage, width),
            **_norm_relu(3, width),
            conv3=conv(width, outputs, 1),
        )
    else:
        layers = OrderedDict(
            conv1=conv(inputs, width, 3, stride),
            **_norm_relu(2, width),
            conv2=conv(width, outputs, 3),
        )
    same = inputs == outputs
    return ResidualUnit(
        nn.Sequential(first | layers if same else layers),
        nn.Identity() if same else conv(inputs, outputs, 1, stride),
        *(inputs, outputs, slots, stage),
        entry=None if same else nn.Sequential(first),
        activation=nn.Identity(),
    )


def _network(
    name: str,
    depth: int,
    widen: int,
    bottleneck: bool,
    num_classes: int,
    se: SESpec | None,
    stem: str,
) -> nn.Module:
    first_stride = small_stem_stride(name, stem)
    units = (depth - 2) // 9 if bottleneck else (depth - 2) // 6
    slots = Slots(name, se, stages=(2, 3, 4))
    factor = 4 if bottleneck else widen
    outputs = {2: 16 * factor, 3: 32 * factor, 4: 64 * factor}

    def unit(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        return _unit(inputs, outputs, stride, stage, slots, bottleneck)

    stages = stacked(16, outputs, (units,) * 3, unit)
    slots.close()
    last = nn.Sequential(OrderedDict(norm=norm(outputs[4]), relu=nn.ReLU()))
    body = OrderedDict(
        stem=nn.Sequential(OrderedDict(conv=conv(3, 16, 3, first_stride))), **stages, last=last
    )
    return classified(body, outputs[4], num_classes)


def preact_resnet110(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Pre-activation ResNet-110: 1.7 M parameters, 0.25 G multiply-adds at 32 pixels."""
    return _network("preact_resnet110", 110, 1, False, num_classes, se, stem)


def preact_resnet164(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Pre-activation ResNet-164, bottleneck units:

    1.7 M parameters, 0.25 G multiply-adds at 32 pixels.
    """
    return _network("preact_resnet164", 164, 1, True, num_classes, se, stem)


def wrn_16_8(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """WRN-16-8, without dropout: 11.0 M parameters, 1.55 G multiply-adds at 32 pixels."""
    return _network("wrn_16_8", 16, 8, False, num_classes, se, stem)


for _builder in (preact_resnet110, preact_resnet164, wrn_16_8):
    _builder.pixels = 32  # type: ignore[attr-defined]
