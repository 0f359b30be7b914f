"""What a network must do as a plain PyTorch module: one function a check, for tests and for
tools/check_networks.py.

A check takes a Network and leaves it as it was. It raises AssertionError if the network does not do
what it says; what PyTorch raises goes through.
"""

import copy
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, get_args

import torch
from skeletons import skeleton
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.fusion import fuse_conv_bn_eval

from senet_ablate.models.build import build_model
from senet_ablate.models.layers import Random
from senet_ablate.models.se import CannotHost, FCExcitation, SEBlock
from senet_ablate.spec.spec import Placement, SESpec

CLASSES = 5
STEM, PIXELS = "32px", 32  # the stem that every network knows
PLAIN = "plain"
# elements of a map; a fast path that this package once had began there, and was wrong
LARGE = 2**17
# elements of a parameter; larger ones are not differentiated, to stay within 4 GB
LEAF = 2**18
# networks that draw random numbers in training: their values in training are not compared
DRAWS = (
    *("vgg16_bn", "googlenet_bn", "inception_resnet_v2", "senet154"),
    *("shake_shake_26_2x96d", "shake_even_29_2x4x64d"),
)


class Network(NamedTuple):
    """A network in evaluation mode with random weights and statistics; `se` is None for the plain
    one.

    within: how near other logits in float32 must come: 1e-5, or 4 times the distance from those in
    float64 where that is more, as in networks of 50 units, which carry rounding on.
    """

    name: str
    se: SESpec | None
    model: nn.Module
    images: Tensor
    within: float


def spec(placement: str) -> SESpec | None:
    """SE with biases; 2 hidden units or more in the narrowest network."""
    return None if placement == PLAIN else SESpec(8, placement=placement, bias=True)  # type: ignore[arg-type]


@cache
def forms(name: str) -> list[str]:
    """Plain, and the placements of SE that a network can host."""

    def hosted(placement: str) -> bool:
        try:
            skeleton(name, CLASSES, spec(placement), STEM)
        except CannotHost:
            return False
        return True

    return [PLAIN, *(placement for placement in get_args(Placement) if hosted(placement))]


def network(name: str, placement: str = PLAIN) -> Network:
    """The network `name`, small, with SE in one place or plain; its logits differ from image to
    image.
    """
    se = spec(placement)
    model, images = build_model(name, CLASSES, se, stem=STEM), random_images(4, PIXELS)
    set_at_random(model, images)
    with torch.no_grad():
        logits, exact = model(images), in_float64(model)(images.double())
    assert logits.std(0).mean() > 0.01 * logits.abs().max(), "these logits are nearly constant"
    return Network(
        name, se, model, images, max(1e-5, 4 * float((logits - exact).norm() / exact.norm()))
    )


def random_images(count: int, pixels: int) -> Tensor:
    """Standard normal noise, count x 3 x pixels x pixels."""
    return torch.randn(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def set_at_random(model: nn.Module, images: Tensor) -> None:
    """Norms and biases of no special value, running statistics near those of the maps; then
    evaluation mode.

    Norms scale branches down and gates are near 0.9, so that a deep network does not blow rounding
    up.
    """
    generator = torch.Generator().manual_seed(1)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(0.1, 0.4, generator=generator)
        if isinstance(getattr(layer, "bias", None), Tensor):
            layer.bias.uniform_(-0.2, 0.2, generator=generator)
    for block in (module for module in model.modules() if isinstance(module, FCExcitation)):
        block.expand.bias.uniform_(1, 3, generator=generator)
    for layer in norms:
        layer.momentum = 1.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()(images)
    for layer in norms:
        layer.momentum = 0.1
        shift = torch.empty_like(layer.running_mean).uniform_(-0.2, 0.2, generator=generator)
        layer.running_mean.addcmul_(shift, layer.running_var.sqrt())
        layer.running_var.mul_(shift.uniform_(0.7, 1.5, generator=generator))
    model.eval()


def assert_near(ours: Any, theirs: Any, within: float) -> None:
    """Tensors, one or many in a row, whose difference has a norm of `within` of theirs."""
    ours, theirs = (
        [each.detach() for each in ([one] if isinstance(one, Tensor) else one)]
        for one in (ours, theirs)
    )
    # for gradients that are zero but for rounding
    floor = 1e-3 * max(float(other.norm()) for other in theirs)
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        change = float((one - other).norm()) / max(float(other.norm()), floor)
        assert one.shape == other.shape and change <= within, (
            f"number {index} of {len(theirs)} is off by {change:.1e}"
        )


def replaced(model: nn.Module, make: Callable[[SEBlock], nn.Module]) -> nn.Module:
    """The network with another module in place of every SE block; the weights are those of `model`,
    not copies.
    """
    model = copy.deepcopy(
        model, {id(value): value for value in (*model.parameters(), *model.buffers())}
    )
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, SEBlock):
                setattr(parent, name, make(child))
    return model


class Formula(nn.Module):
    """x * sigmoid(W2 relu(W1 mean(x) + b1) + b2), written out, with the weights of a block."""

    def __init__(self, block: SEBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        first, b1, second, b2 = self.block.parameters()
        descriptor = x.flatten(2).sum(2) / (x.shape[2] * x.shape[3])
        logits = (descriptor @ first.flatten(1).T + b1).clamp(min=0) @ second.flatten(1).T + b2
        return x * (1 / (1 + (-logits).exp()))[:, :, None, None]


class Rest(SEBlock):
    """A user's block that builds on the paper's: x and, once more, what SE does not let pass."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - super().forward(x)


class RestFormula(Formula):
    """The same, written out."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - super().forward(x)


def in_float64(model: nn.Module) -> nn.Module:
    """A copy, so that rounding does not carry a ReLU over its kink."""
    return copy.deepcopy(model).double()


def leaves(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are differentiated; the others are frozen."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.numel() <= LEAF)
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def small_and_large(network: Network, count: int) -> Iterator[Tensor]:
    """Images of 24 pixels, and so large ones that some SE block (or convolution) sees LARGE
    elements; in float64.
    """
    kind, handles = SEBlock if network.se else nn.Conv2d, []
    for module in network.model.modules():
        if isinstance(module, kind):
            handles.append(
                module.register_forward_hook(lambda module, args, y: elements.append(y.numel()))
            )
    elements: list[int] = []
    with torch.inference_mode():
        network.model(random_images(count, PIXELS))
    for handle in handles:
        handle.remove()
    large = 8 * math.ceil(PIXELS / 8 * (LARGE / max(elements)) ** 0.5)
    for pixels in sorted({24, max(24, large)}):
        yield random_images(count, pixels).double()


# ---- the checks


def folding(network: Network) -> None:
    """Folding each batch norm that directly follows a convolution leaves the logits, in float64 and
    in float32.
    """
    double, images = in_float64(network.model), network.images.double()
    with torch.no_grad():
        assert_near(folded(double)(images), double(images), 1e-8)
        assert_near(
            folded(network.model)(network.images), network.model(network.images), network.within
        )


def folded(model: nn.Module) -> nn.Module:
    """A copy without the batch norms that alone see what a convolution returns."""
    model = copy.deepcopy(model)
    modules, pairs = dict(model.named_modules()), []
    for node in torch.fx.symbolic_trace(model).graph.nodes:
        if isinstance(modules.get(str(node.target)), nn.BatchNorm2d):
            source = node.args[0]
            while (
                isinstance(modules.get(str(source.target)), nn.Identity) and len(source.users) == 1
            ):
                source = source.args[0]
            if isinstance(modules.get(str(source.target)), nn.Conv2d) and len(source.users) == 1:
                pairs.append((source.target, node.target))
    assert pairs, "no batch norm follows a convolution"
    for conv, norm in pairs:
        model.set_submodule(conv, fuse_conv_bn_eval(modules[conv], modules[norm]))
        model.set_submodule(norm, nn.Identity())
    return model


def hooks(network: Network) -> None:
    """Global and local hooks see every module once, change nothing by looking on, and can switch SE
    off.
    """
    for training in (False, True):
        model = copy.deepcopy(network.model).train(training)
        before = model(network.images).detach()
        with looking_on(model) as seen:
            after = model(network.images).detach()
        for kind, found in seen.items():
            times = Counter(found)
            wrong = {name: times[name] for name, _ in model.named_modules() if times[name] != 1}
            assert not wrong, (
                f"hooks {kind}, training {training}, see a module so many times: {wrong}"
            )
        if training and network.name in DRAWS:
            continue
        assert torch.equal(before, after), "hooks that look on change the logits"
        plain = replaced(model, lambda block: nn.Identity())(network.images).detach()
        assert torch.equal(before, plain) == (network.se is None), "SE changes nothing"
        for block in (module for module in model.modules() if isinstance(module, SEBlock)):
            block.register_forward_hook(lambda block, args, y: args[0])
        assert torch.equal(model(network.images), plain), (
            f"training {training}: hooks cannot switch SE off"
        )


@contextmanager
def looking_on(model: nn.Module) -> Iterator[dict[str, list[str]]]:
    """The names of the modules that hooks of each kind see while the context is open."""
    names = {module: name for name, module in model.named_modules()}
    seen: dict[str, list[str]] = {}

    def look(kind: str) -> Callable[..., None]:
        found = seen[kind] = []
        return lambda module, *_: found.append(names[module])

    handles = [
        register_module_forward_pre_hook(look("global before")),
        register_module_forward_hook(look("global")),
    ]
    before, after = look("local before"), look("local")
    for module in names:
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def users_block(network: Network) -> None:
    """A subclass of SEBlock with a `forward(self, x)` of its own counts, by its name in a
    specification.
    """
    if network.se is None:
        return
    se = replace(network.se, block=f"{Rest.__module__}:{Rest.__name__}")
    theirs = skeleton(network.name, CLASSES, se, STEM).eval()
    theirs.load_state_dict(network.model.state_dict(), assign=True)
    with torch.no_grad():
        ordinary = network.model(network.images)
        change = theirs(network.images) - ordinary
        assert change.norm() > 1e-2 * ordinary.norm(), "it is the ordinary block that counts"
        theirs, images = in_float64(theirs), network.images.double()
        written_out = replaced(theirs, RestFormula)
        for training in (False, True) if network.name not in DRAWS else (False,):
            assert_near(theirs.train(training)(images), written_out.train(training)(images), 1e-8)


def a_deep_copy(network: Network) -> None:
    """`copy.deepcopy` gives equal logits, and its weights are its own."""
    twin = copy.deepcopy(network.model)
    with torch.no_grad():
        logits = network.model(network.images)
        assert torch.equal(twin(network.images), logits), "other logits"
        for value in (*twin.parameters(), *twin.buffers()):
            value.zero_()
        assert torch.equal(network.model(network.images), logits), (
            "a copy shares memory with its original"
        )


def saved_whole(network: Network) -> None:
    """`torch.save` of the whole network: what is loaded again gives equal logits."""
    file = io.BytesIO()
    torch.save(network.model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    with torch.no_grad():
        assert torch.equal(loaded(network.images), network.model(network.images)), "other logits"


def exported(network: Network) -> None:
    """`torch.export` with a batch of any size gives the logits of other batches than the one it
    saw.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(
        network.model, (network.images,), dynamic_shapes=({0: batch},)
    ).module()
    with torch.no_grad():
        for images in (network.images[:1], random_images(7, PIXELS)):
            assert_near(program(images), network.model(images), network.within)


def traced_by_fx(network: Network) -> None:
    """`torch.fx.symbolic_trace` gives equal logits, for other batches and sizes too."""
    graph = torch.fx.symbolic_trace(network.model)
    with torch.no_grad():
        for images in (network.images, random_images(2, PIXELS + 8)):
            assert torch.equal(graph(images), network.model(images)), "other logits"


def traced_by_jit(network: Network) -> None:
    """`torch.jit.trace` with gradients on: logits and gradients of other batches, also when saved
    and loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jit is deprecated, and warns of sizes that it has seen
        traced = torch.jit.trace(network.model, (network.images[:3],))
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    images = random_images(2, PIXELS + 8).requires_grad_()
    logits = network.model(images)
    (expected,) = torch.autograd.grad(logits.square().sum(), images)
    for form in (traced, loaded):
        y = form(images)
        assert_near(y, logits, network.within)
        assert_near(
            torch.autograd.grad(y.square().sum(), images),
            [expected],
            max(1e-3, 10 * network.within),
        )


def gradients_by_image(network: Network) -> None:
    """`torch.func` gives the gradients of every image by itself, as autograd does, on small and on
    large maps.
    """
    model = in_float64(network.model)
    parameters = leaves(model)

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, parameters, (image[None],)).square().sum()

    values = {name: parameter.detach() for name, parameter in parameters.items()}
    for images in small_and_large(network, 2):
        found = vmap(grad(loss), in_dims=(None, 0))(values, images)
        for index, image in enumerate(images):
            expected = torch.autograd.grad(
                model(image[None]).square().sum(), [*parameters.values()]
            )
            assert_near([found[name][index] for name in parameters], expected, 1e-8)


def double_backward(network: Network) -> None:
    """The gradient of a gradient penalty by autograd, by `torch.func` and by the block's formula;
    maps of two sizes.
    """
    model = in_float64(network.model)
    parameters = leaves(model)

    def by_autograd(model: nn.Module, images: Tensor) -> list[Tensor]:
        images.requires_grad_()
        (slope,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
        return [slope.detach(), *torch.autograd.grad(slope.square().sum(), [*parameters.values()])]

    def by_func(images: Tensor) -> list[Tensor]:
        def loss(images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(model, parameters, (images,)).square().sum()

        def penalty(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            slope = grad(loss)(images, parameters)
            return slope.square().sum(), slope

        found, slope = grad(penalty, has_aux=True)(
            {name: value.detach() for name, value in parameters.items()}
        )
        return [slope, *(found[name] for name in parameters)]

    for images in small_and_large(network, 1):
        expected = by_autograd(replaced(model, Formula), images.clone())
        assert_near(by_autograd(model, images.clone()), expected, 1e-8)
        assert_near(by_func(images), expected, 1e-8)


def an_empty_batch(network: Network) -> None:
    """No image gives no logits, 0 x classes, and gradients of zero."""
    logits = network.model(network.images[:0])
    assert logits.shape == (0, CLASSES)
    slopes = torch.autograd.grad(logits.sum(), [*network.model.parameters()])
    assert not any(slope.any() for slope in slopes), "a gradient of no image"


def compiled(network: Network) -> None:
    """`torch.compile` in evaluation and eager agree within rounding: logits in float32."""
    torch.compiler.reset()
    with torch.no_grad():
        assert_near(
            torch.compile(network.model)(network.images),
            network.model(network.images),
            network.within,
        )
    torch.compiler.reset()


def compiled_step(network: Network) -> None:
    """A step by `torch.compile` and eager agree in float64: logits, gradients and, in training,
    running statistics.

    In float32 rounding carries a ReLU over its kink, which moves a layer's gradient by up to a
    tenth (ResNet-164). Networks that draw random numbers take the step in evaluation mode.
    """
    torch.compiler.reset()
    model, images = (
        in_float64(network.model).train(network.name not in DRAWS),
        network.images.double(),
    )
    found = []
    for way in (torch.compile, lambda model: model):
        twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
        logits = way(twin)(images)
        weights = [parameter for parameter in twin.parameters() if parameter.numel() <= LEAF]
        slopes = torch.autograd.grad(logits.square().sum(), weights)
        found.append(
            (logits, slopes, [value for value in twin.buffers() if value.is_floating_point()])
        )
    for ours, theirs in zip(*found, strict=True):
        assert_near(ours, theirs, 1e-8)
    torch.compiler.reset()


CHECKS: list[tuple[str, Callable[[Network], None]]] = [
    ("folding", folding),
    ("hooks", hooks),
    ("user's block", users_block),
    ("deepcopy", a_deep_copy),
    ("torch.save", saved_whole),
    ("torch.export", exported),
    ("torch.fx", traced_by_fx),
    ("jit.trace", traced_by_jit),
    ("torch.func", gradients_by_image),
    ("double backward", double_backward),
    ("empty batch", an_empty_batch),
    ("torch.compile", compiled),
    ("compiled step", compiled_step),
]


def draws(name: str) -> bool:
    """Whether a network has a part that draws random numbers."""
    return any(
        isinstance(module, Random) for module in skeleton(name, CLASSES, stem=STEM).modules()
    )
