"""GoogLeNet and BN-Inception (arXiv:1409.4842, arXiv:1502.03167), stages 3 to 5 as their modules 3a
to 5b are named.

SE takes a whole module for its transformation: it follows the concatenation (paper, Fig. 2), also
where the module halves the size (3c and 4e of BN-Inception), as in the authors' released
SE-BN-Inception.
"""

from collections import OrderedDict

from torch import nn

from senet_ablate.models.layers import (
    Parallel,
    conv_norm_relu,
    head,
    max_pool,
    sequential,
    stem_7x7,
)
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import PlainUnit
from senet_ablate.spec import SESpec

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


def _module(inputs: int, row: Row, googlenet: bool) -> tuple[Parallel, int]:
    """A module and its width."""
    one, reduce3, three, reduce_large, large, pooled = row
    stride = 1 if one else 2
    branches: dict[str, nn.Module] = {}
    if one:
        branches["conv1x1"] = conv_norm_relu(inputs, one, 1)
    branches["conv3x3"] = sequential(
        reduce=conv_norm_relu(inputs, reduce3, 1), conv=conv_norm_relu(reduce3, three, 3, stride)
    )
    reduce = conv_norm_relu(inputs, reduce_large, 1)
    if googlenet:
        branches["conv5x5"] = sequential(reduce=reduce, conv=conv_norm_relu(reduce_large, large, 5))
    else:
        branches["double3x3"] = sequential(
            reduce=reduce,
            conv1=conv_norm_relu(reduce_large, large, 3),
            conv2=conv_norm_relu(large, large, 3, stride),
        )
    if pooled:
        maximum = googlenet or row is BN_INCEPTION[5][-1]
        pool = nn.MaxPool2d(3, 1, 1) if maximum else nn.AvgPool2d(3, 1, 1)
        branches["pooled"] = sequential(pool=pool, conv=conv_norm_relu(inputs, pooled, 1))
    else:
        branches["pooled"] = max_pool()
    return Parallel(OrderedDict(branches)), one + three + large + (pooled or inputs)


def _network(num_classes: int, se: SESpec | None, stem: str, googlenet: bool) -> nn.Module:
    """Stem (224 pixels to 28, 192 wide), stages, and in GoogLeNet a pooling before two of them."""
    place = SEPlacement(se, (3, 4, 5))
    layers: dict[str, nn.Module] = {
        "stem": sequential(
            **stem_7x7(stem),
            reduce2=conv_norm_relu(64, 64, 1),
            conv2=conv_norm_relu(64, 192, 3),
            pool2=max_pool(),
        )
    }
    inputs = 192
    for stage, rows in (GOOGLENET if googlenet else BN_INCEPTION).items():
        if googlenet and stage > 3:
            layers[f"pool{stage}"] = max_pool()
        units = []
        for row in rows:
            module, inputs = _module(inputs, row, googlenet)
            units.append(PlainUnit(module, inputs, place, stage))
        layers[f"stage{stage}"] = nn.Sequential(*units)
    return sequential(**layers, **head(inputs, num_classes, dropout=0.4 if googlenet else 0.0))


def googlenet_bn(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """GoogLeNet with batch norm, no side classifiers: 7.0 M parameters, 1.58 G multiply-adds."""
    return _network(num_classes, se, stem, googlenet=True)


def bn_inception(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """BN-Inception: 11.3 M parameters, 2.03 G multiply-adds at 224 px."""
    return _network(num_classes, se, stem, googlenet=False)
