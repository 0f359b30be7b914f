"""Several processes train one run together; without a process group each function is a no-op.

    torchrun --nproc-per-node 8 -m senet_ablate run backbones --recipe imagenet

Each process has its slice of every batch, and sees what one process would see: torch's
DistributedDataParallel averages gradients, and batch statistics are those of the whole batch. Sums
are rounded in another order than in one process, so records agree within rounding, not bit for bit.
"""

import datetime
import hashlib
import os
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")
TIMEOUT = datetime.timedelta(hours=24)  # rank 0 alone may evaluate or report for long


def torchrun_rank() -> int | None:
    """The number that torchrun gave this process; None if torchrun did not start it."""
    started = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= set(os.environ)
    return int(os.environ["RANK"]) if started else None


def init_process_group(kind: str) -> torch.device:
    """Join the processes that torchrun started; the device of this one. kind: cpu or cuda."""
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else "cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)  # first, so that no process touches another one's
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    return device


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number; rank 0 writes files."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def all_reduce(value: Tensor) -> Tensor:
    """The sum of a tensor over processes."""
    if is_distributed():
        value = value.clone()
        dist.all_reduce(value)
    return value


def all_gather(value: Tensor) -> Tensor:
    """The tensors of all processes concatenated by rank; their first dimensions may differ."""
    if not is_distributed():
        return value
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, value.cpu())
    return torch.cat(parts).to(value.device)


def broadcast(value: T) -> T:
    """Rank 0's value, in every process."""
    values = [value]
    if is_distributed():
        dist.broadcast_object_list(values)
    return values[0]


def rank_seed(seed: int, rank: int) -> int:
    """The seed of a process's random state: `seed` for rank 0, another one for every other rank."""
    if not rank:
        return seed
    return int.from_bytes(hashlib.sha256(f"rank/{seed}/{rank}".encode()).digest()[:7])


def sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch statistics of the whole batch, whatever slice a process sees.

    On CPUs, whose tensors torch's SyncBatchNorm refuses, every process normalises the whole batch,
    and goes on with its own slice; a norm has to be called as a module, not by its `forward`.
    """
    if not is_distributed():
        return model
    if device.type == "cuda":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return synced
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_whole_batch, with_kwargs=True)
            module.register_forward_hook(_own_slice)
    return model


class _Gather(torch.autograd.Function):
    """`all_gather` of slices of one size, and the sum of what all processes say of its gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return all_gather(own.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce(gradient.contiguous()).chunk(world_size())[rank()]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _whole_batch(norm: nn.Module, inputs: Any, words: Any) -> Any:
    if norm.training:
        inputs = tuple(map(_Gather.apply, inputs))
        words = {name: _Gather.apply(value) for name, value in words.items()}
    return inputs, words


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _own_slice(norm: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    if not norm.training:
        return output
    own = len(output) // world_size()
    return output.narrow(0, rank() * own, own)  # one view: later layers may change it in place
