"""The lean product of the SE block against the product as written."""

import pytest
import torch
from torch import Tensor

from senet_ablate import SEBlock, SESpec
from senet_ablate.backbones.layers import conv
from senet_ablate.kernels import lean

FORMATS = [torch.channels_last, torch.contiguous_format]


@pytest.fixture(params=["as measured", "buffers in cache", "a row at a time"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to reduce, at sizes that a test can afford."""
    monkeypatch.setattr(lean, "SMALL", 1)
    if request.param == "buffers in cache":
        monkeypatch.setattr(lean, "IN_CACHE", 100)
    if request.param == "a row at a time":
        monkeypatch.setattr(lean, "LARGE_IMAGE", 1)


def gradients(block: SEBlock, x: Tensor, dy: Tensor, identity: bool = False) -> list[Tensor]:
    """The block's output and its gradients; identity: of a residual unit that adds its own input."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = block(x * 1, x if identity else None)
    return [y.detach(), *torch.autograd.grad(y, [x, *block.parameters()], dy, allow_unused=True)]  # type: ignore[list-item]


def as_written(block: SEBlock, x: Tensor, dy: Tensor, identity: bool = False) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lean, "SMALL", 1 << 60)
        return gradients(block, x, dy, identity)


@pytest.mark.parametrize("layout", FORMATS, ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("squeeze", ["avg", "max", "std", "none"])
@pytest.mark.parametrize("gate", ["sigmoid", "softmax", "constant"])
@pytest.mark.parametrize("identity", [False, True], ids=["block", "unit"])
def test_the_gradients_are_those_of_the_product(
    way: None, layout: torch.memory_format, squeeze: str, gate: str, identity: bool
) -> None:
    torch.manual_seed(0)
    block = SEBlock(16, SESpec(4, squeeze=squeeze, gate=gate)).double()
    x, dy = (torch.randn(5, 16, 7, 3, dtype=torch.float64).to(memory_format=layout) for _ in range(2))
    for ours, theirs in zip(gradients(block, x, dy, identity), as_written(block, x, dy, identity), strict=True):
        if ours is not None or theirs is not None:
            assert (ours - theirs).abs().max() < 1e-14


@pytest.mark.parametrize("layout", FORMATS, ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("shape", [(32, 64, 8, 8), (16, 64, 32, 32), (2, 256, 28, 28)])
def test_float32_maps_of_real_sizes_agree(layout: torch.memory_format, shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    block = SEBlock(shape[1], SESpec())
    x, dy = (torch.randn(shape).to(memory_format=layout) for _ in range(2))
    for ours, theirs in zip(gradients(block, x, dy), as_written(block, x, dy), strict=True):
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_a_constant_gate_leaves_value_and_gradient_as_they_were(way: None) -> None:
    x, dy = (torch.randn(4, 8, 5, 5) for _ in range(2))
    y, dx = gradients(SEBlock(8, SESpec(gate="constant", reduction=2)), x, dy)[:2]
    assert torch.equal(y, x) and torch.equal(dx, dy)


def test_hooks_see_squeeze_and_gate(way: None) -> None:
    block, seen = SEBlock(16, SESpec()), []
    block.squeeze.register_forward_hook(lambda module, args, out: seen.append(out))
    block.gate.register_forward_hook(lambda module, args, out: seen.append(out))
    block(torch.randn(2, 16, 4, 4, requires_grad=True) * 1)
    assert [part.shape for part in seen] == [(2, 16, 1, 1), (2, 16, 1, 1)]


def test_bfloat16_autocast_gives_gradients_close_to_float32(way: None) -> None:
    torch.manual_seed(0)
    block = SEBlock(32, SESpec())
    x, dy = (torch.randn(8, 32, 6, 6).to(memory_format=torch.channels_last) for _ in range(2))
    exact = gradients(block, x, dy)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(block, x.bfloat16(), dy.bfloat16())
    assert ours[0].dtype == torch.bfloat16
    for coarse, fine in zip(ours, exact, strict=True):
        assert (coarse.float() - fine).norm() < 0.03 * fine.norm()


def test_a_second_derivative_is_refused_in_words(way: None) -> None:
    x = torch.randn(2, 16, 4, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(SEBlock(16, SESpec())(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_evaluation_and_small_maps_take_the_product_itself() -> None:
    block = SEBlock(16, SESpec())
    with torch.no_grad():
        assert block(torch.randn(2, 16, 64, 64)).grad_fn is None
    assert "Mul" in type(block(torch.randn(2, 16, 4, 4, requires_grad=True)).grad_fn).__name__
    assert "Scale" in type(block(torch.randn(8, 16, 32, 32, requires_grad=True)).grad_fn).__name__


@pytest.mark.parametrize(("step", "size"), [(1, 8), (2, 8), (2, 7)])
def test_a_pointwise_convolution_is_one_in_both_of_its_forms(step: int, size: int) -> None:
    layer = conv(12, 20, 1, step).double()
    x = torch.randn(3, 12, size, size, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    product, convolution = layer(x), torch.nn.functional.conv2d(x, layer.weight, stride=step)
    torch.testing.assert_close(product, convolution, rtol=0, atol=1e-13)
    dy = torch.randn_like(product)
    for ours, theirs in zip(
        torch.autograd.grad(product, [x, layer.weight], dy),
        torch.autograd.grad(convolution, [x, layer.weight], dy),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert product.is_contiguous(memory_format=torch.channels_last)
