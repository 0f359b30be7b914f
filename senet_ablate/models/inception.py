"""GoogLeNet and BN-Inception (arXiv:1409.4842, arXiv:1502.03167), stages 3 to 5 as their modules 3a
to 5b are named.

SE takes a whole module for its transformation: it follows the concatenation (paper, Fig. 2), also
where the module halves the size (3c and 4e of BN-Inception), as in the authors' released
SE-BN-Inception.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import Parallel, classified, conv_norm_relu, max_pool, stem_7x7
from senet_ablate.models.plain import PlainUnit
from senet_ablate.models.se import Slots
from senet_ablate.spec.spec import SESpec

# arXiv:1409.4842, Table 1: 1x1; 3x3 reduce and 3x3; 5x5 reduce and 5x5; pool projection
GOOGLENET = {
    3: [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    4: [
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ],
    5: [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
}
# arXiv:1502.03167, Fig. 5: 1x1; 3x3 reduce and 3x3; double 3x3 reduce and double 3x3; pool
# projection. No 1x1 and no projection: the module halves the size. Its 4c is 608 wide by its own
# columns (576 is printed), as in all releases.
BN_INCEPTION = {
    3: [(64, 64, 64, 64, 96, 32), (64, 64, 96, 64, 96, 64), (0, 128, 160, 64, 96, 0)],
    4: [
        (224, 64, 96, 96, 128, 128),
        (192, 96, 128, 96, 128, 128),
        (160, 128, 160, 128, 160, 128),
        (96, 128, 192, 160, 192, 128),
        (0, 128, 192, 192, 256, 0),
    ],
    5: [(352, 192, 320, 160, 224, 128), (352, 192, 320, 192, 224, 128)],
}
Row = tuple[int, int, int, int, int, int]


def _row(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _googlenet_module(inputs: int, row: Row) -> tuple[Parallel, int]:
    one, reduce3, three, reduce5, five, pooled = row
    branches: OrderedDict[str, nn.Module] = OrderedDict(
        conv1x1=conv_norm_relu(inputs, one, 1),
        conv3x3=_row(
            reduce=conv_norm_relu(inputs, reduce3, 1), conv=conv_norm_relu(reduce3, three, 3)
        ),
        conv5x5=_row(
            reduce=conv_norm_relu(inputs, reduce5, 1), conv=conv_norm_relu(reduce5, five, 5)
        ),
        pooled=_row(pool=nn.MaxPool2d(3, 1, 1), conv=conv_norm_relu(inputs, pooled, 1)),
    )
    return Parallel(branches), one + three + five + pooled


def _bn_inception_module(inputs: int, row: Row, last: bool) -> tuple[Parallel, int]:
    one, reduce3, three, reduce_double, double, pooled = row
    stride = 1 if one else 2
    branches: OrderedDict[str, nn.Module] = OrderedDict()
    if one:
        branches["conv1x1"] = conv_norm_relu(inputs, one, 1)
    branches["conv3x3"] = _row(
        reduce=conv_norm_relu(inputs, reduce3, 1), conv=conv_norm_relu(reduce3, three, 3, stride)
    )
    branches["double3x3"] = _row(
        reduce=conv_norm_relu(inputs, reduce_double, 1),
        conv1=conv_norm_relu(reduce_double, double, 3),
        conv2=conv_norm_relu(double, double, 3, stride),
    )
    if pooled:
        pool = nn.MaxPool2d(3, 1, 1) if last else nn.AvgPool2d(3, 1, 1)
        branches["pooled"] = _row(pool=pool, conv=conv_norm_relu(inputs, pooled, 1))
    else:
        branches["pooled"] = max_pool()
    return Parallel(branches), one + three + double + (pooled or inputs)


def _stem(name: str, stem: str) -> nn.Sequential:
    """7x7 convolution, pooling, 1x1 and 3x3 convolution, pooling: 224 pixels to 28, 192 wide."""
    first = stem_7x7(name, stem)
    return nn.Sequential(
        OrderedDict(
            first,
            reduce2=conv_norm_relu(64, 64, 1),
            conv2=conv_norm_relu(64, 192, 3),
            pool2=max_pool(),
        )
    )


def googlenet_bn(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """GoogLeNet with batch norm, without its side classifiers:

    7.0 M parameters, 1.58 G multiply-adds at 224 pixels.
    """
    slots = Slots("googlenet_bn", se, stages=tuple(GOOGLENET))
    body: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem("googlenet_bn", stem))
    inputs = 192
    for stage, rows in GOOGLENET.items():
        if stage > 3:
            body[f"pool{stage}"] = max_pool()
        units = []
        for row in rows:
            module, inputs = _googlenet_module(inputs, row)
            units.append(PlainUnit(module, inputs, slots, stage))
        body[f"stage{stage}"] = nn.Sequential(*units)
    slots.close()
    return classified(body, inputs, num_classes, dropout=0.4)


def bn_inception(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """BN-Inception: 11.3 M parameters, 2.03 G multiply-adds at 224 pixels."""
    slots = Slots("bn_inception", se, stages=tuple(BN_INCEPTION))
    body: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem("bn_inception", stem))
    inputs = 192
    for stage, rows in BN_INCEPTION.items():
        units = []
        for row in rows:
            module, inputs = _bn_inception_module(inputs, row, last=row is BN_INCEPTION[5][-1])
            units.append(PlainUnit(module, inputs, slots, stage))
        body[f"stage{stage}"] = nn.Sequential(*units)
    slots.close()
    return classified(body, inputs, num_classes)
