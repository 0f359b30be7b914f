"""The Squeeze-and-Excitation block (paper, Section 3), its operators, and the places of a network
that can host it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate.models.layers import FullyConnected, Random
from senet_ablate.spec import BLOCKS, EXCITATIONS, GATES, SQUEEZES, BadInput, SESpec


class CannotHost(BadInput):
    """The network has no place for the SE block asked for; the message says why and what it has."""


class SEBlock(nn.Module):
    """x * gate(excitation(squeeze(x))): N x C x H x W in and out (paper, Eqs. 2 to 4).

    By itself its layers start as PyTorch has them; `build_model` starts them by He's rule. Raises
    CannotHost if C // reduction is 0.
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
    """Two fully connected layers with a ReLU between them (paper, Eq. 3), for N x C x H x W."""

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
    """Maximum over space, to N x C x 1 x 1 (paper, Table 11)."""
    return x.amax((2, 3), keepdim=True)  # amax: its backward is deterministic on CUDA


def no_squeeze(x: Tensor) -> Tensor:
    """No pooling: the FC layers become 1x1 convolutions, a gate a pixel (Table 16, NoSqueeze)."""
    return x


def std_squeeze(x: Tensor) -> Tensor:
    """Standard deviation over space, to N x C x 1 x 1. An extra; the paper has no such row."""
    centred = x - x.mean((2, 3), keepdim=True)
    return (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def ones_squeeze(x: Tensor) -> Tensor:
    """Ones in place of the descriptor: every image gets the same learned gates. A control."""
    return x.new_ones(x.shape[0], x.shape[1], 1, 1)


class RandomSqueeze(Random):
    """Normal noise in place of the descriptor: knows nothing of the image. A control."""

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
    """Channels share one unit of weight: the exclusive gate of Section 3.2. An extra."""
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


class SEPlacement:
    """Gives a network the module for each of its places that can host SE: the block where the
    specification wants one, else an identity.

    The network keeps it in the unit, under a name that begins with `se_`, and its units in
    `stage<N>`; `se_blocks` finds it there. Raises CannotHost for a stage that is not one of
    `stages`.
    """

    def __init__(self, se: SESpec | None, stages: tuple[int, ...]) -> None:
        self.se = se
        if se is None or se.stages == "all":
            self.stages = stages
        elif se.stages == "all_but_last":
            self.stages = stages[:-1]
        else:
            self.stages = se.stages
        if missing := sorted(set(self.stages) - set(stages)):
            raise CannotHost(f"no stage {missing[0]}; it has stages {', '.join(map(str, stages))}")

    def __call__(self, placement: str, stage: int, channels: int) -> nn.Module:
        """The module for a place `channels` wide. Raises CannotHost if it does not fit."""
        if self.se is None or placement != self.se.placement or stage not in self.stages:
            return nn.Identity()
        try:
            return BLOCKS[self.se.block](channels, self.se)
        except CannotHost as error:
            raise CannotHost(f"stage {stage}, placement {placement}: {error}") from error


def se_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """A network's SE blocks by the paper's panel names: SE_2_3 is the third unit of stage 2."""
    blocks, within = {}, "none"
    for path, module in model.named_modules():
        stage, _, rest = path.partition(".")
        unit, _, place = rest.partition(".")
        is_block = place.rpartition(".")[2].startswith("se_") and not isinstance(
            module, nn.Identity
        )
        if is_block and unit.isdigit() and not path.startswith(within):
            blocks[f"SE_{stage.removeprefix('stage')}_{int(unit) + 1}"] = module
            within = f"{path}."  # what a block calls its own parts is its own affair
    return blocks
