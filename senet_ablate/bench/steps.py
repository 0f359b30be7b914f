"""Steps on a batch that lies on the device:

ours against its floor, and SE-ResNet-50 against ResNet-50.
"""

import gc
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from senet_ablate.bench.clock import seconds
from senet_ablate.bench.contest import in_a_line, random_images
from senet_ablate.bench.parts import Tell, networks, part, sizes, threads
from senet_ablate.models.build import build_model
from senet_ablate.records.bench import Measured, Part
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import SESpec
from senet_ablate.train.cuda_graph import step_for
from senet_ablate.train.loop import prepared, train_step

LARGE_COPY, LARGE_MATRIX = 1 << 25, 1536  # float32 elements, 128 MiB; edge on a CPU
# forward: read, write; backward: read twice for the sums, read twice and write for the gradient
NORM_PASSES = 7


def floor(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Time of our training step against the least that arithmetic and bytes leave, at rates
    measured beside it.
    """
    began, on, rows = time.monotonic(), torch.device(device), []
    bf16 = device != "cpu"
    kind = torch.bfloat16 if bf16 else torch.float32
    for network in networks(device):
        run, images = network.run(bf16), random_images(network.pixels)
        model, optimizer, batches = prepared(run, images, on)
        x, y = next(batches.shuffled(0, 1))
        model.train()
        convolutions, norms = _traffic(model, x, kind.itemsize)
        step = step_for(model, optimizer, on, partial(train_step, spec=run.train))
        found: dict[str, list[float]] = {
            "training step": [],
            "floor": [],
            "floor, convolutions alone": [],
        }
        for number in range(rounds + 1):
            copies, products = _bandwidth(on), _matrix_rate(on, kind)
            least = sum(
                max(operations / products, moved / copies) for operations, moved in convolutions
            )
            taken = seconds(partial(step, x, y), on, max(1, network.steps // 4))
            if number:
                for values, value in zip(
                    found.values(), (taken, least + norms / copies, least), strict=True
                ):
                    values.append(1000 * value)
        rows += [
            Measured(
                group=network.label,
                name=n,
                rounds=tuple(v),
                over="training step" if n != "training step" else "",
            )
            for n, v in found.items()
        ]
        tell(f"floor: {network.label}")
    numbers = "bfloat16" if bf16 else "float32"
    settings = (
        f"One process, {threads(device)}{numbers}. {sizes(device)}. Ratio: the fraction reached."
    )
    return part("ms", False, settings, rows, device, command, began)


def overhead(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """ResNet-50 and SE-ResNet-50 at 224 pixels:

    training step and inference, each way over its own plain network.
    """
    began, on = time.monotonic(), torch.device(device)
    batch = 256 if on.type == "cuda" else 2
    x = torch.randn(batch, 3, 224, 224, device=on).to(memory_format=torch.channels_last)
    y = torch.arange(batch, device=on) % 1000
    numbers = torch.autocast(on.type, torch.bfloat16, enabled=on.type == "cuda")
    kinds = {
        "training step": (_trains, batch),
        "inference": (_infers, batch),
        "inference, one image": (_infers, 1),
    }
    ways = _ways(on, tell)
    for _, _, model in ways:
        model.to(on, memory_format=torch.channels_last)
    times: dict[tuple[str, str], list[float]] = {
        (kind, name): [] for kind in kinds for name, *_ in ways
    }
    for number in range(rounds + 1):
        for name, _, model in ways:
            for kind, (call, images) in kinds.items():
                with numbers:
                    work = partial(call, model, x[:images], y[:images])
                    taken = seconds(work, on, 10 if on.type == "cuda" else 1)
                if number:
                    times[kind, name].append(1000 * taken)
        gc.collect()
        tell(f"overhead: round {number} of {rounds}")
    overs = {name: over for name, over, _ in ways}
    rows = [
        Measured(group=kind, name=name, rounds=tuple(values), over=overs[name])
        for (kind, name), values in times.items()
    ]
    words = "bfloat16 autocast" if on.type == "cuda" else "float32"
    settings = (
        f"224 px, batch {batch}, {threads(device)}{words}, channels_last; forward and backward,"
        " without update."
    )
    return part("ms", False, settings, rows, device, command, began)


def _ways(device: torch.device, tell: Tell) -> list[tuple[str, str, Any]]:
    """Name, name of the plain network it is compared with, and network."""
    try:
        import timm
    except ImportError as error:
        raise BadInput("bench overhead compares with timm: pip install timm") from error
    pairs: dict[str, list[Any]] = {
        "": [build_model("resnet50", 1000, spec) for spec in (None, SESpec())]
    }
    if _compiles(device, tell):
        copies = [build_model("resnet50", 1000, spec).to(device) for spec in (None, SESpec())]
        pairs[", compiled"] = [torch.compile(copy, dynamic=False) for copy in copies]
    pairs[", timm"] = [
        timm.create_model(name, pretrained=False) for name in ("resnet50", "seresnet50")
    ]
    return [
        row
        for way, (plain, se) in pairs.items()
        for row in ((f"plain{way}", "", plain), (f"SE{way}", f"plain{way}", se))
    ]


def _compiles(device: torch.device, tell: Tell) -> bool:
    """Whether torch.compile finds here what it needs: a C++ compiler, on a GPU Triton too."""
    try:
        torch.compile(torch.relu)(torch.ones(3, device=device))
    except Exception as error:  # its errors have no common class
        tell(f"overhead: no compiled rows: {in_a_line(error)}")
        return False
    return True


def _trains(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    nn.functional.cross_entropy(model(x).float(), y).backward()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def _infers(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.eval()(x)


def _traffic(model: nn.Module, x: Tensor, size: int) -> tuple[list[tuple[float, float]], float]:
    """Operations and bytes of each convolution in a step, and bytes of all batch norms; size: bytes
    of a number.

    A convolution makes three products, for which x and dy are read twice, y and dx written; the
    first needs no dx. A batch norm whose statistics cost nothing still makes `NORM_PASSES` over its
    feature map.
    """
    convolutions: list[tuple[float, float]] = []
    norms = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal norms
        if isinstance(module, nn.BatchNorm2d):
            norms += float(size * NORM_PASSES * y.numel())
            return
        assert isinstance(module, nn.Conv2d)
        kernel = module.weight[0].numel()
        passes = 3 if inputs[0].requires_grad else 2
        moved = inputs[0].numel() * passes + y.numel() * passes
        convolutions.append((2.0 * passes * kernel * y.numel(), float(size * moved)))

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return convolutions, norms


def _bandwidth(on: torch.device) -> float:
    """Bytes a second, read and written, of a copy far larger than any cache."""
    source = torch.ones(LARGE_COPY, device=on)
    target = torch.zeros_like(source)
    return 8 * LARGE_COPY / min(seconds(lambda: target.copy_(source), on) for _ in range(4))


def _matrix_rate(on: torch.device, kind: torch.dtype) -> float:
    """Operations a second of a large product."""
    edge = LARGE_MATRIX if on.type == "cpu" else 8192
    a, b = (torch.randn(edge, edge, device=on).to(kind) for _ in range(2))
    return 2 * edge**3 / min(seconds(lambda: a @ b, on) for _ in range(4))
