"""What the review notebook shows, one call a cell: the sections of a recipe's page, and what takes
arguments.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.figure
import pandas as pd

from senet_ablate.analysis.compare import RowComparison, compare_rows, find, runs
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import read_reported
from senet_ablate.records import Record, read_records
from senet_ablate.records.store import recorded
from senet_ablate.report import gates, plots, recipe_page
from senet_ablate.report.document import GLYPHS, Document, Figure, Section, Text, drawn
from senet_ablate.report.recipe_page import RecipeResults, read_results
from senet_ablate.spec import BadInput, list_recipes, nearest
from senet_ablate.spec.plan import RESULTS_DIR

Runs = dict[str, list[Record]]


def recipes_with_records(results: Path) -> list[str]:
    """The recipes of this checkout of which `results` has records."""
    return [name for name in recorded(results) if name in list_recipes()]


def open_results(recipe: str = "", results: str | Path = "") -> "Review":
    """The results of a recipe (none: the one with the most records), ready to be looked at.

    results: their folder; none: $SENET_ABLATE_RESULTS, else the one of this checkout. Raises
    BadInput.
    """
    folder = Path(results or os.environ.get("SENET_ABLATE_RESULTS") or RESULTS_DIR)
    known = recipes_with_records(folder)
    if not known:
        raise BadInput(
            f"{folder} has no records; `python -m senet_ablate run --recipe cue` makes some in"
            " minutes"
        )
    if recipe and recipe not in known:
        raise BadInput(f"{folder} has no records of {recipe!r}; {nearest(recipe, known)}")
    recipe = recipe or max(known, key=lambda name: len([*folder.glob(f"{name}/runs/*.json")]))
    records = read_records(folder, recipe)
    return Review(read_results(read_reported(recipe, records, folder), folder, records))


@dataclass(frozen=True, repr=False)  # a megabyte, as the last line of a cell
class Review:
    """One recipe's results. Rows are named `experiment/variant`."""

    results: RecipeResults

    @cached_property
    def page(self) -> Document:
        return recipe_page.document(self.results)

    def about(self) -> Section:
        """What was run, with the recipe's warning on top."""
        made = recipe_page.runs_made(self.results)
        warning = [Text(f"> **{self.page.warning}**")] if self.page.warning else []
        return Section(self.page.title, [*warning, Text(self.page.lead), *made.blocks])

    def ledger(self, outcome: str = "") -> Section:
        """Every claim of the paper with its verdict; `outcome` keeps only those that are, say,
        contradicted. Raises BadInput for a word that is no verdict.
        """
        if outcome not in ("", *GLYPHS):
            raise BadInput(f"no verdict is {outcome!r}; {nearest(outcome, GLYPHS)}")
        return recipe_page.claims(self.results, outcome)

    def section(self, name: str) -> Section | Text:
        """A section of the page, by its heading or the name of its experiment."""
        table = self.results.tables.get(name)
        title = self.results.title(table) if table else name
        found = {section.title: section for section in self.page.sections}
        known = nearest(name, [*found, *self.results.tables])
        return found.get(title) or Text(f"This recipe has nothing on `{name}` yet; {known}")

    def curves(self, *rows: str) -> Figure | Text:
        """Loss and error by epoch of the rows, mean and range over their seeds."""
        return _picture(plots.curves, self._runs(rows))

    def gates(self, row: str) -> pd.DataFrame:
        """What a row's gates do in each SE block; see `gates.by_block`."""
        (found,) = self._runs([row]).values()
        return gates.by_block(found).round(3)

    def gate_plot(self, *rows: str) -> Figure | Text:
        """Mean, spread and saturation of the gates by block, for one or more rows."""
        return _picture(gates.block_plot, self._runs(rows))

    def _runs(self, rows: Sequence[str]) -> Runs:
        tables = self.results.tables
        return {name: runs(tables, name) for name in (find(tables, row) for row in rows)}

    def rows(self) -> pd.DataFrame:
        """Every row that has runs, by the name to call it by: label, seeds, mean error in %."""
        rows = [
            (f"{one.name}/{name}", row["label"], row["n"], round(row["top1"], 2))
            for one in self.results.tables.values()
            for name, row in one.rows.iterrows()
            if one.records[str(name)]
        ]
        return pd.DataFrame(rows, columns=["row", "label", "seeds", "error"]).set_index("row")

    def pair(self) -> tuple[str, str]:
        """A pair worth a first look: the standard SE network and the plain one, or the first two
        rows with runs.
        """
        have = list(self.rows().index)
        for one in self.results.tables.values():
            wanted = one.experiment.reference, one.experiment.control
            first, second = (f"{one.name}/{variant}" for variant in wanted)
            if {first, second} <= {*have}:
                return first, second
        if not have:
            name = self.results.plan.recipe_name
            raise BadInput(f"the records of {name!r} belong to no row of its experiments now")
        return have[0], have[:2][-1]

    def compare(self, a: str, b: str) -> RowComparison | Text:
        """Two rows against each other, see `compare.compare`; or why they cannot be."""
        try:
            return compare_rows(self.results.tables, a, b)
        except BadInput as error:
            return Text(error)

    def tradeoffs(self) -> pd.DataFrame:
        """Every distinct network with its cost and error; see `pareto.tradeoffs`."""
        found = tradeoffs(self.results.tables.values(), self.results.timings)
        return found.map(lambda value: float(f"{value:.2f}") if type(value) is float else value)

    def others(self, shown: Sequence[str]) -> list[str]:
        """The experiments of this recipe that are not among those shown."""
        return [name for name in self.results.tables if name not in shown]


def _picture(draw: Callable[[Runs], matplotlib.figure.Figure | None], of: Runs) -> Figure | Text:
    """What `draw` draws, in the look of all plots."""
    found = drawn("", "", "", draw, of)
    return found[0] if found else Text("Nothing is recorded that could be drawn.")
