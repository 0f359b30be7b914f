"""ResNets: ImageNet's at 224 pixels (arXiv:1512.03385, arXiv:1611.05431; stages 2 to 5),
SENet-154 (paper, Section 5.4 and appendix) and CIFAR's (arXiv:1512.03385, Section 4.2, with
projections, its option B, where it has option A; their stages carry the numbers 2 to 4, as convN_x
does in the others)."""

from collections.abc import Callable
from functools import partial

from torch import nn

from senet_ablate.models.layers import (
    SMALL_STEMS,
    Builder,
    conv_norm_relu,
    head,
    made_for,
    sequential,
    stem_7x7,
    stem_strides,
)
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import UnitMaker, basic_unit, bottleneck_unit, make_stages
from senet_ablate.spec import SESpec

IMAGENET = {2: 256, 3: 512, 4: 1024, 5: 2048}


def residual_network(
    summary: str,
    unit: UnitMaker,
    counts: tuple[int, ...],
    outputs: dict[int, int],
    make_stem: Callable[[str], nn.Module],
    stem_width: int = 16,
    *,
    make_last: Callable[[], nn.Module] | None = None,
    dropout: float = 0.0,
    pixels: int = 32,
) -> Builder:
    """The builder of a network of `counts` units a stage, `outputs` wide (stage number to width).

    make_stem is called with the stem's name; make_last makes what follows the last stage.
    """

    def build(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
        place = SEPlacement(se, tuple(outputs))
        return sequential(
            stem=make_stem(stem),
            **make_stages(stem_width, outputs, counts, unit, place),
            **({"last": make_last()} if make_last else {}),
            **head(outputs[max(outputs)], num_classes, dropout),
        )

    build.__doc__ = summary
    return made_for(pixels)(build)


# ---- ImageNet; as released: the stride of a ResNet is in the first 1x1, of a ResNeXt in the 3x3

resnext_unit = partial(bottleneck_unit, divisors=(2, 2), groups=32, stride_in_3x3=True)
senet154_unit = partial(
    bottleneck_unit, divisors=(2, 1), groups=64, stride_in_3x3=True, projection_kernel=3
)


def _imagenet(summary: str, counts: tuple[int, ...], unit: UnitMaker = bottleneck_unit) -> Builder:
    return residual_network(
        summary, unit, counts, IMAGENET, lambda stem: sequential(**stem_7x7(stem)), 64, pixels=224
    )


def _senet154_stem(stem: str) -> nn.Module:
    """Three 3x3 convolutions; the pooling aligns left, as in the released Caffe model."""
    first, second = stem_strides(stem)
    pool = {"pool": nn.MaxPool2d(3, 2, ceil_mode=True)} if second == 2 else {}
    return sequential(
        conv1=conv_norm_relu(3, 64, 3, first),
        conv2=conv_norm_relu(64, 64, 3),
        conv3=conv_norm_relu(64, 128, 3),
        **pool,
    )


resnet50 = _imagenet("ResNet-50: 25.6 M parameters, 3.86 G multiply-adds.", (3, 4, 6, 3))
resnet101 = _imagenet("ResNet-101: 44.5 M parameters, 7.58 G multiply-adds.", (3, 4, 23, 3))
resnet152 = _imagenet("ResNet-152: 60.2 M parameters, 11.3 G multiply-adds.", (3, 8, 36, 3))
resnext50_32x4d = _imagenet(
    "ResNeXt-50, 32 groups of 4 channels: 25.0 M parameters, 4.24 G multiply-adds.",
    (3, 4, 6, 3),
    resnext_unit,
)
resnext101_32x4d = _imagenet(
    "ResNeXt-101, 32 groups of 4 channels: 44.2 M parameters, 7.99 G multiply-adds.",
    (3, 4, 23, 3),
    resnext_unit,
)
# a 64x4d ResNeXt-152 whose first 1x1 of each unit has half the channels of the 3x3, with another
# stem, 3x3 projections where the size is halved, and dropout; label smoothing and frozen batch
# norms are the recipe's
senet154 = residual_network(
    "SENet-154: 115.0 M parameters with SE, 108.5 M without, 20.7 G multiply-adds.",
    senet154_unit,
    (3, 8, 36, 3),
    IMAGENET,
    _senet154_stem,
    128,
    dropout=0.2,
    pixels=224,
)


# ---- CIFAR


def _small_stem(strides: dict[str, tuple[int, int]], stem: str) -> nn.Module:
    return conv_norm_relu(3, 16, 3, stem_strides(stem, strides)[0])


def _cifar(depth: int, *, bottleneck: bool = False) -> Builder:
    width, layers, unit = (64, 9, bottleneck_unit) if bottleneck else (16, 6, basic_unit)
    kind = "bottleneck" if bottleneck else "basic"
    return residual_network(
        f"CIFAR ResNet, {depth} layers, {kind} units, {width} to {4 * width} channels.",
        unit,
        ((depth - 2) // layers,) * 3,
        {2: width, 3: 2 * width, 4: 4 * width},
        partial(_small_stem, SMALL_STEMS),
    )


resnet20 = _cifar(20)
resnet32 = _cifar(32)
resnet44 = _cifar(44)
resnet56 = _cifar(56)
resnet110 = _cifar(110)
resnet20_bottleneck = _cifar(20, bottleneck=True)
resnet29_bottleneck = _cifar(29, bottleneck=True)
resnet56_bottleneck = _cifar(56, bottleneck=True)
resnet164 = _cifar(164, bottleneck=True)

# the least that hosts every placement at r = 16 and the standard one at r = 32
resnet_tiny_bottleneck = residual_network(
    "ResNet of three bottleneck units for 8 pixels (stem default) or 16 (stem 16px).",
    bottleneck_unit,
    (1, 1, 1),
    {2: 64, 3: 64, 4: 128},
    partial(_small_stem, {"default": (1, 1), "32px": (1, 1), "16px": (2, 1)}),
    pixels=8,
)
