"""How the runs of a sweep are trained: workers of this machine, a Ray cluster, or torchrun."""

from collections.abc import Callable
from typing import NamedTuple

from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.spec import Run
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
    if torchrun_rank() is not None:
        from senet_ablate.train.launch import torchrun

        return Launcher(torchrun.launch, torchrun.slots)
    if name == "ray":
        from senet_ablate.train.launch import ray

        return Launcher(ray.launch, ray.slots)
    from senet_ablate.train.launch import local

    return Launcher(local.launch, local.slots)
