"""Which part of a Squeeze-and-Excitation block matters, and can the answer be believed?

Names are loaded when first used, so that reading records and drawing tables never imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_ablate.analysis.frame import load_records
    from senet_ablate.models import SEBlock, build_model, cost, list_backbones
    from senet_ablate.spec import SESpec

_HOMES = {
    "SESpec": "spec",
    **dict.fromkeys(("SEBlock", "build_model", "list_backbones", "cost"), "models"),
    "load_records": "analysis.frame",
}

__all__ = ["SEBlock", "SESpec", "build_model", "cost", "list_backbones", "load_records"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
