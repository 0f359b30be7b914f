"""Runs one after the other, each trained by all processes that torchrun started: for networks that
want many GPUs.

    torchrun --nproc-per-node 8 -m senet_ablate run backbones --recipe imagenet

Rank 0 holds the lock, decides what is left to do, and writes; the others are told.
"""

import os
import time
from collections import deque
from collections.abc import Callable

from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run
from senet_ablate.train.distributed import Together
from senet_ablate.train.job import Failure, Outcome, Place, fulfil, trained
from senet_ablate.train.launch.local import LOOK_AGAIN, devices, settle
from senet_ablate.train.provenance import code_state, training_code


def slots_of_team(place: Place) -> tuple[int, str]:
    """One run at a time, on as many devices as there are processes.

    Raises BadInput where a machine has too few.
    """
    kind, local = (
        devices(place.device)[0].partition(":")[0],
        int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )
    if ":" in place.device:
        raise BadInput(
            f"--device {place.device}: under torchrun, each process has the GPU of its number; use"
            " cuda"
        )
    if kind == "cuda" and len(devices("cuda")) < local:
        raise BadInput(
            f"torchrun started {local} processes here, and there are {len(devices('cuda'))} GPUs"
        )
    return 1, f"{os.environ['WORLD_SIZE']} processes on {kind}"


def launch_torchrun(
    runs: list[Run], place: Place, progress: Callable[[int, int], None]
) -> list[Failure]:
    """Train `runs` one by one and, in rank 0, write their records; returns the one that failed and
    those after it.

    As `launch_local`, but that a failure ends the sweep: processes that failed apart cannot go on
    in step.
    """
    team = Together(devices(place.device)[0].partition(":")[0])
    settle(team.device)
    code_state(), training_code()
    for run in runs:
        if run.train.batch_size % team.size:
            raise BadInput(
                f"batch_size {run.train.batch_size} is no multiple of {team.size} processes"
            )
    failures = _lead(team, runs, place, progress) if team.rank == 0 else _follow(team, place)
    if not failures:
        team.leave()
    return failures


def _lead(
    team: Together, runs: list[Run], place: Place, progress: Callable[[int, int], None]
) -> list[Failure]:
    queue = deque(runs)
    while queue:
        run = queue.popleft()
        try:
            outcome = fulfil(run, place, team.device, lambda images: progress(0, images), team)
        except (
            Exception
        ) as error:  # whatever goes wrong in a user's operator, in memory, or on the disk
            why = f"not tried, since run {run.id} failed"
            return [
                Failure(run, f"{type(error).__name__}: {error}"),
                *(Failure(other, why) for other in queue),
            ]
        if outcome is Outcome.BUSY:
            queue.append(run)
            time.sleep(LOOK_AGAIN)
        else:
            progress(1, 0)
    team.tell(None)
    return []


def _follow(team: Together, place: Place) -> list[Failure]:
    while run := team.tell(None):
        try:
            trained(run, place, team.device, lambda images: None, team)
        except Exception as error:  # as above; rank 0 names it, or names the loss of this process
            return [Failure(run, f"{type(error).__name__}: {error}")]
    return []
