"""The launchers by name: what `run --launcher` chooses from."""

from collections.abc import Callable
from typing import NamedTuple

from senet_ablate.fulfil import Failure, Place
from senet_ablate.registry import BadInput, nearest
from senet_ablate.spec import Run


class Launcher(NamedTuple):
    """How runs are trained.

    launch: trains them, tells of (runs finished, images trained on since the last call), returns those that failed.
    slots: how many run at once, and on what.
    """

    launch: Callable[[list[Run], Place, Callable[[int, int], None]], list[Failure]]
    slots: Callable[[Place], tuple[int, str]]


def launcher_named(name: str) -> Launcher:
    """The launcher `name`. Raises BadInput for an unknown one, or one that is not installed."""
    if name == "local":
        from senet_ablate.launch import launch_local, slots

        return Launcher(launch_local, slots)
    if name == "ray":
        from senet_ablate.launch_ray import launch_ray, slots_of_cluster

        return Launcher(launch_ray, slots_of_cluster)
    raise BadInput(f"--launcher {name!r}: {nearest(name, ['local', 'ray'])}")
