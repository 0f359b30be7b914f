"""Options that several verbs of the command line share."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from senet_ablate.plan import EXPERIMENTS_DIR

RESULTS = EXPERIMENTS_DIR.parent / "results"

ExperimentNames = Annotated[list[str] | None, typer.Argument(help="experiments; none: all of the recipe")]
RecipeName = Annotated[str, typer.Option("--recipe", help="recipe: data set, backbone, schedule, seeds")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Data = Annotated[Path | None, typer.Option("--data", help="data root; default: $SENET_ABLATE_DATA, else ./data")]
Results = Annotated[Path, typer.Option("--results", help="where records and tables lie")]


def data_root(data: Path | None) -> Path:
    """The folder of the data sets: as given, else $SENET_ABLATE_DATA, else ./data."""
    return data or Path(os.environ.get("SENET_ABLATE_DATA") or "data")


def command_line() -> str:
    """This command as it was typed."""
    return "python -m senet_ablate " + shlex.join(sys.argv[1:])
