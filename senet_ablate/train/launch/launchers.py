"""The launchers by name: what `run --launcher` chooses from."""

import os
from collections.abc import Callable
from typing import NamedTuple

from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.spec import Run
from senet_ablate.train.job import Failure, Place


class Launcher(NamedTuple):
    """How runs are trained.

    launch: trains them, tells of (runs finished, images trained on since the last call), returns
    those that failed. slots: how many run at once, and on what.
    """

    launch: Callable[[list[Run], Place, Callable[[int, int], None]], list[Failure]]
    slots: Callable[[Place], tuple[int, str]]


def rank() -> int | None:
    """This process's number among those that torchrun started; None where it did not."""
    return (
        int(os.environ["RANK"]) if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= set(os.environ) else None
    )


def launcher_named(name: str) -> Launcher:
    """The launcher `name`. Raises BadInput for an unknown one, or one that is not installed."""
    if name == "local":
        from senet_ablate.train.launch.local import launch_local, slots

        return Launcher(launch_local, slots)
    if name == "ray":
        from senet_ablate.train.launch.ray import launch_ray, slots_of_cluster

        return Launcher(launch_ray, slots_of_cluster)
    if name == "torchrun" and rank() is not None:
        from senet_ablate.train.launch.torchrun import launch_torchrun, slots_of_team

        return Launcher(launch_torchrun, slots_of_team)
    raise BadInput(f"--launcher {name!r}: {nearest(name, ['local', 'ray'])}")
