"""ResNets for 32-pixel images (arXiv:1512.03385, Section 4.2): three stages, 16, 32 and 64 wide, with projections.

Their stages carry the numbers 2, 3 and 4, as convN_x does in the ImageNet networks.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from senet_ablate.backbones.layers import GlobalPool, conv, norm
from senet_ablate.backbones.residual import residual_stages
from senet_ablate.registry import BadInput
from senet_ablate.se import Slots
from senet_ablate.spec import SESpec

Builder = Callable[[int, SESpec | None, str], nn.Module]


def _resnet(name: str, depth: int, bottleneck: bool) -> Builder:
    units, rest = divmod(depth - 2, 9 if bottleneck else 6)
    assert rest == 0, f"{name}: no CIFAR ResNet is {depth} deep"

    def build(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
        if stem not in ("default", "32px"):
            raise BadInput(f"{name} is made for 32 pixels: unknown stem {stem!r}; known: default, 32px")
        slots = Slots(name, se, stages=(2, 3, 4))
        widths = {2: 16, 3: 32, 4: 64}
        model = nn.Sequential(
            OrderedDict(
                stem=nn.Sequential(OrderedDict(conv=conv(3, 16, 3), norm=norm(16), relu=nn.ReLU())),
                **residual_stages(16, widths, (units,) * 3, bottleneck, slots),
                pool=GlobalPool(),
                classifier=nn.Linear(256 if bottleneck else 64, num_classes),
            )
        )
        slots.close()
        return model

    kind = "bottleneck units, 64 to 256" if bottleneck else "basic units, 16 to 64"
    build.__doc__ = f"CIFAR ResNet, {depth} layers, {kind} channels."
    return build


resnet20 = _resnet("resnet20", 20, bottleneck=False)
resnet32 = _resnet("resnet32", 32, bottleneck=False)
resnet44 = _resnet("resnet44", 44, bottleneck=False)
resnet56 = _resnet("resnet56", 56, bottleneck=False)
resnet110 = _resnet("resnet110", 110, bottleneck=False)
resnet29_bottleneck = _resnet("resnet29_bottleneck", 29, bottleneck=True)
resnet56_bottleneck = _resnet("resnet56_bottleneck", 56, bottleneck=True)
resnet164 = _resnet("resnet164", 164, bottleneck=True)
