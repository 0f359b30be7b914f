"""How this process computes training steps: its libraries' flags, torch.compile; its record."""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from senet_ablate.models.units import PlainUnit, ResidualUnit
from senet_ablate.records import Compute
from senet_ablate.spec import Training

COMPILATIONS = 4096  # in a process: a dozen shapes of unit for each variant that it trains


def set_flags() -> None:
    """float32 means float32, and a run on a GPU repeats as far as its libraries can."""
    # what `allow_tf32` falls back to, and oneDNN's convolutions: torch's newer API alone sets them
    torch.backends.cudnn.fp32_precision = "ieee"
    torch.backends.mkldnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False  # would choose another algorithm on another day
    torch.backends.cudnn.deterministic = True


def compute_of(train: Training, graph: bool, runs_at_once: int) -> Compute:
    """What holds for a run that this process trains now."""
    return Compute(
        graph=graph,
        compiled="units" if train.compile == "units" else "model" if train.compile else "no",
        runs_at_once=runs_at_once,
        cudnn_deterministic=torch.backends.cudnn.deterministic,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        tf32=torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest",
        numerics=train.numerics,
    )


def compile_training(model: nn.Module, units: bool, backend: Any = "inductor") -> list[nn.Module]:
    """Compile what a network computes in training, in place; evaluations run it as written, whose
    hooks fire. Returns the modules that are compiled.

    units: its residual units, each shape of them once (seconds, where the whole network takes a
    minute); a network without such units is compiled as a whole.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = COMPILATIONS
    config.fail_on_recompile_limit_hit = True  # all variants are compiled, or none
    kinds = (PlainUnit, ResidualUnit)
    parts: list[nn.Module] = [one for one in model.modules() if units and isinstance(one, kinds)]
    parts = parts or [model]
    compiled = torch.compile(_as_written, dynamic=False, backend=backend)
    for part in parts:  # by weak references, so that a network goes when its run does
        part._compiled_call_impl = partial(_in_training, weakref.ref(part), compiled)
    return parts


def _as_written(module: nn.Module, *inputs: Any, **words: Any) -> Any:
    """A function of this package, since torch.compile leaves out those of torch's own modules."""
    return nn.Module._call_impl(module, *inputs, **words)  # type: ignore[no-untyped-call]


def _in_training(
    part: "weakref.ref[nn.Module]", compiled: Callable[..., Any], *inputs: Any, **words: Any
) -> Any:
    module = part()
    assert module is not None  # it is being called
    return (compiled if module.training else _as_written)(module, *inputs, **words)
