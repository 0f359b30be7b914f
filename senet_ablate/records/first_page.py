"""What stood in the claims when a recipe's results were first shown.

`report` writes it with the first page over an experiment's records and never changes it: a verdict
on a claim that says something else since then is exploratory. These experiments stay on the page.
"""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from senet_ablate.records.commit import code_state
from senet_ablate.records.facts import read_facts, write_facts
from senet_ablate.records.store import Record
from senet_ablate.spec import Experiment, Plan
from senet_ablate.spec.schema import Frozen
from senet_ablate.spec.spec import digest


class Shown(Frozen):
    """An experiment's claims at their first page: hash, and commit and date of the page."""

    claims: str
    commit: str
    date: str


class FirstPage(Frozen):
    """The file, by experiment."""

    experiments: dict[str, Shown] = Field(default_factory=dict)


def claims_hash(experiment: Experiment) -> str:
    """Hash of all that an experiment's claims say."""
    return digest([claim.model_dump(mode="json") for claim in experiment.claims])[:16]


def first_page_path(results: Path, recipe: str) -> Path:
    """Where it lies."""
    return results / recipe / "claims.json"


def read_first_page(results: Path, recipe: str) -> FirstPage:
    """What the file says; empty where there is none. Raises BadInput for a damaged one."""
    path = first_page_path(results, recipe)
    return read_facts(path, FirstPage) if path.is_file() else FirstPage()


def note_first_page(plan: Plan, results: Path, names: Iterable[str]) -> None:
    """Add the experiments `names`, which have records, where they are not there yet."""
    facts = read_first_page(results, plan.recipe_name)
    known = facts.experiments
    where = {"commit": code_state()[0], "date": str(datetime.date.today())}
    new = {
        name: Shown(claims=claims_hash(plan.experiments[name]), **where)
        for name in names
        if name not in known
    }
    if new:
        facts = facts.model_copy(update={"experiments": known | new})
        write_facts(first_page_path(results, plan.recipe_name), facts)


def exploratory(plan: Plan, name: str, records: Mapping[str, Record], first: FirstPage) -> str:
    """Why the verdicts on an experiment are exploratory; empty where they are not."""
    rules = plan.recipe.plan_id
    if not rules:
        return "no analysis plan was fixed before the first record"
    if name in plan.apart:
        return f"{name} is none of the tables that the analysis plan is for"
    runs = {run.id for row in plan.rows() if row.experiment == name for run in row.runs}
    others = {one.provenance.plan for key, one in records.items() if key in runs} - {rules}
    if others:
        return "the analysis plan changed after the first record"
    shown = first.experiments.get(name)
    if shown is not None and shown.claims != claims_hash(plan.experiments[name]):
        return f"the claims of {name} changed after their first page"
    return ""
