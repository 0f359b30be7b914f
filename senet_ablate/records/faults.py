"""The file of facts on faults:

what was killed, what was lost (nothing), and what it costs to lose nothing.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from senet_ablate.records.store import read_sealed, write_sealed, write_whole
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Frozen, parse


class Faults(Frozen):
    """Counts of a sweep that was killed again and again, and shares of time."""

    command: str
    commit: str
    machine: str
    load: Annotated[float, Field(description="load average over 15 minutes")]
    measured: Annotated[str, Field(description="day, in UTC")]
    kills: Annotated[
        int, Field(description="processes killed at random moments, kill -9 and SIGTERM in turn")
    ]
    survived: Annotated[
        int, Field(description="kills in sweeps that lost, repeated and changed nothing")
    ]
    resumed: Annotated[
        int, Field(description="kills that left a run to go on with from its checkpoint")
    ]
    sweeps: int
    runs: Annotated[int, Field(description="of all sweeps")]
    repeated: Annotated[int, Field(description="records written more than once")]
    lost: Annotated[int, Field(description="records that went away, or are missing at the end")]
    different: Annotated[
        int, Field(description="records that are not those of a sweep never killed, times aside")
    ]
    checkpoints: Annotated[int, Field(description="written in the run that was timed")]
    interval_s: Annotated[float, Field(description="seconds asked for between two of them")]
    training_s: float
    writing_s: float
    ray_runs: int = 0
    ray_one_s: Annotated[
        float | None, Field(description="seconds of the runs on one Ray worker; null: no Ray")
    ] = None
    ray_two_s: float | None = None

    inputs: Annotated[
        int,
        Field(description="malformed files and command lines tried; 0: the tests are not there"),
    ] = 0
    refused: Annotated[int, Field(description="of these, with one message and exit code 2")] = 0
    misread: Annotated[
        int, Field(description="of these, with a traceback or with another effect than is written")
    ] = 0

    @property
    def overhead(self) -> float:
        """Share of training that writing checkpoints took, percent."""
        return 100 * self.writing_s / self.training_s

    @property
    def efficiency(self) -> float | None:
        """Speed-up of two Ray workers over one, as a share of two, percent."""
        if self.ray_one_s is None or self.ray_two_s is None:
            return None
        return 100 * self.ray_one_s / self.ray_two_s / 2


def faults_path(results: Path) -> Path:
    """Where the facts lie."""
    return results / "faults.json"


def write_faults(results: Path, faults: Faults) -> Path:
    """Write the facts and the table that shows them; returns the table's path."""
    write_sealed(faults_path(results), faults.model_dump(mode="json"))
    page = results / "faults.md"
    write_whole(page, markdown(faults))
    return page


def read_faults(results: Path) -> Faults:
    """The facts. Raises BadInput for a file that is not sound."""
    path = faults_path(results)
    try:
        return parse(Faults, read_sealed(path))
    except BadInput as error:
        message = str(error)
        raise BadInput(
            message if message.startswith(str(path)) else f"{path}: {message}"
        ) from error


def markdown(faults: Faults) -> str:
    """The facts as a table."""
    writes = (
        f"{faults.checkpoints} checkpoints, at most one in {faults.interval_s:g} s, in"
        f" {faults.training_s:.0f} s"
    )
    rows = [
        ("kills survived, `kill -9` and SIGTERM in turn", f"{faults.survived} of {faults.kills}"),
        (
            "of these, in the middle of a run that then went on from its checkpoint",
            f"{faults.resumed}",
        ),
        ("runs repeated", f"{faults.repeated} of {faults.runs}"),
        ("records lost", f"{faults.lost} of {faults.runs}"),
        (
            "records that differ from those of an uninterrupted sweep, times aside",
            f"{faults.different}",
        ),
        (f"overhead of checkpoints ({writes})", f"{faults.overhead:.2f}%"),
    ]
    if faults.efficiency is not None:
        share = (
            f"{faults.ray_runs} runs: {faults.ray_one_s:.0f} s on one, {faults.ray_two_s:.0f} s"
            " on two"
        )
        rows.append((f"efficiency of 2 Ray workers over 1 ({share})", f"{faults.efficiency:.0f}%"))
    if faults.inputs:
        rows += [
            ("malformed recipes, experiments and command lines tried", f"{faults.inputs:,}"),
            (
                "of these, refused with one message; the others mean what they say",
                f"{faults.refused:,}",
            ),
            ("of these, ended in a traceback or did something else", f"{faults.misread}"),
        ]
    lines = ["| | |", "|:---|:---|", *(f"| {name} | {value} |" for name, value in rows)]
    source = (
        f"Measured {faults.measured} by `{faults.command}` on {faults.machine}, commit"
        f" {faults.commit[:12]}. The load average was {faults.load:.1f}; above the cores, times are"
        " a busy machine's."
    )
    return "\n".join([*lines, "", source, ""])
