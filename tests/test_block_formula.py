"""The SE block and the unit that hosts it against their formula:

values, gradients, hooks, transformations.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet_ablate import SEBlock, SESpec, build_model
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import ResidualUnit, bottleneck_unit
from senet_ablate.spec.spec import PLACEMENTS

FORMATS = [torch.channels_last, torch.contiguous_format]
SIZES = {"small": (3, 16, 7, 5), "large": (8, 16, 40, 60)}  # the large map has 307,200 elements

by_layout = pytest.mark.parametrize("layout", FORMATS, ids=["channels_last", "contiguous"])
by_size = pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES)


def random(
    shape: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format, seed: int = 0
) -> Tensor:
    """A float64 leaf."""
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.to(memory_format=layout).requires_grad_()


def set_at_random(module: nn.Module) -> None:
    """Parameters and running statistics of no special value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in (
            *module.parameters(),
            *(b for b in module.buffers() if b.is_floating_point()),
        ):
            value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype) - 0.3)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
                layer.running_var.add_(1)


def random_block(channels: int, **fields: Any) -> SEBlock:
    block = SEBlock(channels, SESpec(4, bias=True, **fields)).double()
    set_at_random(block)
    return block


SQUEEZES: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: x.sum((2, 3), keepdim=True) / x[0, 0].numel(),
    "max": lambda x: x.flatten(2).max(2).values[:, :, None, None],
    "std": lambda x: (x.flatten(2).var(2, correction=0)[:, :, None, None] + 1e-5).sqrt(),
    "none": lambda x: x,
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda logits: 1 / (1 + (-logits).exp()),
    "softmax": lambda logits: logits.exp() / logits.exp().sum(1, keepdim=True),
    "tanh": lambda logits: (logits.exp() - (-logits).exp()) / (logits.exp() + (-logits).exp()),
}


def formula(block: nn.Module, x: Tensor, squeeze: str = "avg", gate: str = "sigmoid") -> Tensor:
    """x * gate(W2 relu(W1 squeeze(x) + b1) + b2) at every position of the descriptor."""
    first, b1, second, b2 = block.parameters()
    z = SQUEEZES[squeeze](x).movedim(1, -1)
    logits = (z @ first.flatten(1).T + b1).clamp(min=0) @ second.flatten(1).T + b2
    return x * GATES[gate](logits.movedim(-1, 1))


def assert_alike(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    """Two tensors of the same leaves have equal values, and equal gradients of a random sum of
    them.
    """
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    dy = random(tuple(ours.shape), seed=2).detach()
    gradients = [
        torch.autograd.grad(y, leaves, dy, allow_unused=True, materialize_grads=True)
        for y in (ours, theirs)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@by_layout
@by_size
@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("gate", GATES)
def test_a_block_has_the_values_and_gradients_of_its_formula(
    shape: tuple[int, ...], layout: torch.memory_format, squeeze: str, gate: str
) -> None:
    block, x = random_block(shape[1], squeeze=squeeze, gate=gate), random(shape, layout)
    y = block(x)
    assert y.is_contiguous(memory_format=layout)
    assert_alike(y, formula(block, x, squeeze, gate), [x, *block.parameters()])


def unit(placement: str, channels: int, stride: int) -> ResidualUnit:
    """A bottleneck unit in float64 with SE in one place, twice as wide and with a projection if its
    stride is 2.
    """
    place = SEPlacement(SESpec(4, bias=True, placement=placement), stages=(2,))  # type: ignore[arg-type]
    outputs = channels * stride
    divisors = (outputs // 8, outputs // 8)
    made = bottleneck_unit(channels, outputs, stride, 2, place, divisors=divisors).double()
    set_at_random(made)
    return made


def unit_formula(unit: ResidualUnit, x: Tensor, placement: str, training: bool) -> Tensor:
    (block,) = (module for module in unit.modules() if isinstance(module, SEBlock))

    def hosted(place: str, features: Tensor) -> Tensor:
        return formula(block, features) if place == placement else features

    def normed(conv: Any, norm: Any, features: Tensor) -> Tensor:
        features = F.conv2d(features, conv.weight, stride=conv.stride, padding=conv.padding)
        state = (norm.running_mean.clone(), norm.running_var.clone())
        return F.batch_norm(features, *state, norm.weight, norm.bias, training=training)

    layers: Any = unit.branch
    residual = normed(layers.conv1, layers.norm1, hosted("pre", x)).clamp(min=0)
    residual = hosted("conv3x3", normed(layers.conv2, layers.norm2, residual)).clamp(min=0)
    residual = hosted("standard", normed(layers.conv3, layers.norm3, residual))
    shortcut: Any = unit.shortcut
    same = isinstance(shortcut, nn.Identity)
    identity = hosted("identity", x if same else normed(shortcut.conv, shortcut.norm, x))
    return hosted("post", (residual + identity).clamp(min=0))


@by_size
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_unit_has_the_values_and_gradients_of_its_formula(
    shape: tuple[int, ...], placement: str, stride: int, training: bool
) -> None:
    made, x = unit(placement, shape[1], stride).train(training), random(shape, torch.channels_last)
    expected = unit_formula(
        made, x, placement, training
    )  # before the unit moves its running statistics
    assert_alike(made(x), expected, [x, *made.parameters()])


@by_layout
@pytest.mark.parametrize("shape", [(32, 64, 8, 8), (16, 64, 32, 32), (2, 256, 28, 28)])
def test_float32_maps_of_real_sizes_agree_with_float64(
    layout: torch.memory_format, shape: tuple[int, int, int, int]
) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        block, x = (
            random_block(shape[1]).to(dtype),
            random(shape, layout).detach().to(dtype).requires_grad_(),
        )
        y = block(x)
        dy = random(shape, layout, seed=2).detach().to(dtype)
        results.append([y, *torch.autograd.grad(y, [x, *block.parameters()], dy)])
    for single, double in zip(*results, strict=True):
        assert (single - double).norm() < 1e-5 * double.norm()


def test_bfloat16_autocast_gives_gradients_close_to_float32() -> None:
    block, results = random_block(32).float(), []
    for dtype in (torch.bfloat16, torch.float32):
        x, dy = (
            random((8, 32, 6, 6), torch.channels_last, seed).detach().to(dtype) for seed in (0, 2)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = block(x.requires_grad_())
        assert y.dtype == dtype
        results.append([y, *torch.autograd.grad(y, [x, *block.parameters()], dy)])
    for coarse, fine in zip(*results, strict=True):
        assert (coarse.float() - fine).norm() < 0.03 * fine.norm()


@by_size
def test_a_constant_gate_leaves_value_and_gradient_as_they_were(shape: tuple[int, ...]) -> None:
    x, dy = random(shape), random(shape, seed=2)
    y = random_block(shape[1], gate="constant")(x)
    assert torch.equal(y, x) and torch.equal(torch.autograd.grad(y, x, dy)[0], dy)


@pytest.mark.parametrize("squeeze", SQUEEZES)
def test_first_and_second_derivatives_are_those_of_finite_differences(squeeze: str) -> None:
    shape = (2, 8, 3, 2)  # a Jacobian of a large map takes 20 GB
    block, x = random_block(shape[1], squeeze=squeeze), random(shape)
    names = [name for name, _ in block.named_parameters()]

    def call(x: Tensor, *weights: Tensor) -> Any:
        return torch.func.functional_call(block, dict(zip(names, weights, strict=True)), (x,))

    inputs = (x, *block.parameters())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(
    "squeeze", ["avg", "max", "std"]
)  # none: a kink of its ReLU at every position
def test_those_of_a_large_map_are_finite_differences_in_a_random_direction(squeeze: str) -> None:
    """Not by gradcheck, which makes the whole Jacobian for the message of its failure."""
    shape, step = SIZES["large"], 1e-6
    block, x, dy = random_block(shape[1], squeeze=squeeze), random(shape), random(shape, seed=2)
    leaves = [x, *block.parameters()]
    directions = [
        random(tuple(leaf.shape), seed=3 + index).detach() for index, leaf in enumerate(leaves)
    ]

    def value() -> Tensor:
        return (block(x) * dy).sum()

    def along(function: Callable[[], Tensor], **options: bool) -> Tensor:
        gradients = torch.autograd.grad(function(), leaves, **options)
        return torch.stack(
            [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
        ).sum()

    def difference(function: Callable[[], Tensor]) -> Tensor:
        found = []
        for move in (step, -2 * step, step):  # there, to the other side, and back
            with torch.no_grad():
                for leaf, direction in zip(leaves, directions, strict=True):
                    leaf.add_(direction, alpha=move)
            found.append(function().detach())
        return (found[0] - found[1]) / (2 * step)

    def slope() -> Tensor:
        return along(value, create_graph=True)

    for function in (value, slope):
        torch.testing.assert_close(along(function), difference(function), rtol=1e-6, atol=0)


@by_size
def test_what_a_hook_puts_in_place_of_the_descriptor_is_differentiated(
    shape: tuple[int, ...],
) -> None:
    block, x, factor = random_block(shape[1]), random(shape), random((1, shape[1], 1, 1), seed=3)
    block.squeeze.register_forward_hook(lambda module, args, z: z * factor)
    first, b1, second, b2 = block.parameters()
    z = (x.mean((2, 3), keepdim=True) * factor).flatten(1)
    gates = ((z @ first.flatten(1).T + b1).relu() @ second.flatten(1).T + b2).sigmoid()
    assert_alike(block(x), x * gates[:, :, None, None], [x, factor, *block.parameters()])


@by_size
def test_hooks_of_every_module_of_a_unit_see_what_it_returns_and_its_gradient(
    shape: tuple[int, ...],
) -> None:
    made, returned, behind = unit("standard", shape[1], 2), {}, set()
    for name, module in made.named_modules():
        module.register_forward_hook(lambda module, args, y, name=name: returned.update({name: y}))
        module.register_full_backward_hook(lambda module, dx, dy, name=name: behind.add(name))
    made(random(shape)).sum().backward()
    assert {*returned} == behind == {name for name, _ in made.named_modules()}
    scaled = returned["branch"] * returned["se_standard.gate"]
    assert torch.equal(returned["se_standard"], scaled), "no shortcut in it"
    assert returned["se_standard.squeeze"].shape == (shape[0], 2 * shape[1], 1, 1)


class Doubled(SEBlock):
    """A block of somebody's own that builds on the paper's."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@by_size
def test_the_forward_of_a_subclass_counts(shape: tuple[int, ...]) -> None:
    made, x = unit("standard", shape[1], 1), random(shape)
    made.se_standard = Doubled(shape[1], SESpec(4, bias=True)).double()
    expected = (2 * formula(made.se_standard, made.branch(x)) + x).relu()
    assert_alike(made(x), expected, [x, *made.parameters()])


@pytest.mark.parametrize("backbone", ["resnet_tiny_bottleneck", "resnet20"])
def test_folding_the_batch_norms_into_the_convolutions_leaves_the_logits(backbone: str) -> None:
    model = build_model(backbone, 5, SESpec()).double()
    set_at_random(model)
    x = random((2, 3, 16, 16)).detach()
    before, folded = model.eval()(x), 0
    for parent in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for (name, conv), (after, layer) in pairwise([*parent.named_children()]):
            if isinstance(conv, nn.Conv2d) and isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, torch.nn.utils.fusion.fuse_conv_bn_eval(conv, layer))
                setattr(parent, after, nn.Identity())
                folded += 1
    assert folded > 9 and not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(x), before, rtol=1e-10, atol=0)


@by_size
def test_torch_func_differentiates_a_block_image_by_image(shape: tuple[int, ...]) -> None:
    block, x = random_block(shape[1]), random(shape)

    def total(image: Tensor) -> Tensor:
        return block(image[None]).square().sum()

    by_image = torch.func.vmap(torch.func.grad(total))(x.detach())
    torch.testing.assert_close(by_image, torch.autograd.grad(block(x).square().sum(), x)[0])


def test_a_network_can_be_traced_and_exported_with_a_batch_of_any_size() -> None:
    model = build_model("resnet_tiny_bottleneck", 5, SESpec()).eval()
    x = torch.randn(64, 3, 16, 16)
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(model, (x[:4],), dynamic_shapes={"input": {0: batch}}).module()
    with torch.no_grad():
        for form in (torch.fx.symbolic_trace(model), exported):
            torch.testing.assert_close(form(x), model(x), rtol=1e-5, atol=1e-5)
