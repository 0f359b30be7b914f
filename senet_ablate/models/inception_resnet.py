"""Inception-ResNet-v2 (arXiv:1602.07261), with the widths that its authors released (TF-Slim),
stages 3 to 5.

They are its 10 units of 35 pixels, 20 of 17 and 10 of 8, at 299. SE stands on the residual branch
before the addition (paper, Section 3.3), and sees it before it is scaled down; the three modules
between the stages have no shortcut and carry none.
"""

from functools import partial

from torch import Tensor, nn

from senet_ablate.models.layers import (
    Kernel,
    Parallel,
    conv_norm_relu,
    head,
    made_for,
    sequential,
    stem_strides,
)
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import ResidualUnit
from senet_ablate.spec import SESpec


def _path(inputs: int, *steps: tuple[int, Kernel], halves: bool = False) -> nn.Sequential:
    """Convolutions of (width, kernel) in a row; the last one may halve the size, unpadded."""
    layers = []
    for index, (width, kernel) in enumerate(steps, 1):
        last = halves and index == len(steps)
        layers.append(conv_norm_relu(inputs, width, kernel, 2 if last else 1, padded=not last))
        inputs = width
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def _scaled_add(scale: float, residual: Tensor, shortcut: Tensor) -> Tensor:
    return residual * scale + shortcut


# stage -> units, width, scale of the residual, paths of a unit
STAGES: dict[int, tuple[int, int, float, list[list[tuple[int, Kernel]]]]] = {
    3: (10, 320, 0.17, [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]]),
    4: (20, 1088, 0.10, [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]]),
    5: (10, 2080, 0.20, [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]]),
}


def _stage(stage: int, place: SEPlacement) -> nn.Sequential:
    """Units of paths side by side and a linear 1x1 convolution back to the width; the last one of
    all is neither scaled nor followed by a ReLU."""
    count, width, scale, paths = STAGES[stage]
    units = []
    for index in range(count):
        last = stage == 5 and index == count - 1
        joined = sum(steps[-1][0] for steps in paths)
        branch = sequential(
            paths=Parallel(*(_path(width, *steps) for steps in paths)),
            conv=nn.Conv2d(joined, width, 1),
        )
        units.append(
            ResidualUnit(
                *(branch, nn.Identity(), width, width, place, stage),
                merge=partial(_scaled_add, 1.0 if last else scale),
                activation=nn.Identity() if last else nn.ReLU(),
            )
        )
    return nn.Sequential(*units)


def _stem(stem: str) -> nn.Sequential:
    """299 pixels to 35, 192 channels; without padding, as released."""
    first, second = stem_strides(stem)
    pool1 = {"pool1": nn.MaxPool2d(3, 2)} if second == 2 else {}
    return sequential(
        conv1=conv_norm_relu(3, 32, 3, first, padded=False),
        conv2=conv_norm_relu(32, 32, 3, padded=False),
        conv3=conv_norm_relu(32, 64, 3),
        **pool1,
        conv4=conv_norm_relu(64, 80, 1),
        conv5=conv_norm_relu(80, 192, 3, padded=False),
        pool2=nn.MaxPool2d(3, 2),
    )


@made_for(299)
def inception_resnet_v2(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """Inception-ResNet-v2: 55.8 M parameters; 13.2 G multiply-adds at 299 px, 6.5 G at 224.

    Dropout 0.2 precedes the classifier (arXiv:1602.07261, Fig. 15). The default stem needs 75
    pixels or more.
    """
    place = SEPlacement(se, tuple(STAGES))
    return sequential(
        stem=_stem(stem),
        widen3=Parallel(
            _path(192, (96, 1)),
            _path(192, (48, 1), (64, 5)),
            _path(192, (64, 1), (96, 3), (96, 3)),
            nn.Sequential(
                nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv_norm_relu(192, 64, 1)
            ),
        ),
        stage3=_stage(3, place),
        reduce4=Parallel(
            _path(320, (384, 3), halves=True),
            _path(320, (256, 1), (256, 3), (384, 3), halves=True),
            nn.MaxPool2d(3, 2),
        ),
        stage4=_stage(4, place),
        reduce5=Parallel(
            _path(1088, (256, 1), (384, 3), halves=True),
            _path(1088, (256, 1), (288, 3), halves=True),
            _path(1088, (256, 1), (288, 3), (320, 3), halves=True),
            nn.MaxPool2d(3, 2),
        ),
        stage5=_stage(5, place),
        conv6=conv_norm_relu(2080, 1536, 1),
        **head(1536, num_classes, dropout=0.2),
    )
