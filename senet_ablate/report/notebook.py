"""What the review notebook shows, one call a cell:

tables as text, plots as pictures, nothing to be set up.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from senet_ablate.analysis.compare import Comparison, compare_rows, find, runs
from senet_ablate.analysis.escape import markdown_table
from senet_ablate.analysis.pareto import tradeoffs
from senet_ablate.analysis.tables import Table, gates_of_seeds, read_reported, tables
from senet_ablate.records.bench import read_benches, read_timings
from senet_ablate.records.cost import read_costs_if_any
from senet_ablate.records.first_page import read_first_page
from senet_ablate.records.gate_facts import current_gates
from senet_ablate.records.store import Record, read_records, recorded
from senet_ablate.report import gates as gates_report
from senet_ablate.report import pareto
from senet_ablate.report import plots as figures
from senet_ablate.report import speed as timing_report
from senet_ablate.report.recipe_page import markdown, provenance
from senet_ablate.spec.plan import RESULTS_DIR, Plan, list_recipes
from senet_ablate.spec.registry import BadInput


class Text(str):
    """Markdown, which a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Picture:
    """A plot, which a notebook shows."""

    svg: bytes = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg.decode()


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
        raise BadInput(f"{folder} has no records of {recipe!r}; it has {', '.join(known)}")
    most = max(known, key=lambda name: len(list((folder / name / "runs").glob("*.json"))))
    plan = read_reported(recipe or most, folder)
    records = read_records(folder, plan.recipe_name)
    facts = current_gates(plan, folder, records)
    gates = gates_of_seeds(plan, records) or ([facts.blocks] if facts else [])
    benches = read_benches(folder)
    first = read_first_page(folder, plan.recipe_name)
    return Review(
        folder,
        plan,
        records,
        tables(plan, records, gates, benches, read_costs_if_any(folder), first),
    )


@dataclass(frozen=True)
class Review:
    """One recipe's records and the tables made from them. Rows are named `experiment/variant`."""

    results: Path
    plan: Plan
    records: dict[str, Record]
    tables: dict[str, Table]

    def about(self) -> Text:
        """What was run, with the recipe's warning on top."""
        recipe = self.plan.recipe
        facts = "\n".join(
            f"- {title}: {text}" for title, text in provenance(self.plan, self.records).items()
        )
        warning = f"> **{recipe.warning}**\n\n" if recipe.warning else ""
        return Text(
            f"### {recipe.title}\n\n{warning}{recipe.about}\n\n{len(self.records)} runs.\n\n{facts}"
        )

    def ledger(self, outcome: str = "") -> Text:
        """Every claim of the paper with its verdict; `outcome` keeps only those that are, say,
        contradicted.
        """
        found = [
            (one, v)
            for one in self.tables.values()
            for v in one.verdicts
            if outcome in ("", v.outcome)
        ]
        counts = pd.Series([v.words for _, v in found], dtype=object).value_counts(sort=False)
        rows = [(v.claim, one.experiment.title, v.says, v.words, v.ledger) for one, v in found]
        heads = ["claim", "table", "the paper says", "verdict here", "ledger"]
        summary = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
        return Text(f"**{summary}**\n\n{_grid(pd.DataFrame(rows, columns=heads))}")

    def table(self, experiment: str) -> Text:
        """A table with what is to be known about it, and the verdicts on its claims with their
        evidence.
        """
        if experiment not in self.tables:
            return Text(f"This recipe has no runs of `{experiment}`.")
        one = self.tables[experiment]
        text = f"**{one.experiment.question}**\n\n{markdown(one)}"
        if one.verdicts:
            rows = [(v.claim, v.says, v.paper, v.ours or v.reason, v.words) for v in one.verdicts]
            heads = ["claim", "the paper says", "its evidence", "ours", "verdict"]
            text += f"\n{_grid(pd.DataFrame(rows, columns=heads))}"
        return Text(text)

    def plot(self, experiment: str) -> Picture | Text:
        """The plot of a table."""
        return _picture(
            lambda: figures.plot(self.tables[experiment]) if experiment in self.tables else None
        )

    def curves(self, *rows: str) -> Picture | Text:
        """Loss and error by epoch of the rows (up to four), mean and range over their seeds."""
        named = {name: runs(self.tables, name) for name in (find(self.tables, row) for row in rows)}
        return _picture(lambda: figures.curves(named))

    def gates(self, row: str) -> pd.DataFrame:
        """What a row's gates do in each SE block; see `gates.by_block`."""
        return gates_report.by_block(runs(self.tables, find(self.tables, row))).round(3)

    def gate_plot(self, *rows: str) -> Picture | Text:
        """Mean, spread and saturation of the gates by block, for one or more rows."""
        named = {name: runs(self.tables, name) for name in (find(self.tables, row) for row in rows)}
        return _picture(lambda: gates_report.block_plot(named))

    def gates_by_class(self, figure: Literal[6, 7] = 6) -> Picture | Text:
        """The paper's figure 6 (mean gate by channel and class) or 7 (spread within a class) for
        the network here.
        """
        facts = current_gates(self.plan, self.results, self.records)
        if facts is None:
            return Text(
                f"`python -m senet_ablate excitation --recipe {self.plan.recipe_argument}` measures"
                " what it shows."
            )
        return _picture(
            lambda: (
                gates_report.by_class(facts) if figure == 6 else gates_report.within_class(facts)
            )
        )

    def class_gates(self) -> Text:
        """What figures 6 and 7 show in numbers, block by block, with the paper's digitised value in
        brackets.
        """
        facts = current_gates(self.plan, self.results, self.records)
        if facts is None:
            return Text("Nothing is measured yet.")
        return Text(
            f"{gates_report.sample(facts)}"
            f" {gates_report.LEGEND}\n\n{gates_report.gates_markdown(facts)}"
        )

    def speed(self) -> Text:
        """Training step and inference of the SE network over the plain one, where they were
        timed.
        """
        timings = read_timings(self.plan, self.results)
        if not timings:
            return Text(
                f"`python -m senet_ablate bench timing --recipe {self.plan.recipe_argument}`"
                " measures it."
            )
        times = timing_report.markdown(timing_report.by_device(timings))
        return Text(f"{timing_report.legend(timings)}\n\n{times}")

    def rows(self) -> pd.DataFrame:
        """Every row that has runs, by the name to call it by:

        label, sound seeds, mean error in percent.
        """
        found = [
            {
                "row": f"{one.name}/{name}",
                "label": label,
                "seeds": int(n),
                "error": round(float(error), 2),
            }
            for one in self.tables.values()
            for name, label, n, error in one.rows[["label", "n", "top1"]].itertuples()
            if one.records[str(name)]
        ]
        return pd.DataFrame(found, columns=["row", "label", "seeds", "error"]).set_index("row")

    def pair(self) -> tuple[str, str]:
        """A pair worth a first look:

        the standard SE network and the plain one, or the first two rows with runs.
        """
        have = [str(name) for name in self.rows().index]
        for one in self.tables.values():
            names = (
                f"{one.name}/{one.experiment.reference}",
                f"{one.name}/{one.experiment.control}",
            )
            if set(names) <= set(have):
                return names
        if not have:
            raise BadInput(
                f"the records of {self.plan.recipe_name!r} belong to no row of its experiments as"
                " they are now"
            )
        return have[0], have[min(1, len(have) - 1)]

    def compare(self, a: str, b: str) -> Comparison | Text:
        """Two rows against each other, see `compare.compare`; or why they cannot be."""
        try:
            return compare_rows(self.tables, a, b)
        except BadInput as error:
            return Text(str(error))

    def tradeoffs(self) -> pd.DataFrame:
        """Every distinct network with its cost and error; see `tradeoffs.tradeoffs`."""
        return tradeoffs(self.tables.values(), read_timings(self.plan, self.results)).round(2)

    def tradeoff_plot(self) -> Picture | Text:
        """Error against parameters, multiply-adds and, where it was measured, time."""
        return _picture(lambda: pareto.plot(self.tradeoffs()))

    def others(self, shown: Sequence[str]) -> list[str]:
        """The experiments of this recipe that are not among those shown."""
        return [name for name in self.tables if name not in shown]


def _picture(draw: Callable[[], Figure | None]) -> Picture | Text:
    """What `draw` draws, in the look of all plots."""
    with figures.style():
        figure = draw()
        return (
            Text("Nothing is recorded that could be drawn.")
            if figure is None
            else Picture(figures.svg(figure))
        )


def _grid(rows: pd.DataFrame) -> str:
    return markdown_table(rows)
