"""Runs one after the other, each trained by all processes that torchrun started.

For networks that want many GPUs:

    torchrun --nproc-per-node 8 -m senet_ablate run backbones --recipe imagenet

All processes go through the same list; rank 0 holds the lock of a run, decides for all whether it
is to be trained, and writes.
"""

import os
import signal
from collections import deque

import torch
import torch.distributed as dist

from senet_ablate.spec import BadInput, Run
from senet_ablate.train.checkpoint import Interrupted, StopRequest
from senet_ablate.train.distributed import all_reduce, broadcast, init_process_group, world_size
from senet_ablate.train.job import (
    Failure,
    Progress,
    RunStatus,
    SweepContext,
    attempt,
    configure_worker,
)
from senet_ablate.train.launch.local import devices


def slots(context: SweepContext) -> tuple[int, str]:
    """One run at a time, on a device for each process. Raises BadInput where there are too few."""
    if ":" in context.device:
        raise BadInput(
            f"--device {context.device}: under torchrun, each process has the GPU of its number;"
            " use cuda"
        )
    here, local = devices(context.device), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here[0] != "cpu" and len(here) < local:
        raise BadInput(f"torchrun started {local} processes here, and there are {len(here)} GPUs")
    return 1, f"{os.environ['WORLD_SIZE']} processes on {here[0].partition(':')[0]}"


def launch(runs: list[Run], context: SweepContext, progress: Progress) -> list[Failure]:
    """Train `runs` one by one; returns those that failed.

    A failure ends the sweep: processes that failed apart cannot go on in step.
    """
    device = init_process_group(devices(context.device)[0].partition(":")[0])
    configure_worker(device)
    runs = broadcast(runs)  # records may have appeared between two processes' looks at the folder
    for run in runs:
        if run.train.batch_size % world_size():
            raise BadInput(
                f"batch_size {run.train.batch_size} is no multiple of {world_size()} processes"
            )
    queue = deque(runs)
    while queue:
        run = queue.popleft()
        answer = attempt(run, context, device, lambda images: progress(0, images, [run]))  # noqa: B023
        if isinstance(answer, Failure):  # the others may wait for this process within the run
            why = f"not tried, since run {run.id} failed"
            return [answer, *(Failure(other, why) for other in queue)]
        stop = all_reduce(torch.tensor(StopRequest.signal, device=device))  # in an evaluation, say
        if stop and queue:
            raise Interrupted(signal.SIGTERM)
        if answer is RunStatus.BUSY:
            queue.append(run)
        else:
            progress(1, 0, [])
    dist.destroy_process_group()
    return []
