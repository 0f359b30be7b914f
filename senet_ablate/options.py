"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from senet_ablate.plan import EXPERIMENTS_DIR

RESULTS = EXPERIMENTS_DIR.parent / "results"

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Data = Annotated[Path | None, typer.Option("--data", help="data root; default: $SENET_ABLATE_DATA, else ./data")]
Results = Annotated[Path, typer.Option("--results", help="where records and tables lie")]


def data_root(data: Path | None) -> Path:
    """The folder that `--data` names, or the one that holds without it."""
    return data or Path(os.environ.get("SENET_ABLATE_DATA") or "data")
