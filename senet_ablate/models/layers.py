"""Layers, stems and initialisation, stated once for all networks, plain and with SE."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from senet_ablate.spec import BadInput, SESpec

Kernel = int | tuple[int, int]
Builder = Callable[[int, SESpec | None, str], nn.Module]
"""A network as the registry knows it: called with (num_classes, se, stem)."""

LARGE_STEMS = {"default": (2, 2), "64px": (1, 2), "32px": (1, 1)}
"""Strides of the first two of the five halvings of an ImageNet network: images of 224, 64 and 32
pixels end on maps of 7, 4 and 4 pixels."""
SMALL_STEMS = {"default": (1, 1), "32px": (1, 1), "stride2": (2, 1)}
"""The same of a network for 32 pixels."""


def made_for(pixels: int) -> Callable[[Builder], Builder]:
    """Decorator that notes the edge of the square input that a network was made for."""

    def note(builder: Builder) -> Builder:
        vars(builder)["pixels"] = pixels
        return builder

    return note


def stem_strides(stem: str, known: dict[str, tuple[int, int]] = LARGE_STEMS) -> tuple[int, int]:
    """What `known` says of a stem. Raises BadInput for another name."""
    if stem not in known:
        raise BadInput(f"unknown stem {stem!r}; known: {', '.join(known)}")
    return known[stem]


def sequential(**layers: nn.Module) -> nn.Sequential:
    """nn.Sequential of named layers."""
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def conv(
    inputs: int, outputs: int, kernel: Kernel, stride: int = 1, groups: int = 1, padded: bool = True
) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1, if it is padded; no bias, since a batch norm
    follows."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if padded else (0, 0)
    return nn.Conv2d(inputs, outputs, (height, width), stride, padding, groups=groups, bias=False)


class FullyConnected(nn.Conv2d):
    """A fully connected layer at every position of N x C x H x W: a 1x1 convolution, initialised as
    a linear layer."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with epsilon 1e-5 and a running average that takes 10% of each batch."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


def conv_norm_relu(
    inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padded: bool = True
) -> nn.Sequential:
    """`conv`, `norm` and ReLU in a row."""
    layer = conv(inputs, outputs, kernel, stride, padded=padded)
    return sequential(conv=layer, norm=norm(outputs), relu=nn.ReLU())


def max_pool() -> nn.MaxPool2d:
    """3x3, stride 2, H to ceil(H / 2), as a padded 3x3 convolution of stride 2 gives."""
    return nn.MaxPool2d(3, 2, 1)


def stem_7x7(stem: str) -> dict[str, nn.Module]:
    """7x7 convolution, 64 wide, and max pooling, 4 times smaller (arXiv:1512.03385, Table 1); 3x3
    for a smaller input."""
    first, second = stem_strides(stem)
    layers = dict(conv_norm_relu(3, 64, 7 if first == 2 else 3, first).named_children())
    return layers | ({"pool": max_pool()} if second == 2 else {})


class Random(nn.Module):
    """A module that draws random numbers: from `generator`, which `draw_from` sets, or from torch's
    global one."""

    generator: torch.Generator | None = None


class Dropout(Random):
    """Each element is zero with probability p in training, the others are scaled by 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def generator_of(model: nn.Module) -> torch.Generator | None:
    """What the random modules of a network draw from; None if it has none, or they draw from
    torch's global one."""
    return next((one.generator for one in model.modules() if isinstance(one, Random)), None)


def draw_from(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every random module draw from `generator`, which must be on the model's device."""
    for module in model.modules():
        if isinstance(module, Random):
            module.generator = generator


@contextmanager
def drawing_from(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """The same while the context is open."""
    before = generator_of(model)
    draw_from(model, generator)
    try:
        yield
    finally:
        draw_from(model, before)


class Parallel(nn.Sequential):
    """Branches that all see the input; their outputs, side by side in channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


class GlobalPool(nn.Module):
    """Mean over space, N x C x H x W to N x C."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def head(width: int, num_classes: int, dropout: float = 0.0) -> dict[str, nn.Module]:
    """`pool`, `dropout` if any, and `classifier`: N x width x H x W in, N x num_classes out."""
    layers: dict[str, nn.Module] = {"pool": GlobalPool()}
    if dropout:
        layers["dropout"] = Dropout(dropout)
    return layers | {"classifier": nn.Linear(width, num_classes)}


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Set every parameter from `seed` and its own name, in place.

    Convolutions: He's normal, fan out; fully connected layers (classifier and SE): He's normal, fan
    in, bias 0 (arXiv:1502.01852, the paper's ref. [66]); batch norms: 1 and 0, no zero-gamma. Other
    modules, and layers of a user's own that have one, use their `reset_parameters`, after their
    children. A layer that two networks share by name starts from the same values in both, so the
    variants of one seed differ in the SE blocks alone. On the meta device there is nothing to set.
    """
    if all(parameter.is_meta for parameter in model.parameters()):
        return
    usual = (nn.Conv2d.reset_parameters, nn.Linear.reset_parameters)
    for name, module in reversed([*model.named_modules()]):
        key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7])
        own = getattr(type(module), "reset_parameters", None)
        if isinstance(module, nn.Conv2d | nn.Linear) and own in usual:
            linear = isinstance(module, nn.Linear | FullyConnected)
            mode: Literal["fan_in", "fan_out"] = "fan_in" if linear else "fan_out"
            draws = torch.Generator(module.weight.device).manual_seed(key)
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=draws)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif own is not None:  # a user's own draws from the global generator
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(key)
                module.reset_parameters()
