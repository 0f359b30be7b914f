"""How the runs of a sweep are trained: workers of this machine, a Ray cluster, or torchrun."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from senet_ablate.spec import BadInput, Run, nearest
from senet_ablate.train.distributed import torchrun_rank
from senet_ablate.train.job import Failure, Progress, SweepContext


class Launcher(NamedTuple):
    """A way to train many runs.

    launch: trains them and returns those that failed. slots: how many runs at once, and on what.
    """

    launch: Callable[[list[Run], SweepContext, Progress], list[Failure]]
    slots: Callable[[SweepContext], tuple[int, str]]


def get_launcher(name: str) -> Launcher:
    """The launcher of that name; under torchrun, torchrun's. Raises BadInput."""
    if name not in ("local", "ray"):
        raise BadInput(f"--launcher {name!r}: {nearest(name, ['local', 'ray'])}")
    name = name if torchrun_rank() is None else "torchrun"
    module = importlib.import_module(f"{__name__}.{name}")
    return Launcher(module.launch, module.slots)
