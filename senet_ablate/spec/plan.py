"""A recipe and the experiments asked for under it, read from their files, as a list of runs."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from senet_ablate.spec.paper import published
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.schema import read
from senet_ablate.spec.spec import (
    AnalysisPlan,
    Experiment,
    Look,
    Recipe,
    Run,
    Seeds,
    SESpec,
    Variant,
)

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
IS_WHEEL = (PACKAGE / "experiments").is_dir()  # which carries them inside the package
EXPERIMENTS_DIR = (PACKAGE if IS_WHEEL else PACKAGE.parent) / "experiments"
RESULTS_DIR = Path("results") if IS_WHEEL else PACKAGE.parent / "results"
OWN_DIR = Path("experiments")  # of a user, in the folder that they work in
_given: dict[tuple[str, str], Path] = {}  # (kind, name) -> a file that was given by its path


@dataclass(frozen=True)
class Row:
    """One variant of one experiment under one recipe, with its runs."""

    experiment: str
    variant: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Plan:
    """What `run`, `plan` and `report` work on."""

    recipe_name: str
    recipe: Recipe
    experiments: dict[str, Experiment]
    most: int | None = None
    """How many seeds a row; None: as many as the recipe has."""
    kept_rows: tuple[tuple[Run, ...], ...] = ()
    """The rows whose records hold gates by class, that of figures 6 and 7 first."""

    @property
    def kept(self) -> tuple[Run, ...]:
        """The runs whose final weights are kept: the first seed of each of these rows."""
        return tuple(row[0] for row in self.kept_rows)

    @property
    def recipe_argument(self) -> str:
        """What `--recipe` names the recipe by: its name, or the path that it was given by."""
        return str(_given.get(("recipe", self.recipe_name), self.recipe_name))

    def rows(self) -> Iterator[Row]:
        """Every row that the recipe's backbone can host, in the order of the files."""
        for experiment_name, experiment in self.experiments.items():
            for name, variant in experiment.variants.items():
                if f"{experiment_name}/{name}" not in self.recipe.cannot_host:
                    seeds = self.seeds_of(experiment_name, variant)
                    yield Row(
                        experiment_name, name, tuple(self.run(variant, seed) for seed in seeds)
                    )

    def seeds_of(self, experiment: str, variant: Variant) -> Seeds:
        """The seeds of a row, in the order in which they are trained."""
        return _seeds(self.recipe, experiment, variant, self.most)

    def seeds_at(self, look: Look, experiment: str, variant: Variant) -> Seeds:
        """The seeds of a row on which a look of the analysis plan judges it."""
        count = look.reference_seeds if _is_reference(variant) else look.seeds
        return _seeds(self.recipe, experiment, variant, count)

    def tables_on_errors(self) -> int:
        """How many experiments of the recipe have claims on errors: the family of its page."""
        known = [
            self.experiments.get(name) or read_experiment(name) for name in self.recipe.experiments
        ]
        return sum(any(claim.ledger == "error" for claim in one.claims) for one in known)

    def run(self, variant: Variant, seed: int) -> Run:
        """The run of a variant under this plan's recipe."""
        return _run(self.recipe, variant, seed)

    def runs(self) -> list[Run]:
        """Each distinct run once, breadth first: every row has one seed before any has two."""
        rows = list(self.rows())
        most = max((len(row.runs) for row in rows), default=0)
        by_seed = (
            row.runs[index] for index in range(most) for row in rows if index < len(row.runs)
        )
        return list({run.id: run for run in by_seed}.values())


def read_plan(
    recipe: str,
    experiments: list[str] | None = None,
    seeds: int | None = None,
    folder: Path = EXPERIMENTS_DIR,
) -> Plan:
    """The plan for `recipe` and `experiments`. Raises BadInput.

    Each is a name, or the path of a YAML file, whose name is that of the file without `.yaml`. No
    experiments: the recipe's own list, or, where it has none, all that are not `on_request`.
    """
    recipe_value = read_recipe(recipe, folder)
    recipe = _file(recipe, "recipe", folder).stem
    known = list_experiments(folder)
    for name in recipe_value.experiments:
        if name not in known:
            raise BadInput(
                f"recipe {recipe!r}, key experiments: unknown experiment {name!r};"
                f" {nearest(name, known)}"
            )
    asked = experiments or list(recipe_value.experiments)
    asked = asked or [name for name in known if not read_experiment(name, folder).on_request]
    loaded = {
        _file(name, "experiment", folder).stem: read_experiment(name, folder) for name in asked
    }
    for entry in recipe_value.cannot_host:
        _variant(recipe, "cannot_host", entry, folder)
    for entry in recipe_value.keep_weights:
        if entry in recipe_value.cannot_host:
            raise BadInput(
                f"recipe {recipe!r}, key keep_weights: {entry!r} stands under cannot_host"
            )
    kept = {
        entry: _variant(recipe, "keep_weights", entry, folder)
        for entry in recipe_value.keep_weights
    }
    kept_rows = tuple(
        tuple(
            _run(recipe_value, variant, seed)
            for seed in _seeds(recipe_value, entry.partition("/")[0], variant, seeds)
        )
        for entry, variant in kept.items()
    )
    if recipe_value.plan is not None:
        _check_seeds(recipe, recipe_value.plan, seeds, known)
    for experiment in loaded.values():
        for variant in experiment.variants:
            published(experiment, variant)
    plan = Plan(recipe, recipe_value, loaded, seeds, kept_rows)
    list(plan.rows())
    return plan


def fitting_experiments(recipe: str, folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """The experiments whose rows the recipe can train; not so those with budgets that its schedule
    does not fit.
    """
    found = []
    for name in list_experiments(folder):
        try:
            read_plan(recipe, [name], folder=folder)
        except BadInput as error:
            log.debug("recipe %r, experiment %r: %s", recipe, name, error)
        else:
            found.append(name)
    return found


def _check_seeds(recipe: str, plan: AnalysisPlan, seeds: int | None, known: list[str]) -> None:
    for name in plan.experiment_seeds:
        if name not in known:
            raise BadInput(
                f"recipe {recipe!r}, key plan.experiment_seeds: unknown experiment {name!r};"
                f" {nearest(name, known)}"
            )
    if seeds is not None and seeds > len(plan.reference_seeds):
        raise BadInput(
            f"recipe {recipe!r}: its analysis plan has {len(plan.reference_seeds)} seeds, not"
            f" {seeds}"
        )


def _seeds(recipe: Recipe, experiment: str, variant: Variant, most: int | None) -> Seeds:
    """The seeds of a row: the first of its analysis plan; without one, from 0 on."""
    if recipe.plan is None:
        return tuple(range(most or recipe.seeds))
    return recipe.plan.seeds_of(experiment, _is_reference(variant))[:most]


def _is_reference(variant: Variant) -> bool:
    """Whether a row is the plain network or standard SE under the recipe's own schedule."""
    return not variant.own and (variant.se is None or variant.se == SESpec())


def _variant(recipe: str, key: str, entry: str, folder: Path = EXPERIMENTS_DIR) -> Variant:
    """The variant that `experiment/variant` names in a recipe. Raises BadInput."""
    name, _, variant = entry.partition("/")
    variants = read_experiment(name, folder).variants if name in list_experiments(folder) else {}
    if variant not in variants:
        raise BadInput(f"recipe {recipe!r}, key {key}: {entry!r} is no experiment/variant")
    return variants[variant]


def _run(recipe: Recipe, variant: Variant, seed: int) -> Run:
    return Run(variant.applied_to(recipe.train), variant.se, seed)


def _files(kind: str, folder: Path) -> dict[str, Path]:
    """Files of a kind, experiment or recipe, by name: those in `folder`, and a user's own.

    Raises BadInput for two different files of one name.
    """
    own = folder == EXPERIMENTS_DIR != OWN_DIR.resolve()
    folders = [folder, OWN_DIR] if own else [folder]
    found: dict[str, Path] = {}
    for one in [one / "recipes" if kind == "recipe" else one for one in folders]:
        for path in sorted(one.glob("*.yaml")):
            _add(found, kind, path.stem, path)
    if folder == EXPERIMENTS_DIR:
        for (its_kind, name), path in _given.items():
            if its_kind == kind:
                _add(found, kind, name, path)
    return found


def _add(found: dict[str, Path], kind: str, name: str, path: Path) -> None:
    other = found.setdefault(name, path)
    if other != path and other.read_bytes() != path.read_bytes():
        raise BadInput(f"two files of {kind} {name!r}: {other} and {path}; rename one")


def _file(name: str, kind: str, folder: Path) -> Path:
    """The file of an experiment or recipe, which is known by its name, or given by its path."""
    if name.endswith((".yaml", ".yml")) and folder == EXPERIMENTS_DIR:
        path = Path(name)
        if not path.is_file():
            raise BadInput(f"unknown {kind} {name!r}: there is no such file")
        _given[kind, path.stem] = path
        name = path.stem
    known = _files(kind, folder)
    if name not in known:
        raise BadInput(f"unknown {kind} {name!r}; {nearest(name, sorted(known))}")
    return known[name]


def list_experiments(folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """Names of the experiments, in the order of the paper's tables where they have one."""
    order = (
        "reduction",
        "squeeze",
        "excitation",
        "stages",
        "integration",
        "conv3x3",
        "role_of_squeeze",
    )
    return sorted(
        _files("experiment", folder),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )


def list_recipes(folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """Names of the recipes."""
    return sorted(_files("recipe", folder))


def recipe_name(recipe: str) -> str:
    """The name of a recipe that is given by name or by the path of its file. Raises BadInput."""
    return _file(recipe, "recipe", EXPERIMENTS_DIR).stem


def read_experiment(name: str, folder: Path = EXPERIMENTS_DIR) -> Experiment:
    """The experiment of that name, or in the file that `name` is the path of. Raises BadInput."""
    return read(_file(name, "experiment", folder), Experiment)


def read_recipe(name: str, folder: Path = EXPERIMENTS_DIR) -> Recipe:
    """The recipe of that name, or in the file that `name` is the path of. Raises BadInput."""
    return read(_file(name, "recipe", folder), Recipe)
