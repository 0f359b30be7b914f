"""VGG-16 with batch norm (arXiv:1409.1556, configuration D), stages 1 to 5, stage N being its
convN_x. SE follows the non-linearity of every convolution (paper, Section 3.3)."""

import torch
import torch.fx
from torch import Tensor, nn

from senet_ablate.models.layers import Dropout, conv_norm_relu, sequential, stem_strides
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import PlainUnit, make_stages
from senet_ablate.spec import SESpec

OUTPUTS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


@torch.fx.wrap  # one call in the graph of torch.fx, which cannot go through sizes one by one
def grid_means(x: Tensor, side: int) -> Tensor:
    """Means over a side x side grid, N x C x H x W to N x C x side x side."""
    rows, columns = (_cells(side, size, x) for size in x.shape[2:])
    return rows @ x @ columns.T


def _cells(side: int, size: int, like: Tensor) -> Tensor:
    """The side x size matrix whose row i averages the pixels of cell i."""
    cell = torch.arange(side, device=like.device)[:, None]
    pixel = torch.arange(size, device=like.device)[None, :]
    inside = (pixel >= cell * size // side) & (pixel < -(-(cell + 1) * size // side))
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


class GridPool(nn.Module):
    """Adaptive average pooling as two matrix products, whose backward is deterministic on CUDA."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return grid_means(x, self.side)


def _unit(inputs: int, outputs: int, stride: int, stage: int, place: SEPlacement) -> PlainUnit:
    return PlainUnit(conv_norm_relu(inputs, outputs, 3, stride), outputs, place, stage)


def vgg16_bn(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """VGG-16: 138.4 M parameters, 15.5 G multiply-adds at 224 px.

    The convolutions have no bias, since a batch norm follows. The stems for smaller inputs leave
    out the first pooling or the first two, and their first linear layer sees a 1 x 1 map in place
    of 7 x 7, so that it does not hold 103 M of the parameters.
    """
    strides = (*stem_strides(stem), 2, 2, 2)
    side = 7 if stem == "default" else 1
    place = SEPlacement(se, tuple(OUTPUTS))
    layers = {}
    stages = make_stages(3, OUTPUTS, (2, 2, 3, 3, 3), _unit, place, strides=(1,) * 5)
    for (name, stage), stride in zip(stages.items(), strides, strict=True):
        layers[name] = stage
        if stride == 2:
            layers[name.replace("stage", "pool")] = nn.MaxPool2d(2)
    hidden = sequential(
        fc1=nn.Linear(512 * side * side, 4096),
        relu1=nn.ReLU(),
        dropout1=Dropout(0.5),
        fc2=nn.Linear(4096, 4096),
        relu2=nn.ReLU(),
        dropout2=Dropout(0.5),
    )
    return sequential(
        **layers,
        grid=GridPool(side),
        flatten=nn.Flatten(),
        hidden=hidden,
        classifier=nn.Linear(4096, num_classes),
    )
