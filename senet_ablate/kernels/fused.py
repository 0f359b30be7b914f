"""Batch norm, SE, shortcut and ReLU of a unit in training: four walks over maps forward, seven back, SE or not.

The descriptor, the mean over space of the batch norm's output, is affine in the mean of its input, which the pass for
the statistics delivers by image. The gate rides on the pass that normalises. In the backward pass two sums by image and
channel, of the masked gradient g and of g times the centred input, give the gate's gradient and, once the descriptor's
gradient is known, all that batch norm's needs. `Passes` are the four walks over feature maps; the rest is N x C.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Gates = Callable[[Tensor], Tensor]


class Passes(Protocol):
    """The walks over N x C x H x W maps. `by image` is N x C, `by channel` is C, both in the statistics' precision."""

    def takes(self, x: Tensor) -> bool:
        """Whether maps of this kind can be walked."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and sum of squared deviations from it, each by image."""

    def join(self, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, shortcut: Tensor) -> Tensor:
        """relu((x - centre) * scale + offset + shortcut); centre by channel, scale and offset by image."""

    def mask(self, dy: Tensor, y: Tensor, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """g = dy where y > 0, else 0; and the sums over space of g and of g * (x - centre), by image."""

    def spread(self, g: Tensor, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
        """g * scale + offset - slope * (x - centre): scale and offset by image, slope by channel."""


def merged(x: Tensor, norm: nn.BatchNorm2d, gates: Gates | None, shortcut: Tensor, passes: Passes) -> Tensor:
    """relu(gates(mean(u)) * u + shortcut) with u = norm(x) in training mode; without gates, the plain unit's end.

    Updates the running statistics as nn.BatchNorm2d does. A second derivative is refused.
    """
    link = _Link(passes)
    handle, z = _Normalise.apply(x, norm.weight, norm.bias, norm.eps, link)
    _track(norm, link, x.numel() // x.shape[1])
    gate = None if gates is None else gates(z).expand_as(z)
    return _Join.apply(handle, gate, shortcut, link)


def fits(x: Tensor, norm: nn.BatchNorm2d, shortcut: Tensor, passes: Passes) -> bool:
    """Whether `merged` takes the end of a unit: a batch norm in training, two maps alike, and gradients wanted."""
    if not (norm.training and norm.affine and torch.is_grad_enabled()):
        return False
    alike = x.shape == shortcut.shape and x.dtype == shortcut.dtype
    return alike and norm.momentum is not None and passes.takes(x)


class _Link:
    """What the two halves of the unit's end know of each other; see `_Join.backward`."""

    mean: Tensor  # by channel, as are the next three
    variance: Tensor  # biased
    deviation: Tensor  # 1 / sqrt(variance + eps)
    weight: Tensor
    bias: Tensor
    relative: Tensor  # mean of the normalised input, by image
    gate: Tensor | None  # by image
    sums: tuple[Tensor, Tensor]  # of g and of g * normalised input, by image

    def __init__(self, passes: Passes) -> None:
        self.passes = passes


class _Normalise(torch.autograd.Function):
    """The input as a handle for `_Join` alone, and the descriptor z, N x C x 1 x 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, link: _Link) -> tuple[Tensor, Tensor]:
        means, squares = link.passes.moments(x)
        space = x.shape[2] * x.shape[3]
        link.mean = means.mean(0)
        apart = means - link.mean
        link.variance = (squares.sum(0) + space * apart.square().sum(0)) / (len(x) * space)  # Chan's merging
        link.deviation = (link.variance + eps).rsqrt()
        link.relative, link.weight, link.bias = apart * link.deviation, weight.detach(), bias.detach()
        ctx.link, ctx.space = link, space
        ctx.save_for_backward(x)
        z = torch.addcmul(link.bias, link.weight, link.relative)
        return x.view_as(x), z[:, :, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, dz: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (x,), link = ctx.saved_tensors, ctx.link
        dz, (plain, along) = dz[:, :, 0, 0], link.sums
        gate = 1.0 if link.gate is None else link.gate
        dbias = (plain * gate + dz).sum(0)
        dweight = (along * gate + dz * link.relative).sum(0)
        count, by_channel = len(x) * ctx.space, link.weight * link.deviation
        scale = (by_channel * gate).expand(x.shape[:2]).contiguous()
        offset = by_channel * (dz / ctx.space - dbias / count)
        slope = by_channel * link.deviation * dweight / count
        return link.passes.spread(g, x, link.mean, scale, offset, slope), dweight, dbias, None, None


class _Join(torch.autograd.Function):
    """relu(u * gate + shortcut). The gradient it hands to the handle is that of the sum: `_Normalise` does the rest."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, gate: Tensor | None, shortcut: Tensor, link: _Link) -> Tensor:
        by_channel = link.weight * link.deviation
        link.gate = None if gate is None else gate.detach()[:, :, 0, 0].to(by_channel.dtype)
        factor = handle.new_ones(1, 1, dtype=by_channel.dtype) if link.gate is None else link.gate
        scale, offset = ((part * factor).expand(handle.shape[:2]).contiguous() for part in (by_channel, link.bias))
        y = link.passes.join(handle, link.mean, scale, offset, shortcut)
        ctx.link, ctx.dtype = link, None if gate is None else gate.dtype
        ctx.save_for_backward(handle, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        (x, y), link = ctx.saved_tensors, ctx.link
        g, plain, along = link.passes.mask(dy, y, x, link.mean)
        link.sums = plain, along * link.deviation
        dgate = None
        if ctx.dtype is not None:
            dgate = torch.addcmul(link.bias * plain, link.weight, link.sums[1])[:, :, None, None].to(ctx.dtype)
        return g, dgate, g, None


@torch.no_grad()
def _track(norm: nn.BatchNorm2d, link: _Link, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = norm.momentum or 0.0
    norm.running_mean.lerp_(link.mean.to(norm.running_mean.dtype), share)
    unbiased = link.variance * (count / max(count - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)


class Written:
    """The passes in PyTorch operations, one after another: what the kernels are checked against."""

    def takes(self, x: Tensor) -> bool:
        return True

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = _wide(x)
        mean = wide.mean((2, 3))
        return mean, (wide - mean[:, :, None, None]).square().sum((2, 3))

    def join(self, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, shortcut: Tensor) -> Tensor:
        u = (_wide(x) - centre[:, None, None]) * scale[:, :, None, None] + offset[:, :, None, None]
        return (u + _wide(shortcut)).relu().to(x.dtype)

    def mask(self, dy: Tensor, y: Tensor, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.where(y > 0, dy, torch.zeros_like(dy))
        wide = _wide(g)
        return g, wide.sum((2, 3)), (wide * (_wide(x) - centre[:, None, None])).sum((2, 3))

    def spread(self, g: Tensor, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
        along = slope[:, None, None] * (_wide(x) - centre[:, None, None])
        return (_wide(g) * scale[:, :, None, None] + offset[:, :, None, None] - along).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
