"""The SE block's product, with a backward pass that never writes `dy * x` down (any device, PyTorch alone).

Autograd takes six passes more over a feature map than the gradient needs: it writes the product dy * x to sum it over
space, spreads the gradient of the mean over a map of its own, and adds that to dy * gate. Here dy * x is summed as it
is made, and dx = dy * gate + dz / (H W) is one operation, z being the descriptor. Where a shortcut is added next, the
product is never written either.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from senet_ablate.kernels.engine import engine

Squeeze = Callable[[Tensor], Tensor]
Gates = Callable[[Tensor], Tensor]

SMALL = 1 << 17  # elements of a feature map; below, the calls cost more than the passes saved (measured)
IN_CACHE = 1 << 18  # elements of a product that is summed before it leaves the processor's cache
EXACT = (torch.float32, torch.float64)
LARGE_IMAGE = 3 << 15  # elements of an image from which layer norm's reduction beats products in cache


def excited(x: Tensor, squeeze: Squeeze, gates: Gates, *, mean: bool = False, shortcut: Tensor | None = None) -> Tensor:
    """x * gates(squeeze(x)), N x C x H x W, plus `shortcut`, of the same shape, if there is one.

    mean: `squeeze` is the mean over space, to N x C x 1 x 1. Equal to the product and sum as written, within rounding,
    with the same gradients. A gate that is not N x C x 1 x 1 and a small map take the product itself.
    """
    if not _worth_it(x):
        gate = gates(squeeze(x))
        if shortcut is None or torch.is_grad_enabled() or not _fits(x, gate, shortcut) or engine(x.device) == "naive":
            return _plus(x * gate, shortcut)
        return torch.addcmul(shortcut, x, gate)
    if not mean:
        gate = gates(squeeze(x))
        return _Scale.apply(x, gate, shortcut) if _fits(x, gate, shortcut) else _plus(x * gate, shortcut)
    link = _Link()
    handle, z = _Squeeze.apply(x, squeeze, link)
    gate = gates(z)
    if not _fits(x, gate, shortcut):
        return _plus(handle * gate, shortcut)
    return _LinkedScale.apply(handle, gate, shortcut, link)


def _plus(product: Tensor, shortcut: Tensor | None) -> Tensor:
    return product if shortcut is None else product + shortcut


def _scaled(x: Tensor, gate: Tensor, shortcut: Tensor | None) -> Tensor:
    """In one pass."""
    return x * gate if shortcut is None else torch.addcmul(shortcut, x, gate)


def _worth_it(x: Tensor) -> bool:
    if x.numel() < SMALL or not (torch.is_grad_enabled() and x.requires_grad) or engine(x.device) == "naive":
        return False
    return x.dtype in EXACT or _channels_last(x)  # a CPU scales contiguous bfloat16 maps slowly


def _fits(x: Tensor, gate: Tensor, shortcut: Tensor | None) -> bool:
    alike = shortcut is None or (shortcut.shape, shortcut.stride(), shortcut.dtype) == (x.shape, x.stride(), x.dtype)
    return alike and gate.shape == (*x.shape[:2], 1, 1) and gate.dtype == x.dtype


class _Scale(torch.autograd.Function):
    """x * gate, with a gate an image and channel, plus a shortcut."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, shortcut: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, gate)
        return _scaled(x, gate, shortcut)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, gate = ctx.saved_tensors
        return (
            dy * gate if ctx.needs_input_grad[0] else None,
            products_over_space(dy, x) if ctx.needs_input_grad[1] else None,
            dy if ctx.needs_input_grad[2] else None,
        )


class _Link:
    """What the product tells the squeeze: once they are linked, the gradient of the handle is yet to be gated."""

    gate: Tensor | None = None


class _Squeeze(torch.autograd.Function):
    """The map itself, as a handle for `_LinkedScale` alone, and its mean over space."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, squeeze: Squeeze, link: _Link) -> tuple[Tensor, Tensor]:
        ctx.link, ctx.space = link, x.shape[2] * x.shape[3]
        ctx.set_materialize_grads(False)
        return x.view_as(x), squeeze(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dz: Tensor | None) -> tuple[Tensor, None, None]:
        gate = ctx.link.gate
        if dz is None:
            return dy if gate is None else dy * gate, None, None
        dz = dz / ctx.space
        return dy + dz if gate is None else torch.addcmul(dz, dy, gate), None, None


class _LinkedScale(torch.autograd.Function):
    """handle * gate + shortcut; the handle's gradient is said to be dy, which `_Squeeze` multiplies by the gate."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, gate: Tensor, shortcut: Tensor | None, link: _Link) -> Tensor:
        link.gate = gate.detach()
        ctx.save_for_backward(handle)
        return _scaled(handle, gate, shortcut)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        gate = products_over_space(dy, x) if ctx.needs_input_grad[1] else None
        return dy, gate, dy if ctx.needs_input_grad[2] else None, None


def products_over_space(a: Tensor, b: Tensor) -> Tensor:
    """Sum over space of a * b, N x C x H x W to N x C x 1 x 1, by what was fastest on a CPU for maps of that kind."""
    if a.device.type == "cpu" and a.numel() >= SMALL:
        exact = a.dtype in EXACT and a.dtype == b.dtype  # norms of bfloat16 add in bfloat16
        if exact and a.is_contiguous() and b.is_contiguous():
            return _by_norm(a.flatten(0, 1), b.flatten(0, 1)).view(*a.shape[:2], 1, 1)
        if exact and _channels_last(a) and _channels_last(b) and a[0].numel() >= LARGE_IMAGE:
            pairs = zip(_rows(a), _rows(b), strict=True)
            return torch.stack([_by_norm_of_rows(p, q) for p, q in pairs]).view(*a.shape[:2], 1, 1)
        if a.numel() >= 2 * IN_CACHE:
            return _in_cache(a, b)
    return (a * b).sum((2, 3), keepdim=True)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _rows(x: Tensor) -> tuple[Tensor, ...]:
    """Each image as H W x C."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).unbind(0)


def _by_norm(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b over each map of K x H x W: the weight gradient of group norm, at mean 0 and deviation 1."""
    count, space = a.shape[0], a.shape[1] * a.shape[2]
    zero, one = a.new_zeros(1, count), a.new_ones(1, count)
    norm = torch.ops.aten.native_group_norm_backward.default
    return norm(a[None], b[None], zero, one, None, 1, count, space, count, [False, True, False])[1]


def _by_norm_of_rows(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b over the rows of K x C: layer norm's weight gradient, at mean 0 and deviation 1."""
    zero, one = a.new_zeros(len(a), 1), a.new_ones(len(a), 1)
    norm = torch.ops.aten.native_layer_norm_backward.default
    return norm(a, b, [a.shape[1]], zero, one, a.new_ones(a.shape[1]), None, [False, True, False])[1]


def _in_cache(a: Tensor, b: Tensor) -> Tensor:
    """A few images at a time, through one buffer that stays in cache."""
    some = max(1, IN_CACHE // a[0].numel())
    sums, buffer = a.new_empty(*a.shape[:2], 1, 1), torch.empty_like(a[:some])
    for p, q, out in zip(*(torch.split(m, some) for m in (a, b, sums)), strict=True):
        torch.sum(torch.mul(p, q, out=buffer[: len(p)]), (2, 3), keepdim=True, out=out)
    return sums
