"""The options that several commands take, and how they are read."""

import inspect
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from senet_ablate.spec import BadInput, SESpec
from senet_ablate.spec.plan import RESULTS_DIR
from senet_ablate.spec.schema import field_names, load_yaml, parse
from senet_ablate.spec.spec import MOST_SEEDS

RESULTS = RESULTS_DIR

ExperimentNames = Annotated[
    list[str] | None,
    typer.Argument(help="experiments, or YAML files of your own; none: all of the recipe"),
]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="recipe, or its YAML file: data set, backbone, schedule, seeds"),
]
AnyRecipe = Annotated[
    str | None, typer.Option("--recipe", help="default: every recipe that has records")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Data = Annotated[Path, typer.Option("--data", envvar="SENET_ABLATE_DATA", help="data root")]
DATA = Path("data")


def _set_cache(folder: Path | None) -> Path | None:
    if folder:
        os.environ["SENET_ABLATE_CACHE"] = str(folder.absolute())  # worker processes inherit it
    return folder


Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        callback=_set_cache,
        help="folder of decoded images; default: $SENET_ABLATE_CACHE, else DATA/cache",
    ),
]


Results = Annotated[
    Path,
    typer.Option(
        "--results",
        envvar="SENET_ABLATE_RESULTS",
        help="where records and tables lie; `reproduce` writes into reproductions/ beside it",
    ),
]
SEFields = Annotated[
    list[str] | None,
    typer.Option("--se", metavar="KEY=VALUE", help="a field of SESpec, e.g. reduction=8"),
]
MoreSEFields = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="more of --se")
]


@dataclass(frozen=True)
class RunOptions:
    """What `run`, `plan` and `reproduce` have in common."""

    experiments: ExperimentNames = None
    recipe: RecipeName = "cue"
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, max=MOST_SEEDS, help="seeds per variant; default: the recipe's"
        ),
    ] = None
    device: Device = "auto"
    launcher: Annotated[
        str, typer.Option("--launcher", help="local: all of this machine; ray: a Ray cluster")
    ] = "local"
    data: Data = DATA
    cache: Cache = None
    results: Results = RESULTS
    download: Annotated[
        bool, typer.Option("--download", help="let torchvision download CIFAR into the data root")
    ] = False
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            min=0,
            metavar="SECONDS",
            help="least time between two checkpoints of a run",
        ),
    ] = 30.0
    gpus_per_run: Annotated[
        float,
        typer.Option(
            "--gpus-per-run", min=0.01, max=1, help="share of a GPU; 0.5: two processes at a time"
        ),
    ] = 1.0
    runs_per_gpu: Annotated[
        str,
        typer.Option(
            "--runs-per-gpu",
            metavar="auto|K",
            help="runs at once in one process, each on its own stream; auto: as many as fit",
        ),
    ] = "1"


def read_runs_per_gpu(value: str) -> int:
    """Runs at once, 0 for as many as fit. Raises BadInput."""
    if value == "auto":
        return 0
    if not value.isdecimal() or not 1 <= int(value) <= 32:  # PyTorch has 32 streams a device
        raise BadInput(f"--runs-per-gpu {value!r}: auto, or a number from 1 to 32")
    return int(value)


def takes_run_options(verb: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is RunOptions, with an option for each of its fields."""
    shared = inspect.signature(RunOptions).parameters
    _, *own = inspect.signature(verb).parameters.values()

    def command(**values: Any) -> None:
        verb(RunOptions(**{name: values.pop(name) for name in shared}), **values)

    command.__signature__ = inspect.Signature([*shared.values(), *own])  # type: ignore[attr-defined]
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    return command


def command_line() -> str:
    """This command as it was given; bytes that are no UTF-8 are written as escapes."""
    words = shlex.join(sys.argv[1:])
    return "python -m senet_ablate " + words.encode("utf-8", "backslashreplace").decode()


def read_se(*given: list[str] | None) -> SESpec | None:
    """The SE specification that KEY=VALUE words describe; none: None. Raises BadInput."""
    values: dict[str, Any] = {}
    for pair in [pair for pairs in given for pair in pairs or []]:
        key, equals, value = pair.partition("=")
        if not equals:
            known = ", ".join(field_names(SESpec))
            raise BadInput(f"--se wants KEY=VALUE, found {pair!r}; keys: {known}")
        if key in values:
            raise BadInput(f"--se {key} is given twice")
        values[key] = load_yaml(value, f"--se {key}")
    try:
        return parse(SESpec, values) if values else None
    except BadInput as error:
        raise BadInput(f"--se: {error}") from error
