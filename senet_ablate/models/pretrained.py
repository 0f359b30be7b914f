"""Public checkpoints of torchvision and timm, read into our networks.

A layout says how a file names what ours names otherwise, and in what its network differs from ours
beside the weights. Only what is listed in LAYOUTS is read: every value of the file must find its
place, and every place a value.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from senet_ablate.models.vgg import STAGES as VGG_STAGES
from senet_ablate.spec.registry import BACKBONES, BadInput
from senet_ablate.spec.spec import SESpec

State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One way to write a network down.

    source: who writes it so. mark: a key that only such files have. names: parts of our keys to
    parts of theirs. prepare: turns their values into ours. adapt: changes what holds no weights in
    our network to what theirs computes.
    """

    source: str
    mark: str
    names: dict[str, str]
    prepare: Callable[[State], State] = dict
    adapt: Callable[[nn.Module], None] = lambda model: None

    def theirs(self, key: str) -> str:
        """Their name of the value that ours calls `key`."""
        pattern = "|".join(re.escape(part) for part in sorted(self.names, key=len, reverse=True))
        return re.sub(pattern, lambda match: self.names[match[0]], key)


def _stride_to_3x3(model: nn.Module) -> None:
    """Moves every stride from the first 1x1 to the 3x3 (`v1.5`), which both torchvision's and
    timm's ResNets have.
    """
    for name, layer in model.named_modules():
        if name.endswith(".branch.conv1") and isinstance(layer, nn.Conv2d):
            second = model.get_submodule(name.removesuffix("1") + "2")
            assert isinstance(second, nn.Conv2d)
            layer.stride, second.stride = second.stride, layer.stride


def _pool_from_the_left(model: nn.Module) -> None:
    """The first pooling of Caffe's networks is not padded, and goes over the right edge instead."""
    model.get_submodule("stem").add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))


def _slim_epsilon(model: nn.Module) -> None:
    """TF-Slim's batch norms have epsilon 1e-3."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3


def _fold_biases(state: State) -> State:
    """Takes the convolutions' biases, which ours lack, out of the running means that follow:

    the same in evaluation.
    """
    folded = dict(state)
    for key in state:
        match = re.fullmatch(r"features\.(\d+)\.running_mean", key)
        bias = match and f"features.{int(match[1]) - 1}.bias"
        if bias and bias in folded:
            folded[key] = state[key] - folded.pop(bias)
    return folded


_RESIDUAL = {f"stage{stage}.": f"layer{stage - 1}." for stage in (2, 3, 4, 5)} | {
    ".branch.conv": ".conv",
    ".branch.norm": ".bn",
    ".shortcut.conv.": ".downsample.0.",
    ".shortcut.norm.": ".downsample.1.",
}


def _se(theirs: str) -> dict[str, str]:
    ours = ".se_standard.excitation."
    return {f"{ours}reduce.": f".{theirs}.fc1.", f"{ours}expand.": f".{theirs}.fc2."}


def _torchvision_resnet(adapt: Callable[[nn.Module], None]) -> Layout:
    names = (
        _RESIDUAL | _se("se") | {"stem.conv.": "conv1.", "stem.norm.": "bn1.", "classifier.": "fc."}
    )
    return Layout("torchvision or timm", "conv1.weight", names, adapt=adapt)


_LEGACY = _RESIDUAL | _se("se_module") | {"classifier.": "last_linear."}
_LEGACY_RESNET = Layout(
    "timm, legacy",
    "layer0.conv1.weight",
    _LEGACY | {"stem.conv.": "layer0.conv1.", "stem.norm.": "layer0.bn1."},
    adapt=_pool_from_the_left,
)
_LEGACY_SENET_154 = Layout(
    "timm, legacy",
    "layer0.conv3.weight",
    _LEGACY
    | {f"stem.conv{n}.conv.": f"layer0.conv{n}." for n in (1, 2, 3)}
    | {f"stem.conv{n}.norm.": f"layer0.bn{n}." for n in (1, 2, 3)},
)
_INCEPTION_RESNET = Layout(
    "timm",
    "conv2d_1a.conv.weight",
    {
        "stem.conv1": "conv2d_1a",
        "stem.conv2": "conv2d_2a",
        "stem.conv3": "conv2d_2b",
        "stem.conv4": "conv2d_3b",
        "stem.conv5": "conv2d_4a",
        "widen3.": "mixed_5b.branch",
        "stage3.": "repeat.",
        "reduce4.": "mixed_6a.branch",
        "stage4.": "repeat_1.",
        "reduce5.": "mixed_7a.branch",
        "stage5.": "repeat_2.",
        "stage5.9.branch.paths.": "block8.branch",
        "stage5.9.branch.conv.": "block8.conv2d.",
        "conv6": "conv2d_7b",
        ".branch.paths.": ".branch",
        ".branch.conv.": ".conv2d.",
        ".norm.": ".bn.",
        "classifier.": "classif.",
    },
    adapt=_slim_epsilon,
)


def _vgg(source: str, mark: str, head: dict[str, str]) -> Layout:
    names = dict(head)
    index = 0
    for stage, (_, count) in VGG_STAGES.items():
        for unit in range(count):
            names[f"stage{stage}.{unit}.body.conv."] = f"features.{index}."
            names[f"stage{stage}.{unit}.body.norm."] = f"features.{index + 1}."
            index += 3  # convolution, norm, ReLU
        index += 1  # pooling
    return Layout(source, mark, names, prepare=_fold_biases)


_RESNETS = (_torchvision_resnet(_stride_to_3x3), _LEGACY_RESNET)
_RESNEXTS = (_torchvision_resnet(lambda model: None), _LEGACY_RESNET)
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), _RESNETS),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x4d"), _RESNEXTS),
    "senet154": (_LEGACY_SENET_154,),
    "inception_resnet_v2": (_INCEPTION_RESNET,),
    "vgg16_bn": (
        _vgg(
            "torchvision",
            "classifier.6.weight",
            {
                "hidden.fc1.": "classifier.0.",
                "hidden.fc2.": "classifier.3.",
                "classifier.": "classifier.6.",
            },
        ),
        _vgg(
            "timm",
            "pre_logits.fc1.weight",
            {"hidden.": "pre_logits.", "classifier.": "head.fc."},
        ),
    ),
}


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
    if BACKBONES.check(backbone) not in LAYOUTS:
        raise BadInput(
            f"no public files of {backbone!r} are known; they are of: {', '.join(sorted(LAYOUTS))}"
        )
    state = _read(Path(path))
    layout = next((layout for layout in LAYOUTS[backbone] if layout.mark in state), None)
    if layout is None:
        known = "; ".join(f"{layout.source}, by {layout.mark!r}" for layout in LAYOUTS[backbone])
        raise BadInput(
            f"{path}: not a {backbone} that can be read ({known}); it begins with"
            f" {next(iter(state))!r}"
        )
    state = layout.prepare(state)
    classifier = layout.theirs("classifier.bias")
    if classifier not in state:
        raise BadInput(f"{path}: {classifier!r} is missing")
    with torch.device("meta"):
        model: nn.Module = BACKBONES[backbone](len(state[classifier]), se, "default")
    model.load_state_dict(
        _matched(state, model, layout, f"{path}, as {backbone} ({layout.source})"), assign=True
    )
    layout.adapt(model)
    return model.eval()


def _matched(state: State, model: nn.Module, layout: Layout, where: str) -> State:
    """Their values by our names.

    Raises BadInput unless each fits, and none is missing or left over.
    """
    ours = model.state_dict()
    theirs = {key: layout.theirs(key) for key in ours}
    counters = {
        key for key in ours if key.endswith(".num_batches_tracked")
    }  # files older than PyTorch 0.4 have none
    missing = [theirs[key] for key in ours if key not in counters and theirs[key] not in state]
    unexpected = sorted(state.keys() - set(theirs.values()))
    if missing or unexpected:
        hint = "; with SE or without?" if any(".se" in key for key in missing + unexpected) else ""
        raise BadInput(f"{where}: missing {_some(missing)}; unexpected {_some(unexpected)}{hint}")
    matched = {}
    for key, wanted in ours.items():
        given = state.get(theirs[key], torch.tensor(0))
        # a fully connected layer may be written as a convolution, here or there
        alike = {given.ndim, wanted.ndim} == {2, 4} and given.flatten(1).shape == wanted.flatten(
            1
        ).shape
        value = given.reshape(wanted.shape) if alike else given
        if value.shape != wanted.shape:
            raise BadInput(
                f"{where}: {theirs[key]!r} has shape {_by(given.shape)}, not {_by(wanted.shape)}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise BadInput(f"{where}: {theirs[key]!r} has values that are not finite")
        matched[key] = value.float() if value.is_floating_point() else value
    return matched


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
    except ImportError as error:
        raise BadInput(f"{path}: pip install safetensors to read it") from error
    except Exception as error:  # a damaged file can make the two readers raise anything
        raise BadInput(
            f"{path}: not a state dict that can be read safely: {' '.join(str(error).split())}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise BadInput(f"{path}: not a state dict: names with a tensor each")
    return state


def _some(keys: list[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3]) or "nothing"
    return f"{shown} and {len(keys) - 3} more" if len(keys) > 3 else shown


def _by(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "scalar"
