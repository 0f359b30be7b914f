"""Records:

what one run produced, with its provenance, in one JSON file that appears whole or not at all.
"""

import base64
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, PlainSerializer, PlainValidator

from senet_ablate.records.class_gates import ClassGates, Curves
from senet_ablate.records.compute import Compute
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.schema import Frozen, parse
from senet_ablate.spec.spec import Run, digest

log = logging.getLogger(__name__)


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
    """A point of the training curves: mean cross-entropies, errors in percent, test ones null where
    not read.

    gates: by SE block over the test images where these were read before the end; the last ones are
    the record's own.
    """

    lr: float
    train_loss: float
    train_top1: float
    test_loss: float | None = None
    test_top1: float | None = None
    validation_loss: float | None = None
    gates: Annotated[dict[str, Gates], Field(default_factory=dict)]


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
    # user's own parts -> SHA-256 of their source
    operators: Annotated[dict[str, str], Field(default_factory=dict)]
    processes: int = 1  # how many trained the run together
    instructions: str = ""  # what a CPU computed with, e.g. AVX2, by torch
    # environment variables that choose them
    settings: Annotated[dict[str, str], Field(default_factory=dict)]
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
    run: Annotated[Run, PlainValidator(Run.from_fields), PlainSerializer(lambda run: run.fields)]
    classes: int
    train_images: int
    tested: int
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
    class_curves: Annotated[dict[str, Curves], Field(default_factory=dict)]
    diverged: int | None = None
    provenance: Provenance

    @property
    def top1(self) -> float:
        """Top-1 test error at the last epoch, percent."""
        return 100 * self.wrong_top1 / self.tested

    @property
    def top5(self) -> float:
        """Top-5 test error at the last epoch, percent; NaN where there are no more than 5
        classes.
        """
        return float("nan") if self.wrong_top5 is None else 100 * self.wrong_top5 / self.tested

    @property
    def throughout(self) -> float:
        """Top-1 test error averaged over the epochs in which it was read, percent; NaN if only in
        the last.
        """
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
    path = runs_folder(results, recipe) / f"{record.id}.json"
    write_sealed(path, record.model_dump(mode="json"))
    return path


def weights_path(results: Path, recipe: str, run_id: str) -> Path:
    """Where the final weights of a run lie, if its recipe keeps them."""
    return results / recipe / "weights" / f"{run_id}.safetensors"


def checkpoint_path(results: Path, recipe: str, run_id: str) -> Path:
    """Where the state of an unfinished run lies."""
    return results / recipe / "checkpoints" / f"{run_id}.pt"


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write facts as JSON with the checksum of their content."""
    write_whole(
        path, json.dumps({"checksum": digest(content), **content}, indent=1, allow_nan=False) + "\n"
    )


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that appears whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used to `<name>.bad`, or `.bad2`, ...

    where that is taken; returns the new path.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.bad{number if number > 1 else ''}")).exists():
        number += 1
    path.rename(aside)
    return aside


def read_sealed(path: Path) -> dict[str, Any]:
    """The facts that `write_sealed` wrote.

    Raises BadInput if they are not whole or were changed since.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a whole JSON file ({error})") from error
    if not isinstance(content, dict) or "checksum" not in content:
        raise BadInput(f"{path}: not a file of facts of this suite")
    checksum = content.pop("checksum")
    if checksum != digest(content):
        raise BadInput(
            f"{path}: its content does not match its checksum; it was changed after it was written"
        )
    return content


def read_record(path: Path) -> Record:
    """The record in a file. Raises BadInput that says what does not hold.

    That may be JSON, checksum, fields, specification, id, file name, or counts that contradict each
    other.
    """
    content = read_sealed(path)
    try:
        record = parse(Record, content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}{_written_at(content)}") from error
    if not record.id == record.run.id == path.stem:
        raise BadInput(f"{path}: its id is {record.id}, its specification's id {record.run.id}")
    if len(record.correct) != len(pack(np.zeros(record.tested, bool))):
        raise BadInput(f"{path}: it does not say of {record.tested} images whether they were right")
    if int((~record.right()).sum()) != record.wrong_top1:
        raise BadInput(
            f"{path}: it counts {record.wrong_top1} wrong images and marks"
            f" {(~record.right()).sum()}"
        )
    return record


def _written_at(content: dict[str, Any]) -> str:
    """Which code wrote facts that are whole and yet not understood."""
    where = content.get("provenance")
    commit = where.get("commit") if isinstance(where, dict) else None
    return (
        f" (it is whole, and was written at commit {str(commit)[:12]}: another version reads it)"
        if commit
        else ""
    )


def unfinished(path: Path) -> bool:
    """Whether a file beside the records is none of them: set aside, or just being written."""
    return path.suffix == ".tmp" or ".json.bad" in path.name


def read_records(results: Path, recipe: str) -> dict[str, Record]:
    """Every sound record of a recipe by run id; an unsound file is named in a warning and left
    where it is.
    """
    records = {}
    for path in sorted(runs_folder(results, recipe).glob("*.json")):
        try:
            record = read_record(path)
            records[record.id] = record
        except BadInput as error:
            log.warning("left out: %s", error)
    return records


def recorded(results: Path) -> list[str]:
    """The recipes of which a results folder has records, by name.

    Raises BadInput if there is no such folder.
    """
    if not results.is_dir():
        raise BadInput(
            f"{results}: no such folder; --results names the one that holds a folder a recipe"
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
