"""A recipe and the experiments asked for under it, read from their files, as a list of runs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from senet_ablate.spec.paper import published
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.schema import read
from senet_ablate.spec.spec import Experiment, Look, Recipe, Run, Seeds, SESpec, Variant

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

    @property
    def name(self) -> str:
        """As recipes and messages name it."""
        return f"{self.experiment}/{self.variant}"


@dataclass(frozen=True)
class Plan:
    """What `run`, `plan` and `report` work on."""

    recipe_name: str
    recipe: Recipe
    experiments: dict[str, Experiment]
    most: int | None = None
    """How many seeds a row; None: as many as the recipe has."""
    apart: frozenset[str] = frozenset()
    """Experiments that the recipe's analysis plan is not for: they are judged apart."""
    kept_rows: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)
    """The rows whose records hold gates by class, by their name."""

    @property
    def kept(self) -> tuple[Run, ...]:
        """The runs whose final weights are kept: the first seed of each of these rows."""
        return tuple(row[0] for row in self.kept_rows.values())

    def runs_with_gates(self, experiment: str) -> tuple[Run, ...]:
        """The runs of an experiment whose gates by class are kept: of the first such row."""
        rows = (row for name, row in self.kept_rows.items() if name.startswith(f"{experiment}/"))
        return next(rows, ())

    @property
    def recipe_argument(self) -> str:
        """What `--recipe` names the recipe by: its name, or the path that it was given by."""
        return str(_given.get(("recipe", self.recipe_name), self.recipe_name))

    def experiment_argument(self, name: str) -> str:
        """What a command names an experiment by, in the folder of a file that it was given by."""
        path = _given.get(("experiment", name))
        return path.name if path else name

    def rows(self) -> Iterator[Row]:
        """Every row that the recipe's backbone can host, in the order of the files."""
        for name, experiment in self.experiments.items():
            for variant, value in experiment.variants.items():
                if f"{name}/{variant}" in self.recipe.cannot_host:
                    continue
                try:
                    yield Row(name, variant, self.runs_of(name, value))
                except BadInput as error:
                    where = f"recipe {self.recipe_name!r}, row {name}/{variant}"
                    raise BadInput(f"{where}: {error}") from error

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Names of the rows that each run is of, by the run's id."""
        names: dict[str, list[str]] = {}
        for row in self.rows():
            for run in row.runs:
                names.setdefault(run.id, []).append(row.name)
        return names

    def runs_of(self, experiment: str, variant: Variant) -> tuple[Run, ...]:
        return tuple(self.run(variant, seed) for seed in self.seeds_of(experiment, variant))

    def seeds_of(self, experiment: str, variant: Variant, look: Look | None = None) -> Seeds:
        """The seeds of a row in the order in which they are trained: the first of its analysis
        plan, those on which one of its looks judges the row, or, without a plan, from 0 on.
        """
        rules = self.recipe.plan
        if rules is None:
            return tuple(range(self.most or self.recipe.seeds))
        if not variant.own and variant.se in (None, SESpec()):
            return rules.reference_seeds[: look.reference_seeds if look else self.most]
        own = rules.experiment_seeds.get(experiment, rules.seeds)
        return own[: look.seeds if look else self.most]

    def run(self, variant: Variant, seed: int) -> Run:
        """The run of a variant under this plan's recipe."""
        return Run(variant.applied_to(self.recipe.train), variant.se, seed)

    def row_ids(self, experiment: str) -> dict[str, str]:
        """`Run.row_id` of each variant."""
        variants = self.experiments[experiment].variants
        return {name: self.run(variant, 0).row_id for name, variant in variants.items()}

    def runs(self) -> list[Run]:
        """Each distinct run once, breadth first: every row has one seed before any has two."""
        steps = zip_longest(*(row.runs for row in self.rows()))
        return list({run.id: run for step in steps for run in step if run}.values())


def read_plan(
    recipe: str,
    experiments: list[str] | None = None,
    seeds: int | None = None,
    folder: Path = EXPERIMENTS_DIR,
) -> Plan:
    """The plan for `recipe` and `experiments`. Raises BadInput.

    Each is a name, or the path of a YAML file, whose name is that of the file without `.yaml`. No
    experiments: the recipe's own list, or, where it has none, all that are not `on_request`. The
    recipe's analysis plan is for these; where both come with this package, a user's own are not
    among them, since one table more would change the verdicts on the others.
    """
    file = _file(recipe, "recipe", folder)
    value, recipe = read(file, Recipe), file.stem
    rules, known = value.plan, list_experiments(folder)

    def wrong(key: str, what: str) -> BadInput:
        return BadInput(f"recipe {recipe!r}, key {key}: {what}")

    seeds_of = rules.experiment_seeds if rules else ()
    for key, names in (("experiments", value.experiments), ("plan.experiment_seeds", seeds_of)):
        for name in names:
            if name not in known:
                raise wrong(key, f"unknown experiment {name!r}; {nearest(name, known)}")
    if rules and seeds and seeds > len(rules.reference_seeds):
        count = len(rules.reference_seeds)
        raise BadInput(f"recipe {recipe!r}: its analysis plan has {count} seeds, not {seeds}")
    asked = experiments or value.experiments or _usual(known, folder)
    paths = [_file(name, "experiment", folder) for name in asked]
    loaded = {path.stem: read(path, Experiment) for path in paths}
    planned: Iterable[str] = value.experiments if rules else loaded
    if not planned:
        ours, found = file.parent == folder / "recipes", _files("experiment", folder, given=False)
        near = (name for name, path in found.items() if not ours or path.parent == folder)
        planned = _usual(near, folder)
    plan, kept = Plan(recipe, value, loaded, seeds, frozenset(loaded).difference(planned)), {}
    for key, entries in (("cannot_host", value.cannot_host), ("keep_weights", value.keep_weights)):
        for entry in entries:
            name, _, row = entry.partition("/")
            variants = read_experiment(name, folder).variants if name in known else {}
            if row not in variants:
                raise wrong(key, f"{entry!r} is no experiment/variant")
            if key == "keep_weights":
                if entry in value.cannot_host:
                    raise wrong(key, f"{entry!r} stands under cannot_host")
                kept[entry] = plan.runs_of(name, variants[row])
    for experiment in loaded.values():
        for variant in experiment.variants:
            published(experiment, variant)
    plan = replace(plan, kept_rows=kept)
    list(plan.rows())  # a row's own settings may not fit the recipe
    return plan


def _usual(names: Iterable[str], folder: Path) -> list[str]:
    return [name for name in names if not read_experiment(name, folder).on_request]


def fitting_plans(recipe: str) -> dict[str, Plan]:
    """The plan of each experiment whose rows the recipe can train; not so those with budgets that
    its schedule does not fit.
    """
    found = {}
    for name in list_experiments():
        with suppress(BadInput):
            found[name] = read_plan(recipe, [name])
    return found


def _files(kind: str, folder: Path, given: bool = True) -> dict[str, Path]:
    """Files of a kind, experiment or recipe, by name: those in `folder`, and a user's own; given:
    those that were given by their path, too.

    Raises BadInput for two different files of one name.
    """
    usual = folder == EXPERIMENTS_DIR
    folders = [folder, OWN_DIR] if usual and folder != OWN_DIR.resolve() else [folder]
    below = "recipes" if kind == "recipe" else ""
    paths = [path for one in folders for path in sorted((one / below).glob("*.yaml"))]
    if usual and given:
        paths += [path for (its_kind, _), path in _given.items() if its_kind == kind]
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other != path and other.read_bytes() != path.read_bytes():
            raise BadInput(f"two files of {kind} {path.stem!r}: {other} and {path}; rename one")
    return found


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
        by_path = f"; a file is given as {name}.yaml" if Path(f"{name}.yaml").is_file() else ""
        raise BadInput(f"unknown {kind} {name!r}; {nearest(name, sorted(known))}{by_path}")
    return known[name]


ORDER = (
    *("reduction", "squeeze", "excitation", "stages", "integration", "conv3x3"),
    "role_of_squeeze",
)


def list_experiments(folder: Path = EXPERIMENTS_DIR) -> list[str]:
    """Names of the experiments, in the order of the paper's tables where they have one."""
    found = sorted(_files("experiment", folder))
    return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


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
