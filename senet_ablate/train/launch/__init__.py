"""How the runs of a sweep are trained: workers of this machine, a Ray cluster, or torchrun.

Each module has `launch(runs, context, progress)`, which trains runs and returns those that failed,
and `slots(context)`: how many runs at once, and on what.
"""

import importlib
from types import ModuleType

from senet_ablate.spec import BadInput, nearest
from senet_ablate.train.distributed import torchrun_rank


def get_launcher(name: str) -> ModuleType:
    """The launcher of that name; under torchrun, torchrun's. Raises BadInput."""
    if name not in ("local", "ray"):
        raise BadInput(f"--launcher {name!r}: {nearest(name, ['local', 'ray'])}")
    return importlib.import_module(f"{__name__}.{name if torchrun_rank() is None else 'torchrun'}")
