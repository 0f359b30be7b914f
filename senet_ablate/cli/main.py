"""The command line: `python -m senet_ablate`, installed as `senet-ablate`.

Exit codes: 0 done; 1 a run failed, or something does not hold; 2 bad input; 130 interrupted: the
same command resumes.
"""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from senet_ablate.cli import evidence, training
from senet_ablate.cli.options import RESULTS, AnyRecipe, MoreSEFields, Results, SEFields, read_se
from senet_ablate.cli.output import protect_output
from senet_ablate.records.store import check_recorded, recorded
from senet_ablate.spec import (
    PLACEMENTS,
    BadInput,
    list_experiments,
    list_recipes,
    read_experiment,
    read_plan,
    read_recipe,
    registry,
)
from senet_ablate.spec.plan import recipe_name

app = typer.Typer(
    help="Which part of a Squeeze-and-Excitation block matters, and can the answer be believed?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(training.run)
app.command()(training.reproduce)
app.command()(training.plan)
app.command()(evidence.bench)
app.command()(evidence.cost)
app.command("import-weights")(evidence.import_weights)


def _recorded(recipe: str | None, results: Path) -> list[str]:
    """The recipe, or all that have records. Raises BadInput where it has none."""
    if recipe is None:
        return recorded(results)
    check_recorded(results, recipe_name(recipe))
    return [recipe_name(recipe)]


ExperimentFiles = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="YAML files of experiments that `run` was given"),
]


def _experiments_of(files: list[str] | None, recipe: str | None) -> list[str]:
    """The names of experiments, which are known from here on, of one recipe. Raises BadInput."""
    if files and recipe is None:
        raise BadInput("experiments are of one recipe: name it with --recipe")
    return list(read_plan(recipe, files).experiments) if files and recipe else []


@app.command()
def report(
    files: ExperimentFiles = None, recipe: AnyRecipe = None, results: Results = RESULTS
) -> None:
    """Rebuild every table, plot and page from the records, also of a half-finished sweep."""
    from senet_ablate.report.pages import PAGES, measured_pages

    asked = _experiments_of(files, recipe)
    names = _recorded(recipe, results)
    unknown = [name for name in names if name not in list_recipes()]
    for name in unknown:
        print(
            f"{results / name}: this checkout has no recipe of that name, so no page is made",
            file=sys.stderr,
        )
    if not names and not measured_pages(results):
        raise BadInput(f"{results}: nothing to report, neither records nor facts")
    known = [name for name in names if name not in unknown]
    evidence.write_reports(known, results, ["forest"] if recipe else PAGES, asked)


@app.command()
def describe(
    backbone: Annotated[str, typer.Argument(help="a network's name")],
    pairs: MoreSEFields = None,
    se: SEFields = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, help="pixels; default: those that the network was made for"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="default: 1000, or 100")
    ] = None,
    stem: Annotated[
        str, typer.Option("--stem", help="default, or one for smaller images")
    ] = "default",
    csv: Annotated[bool, typer.Option("--csv", help="as comma-separated values")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="as a LaTeX table")] = False,
) -> None:
    """Parameters and multiply-adds of a network, by stage, and where its SE blocks sit."""
    from senet_ablate.models.summary import describe as text

    form: Literal["text", "csv", "latex"] = "latex" if latex else "csv" if csv else "text"
    print(text(backbone, read_se(se, pairs), size, classes, stem, form))


@app.command("list")
def list_names() -> None:
    """Experiments, recipes, backbones, squeezes, gates, placements, data sets."""
    print("experiments")
    for name in list_experiments():
        print(f"  {name:<24}{read_experiment(name).question}")
    print("recipes")
    for name in list_recipes():
        print(f"  {name:<24}{read_recipe(name).title}")
    for kind in (
        registry.BACKBONES,
        registry.SQUEEZES,
        registry.EXCITATIONS,
        registry.GATES,
        registry.BLOCKS,
        registry.DATASETS,
    ):
        print(f"{kind.kind}s")
        for name in kind:
            print(f"  {name:<24}{(kind[name].__doc__ or 'no description').strip().splitlines()[0]}")
    print("placements")
    for name, meaning in PLACEMENTS.items():
        print(f"  {name:<24}{meaning}")


@app.command()
def verify(
    files: ExperimentFiles = None, recipe: AnyRecipe = None, results: Results = RESULTS
) -> None:
    """Check records and generated files again; exit 1 and name what does not hold."""
    from senet_ablate.report.pages import measured_pages, verify_page, verify_recipe

    _experiments_of(files, recipe)
    names = _recorded(recipe, results)
    found = [problem for name in names for problem in verify_recipe(name, results)]
    for name in [] if recipe else measured_pages(results):
        names.append(name)
        found += verify_page(name, results)
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        raise typer.Exit(1)
    if not names:
        raise BadInput(f"{results}: nothing to verify, neither records nor facts")
    print(
        f"{', '.join(names)}: every record is sound and every generated file follows from the"
        " records"
    )


def main() -> NoReturn:
    """Run the command line and exit with its code; no mistake of a user's ends in a traceback."""
    protect_output()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_guarded(app))


def _guarded(command: Callable[[], Any]) -> int:
    """The exit code of a command."""
    code = 0
    try:
        command()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except (BadInput, OSError) as error:  # an OSError names the file that cannot be read or written
        print(f"senet-ablate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = 130
    if code == 130:  # also where Typer has caught the interrupt
        print("interrupted; the same command resumes", file=sys.stderr)
    return code
