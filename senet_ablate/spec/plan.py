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

EXPERIMENTS_DIR = Path(__file__).resolve().parents[2] / "experiments"


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

    No experiments: the recipe's own list, or, where it has none, all that are not `on_request`.
    """
    recipe_value = read_recipe(recipe, folder)
    known = list_experiments(folder)
    for name in recipe_value.experiments:
        if name not in known:
            raise BadInput(
                f"recipe {recipe!r}, key experiments: unknown experiment {name!r};"
                f" {nearest(name, known)}"
            )
    asked = experiments or list(recipe_value.experiments)
    asked = asked or [name for name in known if not read_experiment(name, folder).on_request]
    loaded = {name: read_experiment(name, folder) for name in asked}
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


def list_experiments(folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """Names of the experiment files, in the order of the paper's tables where they have one."""
    names = [path.stem for path in folder.glob("*.yaml")]
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
        names, key=lambda name: (order.index(name) if name in order else len(order), name)
    )


def list_recipes(folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """Names of the recipe files."""
    return sorted(path.stem for path in (folder / "recipes").glob("*.yaml"))


def read_experiment(name: str, folder: Path = EXPERIMENTS_DIR) -> Experiment:
    """The experiment in `<folder>/<name>.yaml`. Raises BadInput naming file and key."""
    known = list_experiments(folder)
    if name not in known:
        raise BadInput(f"unknown experiment {name!r}; {nearest(name, known)}")
    return read(folder / f"{name}.yaml", Experiment)


def read_recipe(name: str, folder: Path = EXPERIMENTS_DIR) -> Recipe:
    """The recipe in `<folder>/recipes/<name>.yaml`. Raises BadInput naming file and key."""
    known = list_recipes(folder)
    if not known:
        raise BadInput(
            f"{folder / 'recipes'} has no recipes: run from a checkout, installed with `pip install"
            " -e .`"
        )
    if name not in known:
        raise BadInput(f"unknown recipe {name!r}; {nearest(name, known)}")
    return read(folder / "recipes" / f"{name}.yaml", Recipe)
