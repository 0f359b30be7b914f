"""One run trained by several processes: each has its slice of every batch, and all see what one
process would see.

Gradients are averaged by torch's DistributedDataParallel. Batch statistics are those of the whole
batch: torch's SyncBatchNorm on GPUs, and, as that refuses CPU tensors, SyncedNorm on CPUs. Sums are
rounded in another order than in one process, so records agree within rounding and not bit for bit.
"""

import datetime
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from senet_ablate.models.layers import generator_of
from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Checkpoints, Interrupted, Loop, Origin
from senet_ablate.train.single import Team, own_seed

AGREED_EVERY = (
    10  # steps between two looks at whether any process was asked to stop, or a checkpoint is due
)


class _Sum(torch.autograd.Function):
    """The sum over processes, in both directions:

    each process's value is in every process's result.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def summed(value: Tensor) -> Tensor:
    """The sum of a value over processes, with its gradient (torch.distributed.nn.functional's,
    which is deprecated).
    """
    total: Tensor = _Sum.apply(value)
    return total


class SyncedNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the batches of all processes, differentiably, on any
    device.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values, shape = x.float(), (1, -1, 1, 1)
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = summed(values.sum((0, 2, 3))) / count
        centred = values - mean.view(shape)
        var = summed(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert (
                self.running_mean is not None
                and self.running_var is not None
                and self.momentum is not None
            )
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = (var + self.eps).rsqrt() * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class Together(Team):
    """This process as one of those that torchrun started. `kind`: cpu or cuda."""

    def __init__(self, kind: str) -> None:
        local = int(os.environ["LOCAL_RANK"])
        self.device = torch.device(f"cuda:{local}" if kind == "cuda" else "cpu")
        if kind == "cuda":
            torch.cuda.set_device(self.device)
        # An evaluation or a report of rank 0 alone may take long; a process that dies is torchrun's
        # to notice.
        wait = datetime.timedelta(hours=24)
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=wait)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def synchronised(self, model: nn.Module) -> nn.Module:
        if self.device.type == "cuda":
            synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            return synced
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = (
                    SyncedNorm  # the same parameters and buffers, another way to use them
                )
        return model

    def spread(self, model: nn.Module) -> nn.Module:
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def total(self, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    def joined(self, value: Tensor) -> Tensor:
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, value.cpu())
        return torch.cat([part for part in parts if part is not None])

    def tell(self, run: Run | None) -> Run | None:
        told = [run]
        dist.broadcast_object_list(told)
        return told[0]

    def leave(self) -> None:
        """End the work in common."""
        dist.destroy_process_group()

    def checkpoints(self, path: Path, origin: Origin, every: float) -> Checkpoints:
        return SharedCheckpoints(path, origin, every, self)


class SharedCheckpoints(Checkpoints):
    """One checkpoint for all processes, written by rank 0 at a step that all agree on.

    What rank 0's random state was goes on; the other processes draw anew from the run's place. Sums
    of the epoch in progress are kept as totals.
    """

    def __init__(self, path: Path, origin: Origin, every: float, team: Together) -> None:
        super().__init__(path, origin, every)
        self.team, self.steps = team, 0

    def _resume(self, loop: Loop) -> None:
        if self.team.rank == 0:
            super()._resume(loop)
        tensors = [loop.tensors() if self.team.rank == 0 else None]
        reached = [loop.reached if self.team.rank == 0 else None]
        dist.broadcast_object_list(tensors)
        dist.broadcast_object_list(reached)
        if self.team.rank and tensors[0] is not None and reached[0] is not None:
            loop.restore(reached[0], tensors[0])
            loop.loss_sum.zero_()
            loop.right.zero_()
            seed = own_seed(loop.epoch * 10**9 + loop.step, self.team.rank)
            torch.manual_seed(seed)
            if generator := generator_of(loop.model):
                generator.manual_seed(seed)

    def after_step(self, loop: Loop) -> None:
        self.steps += 1
        if self.steps % AGREED_EVERY == 0:
            flags = torch.tensor(
                [self.asked, self.team.rank == 0 and self._due()], device=loop.device
            )
            asked, due = self.team.total(flags).tolist()
            if asked:
                raise Interrupted(self.asked)
            if due:
                self._write(loop)

    def between(self) -> None:
        """An evaluation is gone through with:

        processes that leave it would leave the others waiting.
        """

    def _write(self, loop: Loop) -> None:
        own = loop.loss_sum, loop.right
        loop.loss_sum, loop.right = self.team.total(loop.loss_sum), self.team.total(loop.right)
        if self.team.rank == 0:
            super()._write(loop)
        loop.loss_sum, loop.right = own
