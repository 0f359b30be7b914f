"""How this process computes training steps: its libraries' flags, torch.compile; its record."""

from typing import Any

import torch
from torch import Tensor, nn

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


def allow_compilations() -> None:
    """All variants that a process trains are compiled, or none: never silently as written."""
    config: Any = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = COMPILATIONS
    config.fail_on_recompile_limit_hit = True


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


class CompiledUnits(nn.Module):
    """A network whose residual units are compiled, each shape of them once (seconds, where the
    whole network takes a minute); one without such units is compiled as a whole.
    """

    def __init__(self, model: nn.Module, backend: str = "inductor") -> None:
        super().__init__()
        self.model = model
        kinds = (PlainUnit, ResidualUnit)
        units: list[nn.Module] = [one for one in model.modules() if isinstance(one, kinds)]
        self.calls: list[tuple[nn.Module, Any]] = []
        for unit in units or [model]:
            unit.compile(dynamic=False, backend=backend)
            self.calls.append((unit, unit._compiled_call_impl))
            unit._compiled_call_impl = None

    def forward(self, x: Tensor) -> Tensor:
        for unit, call in self.calls:
            unit._compiled_call_impl = call
        try:
            logits: Tensor = self.model(x)
        finally:
            for unit, _ in self.calls:
                unit._compiled_call_impl = None
        return logits
