"""The measurements of `bench`: each part is a function of device, rounds and command that returns its facts."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from senet_ablate.backbones import build_model
from senet_ablate.bench_facts import Measured, Part
from senet_ablate.contest import Contest, Loop, Network, random_images
from senet_ablate.kernels.engine import Engine, engine, forced
from senet_ablate.loading import CROP, images_per_second, ways, write_images
from senet_ablate.provenance import provenance
from senet_ablate.registry import BadInput
from senet_ablate.spec import SESpec
from senet_ablate.train import prepared, train_step

LARGE_COPY, LARGE_MATRIX = 1 << 25, 1536  # elements; edge

Tell = Callable[[str], None]


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def networks(on_gpu: bool) -> list[Network]:
    """What is trained: on a GPU the networks of the cifar recipes, on a CPU smaller ones."""
    if on_gpu:
        names, batch, steps = ("resnet20", "resnet56_bottleneck"), 128, 100
        return [Network(name, se, 32, batch, steps) for name in names for se in (False, True)]
    tiny = [Network("resnet_tiny_bottleneck", se, 16, 32, 20, "16px") for se in (False, True)]
    return tiny + [
        Network(name, se, 32, batch, 4)
        for name, batch in (("resnet20", 64), ("resnet29_bottleneck", 32))
        for se in (False, True)
    ]


def loop(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Images a second in training, ours and the classic loop, plain and SE."""
    started, all_cores, on_gpu = time.time(), cores(), device != "cpu"
    loops = [
        Loop("classic loop", True, 1, all_cores),
        Loop("classic, step alone", True, 1, all_cores, data=False),
        Loop("ours, one process", False, 1, all_cores),
    ]
    if on_gpu:
        loops.insert(1, Loop("classic loop, AMP", True, 1, all_cores, amp=True))
    else:
        loops.append(Loop("ours, a process a core", False, all_cores, 1))
    found: dict[tuple[Network, str], list[float]] = {}
    with Contest(loops, networks(on_gpu), device) as contest:
        for number in range(rounds):
            for network in networks(on_gpu):
                for way in loops:
                    found.setdefault((network, way.name), []).append(contest.images_per_second(way.name, network))
            tell(f"loop: round {number + 1} of {rounds}")
    rows = [
        Measured(
            group=network.label, name=way, rounds=tuple(values), over="" if way == "classic loop" else "classic loop"
        )
        for (network, way), values in found.items()
    ]
    sizes = "; ".join(dict.fromkeys(f"{n.backbone}: {n.pixels} px, batch {n.batch}" for n in networks(on_gpu)))
    settings = (
        f"Random uint8 images, crops and flips, SGD with momentum, float32. {sizes}. A loop runs while the others wait."
    )
    return _part("images/s", True, settings, rows, device, command, started)


def floor(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Time of our training step against the least that arithmetic and bytes leave, at rates measured beside it."""
    started, on, rows = time.time(), torch.device(device), []
    for network in networks(device != "cpu"):
        run, images = network.run, random_images(network.pixels)
        model, optimizer, batches = prepared(run, images, on)
        x, y = next(batches.shuffled(0, 1))
        model.train()
        layers = _layers(model, x)
        steps, floors = [], []
        for number in range(rounds + 1):
            copies, products = _bandwidth(on), _matrix_rate(on)
            least = sum(max(operations / products, moved / copies) for operations, moved in layers)
            seconds = _seconds(partial(train_step, model, optimizer, x, y, run.train), on, max(1, network.steps // 4))
            if number:
                steps.append(1000 * seconds)
                floors.append(1000 * least)
        rows.append(Measured(group=network.label, name="training step", rounds=tuple(steps)))
        rows.append(Measured(group=network.label, name="floor", rounds=tuple(floors), over="training step"))
        tell(f"floor: {network.label}")
    settings = (
        f"One process, {_threads(device)}float32, the networks and batches of `loop`. Ratio: the fraction reached."
    )
    return _part("ms", False, settings, rows, device, command, started)


def overhead(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """ResNet-50 and SE-ResNet-50 at 224 pixels: training step and inference, each way over its own plain network."""
    started, on = time.time(), torch.device(device)
    batch = 256 if on.type == "cuda" else 2
    x = torch.randn(batch, 3, 224, 224, device=on).to(memory_format=torch.channels_last)
    y = torch.arange(batch, device=on) % 1000
    plain, se = (build_model("resnet50", 1000, spec) for spec in (None, SESpec()))
    ways: list[tuple[str, str, nn.Module, Engine]] = [
        (f"{name}, {way}", f"plain, {way}" if name == "SE" else "", model, way)
        for way in (("fused", "lean", "naive") if engine(on) == "fused" else ("lean", "naive"))
        for name, model in (("plain", plain), ("SE", se))
    ]
    ways += [(f"{name}, timm", over, model, "naive") for name, over, model in _timms()]
    times: dict[tuple[str, str], list[float]] = {}
    overs = {name: over for name, over, _, _ in ways}
    for _, _, model, _ in ways:
        model.to(on, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for number in range(rounds + 1):
        for name, _, model, way in ways:
            with forced(way), torch.autocast(on.type, torch.bfloat16, enabled=on.type == "cuda"):
                for kind, call, images in (
                    ("training step", _trains, batch),
                    ("inference", _infers, batch),
                    ("inference, one image", _infers, 1),
                ):
                    seconds = _seconds(partial(call, model, x[:images], y[:images]), on, 10 if on.type == "cuda" else 1)
                    if number:
                        times.setdefault((kind, name), []).append(1000 * seconds)
        tell(f"overhead: round {number} of {rounds}")
    rows = [
        Measured(group=kind, name=name, rounds=tuple(values), over=overs[name])
        for (kind, name), values in sorted(times.items(), key=lambda item: item[0][0].startswith("inference"))
    ]
    numbers = "bfloat16 autocast" if on.type == "cuda" else "float32"
    settings = (
        f"224 px, batch {batch}, {_threads(device)}{numbers}, channels_last; forward and backward, without update."
    )
    return _part("ms", False, settings, rows, device, command, started)


def start(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Seconds of a fresh process that takes one training step, and of one that only imports PyTorch."""
    started = time.time()
    first = f"from senet_ablate.bench_parts import first_step; first_step({device!r})"
    times: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, code in (("import torch alone", "import torch"), ("to the first step", first)):
            begun = time.perf_counter()
            _fresh(code)
            times.setdefault(name, []).append(time.perf_counter() - begun)
        tell(f"start: round {number + 1} of {rounds}")
    rows = [Measured(group="process", name=name, rounds=tuple(values)) for name, values in times.items()]
    return _part("s", False, "The SE network of the first row of `loop`.", rows, device, command, started)


def memory(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Peak memory of fresh processes that take three training steps, plain and SE, ours and as written."""
    started, rows = time.time(), []
    network = networks(device != "cpu")[-1]
    best = engine(torch.device(device))
    for way in (best, "naive"):
        for name in ("plain", "SE"):
            code = f"from senet_ablate.bench_parts import peak; print(peak({device!r}, {name == 'SE'}, {way!r}))"
            found = tuple(float(_fresh(code).split()[-1]) for _ in range(rounds))
            over = f"plain, {way}" if name == "SE" else ""
            rows.append(Measured(group=network.backbone, name=f"{name}, {way}", rounds=found, over=over))
            tell(f"memory: {name}, {way}")
    settings = f"{network.backbone}, {network.pixels} px, batch {network.batch}, float32."
    return _part("MB", False, settings, rows, device, command, started)


def loader(device: str, rounds: int, command: str, tell: Tell) -> Part:
    """Images a second that one core decodes and crops, library by library."""
    started, found = time.time(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        for number in range(rounds + 1):
            for name, decode in ways().items():
                rate = images_per_second(decode, paths)
                if number:
                    found.setdefault(name, []).append(rate)
            tell(f"loader: round {number} of {rounds}")
    ours = next(iter(found))
    rows = [
        Measured(group="one core", name=name, rounds=tuple(values), over="" if name == ours else ours)
        for name, values in found.items()
    ]
    settings = f"{len(paths)} JPEG files of 375 x 500 pixels and the like, random crops resized to {CROP}, one thread."
    return _part("images/s", True, settings, rows, device, command, started)


def first_step(device: str) -> None:
    """One training step of the first SE network."""
    network = networks(device != "cpu")[1]
    model, optimizer, batches = prepared(network.run, random_images(network.pixels), torch.device(device))
    x, y = next(batches.shuffled(0, 1))
    float(train_step(model.train(), optimizer, x, y, network.run.train)[0])


def peak(device: str, se: bool, way: Engine) -> float:
    """Peak memory in MB after three training steps of the last network of `networks`."""
    import resource

    torch.set_num_threads(1)
    network = next(n for n in reversed(networks(device != "cpu")) if n.se == se)
    model, optimizer, batches = prepared(network.run, random_images(network.pixels), torch.device(device))
    x, y = next(batches.shuffled(0, 1))
    with forced(way):
        for _ in range(3):
            train_step(model.train(), optimizer, x, y, network.run.train)
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes a unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


MEASURES: dict[str, Callable[[str, int, str, Tell], Part]] = {
    "loop": loop,
    "floor": floor,
    "overhead": overhead,
    "start": start,
    "memory": memory,
    "loader": loader,
}


def _part(
    unit: str, more: bool, settings: str, rows: list[Measured], device: str, command: str, started: float
) -> Part:
    run = networks(device != "cpu")[0].run
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else None
    where = provenance(run, random_images(8).checksum, torch.device(device), command, started, 0.0)
    return Part(unit=unit, more_is_better=more, settings=settings, load=load, rows=tuple(rows), provenance=where)


def _timms() -> list[tuple[str, str, nn.Module]]:
    try:
        import timm
    except ImportError as error:
        raise BadInput("bench overhead compares with timm: pip install timm") from error
    plain, se = (timm.create_model(name, pretrained=False) for name in ("resnet50", "seresnet50"))
    return [("plain", "", plain), ("SE", "plain, timm", se)]


def _trains(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    nn.functional.cross_entropy(model(x).float(), y).backward()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def _infers(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.eval()(x)


def _layers(model: nn.Module, x: Tensor) -> list[tuple[float, float]]:
    """Operations and bytes of each convolution in a step: three products; x and dy are read twice, y and dx written.

    The first layer needs no dx. bfloat16 would halve the bytes; this counts float32.
    """
    found: list[tuple[float, float]] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        kernel = module.weight[0].numel()
        passes = 3 if inputs[0].requires_grad else 2
        read = inputs[0].numel() * (passes if passes == 3 else 2) + y.numel() * passes
        found.append((2.0 * passes * kernel * y.numel(), 4.0 * read))

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def _bandwidth(on: torch.device) -> float:
    """Bytes a second, read and written, of a copy far larger than any cache."""
    source = torch.ones(LARGE_COPY, device=on)
    target = torch.zeros_like(source)
    return 8 * LARGE_COPY / min(_seconds(lambda: target.copy_(source), on, 1) for _ in range(3))


def _matrix_rate(on: torch.device) -> float:
    """Operations a second of a large float32 product."""
    a, b = (torch.randn(LARGE_MATRIX, LARGE_MATRIX, device=on) for _ in range(2))
    return 2 * LARGE_MATRIX**3 / min(_seconds(lambda: a @ b, on, 1) for _ in range(3))


def _seconds(call: Callable[[], object], on: torch.device, repeats: int) -> float:
    gc.collect()
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return (time.perf_counter() - started) / repeats


def _threads(device: str) -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}, " if device == "cpu" else ""


def _fresh(code: str) -> str:
    """What a process of its own prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
