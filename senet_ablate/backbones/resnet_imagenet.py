"""ResNet-50, -101 and -152 for ImageNet (arXiv:1512.03385; SE versions: paper, Table 1), stages 2 to 5."""

from collections import OrderedDict

from torch import nn

from senet_ablate.backbones.layers import GlobalPool, conv, norm
from senet_ablate.backbones.residual import residual_stages
from senet_ablate.registry import BadInput
from senet_ablate.se import Slots
from senet_ablate.spec import SESpec

STEMS = ("default", "64px", "32px")


def _stem(kind: str) -> OrderedDict[str, nn.Module]:
    if kind == "default":  # 224 pixels to 56
        return OrderedDict(conv=conv(3, 64, 7, 2), norm=norm(64), relu=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1))
    if kind == "64px":  # 64 pixels to 32
        return OrderedDict(conv=conv(3, 64, 3), norm=norm(64), relu=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1))
    if kind == "32px":  # 32 pixels stay 32
        return OrderedDict(conv=conv(3, 64, 3), norm=norm(64), relu=nn.ReLU())
    raise BadInput(f"unknown stem {kind!r}; known: {', '.join(STEMS)}")


def _resnet(name: str, units: tuple[int, ...], num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    slots = Slots(name, se, stages=(2, 3, 4, 5))
    widths = {2: 64, 3: 128, 4: 256, 5: 512}
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(_stem(stem)),
            **residual_stages(64, widths, units, bottleneck=True, slots=slots),
            pool=GlobalPool(),
            classifier=nn.Linear(2048, num_classes),
        )
    )
    slots.close()
    return model


def resnet50(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-50: 25.6 M parameters, 3.86 G multiply-adds at 224 pixels."""
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, se, stem)


def resnet101(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-101: 44.5 M parameters, 7.58 G multiply-adds at 224 pixels."""
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, se, stem)


def resnet152(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """ResNet-152: 60.2 M parameters, 11.3 G multiply-adds at 224 pixels."""
    return _resnet("resnet152", (3, 8, 36, 3), num_classes, se, stem)
