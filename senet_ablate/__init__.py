"""Which part of a Squeeze-and-Excitation block matters, and can the answer be believed?

Names are loaded when first used, so that reading records and drawing tables never imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_ablate.backbones import build_model, list_backbones
    from senet_ablate.complexity import cost
    from senet_ablate.frame import load_records
    from senet_ablate.se import SEBlock
    from senet_ablate.spec import SESpec

_HOMES = {
    "SESpec": "spec",
    "SEBlock": "se",
    "build_model": "backbones",
    "list_backbones": "backbones",
    "cost": "complexity",
    "load_records": "frame",
}

__all__ = ["SEBlock", "SESpec", "build_model", "cost", "list_backbones", "load_records"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
