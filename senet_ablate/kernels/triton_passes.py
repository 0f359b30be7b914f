"""The passes of `fused` as Triton kernels, for maps that are dense in channels-last or in contiguous memory.

A program walks over some channels of one image; tiles are positions x channels, wide along what lies side by side in
memory. Sums and moments are taken in float32.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _moments(x, means, squares, C, S, LAST: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr):
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    x += n * C * S
    mean = tl.zeros([BC], tl.float32)
    square = tl.zeros([BC], tl.float32)
    for start in range(0, S, BS):
        s = start + tl.arange(0, BS)
        inside = (s < S)[:, None] & (c < C)[None, :]
        at = s[:, None] * C + c[None, :] if LAST else c[None, :] * S + s[:, None]
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        here = tl.minimum(S - start, BS).to(tl.float32)
        middle = tl.sum(v, 0) / here
        apart = tl.where(inside, v - middle[None, :], 0.0)
        delta = middle - mean
        share = here / (start + here)
        square += tl.sum(apart * apart, 0) + delta * delta * start * share
        mean += delta * share
    tl.store(means + n * C + c, mean, mask=c < C)
    tl.store(squares + n * C + c, square, mask=c < C)


@triton.jit
def _join(x, shortcut, y, centre, scale, offset, C, S, LAST: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr):
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    s = tl.program_id(2) * BS + tl.arange(0, BS)
    inside = (s < S)[:, None] & (c < C)[None, :]
    at = n * C * S + (s[:, None] * C + c[None, :] if LAST else c[None, :] * S + s[:, None])
    middle = tl.load(centre + c, mask=c < C, other=0.0)[None, :]
    factor = tl.load(scale + n * C + c, mask=c < C, other=0.0)[None, :]
    shift = tl.load(offset + n * C + c, mask=c < C, other=0.0)[None, :]
    u = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - middle) * factor + shift
    u += tl.load(shortcut + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, tl.where(u < 0.0, 0.0, u).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _mask(dy, y, x, g, centre, plain, along, C, S, LAST: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr):
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    middle = tl.load(centre + c, mask=c < C, other=0.0)[None, :]
    one = tl.zeros([BC], tl.float32)
    two = tl.zeros([BC], tl.float32)
    for start in range(0, S, BS):
        s = start + tl.arange(0, BS)
        inside = (s < S)[:, None] & (c < C)[None, :]
        at = n * C * S + (s[:, None] * C + c[None, :] if LAST else c[None, :] * S + s[:, None])
        positive = tl.load(y + at, mask=inside, other=0.0) > 0
        masked = tl.where(positive, tl.load(dy + at, mask=inside, other=0.0), 0.0)
        tl.store(g + at, masked, mask=inside)
        wide = masked.to(tl.float32)
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - middle
        one += tl.sum(wide, 0)
        two += tl.sum(wide * v, 0)
    tl.store(plain + n * C + c, one, mask=c < C)
    tl.store(along + n * C + c, two, mask=c < C)


@triton.jit
def _spread(g, x, dx, centre, scale, offset, slope, C, S, LAST: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr):
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    s = tl.program_id(2) * BS + tl.arange(0, BS)
    inside = (s < S)[:, None] & (c < C)[None, :]
    at = n * C * S + (s[:, None] * C + c[None, :] if LAST else c[None, :] * S + s[:, None])
    middle = tl.load(centre + c, mask=c < C, other=0.0)[None, :]
    tilt = tl.load(slope + c, mask=c < C, other=0.0)[None, :]
    factor = tl.load(scale + n * C + c, mask=c < C, other=0.0)[None, :]
    shift = tl.load(offset + n * C + c, mask=c < C, other=0.0)[None, :]
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - middle
    d = tl.load(g + at, mask=inside, other=0.0).to(tl.float32) * factor + shift - tilt * v
    tl.store(dx + at, d.to(dx.dtype.element_ty), mask=inside)


class Kernels:
    """The passes on a GPU, or on a CPU under Triton's interpreter; maps are float32, bfloat16 or float16."""

    def takes(self, x: Tensor) -> bool:
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        return dense and x.dtype in (torch.float32, torch.bfloat16, torch.float16)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        layout = Layout(x)
        means, squares = layout.sums(), layout.sums()
        _moments[layout.columns](x, means, squares, *layout.sizes, **layout.tiles)
        return means, squares

    def join(self, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, shortcut: Tensor) -> Tensor:
        layout, y = Layout(x), torch.empty_like(x)
        _join[layout.all](x, layout.like(shortcut), y, centre, scale, offset, *layout.sizes, **layout.tiles)
        return y

    def mask(self, dy: Tensor, y: Tensor, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layout, g = Layout(x), torch.empty_like(x)
        plain, along = layout.sums(), layout.sums()
        maps = (layout.like(dy), layout.like(y), x, g)
        _mask[layout.columns](*maps, centre, plain, along, *layout.sizes, **layout.tiles)
        return g, plain, along

    def spread(self, g: Tensor, x: Tensor, centre: Tensor, scale: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
        layout, dx = Layout(x), torch.empty_like(x)
        _spread[layout.all](layout.like(g), x, dx, centre, scale, offset, slope, *layout.sizes, **layout.tiles)
        return dx


class Layout:
    """How programs divide a map: its memory format, tiles and grids."""

    def __init__(self, x: Tensor) -> None:
        self.x, channels, space = x, x.shape[1], x.shape[2] * x.shape[3]
        last = x.is_contiguous(memory_format=torch.channels_last)
        self.format = torch.channels_last if last else torch.contiguous_format
        wide = min(triton.next_power_of_2(channels if last else space), 64 if last else 512)
        narrow = 2048 // wide
        positions, width = (narrow, wide) if last else (wide, min(narrow, triton.next_power_of_2(channels)))
        self.sizes: tuple[int, int] = (channels, space)
        self.tiles: dict[str, Any] = {"LAST": last, "BS": positions, "BC": width}
        self.columns = (len(x), triton.cdiv(channels, width))
        self.all = (*self.columns, triton.cdiv(space, positions))

    def like(self, other: Tensor) -> Tensor:
        """`other` in the memory format of the map."""
        return other.contiguous(memory_format=self.format)

    def sums(self) -> Tensor:
        """Room for a number an image and channel, N x C float32."""
        return self.x.new_empty(self.x.shape[:2], dtype=torch.float32)
