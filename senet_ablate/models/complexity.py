"""Parameters and multiply-adds of a network, in all and by module.

Counting is PyTorch's own (torch.utils.flop_counter), which sees the operations that really run, so
a user's block is counted without help. It knows convolutions and matrix products; global pooling
and scaling, one operation an element each, are added here, because the paper's 3.87 G for
SE-ResNet-50 holds them (Tables 2 and 16; we count 3.8605 without, 3.8716 with). Pooling over
windows is not counted.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from senet_ablate.models.layers import draw_from
from senet_ablate.models.se import se_blocks
from senet_ablate.spec import BadInput


@dataclass(frozen=True)
class Cost:
    """Learnable parameters, and multiply-adds of one image; `_by_module`: by dotted path."""

    params: int
    macs: int
    params_by_module: dict[str, int]
    macs_by_module: dict[str, int]


def _an_operation_an_input(shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Of maps of images; the counter counts a multiply-add as two."""
    return 2 * math.prod(shape) if len(shape) > 2 else 0


def _an_operation_an_output(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(out_shape)


_POOLING = ("mean", "sum", "amax", "max", "_adaptive_avg_pool2d", "adaptive_max_pool2d")
_POOLING_AND_SCALING = {
    **{getattr(torch.ops.aten, name): _an_operation_an_input for name in _POOLING},
    torch.ops.aten.mul: _an_operation_an_output,
    torch.ops.aten.mul_: _an_operation_an_output,
}


def _counted(model: nn.Module, input_shape: tuple[int, int, int], device: str) -> FlopCounterMode:
    twin = copy.deepcopy(model).to(device).eval()
    draw_from(twin, None)  # a generator is of one device

    def same_shape(block: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if output.shape != inputs[0].shape:  # an addition would broadcast it without a word
            shapes = f"{[*inputs[0].shape]} in, {[*output.shape]} out"
            raise BadInput(
                f"{type(block).__name__} changes the shape of what it is given: {shapes}"
            )

    for block in se_blocks(twin).values():
        block.register_forward_hook(same_shape)
    counter = FlopCounterMode(display=False, custom_mapping=_POOLING_AND_SCALING)
    with counter, torch.no_grad(), torch.random.fork_rng(devices=[]):
        twin(torch.zeros(1, *input_shape, device=device))
    return counter


def cost(model: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Cost of one forward pass over one image of `input_shape` (channels, height, width); the model
    stays as it is. One on the meta device is counted, too, unless an operator reads values. Raises
    BadInput for an SE block that returns another shape than it is given.
    """
    try:
        counter = _counted(model, input_shape, "meta")
    except RuntimeError as error:
        if "meta" not in str(error) or any(one.is_meta for one in model.parameters()):
            raise
        counter = _counted(model, input_shape, "cpu")  # an operator that reads values
    params = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in model.named_modules()
    }
    total, root, operations = params.pop(""), type(model).__name__, counter.get_flop_counts()
    macs = {path: sum(operations.get(f"{root}.{path}", {}).values()) // 2 for path in params}
    return Cost(total, counter.get_total_flops() // 2, params, macs)
