"""Times of training and inference as facts:

measured by `timing`, which needs torch; shown by `timing_report`.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from senet_ablate.records.store import Provenance, read_sealed, write_sealed
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Count, Frozen, parse
from senet_ablate.spec.spec import Run, SESpec

log = logging.getLogger(__name__)

Rounds = Annotated[tuple[float, ...], Field(min_length=1, description="seconds, one a round")]


class NetworkTime(Frozen):
    """How long one network takes, round by round; round i of every network was measured in the same
    minute.

    training_step: forward, backward and update of one batch of the recipe. inference: one image.
    inference_batch: as many images as a training batch.
    """

    label: str
    training_step: Rounds
    inference: Rounds
    inference_batch: Rounds


class Timing(Frozen):
    """Networks of one recipe timed side by side on one device.

    networks: id of the network's run with seed 0 -> its times. threads: those of PyTorch on a CPU.
    """

    batch_size: Count
    pixels: Count
    threads: Count
    networks: dict[str, NetworkTime]
    provenance: Provenance


def pair(plan: Plan) -> dict[str, Run]:
    """The two networks that the paper timed, plain and with SE, under this recipe."""
    return {"plain": Run(plan.recipe.train, None, 0), "SE": Run(plan.recipe.train, SESpec(), 0)}


def ratio(over: Sequence[float], under: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratio of two networks' times, round by
    round.
    """
    low, middle, high = np.quantile(np.asarray(over) / np.asarray(under), (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def write_timing(results: Path, recipe: str, timing: Timing) -> Path:
    """Write the times of a device, in place of older ones of the same device and threads; returns
    the path.
    """
    device = (
        f"{timing.provenance.device} {timing.threads} threads"
        if _on_cpu(timing)
        else timing.provenance.device
    )
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    path = results / recipe / f"timing-{slug}.json"
    write_sealed(path, timing.model_dump(mode="json"))
    return path


def read_timing(path: Path, plan: Plan) -> Timing:
    """The times in a file. Raises BadInput if it is damaged or of another recipe's networks."""
    content = read_sealed(path)
    try:
        timing = parse(Timing, content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    missing = [label for label, run in pair(plan).items() if run.id not in timing.networks]
    if missing:
        raise BadInput(
            f"{path}: has no time of {' and '.join(missing)} under recipe {plan.recipe_name!r} as"
            " it is now"
        )
    if (
        len(
            {
                len(times)
                for one in timing.networks.values()
                for times in (one.training_step, one.inference)
            }
        )
        > 1
    ):
        raise BadInput(f"{path}: its networks have different numbers of rounds")
    return timing


def timing_files(results: Path, recipe: str) -> list[Path]:
    """Every file of times of a recipe."""
    return sorted((results / recipe).glob("timing-*.json"))


def read_timings(plan: Plan, results: Path) -> list[Timing]:
    """The sound times of a recipe, one a device; an unsound file is named in a warning."""
    timings = []
    for path in timing_files(results, plan.recipe_name):
        try:
            timings.append(read_timing(path, plan))
        except BadInput as error:
            log.warning("left out: %s", error)
    return timings


def device_name(timing: Timing) -> str:
    """The device as a heading, with the threads where they matter."""
    threads = f", {timing.threads} thread{'s' * (timing.threads > 1)}" if _on_cpu(timing) else ""
    return f"{timing.provenance.device.removeprefix('cpu: ')}{threads}"


def _on_cpu(timing: Timing) -> bool:
    return timing.provenance.device.startswith("cpu: ")
