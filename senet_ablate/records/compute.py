"""How the training steps of a run were computed: what moves its last bits and its speed."""

from collections.abc import Iterable
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

    def __str__(self) -> str:
        return ", ".join(f"{name} {_word(value)}" for name, value in self)


def _word(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def differing(computed: Iterable[Compute | None]) -> str:
    """Which settings differ, and how; empty where all are equal. None: written before they were
    kept.
    """
    known = [one for one in computed if one is not None]
    found = []
    for name in Compute.model_fields:
        values = list(dict.fromkeys(_word(getattr(one, name)) for one in known))
        if len(values) > 1:
            found.append(f"{name} {' and '.join(values)}")
    return "; ".join(found)
