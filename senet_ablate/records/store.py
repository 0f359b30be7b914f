"""Records: what one run produced, with its provenance, one file of facts each."""

import base64
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PlainSerializer

from senet_ablate.records.class_gates import ClassGates, Curves
from senet_ablate.records.facts import read_facts, readable, write_facts
from senet_ablate.spec import BadInput, Run, nearest
from senet_ablate.spec.schema import Count, Frozen


class Gates(Frozen):
    """The gates of one SE block over the test images.

    mean and std over images and channels (and pixels, where the gate has them); within: standard
    deviation over images, averaged over channels; low and high: share of gates under 0.1 and over
    0.9.
    """

    mean: float
    std: float
    within: float
    low: float
    high: float


class Epoch(Frozen):
    """A point of the training curves: mean cross-entropies (of training with the recipe's label
    smoothing, the others without), errors in percent, test ones null where not read.

    gates: by SE block over the test images where these were read before the end; the last ones are
    the record's own.
    """

    lr: float
    train_loss: float
    train_top1: float
    test_loss: float | None = None
    test_top1: float | None = None
    validation_loss: float | None = None
    gates: dict[str, Gates] = Field(default_factory=dict)


class Compute(Frozen):
    """Settings of the process that trained a run, which move its last bits and its speed.

    graph: whether the step was a CUDA graph. compiled: by torch.compile. runs_at_once: in this
    process, each on its own CUDA stream. numerics: native, or portable over makes of CPUs.
    """

    graph: bool = False
    compiled: Literal["no", "model", "units"] = "no"
    runs_at_once: int = 1
    cudnn_deterministic: bool = True
    cudnn_benchmark: bool = False
    tf32: bool = False
    numerics: Literal["native", "portable"] = "native"

    def word(self, setting: str) -> str:
        value = getattr(self, setting)
        return ("on" if value else "off") if isinstance(value, bool) else str(value)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.word(name)}" for name in Compute.model_fields)


class Provenance(Frozen):
    """Where a record comes from."""

    command: str
    commit: str
    dirty: bool
    versions: dict[str, str]
    device: str
    threads: int
    started: str
    wall_s: float
    train_s: float
    data: str  # SHA-256 of the data set's pixels and labels
    # SHA-256 of the source of user's own parts
    operators: dict[str, str] = Field(default_factory=dict)
    processes: int = 1  # how many trained the run together
    instructions: str = ""  # what a CPU computed with, e.g. AVX2, by torch
    settings: dict[str, str] = Field(default_factory=dict)  # environment variables that choose them
    plan: str = ""  # hash of the recipe's analysis plan
    compute: Compute | None = None  # None: written before it was kept


class Record(Frozen):
    """The facts of one run. Errors are counts of wrong test images, never rounded shares.

    correct: which test images were right at top 1, in the data set's order, as packed bits in base
    64. majority: test images of the most frequent class. answered: how many different classes the
    network answered. Both null in records from before they were kept. class_gates, class_curves:
    gates by class over the test images, where the recipe asks for them. diverged: the last epoch
    with finite losses and logits, 0 for none; null where the run trained to its end.
    """

    id: str
    run: Annotated[Run, PlainSerializer(lambda run: run.fields)]
    classes: int
    train_images: int
    tested: Count
    wrong_top1: int
    wrong_top5: int | None  # null where the data set has no more than 5 classes
    correct: str
    majority: int | None = None
    answered: int | None = None
    params: int
    macs: int
    epochs: tuple[Epoch, ...]
    gates: dict[str, Gates]
    class_gates: tuple[ClassGates, ...] = ()
    class_curves: dict[str, Curves] = Field(default_factory=dict)
    diverged: int | None = None
    provenance: Provenance

    @property
    def top1(self) -> float:
        """Top-1 test error at the last epoch, percent."""
        return 100 * self.wrong_top1 / self.tested

    @property
    def top5(self) -> float:
        """Top-5 test error at the last epoch, percent; NaN with 5 classes or fewer."""
        return float("nan") if self.wrong_top5 is None else 100 * self.wrong_top5 / self.tested

    @property
    def throughout(self) -> float:
        """Top-1 test error averaged over the epochs that read it, percent; NaN if one alone."""
        read = [epoch.test_top1 for epoch in self.epochs if epoch.test_top1 is not None]
        return sum(read) / len(read) if len(read) > 1 else float("nan")

    def right(self) -> npt.NDArray[np.bool_]:
        """Which test images were right, one flag an image."""
        return np.unpackbits(
            np.frombuffer(base64.b64decode(self.correct), np.uint8), count=self.tested
        ).astype(bool)


def pack(right: npt.NDArray[np.bool_]) -> str:
    """Flags as packed bits in base 64, the form of `Record.correct`."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def runs_folder(results: Path, recipe: str) -> Path:
    """Where the records of a recipe lie."""
    return results / recipe / "runs"


def write_record(results: Path, recipe: str, record: Record) -> Path:
    """Write a record with the checksum of its content; returns its path."""
    return write_facts(runs_folder(results, recipe) / f"{record.id}.json", record)


def weights_path(results: Path, recipe: str, run_id: str) -> Path:
    """Where the final weights of a run lie, if its recipe keeps them."""
    return results / recipe / "weights" / f"{run_id}.safetensors"


def checkpoint_path(results: Path, recipe: str, run_id: str) -> Path:
    """Where the state of an unfinished run lies."""
    return results / recipe / "checkpoints" / f"{run_id}.pt"


def read_record(path: Path) -> Record:
    """The record in a file. Raises BadInput for any fact that does not hold."""
    record = read_facts(path, Record)
    if not record.id == record.run.id == path.stem:
        raise BadInput(f"{path}: its id is {record.id}, its specification's id {record.run.id}")
    if len(record.correct) != 4 * -(-record.tested // 24):
        raise BadInput(f"{path}: it does not say of {record.tested} images whether they were right")
    try:
        marked = int((~record.right()).sum())
    except ValueError as error:
        raise BadInput(f"{path}: `correct` is not in base 64 ({error})") from error
    if marked != record.wrong_top1:
        raise BadInput(f"{path}: it counts {record.wrong_top1} wrong images and marks {marked}")
    return record


def read_records(results: Path, recipe: str) -> dict[str, Record]:
    """Every sound record of a recipe by run id; an unsound file is named in a warning."""
    paths = runs_folder(results, recipe).glob("*.json")
    return {record.id: record for record in readable(paths, read_record)}


def recorded(results: Path) -> list[str]:
    """The recipes of which a results folder has records. Raises BadInput if it is no folder."""
    if not results.is_dir():
        raise BadInput(
            f"{results}: no such folder; --results names the one that holds one folder per recipe"
        )
    return sorted(path.parent.name for path in results.glob("*/runs") if any(path.glob("*.json")))


def check_recorded(results: Path, recipe: str) -> None:
    """Raises BadInput, naming what the folder has, where it has no records of a recipe."""
    known = recorded(results)
    if recipe in known:
        return
    if known:
        raise BadInput(f"{results} has no records of recipe {recipe!r}; {nearest(recipe, known)}")
    found = ", ".join(sorted(path.name for path in results.iterdir())[:5]) or "nothing"
    raise BadInput(
        f"{results} has no records of any recipe, no <recipe>/runs/*.json; it holds {found}"
    )
