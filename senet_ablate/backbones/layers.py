"""Layers, stems and initialisation, stated once for all networks, plain and with SE."""

import hashlib
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.kernels.engine import engine
from senet_ablate.registry import BadInput

MATRIX_PRODUCT = 1 << 19  # elements in and out; below, 1.3 to 2 times faster than oneDNN's convolution (measured)
_STEMS = {"default": (2, 2), "64px": (1, 2), "32px": (1, 1)}


def stem_strides(backbone: str, stem: str) -> tuple[int, int]:
    """Strides of the first two of the five halvings of an ImageNet network, by the name of its stem.

    "default" is the network as published; "64px" keeps the size at the first halving, "32px" at the first two, so that
    images of 224, 64 and 32 pixels end on maps of 7, 4 and 4 pixels. Raises BadInput for another name.
    """
    if stem not in _STEMS:
        raise BadInput(f"{backbone}: unknown stem {stem!r}; known: {', '.join(_STEMS)}")
    return _STEMS[stem]


def check_small_stem(backbone: str, stem: str) -> None:
    """A CIFAR network has one stem, which leaves 32 pixels as they are. Raises BadInput for another."""
    if stem not in ("default", "32px"):
        raise BadInput(f"{backbone} is made for 32 pixels: unknown stem {stem!r}; known: default, 32px")


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1; no bias, since a batch norm follows."""
    kind = Pointwise if kernel == 1 and groups == 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Pointwise(nn.Conv2d):
    """1x1 convolution without bias; small ones on a CPU as a matrix product, which starts sooner there."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        positions = x.shape[0] * x.shape[2] * x.shape[3] // step**2
        large = positions * (self.in_channels + self.out_channels) > MATRIX_PRODUCT
        if x.device.type != "cpu" or large or engine(x.device) == "naive":
            return super().forward(x)
        if step > 1:
            x = x[:, :, ::step, ::step]
        return F.linear(x.movedim(1, -1), self.weight.flatten(1)).movedim(-1, 1)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with epsilon 1e-5 and a running average that takes 10% of each batch."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


def conv_norm_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """`conv`, `norm` and ReLU in a row."""
    return nn.Sequential(
        OrderedDict(conv=conv(inputs, outputs, kernel, stride, groups), norm=norm(outputs), relu=nn.ReLU())
    )


def max_pool() -> nn.MaxPool2d:
    """3x3, stride 2, from H x W to ceil(H / 2) x ceil(W / 2), as a padded 3x3 convolution of stride 2 gives."""
    return nn.MaxPool2d(3, 2, 1)


def stem_7x7(backbone: str, stem: str, outputs: int = 64) -> OrderedDict[str, nn.Module]:
    """7x7 convolution and max pooling, 4 times smaller (arXiv:1512.03385, Table 1); 3x3 for a smaller input."""
    first, second = stem_strides(backbone, stem)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=conv(3, outputs, 7 if first == 2 else 3, first), norm=norm(outputs), relu=nn.ReLU()
    )
    if second == 2:
        layers["pool"] = max_pool()
    return layers


class Parallel(nn.Sequential):
    """Branches that all see the input; their outputs, side by side in channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


class GlobalPool(nn.Module):
    """Mean over space, N x C x H x W to N x C."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def classified(body: OrderedDict[str, nn.Module], width: int, num_classes: int, dropout: float = 0.0) -> nn.Sequential:
    """`body`, then `pool`, `dropout` if any, and `classifier`: N x 3 x H x W in, N x num_classes logits out."""
    layers = OrderedDict(body, pool=GlobalPool())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["classifier"] = nn.Linear(width, num_classes)
    return nn.Sequential(layers)


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Set every parameter from `seed` and its own name, in place.

    Convolutions: He's normal, fan out; linear layers (classifier and SE): He's normal, fan in, bias 0
    (arXiv:1502.01852, the paper's ref. [66]); batch norms: 1 and 0, no zero-gamma. Other modules use their own
    `reset_parameters`. A layer that two networks share by name starts from the same values in both, so the variants of
    one seed differ in the SE blocks alone. On the meta device there is nothing to set.
    """
    if all(parameter.is_meta for parameter in model.parameters()):
        return
    with torch.random.fork_rng(devices=[]):
        for name, module in model.named_modules():
            key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            torch.default_generator.manual_seed(int.from_bytes(key[:7]))  # torch.manual_seed takes a millisecond
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
