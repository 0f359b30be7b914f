"""Inception-ResNet-v2 (arXiv:1602.07261), with the widths that its authors released (TF-Slim),
stages 3 to 5.

They are its 10 units of 35 pixels, 20 of 17 and 10 of 8, at 299. SE stands on the residual branch
before the addition (paper, Section 3.3), and sees it before it is scaled down; the three modules
between the stages have no shortcut and carry none.
"""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from senet_ablate.models.layers import Parallel, classified, norm, stem_strides
from senet_ablate.models.se import Slots
from senet_ablate.models.units import ResidualUnit
from senet_ablate.spec.spec import SESpec


def _conv(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True
) -> nn.Sequential:
    """Convolution (of any shape, padded or `valid`), norm and ReLU."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if padded else (0, 0)
    layer = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
    return nn.Sequential(OrderedDict(conv=layer, norm=norm(outputs), relu=nn.ReLU()))


def _scaled_add(scale: float, residual: Tensor, shortcut: Tensor) -> Tensor:
    return residual * scale + shortcut


def _unit(
    branches: Parallel,
    joined: int,
    width: int,
    scale: float,
    slots: Slots,
    stage: int,
    *,
    activation: nn.Module,
) -> ResidualUnit:
    """Inception branches, `joined` channels in all, and a linear 1x1 convolution back to
    `width`.
    """
    branch = nn.Sequential(OrderedDict(paths=branches, conv=nn.Conv2d(joined, width, 1)))
    merge = partial(_scaled_add, scale)
    return ResidualUnit(
        branch, nn.Identity(), width, width, slots, stage, merge=merge, activation=activation
    )


def _unit_35(slots: Slots) -> ResidualUnit:
    paths = Parallel(
        _conv(320, 32, 1),
        nn.Sequential(_conv(320, 32, 1), _conv(32, 32, 3)),
        nn.Sequential(_conv(320, 32, 1), _conv(32, 48, 3), _conv(48, 64, 3)),
    )
    return _unit(paths, 128, 320, 0.17, slots, 3, activation=nn.ReLU())


def _unit_17(slots: Slots) -> ResidualUnit:
    paths = Parallel(
        _conv(1088, 192, 1),
        nn.Sequential(_conv(1088, 128, 1), _conv(128, 160, (1, 7)), _conv(160, 192, (7, 1))),
    )
    return _unit(paths, 384, 1088, 0.10, slots, 4, activation=nn.ReLU())


def _unit_8(slots: Slots, last: bool) -> ResidualUnit:
    """The last one is neither scaled nor followed by a ReLU."""
    paths = Parallel(
        _conv(2080, 192, 1),
        nn.Sequential(_conv(2080, 192, 1), _conv(192, 224, (1, 3)), _conv(224, 256, (3, 1))),
    )
    return _unit(
        *(paths, 448, 2080, 1.0 if last else 0.20, slots, 5),
        activation=nn.Identity() if last else nn.ReLU(),
    )


def _stem(stem: str) -> nn.Sequential:
    """299 pixels to 35, 192 channels; without padding, as released."""
    first, second = stem_strides("inception_resnet_v2", stem)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=_conv(3, 32, 3, first, padded=False),
        conv2=_conv(32, 32, 3, padded=False),
        conv3=_conv(32, 64, 3),
    )
    if second == 2:
        layers["pool1"] = nn.MaxPool2d(3, 2)
    layers.update(
        conv4=_conv(64, 80, 1), conv5=_conv(80, 192, 3, padded=False), pool2=nn.MaxPool2d(3, 2)
    )
    return nn.Sequential(layers)


def _to_320() -> Parallel:
    return Parallel(
        _conv(192, 96, 1),
        nn.Sequential(_conv(192, 48, 1), _conv(48, 64, 5)),
        nn.Sequential(_conv(192, 64, 1), _conv(64, 96, 3), _conv(96, 96, 3)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), _conv(192, 64, 1)),
    )


def _to_1088() -> Parallel:
    return Parallel(
        _conv(320, 384, 3, 2, padded=False),
        nn.Sequential(_conv(320, 256, 1), _conv(256, 256, 3), _conv(256, 384, 3, 2, padded=False)),
        nn.MaxPool2d(3, 2),
    )


def _to_2080() -> Parallel:
    return Parallel(
        nn.Sequential(_conv(1088, 256, 1), _conv(256, 384, 3, 2, padded=False)),
        nn.Sequential(_conv(1088, 256, 1), _conv(256, 288, 3, 2, padded=False)),
        nn.Sequential(_conv(1088, 256, 1), _conv(256, 288, 3), _conv(288, 320, 3, 2, padded=False)),
        nn.MaxPool2d(3, 2),
    )


def inception_resnet_v2(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Inception-ResNet-v2: 55.8 M parameters; 6.5 G multiply-adds at 224 pixels, 13.2 G at its own
    299.

    Dropout 0.2 precedes the classifier (arXiv:1602.07261, Fig. 15). The default stem needs 75
    pixels or more.
    """
    slots = Slots("inception_resnet_v2", se, stages=(3, 4, 5))
    body: OrderedDict[str, nn.Module] = OrderedDict(
        stem=_stem(stem),
        widen3=_to_320(),
        stage3=nn.Sequential(*(_unit_35(slots) for _ in range(10))),
        reduce4=_to_1088(),
        stage4=nn.Sequential(*(_unit_17(slots) for _ in range(20))),
        reduce5=_to_2080(),
        stage5=nn.Sequential(*(_unit_8(slots, last=index == 9) for index in range(10))),
        conv6=_conv(2080, 1536, 1),
    )
    slots.close()
    return classified(body, 1536, num_classes, dropout=0.2)


inception_resnet_v2.pixels = 299  # type: ignore[attr-defined]
