"""Training steps and inference on a batch that lies on the device.

A machine's speed drifts with its temperature and its other users. So every round times each network
once, and networks are compared within a round.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from senet_ablate.bench.parts import (
    Clock,
    Timed,
    in_a_line,
    networks,
    part,
    random_images,
    seconds,
    sizes,
    threads,
)
from senet_ablate.data import Batches, ImageSet
from senet_ablate.models import build_model
from senet_ablate.records import Part
from senet_ablate.records.bench import WORK, Measured
from senet_ablate.spec import BadInput, Run, SESpec, Training
from senet_ablate.train.loop import make_step, precision, prepared

LARGE_COPY, LARGE_MATRIX = 1 << 25, 1536  # float32 elements, 128 MiB; edge on a CPU
# forward: read, write; backward: read twice for the sums, read twice and write for the gradient
NORM_PASSES = 7
# a recipe's measurement repeats its call until it lasts so long: shorter ones drown in noise
AT_LEAST_S = 0.05
AT_MOST = 50  # calls

Call = Callable[[], object]


def timing(
    timed: Mapping[str, Run],
    images: ImageSet,
    device: torch.device,
    rounds: int,
    command: str,
    progress: Callable[[], object] = lambda: None,
) -> Part:
    """Training step and inference of a recipe's networks (label -> run), side by side.

    All networks are held on the device at once; their order turns from round to round. `progress`
    is called after each measurement. Raises BadInput if they do not fit.
    """
    began = Clock.now()
    try:
        calls = {label: _calls(run, images, device) for label, run in timed.items()}
        by_work = {
            (work, label, "" if label == "plain" else "plain"): calls[label][work]
            for work in WORK.values()
            for label in timed
        }
        rows = in_rounds(by_work, device, rounds, lambda what: progress())
    except torch.OutOfMemoryError as error:
        many = f"{len(timed)} networks at once do not fit this device's memory; leave out --all"
        raise BadInput(many) from error
    rows = [row.model_copy(update={"run": timed[row.name].id}) for row in rows]
    first = next(iter(timed.values()))
    pixels = first.train.crop_size or images.train.images.shape[1]
    settings = f"{pixels} pixels, batches of {first.train.batch_size} images."
    return part(("ms", settings, rows), first, images.checksum, str(device), command, began)


def in_rounds(
    calls: Mapping[tuple[str, str, str], Call],
    device: torch.device,
    rounds: int,
    progress: Callable[[str], object],
) -> list[Measured]:
    """Milliseconds of calls by group, name and the name that it is divided by; their order turns
    from round to round. progress: called with what was measured.
    """
    repeats = {key: _repeats(call, device) for key, call in calls.items()}
    times = {key: list[float]() for key in calls}
    order = list(calls)
    for _ in range(rounds):
        for key in order:
            times[key].append(1000 * seconds(calls[key], device, repeats[key]))
            progress(", ".join(key[:2]))
        order = order[1:] + order[:1]
    return [
        Measured(group=group, name=name, rounds=tuple(values), over=over)
        for (group, name, over), values in times.items()
    ]


def _calls(run: Run, images: ImageSet, device: torch.device) -> dict[str, Call]:
    """Each kind of work, on a network and optimizer of its own and one batch on the device."""
    model, optimizer, batches = prepared(run, images, device)
    step = make_step(run.train, model, optimizer, batches)
    x, y = next(batches.shuffled(run.seed, 1))
    one = next(Batches(images.test, images, run.train, device).in_order())[0][:1]

    def training_step() -> None:
        model.train()
        step(x, y)

    infer = partial(_infers, model, run.train)
    work: tuple[Call, Call, Call] = (training_step, partial(infer, one), partial(infer, x))
    return dict(zip(WORK.values(), work, strict=True))


def _repeats(call: Call, device: torch.device) -> int:
    """How often to make a call in one measurement; warms it up."""
    seconds(call, device, 2)
    return min(AT_MOST, math.ceil(AT_LEAST_S / max(seconds(call, device), 1e-6)))


def floor(device: str, rounds: int) -> Timed:
    """Time of our training step against the least that arithmetic and bytes leave, at rates
    measured beside it.
    """
    on, rows, bf16 = torch.device(device), list[Measured](), device != "cpu"
    kind = torch.bfloat16 if bf16 else torch.float32
    for network in networks(device):
        run = network.run(bf16)
        model, optimizer, batches = prepared(run, random_images(network.pixels), on)
        x, y = next(batches.shuffled(0, 1))
        model.train()
        convolutions, norms = _traffic(model, x, kind.itemsize)
        step = partial(make_step(run.train, model, optimizer, batches), x, y)
        times = {
            name: list[float]() for name in ("training step", "floor", "floor, convolutions alone")
        }
        for _ in range(rounds + 1):
            copies, products = _bandwidth(on), _matrix_rate(on, kind)
            least = sum(
                max(operations / products, moved / copies) for operations, moved in convolutions
            )
            taken = seconds(step, on, max(1, network.steps // 4))
            times["training step"].append(1000 * taken)
            times["floor"].append(1000 * (least + norms / copies))
            times["floor, convolutions alone"].append(1000 * least)
        for name, values in times.items():
            over = "training step" if name != "training step" else ""
            rows.append(
                Measured(group=network.label, name=name, rounds=tuple(values[1:]), over=over)
            )
        print(f"floor: {network.label}")
    settings = (
        f"One process, {threads(device)}{'bfloat16' if bf16 else 'float32'}. {sizes(device)}."
        " Ratio: the fraction reached."
    )
    return "ms", settings, rows


def overhead(device: str, rounds: int) -> Timed:
    """ResNet-50 and SE-ResNet-50 at 224 pixels: training step and inference, each way over its own
    plain network.
    """
    on, gpu = torch.device(device), device != "cpu"
    batch = 256 if gpu else 2
    x = torch.randn(batch, 3, 224, 224, device=on).to(memory_format=torch.channels_last)
    y = torch.arange(batch, device=on) % 1000
    train = networks(device)[0].run(bf16=gpu).train
    calls: dict[tuple[str, str, str], Call] = {}
    for name, over, model in _ways(on):
        model.to(on, memory_format=torch.channels_last)
        calls[WORK["training_step"], name, over] = partial(_trains, model, train, x, y)
        calls["inference", name, over] = partial(_infers, model, train, x)
        calls[WORK["inference"], name, over] = partial(_infers, model, train, x[:1])
    rows = in_rounds(calls, on, rounds, lambda what: print(f"overhead: {what}"))
    settings = (
        f"224 px, batch {batch}, {threads(device)}{'bfloat16 autocast' if gpu else 'float32'},"
        " channels_last; forward and backward, without update."
    )
    return "ms", settings, rows


def _ways(device: torch.device) -> Iterator[tuple[str, str, Any]]:
    """Name, name of the plain network it is compared with, and network."""
    try:
        import timm
    except ImportError as error:
        raise BadInput("bench overhead compares with timm: pip install timm") from error

    def ours() -> list[Any]:
        return [build_model("resnet50", 1000, spec) for spec in (None, SESpec())]

    pairs = {"": ours()}
    if _compiles(device):
        copies = [model.to(device) for model in ours()]
        pairs[", compiled"] = [torch.compile(copy, dynamic=False) for copy in copies]
    pairs[", timm"] = [timm.create_model(name) for name in ("resnet50", "seresnet50")]
    for way, (plain, se) in pairs.items():
        yield f"plain{way}", "", plain
        yield f"SE{way}", f"plain{way}", se


def _compiles(device: torch.device) -> bool:
    """Whether torch.compile finds here what it needs: a C++ compiler, on a GPU Triton too."""
    try:
        torch.compile(torch.relu)(torch.ones(3, device=device))
    except Exception as error:  # its errors have no common class
        print(f"overhead: no compiled rows: {in_a_line(error)}")
        return False
    return True


def _trains(model: nn.Module, train: Training, x: Tensor, y: Tensor) -> None:
    model.train().zero_grad()
    with precision(train, x.device):
        logits = model(x)
    nn.functional.cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def _infers(model: nn.Module, train: Training, x: Tensor) -> None:
    model.eval()
    with precision(train, x.device):
        model(x)


def _traffic(model: nn.Module, x: Tensor, size: int) -> tuple[list[tuple[float, float]], float]:
    """Operations and bytes of each convolution in a step, and bytes of all batch norms; size: bytes
    of a number.

    A convolution makes three products, for which x and dy are read twice, y and dx written; the
    first needs no dx. A batch norm whose statistics cost nothing still makes `NORM_PASSES` over its
    feature map.
    """
    convolutions, norms = list[tuple[float, float]](), list[float]()

    def count(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            norms.append(size * NORM_PASSES * y.numel())
        elif isinstance(module, nn.Conv2d):
            passes = 3 if inputs[0].requires_grad else 2
            moved = passes * (inputs[0].numel() + y.numel())
            operations = 2.0 * passes * module.weight[0].numel() * y.numel()
            convolutions.append((operations, float(size * moved)))

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    model(x)
    for hook in hooks:
        hook.remove()
    return convolutions, sum(norms)


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
