"""Which instructions a CPU computes with: the widest it has, or the same ones on every x86 machine.

Under three settings together, training gave the same bits on two makes of x86 processor
(docs/numerics.md). torch reads them as it is loaded; worker processes inherit them.
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from senet_ablate.spec import BadInput, Training

PORTABLE = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE"}
if platform.machine().lower() not in ("x86_64", "amd64"):  # an ARM machine has none of these
    PORTABLE = {}
_START = f"start Python with {' '.join(f'{name}={value}' for name, value in PORTABLE.items())}"


def settings() -> dict[str, str]:
    """The settings of this process that choose a CPU's instructions."""
    return {name: os.environ[name] for name in PORTABLE if name in os.environ}


def set_numerics(train: Training) -> None:
    """Set what a recipe's `numerics` asks for. Raises BadInput if torch was loaded without it."""
    if train.numerics == "portable" and settings() != PORTABLE:
        if "torch" in sys.modules:
            raise BadInput(f"numerics: portable must be set before torch is loaded: {_START}")
        os.environ.update(PORTABLE)


@contextmanager
def numerics_of_workers(train: Training) -> Iterator[None]:
    """Processes started while the context is open compute with a recipe's `numerics`."""
    before = settings()
    if train.numerics == "portable":
        os.environ.update(PORTABLE)
    try:
        yield
    finally:
        for name in PORTABLE:
            os.environ.pop(name, None)
        os.environ.update(before)


def check_numerics(train: Training) -> None:
    """Raises BadInput if this process computes in another way than `train` asks for.

    A processor without AVX2 computes with what it has; its records say so.
    """
    import torch

    portable = train.numerics == "portable" and torch.cpu._is_avx2_supported()
    if portable and (settings() != PORTABLE or torch.backends.cpu.get_cpu_capability() != "AVX2"):
        raise BadInput(f"this process does not compute with numerics: portable; {_START}")
