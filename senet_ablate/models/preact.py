"""Pre-activation ResNets for 32-pixel images (arXiv:1603.05027), and the wide one
(arXiv:1605.07146), stages 2 to 4.

The paper's CIFAR baselines (Tables 4 and 5). It gives no detail for them beyond Section 3.3; here
SE stands at the end of the residual branch before the addition, after the last convolution, and no
ReLU follows the addition.
"""

from functools import partial

from torch import nn

from senet_ablate.models.layers import SMALL_STEMS, Builder, conv, norm, sequential, stem_strides
from senet_ablate.models.resnet import residual_network
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import ResidualUnit


def _norm_relu(index: int, channels: int) -> dict[str, nn.Module]:
    return {f"norm{index}": norm(channels), f"relu{index}": nn.ReLU()}


def _unit(
    inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement, *, bottleneck: bool
) -> ResidualUnit:
    """Norm, ReLU and convolution, twice or three times. Where the width changes, the shortcut is a
    1x1 convolution and shares the first norm and ReLU with the branch; a bottleneck's stride is in
    its first 1x1. Both as in the released code of the papers."""
    width = outputs // 4 if bottleneck else outputs
    first, same = _norm_relu(1, inputs), inputs == outputs
    layers: dict[str, nn.Module]
    if bottleneck:
        layers = {
            "conv1": conv(inputs, width, 1, stride),
            **_norm_relu(2, width),
            "conv2": conv(width, width, 3),
            "se_conv3x3": place("conv3x3", stage, width),
            **_norm_relu(3, width),
            "conv3": conv(width, outputs, 1),
        }
    else:
        layers = {
            "conv1": conv(inputs, width, 3, stride),
            **_norm_relu(2, width),
            "conv2": conv(width, outputs, 3),
        }
    return ResidualUnit(
        sequential(**(first | layers if same else layers)),
        nn.Identity() if same else conv(inputs, outputs, 1, stride),
        *(inputs, outputs, place, stage),
        entry=None if same else sequential(**first),
        activation=nn.Identity(),
    )


def preact_network(
    summary: str, depth: int, *, widen: int = 1, bottleneck: bool = False
) -> Builder:
    """The builder of a pre-activation ResNet, `widen` times as wide."""
    width = 64 if bottleneck else 16 * widen
    return residual_network(
        summary,
        partial(_unit, bottleneck=bottleneck),
        ((depth - 2) // (9 if bottleneck else 6),) * 3,
        {2: width, 3: 2 * width, 4: 4 * width},
        lambda stem: sequential(conv=conv(3, 16, 3, stem_strides(stem, SMALL_STEMS)[0])),
        make_last=lambda: sequential(norm=norm(4 * width), relu=nn.ReLU()),
    )


preact_resnet110 = preact_network(
    "Pre-activation ResNet-110: 1.7 M parameters, 0.25 G multiply-adds at 32 px.", 110
)
preact_resnet164 = preact_network(
    "Pre-activation ResNet-164, bottlenecks: 1.7 M parameters, 0.24 G multiply-adds at 32 px.",
    164,
    bottleneck=True,
)
wrn_16_8 = preact_network(
    "WRN-16-8, without dropout: 11.0 M parameters, 1.55 G multiply-adds at 32 px.", 16, widen=8
)
