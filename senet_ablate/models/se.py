"""The Squeeze-and-Excitation block (paper, Section 3), its operators, and the places of a network
that can host it.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.models.layers import FullyConnected, Random
from senet_ablate.spec.registry import BLOCKS, EXCITATIONS, GATES, SQUEEZES, BadInput
from senet_ablate.spec.spec import SESpec


class CannotHost(BadInput):
    """The network has no place for the SE block asked for; the message says why and what it has."""


class SEBlock(nn.Module):
    """x * gate(excitation(squeeze(x))): N x C x H x W in and out (paper, Eqs. 2 to 4).

    Raises CannotHost if C // reduction is 0.
    """

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        excitation = "none" if "excitation" in spec.inert() else spec.excitation
        self.squeeze = _operator(SQUEEZES[spec.squeeze], channels)
        self.excitation = EXCITATIONS[excitation](channels, spec)
        self.gate = _operator(GATES[spec.gate], channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.excitation(self.squeeze(x)))


class FCExcitation(nn.Module):
    """The two fully connected layers with a ReLU between them (paper, Eq.

    3), at every position of N x C x H x W.
    """

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        hidden = channels // spec.reduction
        if hidden == 0:
            raise CannotHost(
                f"{channels} channels // reduction {spec.reduction} leaves no hidden unit"
            )
        self.reduce = FullyConnected(channels, hidden, bias=spec.bias)
        self.expand = FullyConnected(hidden, channels, bias=spec.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.expand(F.relu(self.reduce(z)))


class NoExcitation(nn.Module):
    """The gate sees the squeezed descriptor itself: no layer relates channels to each other."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()

    def forward(self, z: Tensor) -> Tensor:
        return z


def avg_squeeze(x: Tensor) -> Tensor:
    """Mean over space, N x C x H x W to N x C x 1 x 1 (paper, Eq. 2)."""
    return x.mean((2, 3), keepdim=True)


def max_squeeze(x: Tensor) -> Tensor:
    """Maximum over space, to N x C x 1 x 1 (paper, Table 11); `amax`, whose backward is
    deterministic on CUDA.
    """
    return x.amax((2, 3), keepdim=True)


def no_squeeze(x: Tensor) -> Tensor:
    """No pooling:

    the two FC layers become 1x1 convolutions, with a gate a pixel (paper, Table 16, NoSqueeze).
    """
    return x


def std_squeeze(x: Tensor) -> Tensor:
    """Standard deviation over space, to N x C x 1 x 1. An extra; the paper has no such row."""
    centred = x - x.mean((2, 3), keepdim=True)
    return (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def ones_squeeze(x: Tensor) -> Tensor:
    """Ones in place of the descriptor, N x C x 1 x 1: every image gets the same learned gates.

    A control.
    """
    return x.new_ones(x.shape[0], x.shape[1], 1, 1)


class RandomSqueeze(Random):
    """Standard normal noise in place of the descriptor, N x C x 1 x 1:

    a control that knows nothing of the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(
            x.shape[0], x.shape[1], 1, 1, dtype=x.dtype, device=x.device, generator=self.generator
        )


def sigmoid_gate(logits: Tensor) -> Tensor:
    """The paper's choice (Eq. 3)."""
    return logits.sigmoid()


def tanh_gate(logits: Tensor) -> Tensor:
    """Paper, Table 12."""
    return logits.tanh()


def relu_gate(logits: Tensor) -> Tensor:
    """Paper, Table 12."""
    return F.relu(logits)


def hard_sigmoid_gate(logits: Tensor) -> Tensor:
    """clip(x / 6 + 1/2, 0, 1): MobileNetV3's gate (arXiv:1905.02244). An extra."""
    return F.hardsigmoid(logits)


def softmax_gate(logits: Tensor) -> Tensor:
    """Channels compete for one unit of weight: the mutually exclusive gate of Section 3.2.

    An extra.
    """
    return logits.softmax(1)


def constant_gate(logits: Tensor) -> Tensor:
    """Gate 1: gives back the plain network exactly. A control."""
    return torch.ones_like(logits)


class Operator(nn.Module):
    """A plain function as a module, so that hooks can see what it returns."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        name = getattr(self.function, "__qualname__", None)
        return f"{self.function.__module__}.{name}" if name else repr(self.function)


def _operator(part: Any, channels: int) -> nn.Module:
    return part(channels) if isinstance(part, type) else Operator(part)


class Slots:
    """Hands a network the module for each of its places that can host SE: the block, or an
    identity.

    A backbone asks for every place it has, by placement, stage and width, and calls `close()` when
    it is built.
    """

    def __init__(self, backbone: str, se: SESpec | None, stages: tuple[int, ...]) -> None:
        self.backbone, self.se, self.stages = backbone, se, stages
        self._offered: set[str] = set()
        if se is None:
            self._wanted: tuple[int, ...] = ()
        elif se.stages == "all":
            self._wanted = stages
        elif se.stages == "all_but_last":
            self._wanted = stages[:-1]
        else:
            self._wanted = se.stages
        missing = set(self._wanted) - set(stages)
        if missing:
            raise CannotHost(
                f"{backbone} has no stage {min(missing)}; it has stages"
                f" {', '.join(map(str, stages))}"
            )

    def __call__(self, placement: str, stage: int, channels: int) -> nn.Module:
        """The module for a place `channels` wide. Raises CannotHost if it does not fit."""
        self._offered.add(placement)
        if self.se is None or placement != self.se.placement or stage not in self._wanted:
            return nn.Identity()
        try:
            return BLOCKS[self.se.block](channels, self.se)
        except CannotHost as error:
            raise CannotHost(
                f"{self.backbone}, stage {stage}, placement {placement}: {error}"
            ) from error

    def close(self) -> None:
        """Raises CannotHost if the placement asked for was never offered."""
        if self.se is not None and self.se.placement not in self._offered:
            raise CannotHost(
                f"{self.backbone} has no {_PLACES[self.se.placement]}, so no place"
                f" {self.se.placement!r}; it has: {', '.join(sorted(self._offered))}"
            )


_PLACES = {
    "standard": "residual branch or module to follow",
    "pre": "residual branch to precede",
    "post": "addition of residual branch and shortcut to follow",
    "identity": "shortcut",
    "conv3x3": "unit with one 3x3 convolution among others",
}


def se_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """A network's SE blocks by the paper's panel names: SE_2_3 is the third unit of stage 2."""
    blocks = {}
    for path, module in model.named_modules():
        stage, _, rest = path.partition(".")
        unit, _, slot = rest.partition(".")
        if slot.rpartition(".")[2].startswith("se_") and not isinstance(module, nn.Identity):
            blocks[f"SE_{stage.removeprefix('stage')}_{int(unit) + 1}"] = module
    return blocks
