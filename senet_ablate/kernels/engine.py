"""The one switch between ways of computing the same networks: Triton kernels, lean PyTorch, and PyTorch as written."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

import torch

from senet_ablate.kernels.fused import Passes

log = logging.getLogger(__name__)

Engine = Literal["fused", "lean", "naive"]
_forced: Engine | None = None


def engine(device: torch.device) -> Engine:
    """How networks compute on `device`: "fused" needs a GPU and Triton, else "lean"; "naive" only where forced."""
    if torch.compiler.is_compiling():
        return "naive"
    return _forced or _best(device.type)


@contextmanager
def forced(choice: Engine) -> Iterator[None]:
    """Compute in one way inside the context, for comparisons."""
    global _forced
    before, _forced = _forced, choice
    try:
        yield
    finally:
        _forced = before


@lru_cache
def passes() -> Passes:
    """The kernels of the fused engine; Triton is imported here, on first use."""
    from senet_ablate.kernels.triton_passes import Kernels

    return Kernels()


@lru_cache
def _best(kind: str) -> Engine:
    if kind == "cuda" and importlib.util.find_spec("triton") is not None:
        return "fused"
    if kind != "meta":
        log.info(
            "SE blocks take the lean PyTorch path: %s", "no Triton" if kind == "cuda" else f"device {kind}, no GPU"
        )
    return "lean"
