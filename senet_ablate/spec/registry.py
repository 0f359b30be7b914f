"""The one way from a name in a file or on a command line to code.

Names are listed here without importing the code behind them, so that a recipe or an experiment can
be checked, and a table rendered, on a machine that has no torch. An entry is either the object
itself or a reference `module:attribute` that is imported when first asked for. A reference that a
user writes in place of a name (`their_module:TheirSqueeze`) is resolved in the same way.
"""

import difflib
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class BadInput(ValueError):
    """Something a user wrote is wrong; the message says what, where, and what is allowed."""


SYNONYMS = {"mean": "avg", "average": "avg", "imagenet": "image-folder"}


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that points from a name that does not exist to the ones that do."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    close = [SYNONYMS[name]] if SYNONYMS.get(name) in names else close
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


class Registry(dict[str, Any]):
    """Parts of one kind by name; explains a miss. `SQUEEZES["mine"] = squeeze` adds one for as long
    as the process lives."""

    def __init__(self, kind: str, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.kind = kind

    def check(self, name: str) -> str:
        """Return `name` if it is known or a `module:attribute` reference; imports nothing.

        Raises BadInput.
        """
        if name in self or _is_reference(name):
            return name
        raise BadInput(
            f"unknown {self.kind} {name!r}; {nearest(name, self)}; or your own as 'module:name'"
        )

    def __getitem__(self, name: str) -> Any:
        """The part behind a name or reference. Raises BadInput if there is none."""
        entry = self.get(self.check(name), name)
        return _import(entry, self.kind) if isinstance(entry, str) else entry


def _is_reference(name: str) -> bool:
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), attribute))


def _import(reference: str, kind: str) -> Any:
    here = str(Path.cwd())  # a user's own part lies where they work; a command does not look there
    if here not in sys.path:
        sys.path.append(here)
    try:
        return pkgutil.resolve_name(reference)
    except Exception as error:  # whatever a user's module does wrong when it is imported
        where, module = "", sys.modules.get(reference.partition(":")[0])
        if module is not None:  # another one of that name, perhaps
            where = f" (found {getattr(module, '__file__', None) or 'a part of Python itself'})"
        elif isinstance(error, ModuleNotFoundError):
            where = f" (looked in {here} and on Python's path)"
        why = f"{type(error).__name__}: {error}{where}"
        raise BadInput(f"{kind} {reference!r} cannot be imported: {why}") from error


def _in(module: str, **parts: str) -> dict[str, str]:
    """Where each part of a module of the package is."""
    return {name: f"senet_ablate.{module}:{attribute}" for name, attribute in parts.items()}


BLOCKS = Registry("block", _in("models.se", se="SEBlock"))
SQUEEZES = Registry(
    "squeeze",
    _in(
        "models.se",
        avg="avg_squeeze",
        max="max_squeeze",
        none="no_squeeze",
        std="std_squeeze",
        ones="ones_squeeze",
        random="RandomSqueeze",
    ),
)
EXCITATIONS = Registry("excitation", _in("models.se", fc="FCExcitation", none="NoExcitation"))
GATES = Registry(
    "gate",
    {
        name: f"senet_ablate.models.se:{name}_gate"
        for name in ("sigmoid", "tanh", "relu", "hard_sigmoid", "softmax", "constant")
    },
)
_NETWORKS = {
    "resnet": (
        *("resnet_tiny_bottleneck", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        *("resnet20_bottleneck", "resnet29_bottleneck", "resnet56_bottleneck", "resnet164"),
        *("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x4d", "senet154"),
    ),
    "vgg": ("vgg16_bn",),
    "inception": ("googlenet_bn", "bn_inception"),
    "inception_resnet": ("inception_resnet_v2",),
    "mobilenet": ("mobilenet_v1",),
    "shufflenet": ("shufflenet_v1_g3",),
    "preact": ("preact_resnet110", "preact_resnet164", "wrn_16_8"),
    "shake": ("shake_shake_26_2x96d", "shake_even_29_2x4x64d"),
}
BACKBONES = Registry(
    "backbone",
    {name: f"senet_ablate.models.{file}:{name}" for file in _NETWORKS for name in _NETWORKS[file]},
)
DATASETS = Registry(
    "dataset",
    {
        "cue": "senet_ablate.data.cue:load",
        "cue-negative": "senet_ablate.data.cue:load_negative",
        "digits": "senet_ablate.data.digits:load",
        "cifar10": "senet_ablate.data.cifar:load_cifar10",
        "cifar100": "senet_ablate.data.cifar:load_cifar100",
        "tiny-imagenet": "senet_ablate.data.tiny_imagenet:load",
        "image-folder": "senet_ablate.data.image_folder:load",
        "image-stream": "senet_ablate.data.streaming:load",
        "own-images": "senet_ablate.data.image_folder:load_own",
    },
)
CLAIM_KINDS = Registry(
    "claim kind",
    _in(
        "analysis.claims.errors",
        better="Better",
        no_worse="NoWorse",
        similar="Similar",
        differ="Differ",
        contrast="Contrast",
    )
    | _in("analysis.claims.exact", identical="Identical", ratio="Ratio", none="Untestable")
    | _in(
        "analysis.claims.observed", gates_rise="GatesRise", gates_within="GatesWithin", time="Time"
    ),
)
