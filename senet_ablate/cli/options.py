"""Options that several commands share, and how they are read."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from senet_ablate.spec.plan import EXPERIMENTS_DIR
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import field_names, load_yaml, parse
from senet_ablate.spec.spec import SESpec

RESULTS = EXPERIMENTS_DIR.parent / "results"

ExperimentNames = Annotated[
    list[str] | None, typer.Argument(help="experiments; none: all of the recipe")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="recipe: data set, backbone, schedule, seeds")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Data = Annotated[
    Path | None, typer.Option("--data", help="data root; default: $SENET_ABLATE_DATA, else ./data")
]
Results = Annotated[
    Path,
    typer.Option("--results", envvar="SENET_ABLATE_RESULTS", help="where records and tables lie"),
]


def data_root(data: Path | None) -> Path:
    """The folder that `--data` names, or the one that holds without it."""
    return data or Path(os.environ.get("SENET_ABLATE_DATA") or "data")


_given: list[str] | None = (
    None  # arguments that `main` was called with, where they are not the process's own
)


def set_arguments(arguments: list[str] | None) -> None:
    """Remember what the command line was called with; None: the process's own arguments."""
    global _given
    _given = arguments


def command_line() -> str:
    """This command as it was given; bytes that are no UTF-8 are written as escapes."""
    words = shlex.join(sys.argv[1:] if _given is None else _given)
    return "python -m senet_ablate " + words.encode("utf-8", "backslashreplace").decode()


def read_se(pairs: list[str]) -> SESpec:
    """The SE specification that `key=value` words on a command line describe. Raises BadInput."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(
                f"--se wants KEY=VALUE, found {pair!r}; keys: {', '.join(field_names(SESpec))}"
            )
        if key in values:
            raise BadInput(f"--se {key} is given twice")
        values[key] = load_yaml(value, f"--se {key}")
    try:
        return parse(SESpec, values)
    except BadInput as error:
        raise BadInput(f"--se: {error}") from error
