"""How the training steps of a run were computed: what moves its last bits and its speed."""

from typing import Literal

from senet_ablate.spec.schema import Frozen

Compiled = Literal["no", "model", "units"]


class Compute(Frozen):
    """Settings of the process that trained a run.

    graph: whether the step was a CUDA graph. compiled: by torch.compile. runs_at_once: in this
    process, each on its own CUDA stream. numerics: native, or portable over makes of CPUs.
    """

    graph: bool = False
    compiled: Compiled = "no"
    runs_at_once: int = 1
    cudnn_deterministic: bool = True
    cudnn_benchmark: bool = False
    tf32: bool = False
    numerics: Literal["native", "portable"] = "native"

    def word(self, setting: str) -> str:
        """A setting in a word."""
        value = getattr(self, setting)
        return ("on" if value else "off") if isinstance(value, bool) else str(value)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.word(name)}" for name in Compute.model_fields)
