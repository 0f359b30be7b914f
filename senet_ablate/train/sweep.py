"""A sweep: which runs of a plan are missing, how long they take, and training them.

plan = read_plan("cifar100")
failures = Sweep(plan, SweepContext.of(plan, Path("results"), Path("data"))).train()
"""

import logging
import statistics
import tempfile
import time
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from senet_ablate.data import ImageSet, load_images
from senet_ablate.models import CannotHost, Cost, build_model, cost
from senet_ablate.models.build import build_to_count
from senet_ablate.records import Compute, read_records
from senet_ablate.spec import BadInput, Plan, Run
from senet_ablate.train.compute import compute_of, set_flags
from senet_ablate.train.cuda_graph import CaptureError
from senet_ablate.train.job import (
    OUT_OF_MEMORY,
    Failure,
    Progress,
    SweepContext,
    images_seen,
    remove_finished,
)
from senet_ablate.train.launch import get_launcher, local
from senet_ablate.train.loop import first_steps
from senet_ablate.train.provenance import own_operators

log = logging.getLogger(__name__)


class Sweep:
    """The runs of a plan that have no record: `pending`.

    Raises BadInput for whatever is wrong before training: images that are missing, a network that
    cannot host its block, records of other images, an unknown launcher or device.
    """

    def __init__(
        self, plan: Plan, context: SweepContext, launcher: str = "local", download: bool = False
    ) -> None:
        self.plan, self.context, self.runs = plan, context, plan.runs()
        self.launcher = get_launcher(launcher)
        if context.runs_per_gpu != 1 and self.launcher is not local:
            raise BadInput("--runs-per-gpu is for --launcher local; Ray has --gpus-per-run")
        self.images = load_images(plan.recipe.train, context.data, download)
        check_networks(plan, len(self.images.classes))
        self.pending = pending(plan, context.results, self.images)

    @property
    def compute(self) -> Compute:
        """How the runs are computed, where all steps can be captured."""
        set_flags()
        kind = self.launcher.slots(self.context)[1]
        train, at_once = self.plan.recipe.train, self.context.runs_per_gpu
        return compute_of(train, kind.startswith("cuda"), max(1, at_once))

    @property
    def pending_images(self) -> int:
        """How many images the pending runs train on."""
        return sum(images_seen(run, len(self.images.train)) for run in self.pending)

    def train(self, progress: Progress = lambda finished, images, running: None) -> list[Failure]:
        """Train what is pending and write its records; returns the runs that failed.

        Raises OSError for a folder that cannot be written, before anything is trained.
        """
        folder = self.context.results / self.context.recipe
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        remove_finished(self.context)
        return self.launcher.launch(self.pending, self.context, progress)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """Parameters and multiply-adds of each row's network, by the row's name.

        Raises BadInput for a network that images do not go through.
        """
        size = self.plan.recipe.train.crop_size or self.images.train.images.shape[1]
        found = {}
        for row in self.plan.rows():
            train, se = row.runs[0].train, row.runs[0].se
            classes = len(self.images.classes)
            try:
                model = build_to_count(train.backbone, classes, se, train.stem)
                found[row.name] = cost(model, (3, size, size))
                own = bool(own_operators(row.runs[0]))  # which may read values
                images = torch.zeros(2, 3, size, size, device="cpu" if own else "meta")
                with torch.no_grad():
                    logits = model.eval()(images)
                if logits.shape != (2, classes):
                    shape = " x ".join(map(str, logits.shape))
                    raise ValueError(f"2 images give {shape} logits, not 2 x {classes}")
            except Exception as error:  # in a user's operator; images too small for a network
                raise _explained(row.name, row.runs[0], error, size) from error
            if own and mixes_images(row.runs[0], classes, size):
                log.warning(
                    "%s: what it answers to an image depends on the images beside it", row.name
                )
        return found

    def estimate_s(self) -> float | None:
        """Seconds that the pending runs take, but for checkpoints, from a few timed steps of one.

        Runs that share a GPU are taken not to slow each other. None where this machine has no
        device of the kind that the launcher trains on.
        """
        slots, kind = self.launcher.slots(self.context)
        try:
            device = local.first_device(kind.split()[-1])
        except BadInput:
            return None
        probe, count = self.pending[0], len(self.images.train)
        macs = {run.id: self.costs[self.plan.names[run.id][0]].macs for run in self.pending}
        try:
            rate = seconds_per_image(probe, self.images, device) / macs[probe.id]
        except BadInput:
            raise
        except Exception as error:  # in a user's operator
            name, size = self.plan.names[probe.id][0], self.images.train.images.shape[1]
            raise _explained(name, probe, error, size) from error
        work = sum(macs[run.id] * images_seen(run, count) for run in self.pending)
        return rate * work / min(slots, len(self.pending))


def _explained(name: str, run: Run, error: Exception, size: int) -> BadInput:
    """What went wrong with a row's network, and, where parts of a user's own are in it, which."""
    what = f"{name}: {type(error).__name__}: {error} (images of {size} pixels)"
    if own := ", ".join(own_operators(run)):
        what += f"; your own: {own}, see CONTRIBUTING.md for the shapes"
    return BadInput(what)


def mixes_images(run: Run, classes: int, size: int) -> bool:
    """Whether a network answers otherwise to an image alone than in a batch, when it is evaluated;
    not so for one that answers differently each time, or on this CPU not at all.
    """
    try:
        model = build_model(run.train.backbone, classes, run.se, stem=run.train.stem).eval()
        images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
        images *= torch.tensor([1.0, 0.1, 3.0, 0.5]).reshape(4, 1, 1, 1)  # no two alike
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            batch, again, alone = model(images), model(images), model(images[:1])
    except Exception:  # training says what is wrong
        return False
    alike = partial(torch.allclose, rtol=1e-4, atol=1e-4 * float(batch.abs().max()))
    return alike(batch, again) and not alike(batch[:1], alone)


def check_compiler() -> None:
    """Raises BadInput if torch.compile does not work on this machine."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8))
    except Exception as error:  # compilers fail in many ways
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"compile: true, and torch.compile does not work here: {why}; install a C++ compiler"
        ) from error


def check_networks(plan: Plan, classes: int) -> None:
    """Build every row's network, on the meta device.

    Raises BadInput if one cannot host its SE block, two of a table are the same network, or a
    row that the recipe declares as impossible (`cannot_host`) can be built.
    """
    if plan.recipe.train.compile:
        check_compiler()
    seen: dict[tuple[object, ...], str] = {}
    for row in plan.rows():
        run = row.runs[0]
        try:
            model = _on_meta(run, classes)
        except CannotHost as error:
            raise BadInput(
                f"{row.name}: {error}; if that is as it should be, say so under"
                f" `cannot_host` in recipe {plan.recipe_name!r}"
            ) from error
        except BadInput:
            raise
        except Exception as error:  # in a user's block
            raise BadInput(f"{row.name}: {type(error).__name__}: {error}") from error
        # parts of a user's own may compute differently and print alike
        own = run.se and run.se.canonical() if own_operators(run) else None
        key = (row.experiment, repr(model), run.train.model_dump_json(), own)
        other = seen.setdefault(key, row.variant)
        if other != row.variant:
            raise BadInput(
                f"experiment {row.experiment!r}: under recipe {plan.recipe_name!r} the variants"
                f" {other!r} and {row.variant!r} are the same network, trained in the same way"
            )
    for entry in plan.recipe.cannot_host:
        experiment, _, variant = entry.partition("/")
        if experiment in plan.experiments:
            run = plan.run(plan.experiments[experiment].variants[variant], seed=0)
            try:
                _on_meta(run, classes)
            except CannotHost:
                continue
            raise BadInput(
                f"recipe {plan.recipe_name!r}, key cannot_host: {entry} can be built after all"
            )


def _on_meta(run: Run, classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(run.train.backbone, classes, run.se, stem=run.train.stem)


def pending(plan: Plan, results: Path, images: ImageSet) -> list[Run]:
    """The runs of a plan without a record, breadth first.

    Raises BadInput if a record is of other images, or of an own operator since edited.
    """
    done, folder = read_records(results, plan.recipe_name), results / plan.recipe_name
    edited = dict[str, set[str]]()
    for run in plan.runs():
        if run.id not in done:
            continue
        where = done[run.id].provenance
        if where.data != images.checksum:
            raise BadInput(
                f"{folder}: its records are of other images (SHA-256 {where.data[:12]}) than these"
                f" ({images.checksum[:12]}); name another folder with --results, or copy the recipe"
            )
        now = own_operators(run, afresh=True)
        both = {**where.operators, **now}
        if changed := {name for name in both if now.get(name) != where.operators.get(name)}:
            edited[run.id] = changed
    if edited:
        names, count = sorted(set().union(*edited.values())), len(edited)
        raise BadInput(
            f"{folder}: the source of {', '.join(names)} is not that of run{'s' * (count > 1)}"
            f" {', '.join(edited)}; delete the record{'s' * (count > 1)}, or name another folder"
            " with --results"
        )
    return [run for run in plan.runs() if run.id not in done]


def seconds_per_image(run: Run, images: ImageSet, device: torch.device) -> float:
    """Seconds of one worker for one training image: the median of a few steps after the first.

    Raises BadInput if they do not fit the GPU's memory.
    """

    def moments(graph: bool) -> list[float]:
        return [time.perf_counter() for _ in first_steps(run, images, device, 6, graph)]

    found = list[float]()
    try:
        with suppress(CaptureError):  # such a run is trained without
            found = moments(graph=True)
        found = found or moments(graph=False)  # when what the first try held is free
    except torch.OutOfMemoryError as error:
        raise BadInput(OUT_OF_MEMORY.format(batch=run.train.batch_size)) from error
    return statistics.median(np.diff(found)) / run.train.batch_size
