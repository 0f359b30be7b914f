"""Public checkpoints of torchvision and timm, read into our networks.

Their networks have the same layers in the same order as ours, so the names in a file are those of
the library's own network, built without memory, and the n-th of its values is the n-th of ours.
Every value of the file must find its place, and every place a value of its shape.
"""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from senet_ablate.models.build import build_model
from senet_ablate.spec import BACKBONES, BadInput, SESpec

State = dict[str, Tensor]


def _stride_in_3x3(model: nn.Module) -> None:
    """Moves every stride from the first 1x1 to the 3x3 (`v1.5`)."""
    for name, layer in model.named_modules():
        if name.endswith(".branch.conv1") and isinstance(layer, nn.Conv2d):
            second = model.get_submodule(name.removesuffix("1") + "2")
            assert isinstance(second, nn.Conv2d)
            layer.stride, second.stride = second.stride, layer.stride


def _pool_from_the_left(model: nn.Module) -> None:
    """Caffe does not pad the first pooling, but goes over the right edge."""
    model.get_submodule("stem").add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))


def _slim_epsilon(model: nn.Module) -> None:
    """TF-Slim's batch norms have epsilon 1e-3."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3


def _fold_biases(state: State) -> State:
    """Takes the biases of VGG's convolutions, which ours lack, out of the running means that
    follow: the same in evaluation."""
    folded = dict(state)
    for key, value in state.items():
        match = re.fullmatch(r"features\.(\d+)\.running_mean", key)
        bias = match and f"features.{int(match[1]) - 1}.bias"
        if bias and bias in folded:
            folded[key] = value - folded.pop(bias)
    return folded


def _unchanged(model: nn.Module) -> None:
    pass


Adapt = Callable[[nn.Module], None]
_RESNETS: dict[str, Adapt] = {
    "resnet50": _stride_in_3x3,
    "resnet101": _stride_in_3x3,
    "resnet152": _stride_in_3x3,
    "resnext50_32x4d": _unchanged,
    "resnext101_32x4d": _unchanged,
}
SOURCES: dict[str, dict[str, Adapt]] = {
    **{name: {f"torchvision.{name}": adapt} for name, adapt in _RESNETS.items()},
    **{
        f"{name} with SE": {f"timm.se{name}": adapt, f"timm.legacy_se{name}": _pool_from_the_left}
        for name, adapt in _RESNETS.items()
    },
    "resnext101_32x4d": {"timm.resnext101_32x4d": _unchanged},  # torchvision has none
    "senet154 with SE": {"timm.legacy_senet154": _unchanged},
    "inception_resnet_v2": {"timm.inception_resnet_v2": _slim_epsilon},
    "vgg16_bn": {"torchvision.vgg16_bn": _unchanged, "timm.vgg16_bn": _unchanged},
}
"""Backbone -> the networks whose files it can read -> what changes that which holds no weights in
ours to what theirs computes."""


def import_weights(path: Path | str, backbone: str, se: SESpec | None = None) -> nn.Module:
    """The network `backbone` with the weights of a public file, in evaluation mode: N x 3 x H x W
    in, logits out.

    path: a state dict, `.safetensors` or what torch.save wrote (read without running code). se:
    None for a plain network; `SESpec(bias=True)` for the published SE networks, whose two layers
    have a bias. The number of classes is the file's. What is returned computes what the file's own
    network computes: where that one differs from ours in something that holds no weights
    (torchvision's ResNets have their stride in the 3x3, Caffe's align the first pooling left,
    TF-Slim's batch norms have epsilon 1e-3), the returned one differs from `build_model(backbone)`
    too. Weights become float32. Raises BadInput, naming the file and what is missing, left over, of
    another shape or not finite.
    """
    BACKBONES.check(backbone)
    sources = SOURCES.get(f"{backbone} with SE" if se else backbone)
    if sources is None:
        raise BadInput(
            f"no public files of {backbone!r} {'with' if se else 'without'} SE are known; they are"
            f" of: {', '.join(sorted(SOURCES))}"
        )
    state = _fold_biases(_read(Path(path)))
    for source in sources:
        theirs = _names(source)
        if theirs[-1] in state:  # the classifier's bias
            break
    where = f"{path}, as {source}"
    counters = {key for key in theirs if key.endswith(".num_batches_tracked")}  # since PyTorch 0.4
    missing = [key for key in theirs if key not in state and key not in counters]
    unexpected = [key for key in state if key not in theirs]
    if missing or unexpected:
        hint = "; with SE or without?" if any(".se" in key for key in missing + unexpected) else ""
        raise BadInput(f"{where}: missing {_some(missing)}; unexpected {_some(unexpected)}{hint}")
    with torch.device("meta"):
        model = build_model(backbone, state[theirs[-1]].numel(), se)
    ours = model.state_dict()
    if len(ours) != len(theirs):
        raise BadInput(
            f"{where}: it has {len(theirs)} values, {backbone} with {se} has {len(ours)}; public SE"
            " networks have bias=true and SE in all stages"
        )
    matched = {}
    for (key, wanted), name in zip(ours.items(), theirs, strict=True):
        if name.rpartition(".")[2] != key.rpartition(".")[2]:
            raise BadInput(f"{where}: {name!r} stands where {key!r} should")
        value = state.get(name, torch.tensor(0))
        matched[key] = _fitted(value, wanted, f"{where}: {name!r}")
    model.load_state_dict(matched, assign=True)
    sources[source](model)
    return model.eval()


def _names(source: str) -> list[str]:
    """The names of the values in a file of `torchvision.resnet50` or the like, in order."""
    library, _, name = source.partition(".")
    try:
        module = import_module("torchvision.models" if library == "torchvision" else library)
    except ImportError as error:
        raise BadInput(f"pip install {library} to read files of its networks") from error
    make = module.get_model if library == "torchvision" else module.create_model
    with torch.device("meta"):
        return [*_fold_biases(make(name).state_dict())]


def _fitted(value: Tensor, wanted: Tensor, where: str) -> Tensor:
    """A file's value in float32. Raises BadInput unless it fits and is finite."""
    # a fully connected layer may be written as a convolution, here or there
    if {value.ndim, wanted.ndim} == {2, 4} and value.numel() == wanted.numel():
        value = value.reshape(wanted.shape)
    if value.shape != wanted.shape:
        has, needs = (" x ".join(map(str, one.shape)) or "scalar" for one in (value, wanted))
        raise BadInput(f"{where} has shape {has}, not {needs}")
    if not wanted.is_floating_point():
        return value
    if not value.is_floating_point():
        raise BadInput(f"{where} is of {value.dtype}, not of floating-point numbers")
    if not value.isfinite().all():
        raise BadInput(f"{where} has values that are not finite")
    return value.float()


def _read(path: Path) -> State:
    """The state dict in a file. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the two readers raise anything
        raise BadInput(
            f"{path}: not a state dict that can be read safely: {_what_it_is(path)}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    tensors = isinstance(state, dict) and all(isinstance(one, Tensor) for one in state.values())
    if not state or not tensors:
        holds = f"it holds {_some([*state])}" if isinstance(state, dict) else type(state).__name__
        raise BadInput(f"{path}: not a state dict, names with a tensor each: {holds}")
    return dict(state)


def _what_it_is(path: Path) -> str:
    """What a file that cannot be read seems to be, by its first bytes, and what to do about it."""
    with path.open("rb") as file:
        head = file.read(64)
    kinds = {
        b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` gets the file itself",
        b"<": "a web page; download the file again",
        b"\x1f\x8b": "a gzip archive; unpack it first",
        b"PK": "a file of torch.save, damaged or of more than tensors; save a state_dict()",
    }
    if not head:
        return "it is empty"
    if head[8:9] == b"{":
        return "it is a safetensors file, or was one; its name must end in .safetensors"
    known = (words for beginning, words in kinds.items() if head.lstrip().startswith(beginning))
    return f"it is {next(known, 'damaged, or something else')}"


def _some(keys: list[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3]) or "nothing"
    return f"{shown} and {len(keys) - 3} more" if len(keys) > 3 else shown
