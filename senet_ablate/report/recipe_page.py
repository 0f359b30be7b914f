"""The page of a recipe: everything it shows, as a document, from its records alone.

Nothing here trains, and nothing is typed.
"""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from senet_ablate.analysis.escape import latex_table, markdown_cell
from senet_ablate.analysis.exclusions import STUCK, health
from senet_ablate.analysis.forest import effects
from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.reproduction import reproductions, summary
from senet_ablate.analysis.tables import Table, records_with_gates, seeds_in_words
from senet_ablate.analysis.tables import tables as tables_of
from senet_ablate.analysis.verdicts import Verdict, outcome_words
from senet_ablate.records import Part, Record
from senet_ablate.records.bench import read_benches, read_timings
from senet_ablate.records.cost import read_costs_if_any
from senet_ablate.records.first_page import FirstPage, note_first_page, read_first_page
from senet_ablate.report import gates, plots, speed
from senet_ablate.report.cells import filled, number, span
from senet_ablate.report.document import (
    GLYPHS,
    Block,
    Document,
    Grid,
    Section,
    Text,
    Tiles,
    anchor,
    badge,
    drawn,
    write_files,
)
from senet_ablate.spec import Plan
from senet_ablate.spec.paper import out_of_scope


@dataclass(frozen=True)
class RecipeResults:
    """All that a recipe's page is made of; every file was read once."""

    folder: Path
    plan: Plan
    records: Mapping[str, Record]
    tables: Mapping[str, Table]
    timings: list[Part]
    first: FirstPage

    def title(self, table: Table) -> str:
        """An experiment's heading; with its name where another one is called alike."""
        title = table.experiment.title
        alike = [one for one in self.tables.values() if one.experiment.title == title]
        return f"{title} ({table.name})" if len(alike) > 1 else title

    def badge(self, table: Table, verdict: Verdict) -> str:
        """A verdict as it is printed; exploratory where others on the page are not."""
        others = any(not one.exploratory for one in self.tables.values())
        exploratory = "exploratory" * (bool(table.exploratory) and others)
        return badge(verdict.words, ", ".join(filter(None, (verdict.marks, exploratory))))


def read_results(plan: Plan, folder: Path, records: Mapping[str, Record]) -> RecipeResults:
    """The results of a plan's recipe, of which `folder` has these records."""
    first = read_first_page(folder, plan.recipe_name)
    tables = tables_of(plan, records, read_benches(folder), read_costs_if_any(folder), first)
    return RecipeResults(folder, plan, records, tables, read_timings(plan, folder), first)


def write_report(plan: Plan, folder: Path, records: Mapping[str, Record]) -> Path:
    """Write every table, plot and page of a recipe; returns the path of its README."""
    shown = [row.experiment for row in plan.rows() if any(run.id in records for run in row.runs)]
    note_first_page(plan, folder, shown)
    write_files(folder / plan.recipe_name, report_files(plan, folder, records))
    return folder / plan.recipe_name / "README.md"


def report_files(plan: Plan, folder: Path, records: Mapping[str, Record]) -> dict[str, bytes]:
    """Every generated file of a recipe by its path in the recipe's own folder."""
    results = read_results(plan, folder, records)
    page = document(results)
    also = (
        "[The same as one page to sort and zoom in](report.html); save it, it needs nothing else."
    )
    files = page.files("README.md", also) | {"report.html": page.html().encode()}
    for name, table in results.tables.items():
        text = "\n\n".join(block.markdown() for block in table_blocks(table))
        files[f"{name}/table.md"] = f"{text}\n".encode()
    return files


def document(results: RecipeResults) -> Document:
    """The page of a recipe."""
    recipe = results.plan.recipe
    sections = [
        claims(results),
        runs_made(results),
        *_training(results),
        *speed.sections(results.plan, list(results.tables.values()), results.timings),
        *_experiments(results),
    ]
    if results.records:
        sections.append(_every_run(results))
    planned = {run.id for run in results.plan.runs()}
    done = len(planned & results.records.keys())
    missing = f" **Under way: {done} of {len(planned)} planned runs are in.**"
    lead = recipe.about + (missing if done < len(planned) else "")
    return Document(recipe.title, lead, sections, recipe.warning)


def claims(results: RecipeResults, outcome: str = "") -> Section:
    """Every claim with its verdict, errors, arithmetic and observations apart; outcome: only those
    claims with this one.
    """
    tables, recipe = results.tables.values(), results.plan.recipe
    made_up, said = recipe.images == "made up", list[str]()
    if not outcome:
        two = (outcome_words(one, made_up) for one in ("supported", "contradicted"))
        said += [WORDS.format(*two), *([] if made_up else [PAPER])]
    if recipe.warning:
        said.append("Each verdict is about these images and this training alone.")
    if recipe.plan is not None:
        looks = "; ".join(
            f"{look.seeds} seeds, {look.reference_seeds} of plain and SE ({100 * look.alpha:g}%)"
            for look in recipe.plan.looks
        )
        said.append(
            "The analysis plan judges the errors of a table when every row has so many seeds (in"
            f" brackets the chance of any false verdict on errors): {looks}."
        )
    if reasons := dict.fromkeys(one.exploratory for one in tables if one.exploratory):
        said.append(f"**Exploratory**: {'; '.join(reasons)}.")
    blocks: list[Block] = [Text(" ".join(said))] if said else []
    for ledger, title in LEDGERS.items():
        rows = [
            {
                "claim": f"[{markdown_cell(v.claim)}](#{anchor(results.title(one))})",
                "verdict": results.badge(one, v),
                "says": v.says + " (Ours, not the paper's.)" * v.ours_alone,
                "table": results.title(one),
                "words": v.words,
            }
            for one in tables
            for v in one.verdicts
            if v.ledger == ledger and outcome in ("", v.outcome, v.words)
        ]
        if rows:
            found = Counter(row.pop("words") for row in rows)
            counts = {name: found[name] for name in GLYPHS if found[name]}
            grid = Grid(title, pd.DataFrame(rows), markup=("claim", "verdict"))
            blocks += [Text(f"### {title}"), Tiles(title, counts), grid]
    if not recipe.warning and not outcome:
        others = "; ".join(
            f"{one.id}, {one.says.rstrip('.')} ({one.paper})" for one in out_of_scope()
        )
        blocks.append(Text(markdown_cell(f"Out of scope of this suite: {others}.")))
    return Section("Claims", blocks, {"effects.csv": effects(results.plan, results.tables)})


WORDS = (
    "**{}**: the runs show it, beyond the noise between seeds; **{}**: they show the opposite;"
    " **unresolved**: they cannot tell; **not tested**: not judged yet, or this network cannot. *In"
    " part*: some rows or blocks of it have no place in this network. *Provisional*: runs that may"
    " change it are to come. How it is judged, and what the columns of the files are:"
    " `docs/statistics.md`."
)
PAPER = (
    "Columns that begin with `paper:` are the paper's numbers, one run each, of its own networks,"
    " images and schedules (Tables 10 to 16: ResNet-50 on ImageNet; Tables 2 to 5 have others)."
    " Its GFLOPs are multiply-adds."
)
LEDGERS = {
    "error": "Claims on errors, judged against the noise between seeds",
    "arithmetic": "Claims on costs and equal networks, which are arithmetic",
    "observation": "Claims on gates and times, which are observations",
    "none": "Claims that cannot be tested here",
}


def runs_made(results: RecipeResults) -> Section:
    """What was run, on what, and how to run it again."""
    plan, records = results.plan, results.records
    others = strangers(plan.recipe_name, records)
    count = sum(map(len, others.values()))
    reasons = markdown_cell("; ".join(others))
    apart = f", of which {count} belong to no row here ({reasons})" if count else ""
    about = (
        f"{len(records)} runs{apart}. Errors are those of the last epoch on the test images;"
        " nothing was chosen by them. Intervals are 95%, over the seeds."
    )
    train = plan.recipe.train.model_dump(mode="json", exclude_defaults=True)
    facts = {"recipe": ", ".join(f"{key} {value}" for key, value in train.items())}
    where = [record.provenance for record in records.values()]
    changes = " with uncommitted changes"
    for title, values in {
        "device": [one.device for one in where],
        "libraries": [", ".join(f"{k} {v}" for k, v in one.versions.items()) for one in where],
        "code": [f"commit {one.commit[:12]}{changes * one.dirty}" for one in where],
        "data (SHA-256)": [one.data for one in where],
        "command": [one.command for one in where],
    }.items():
        counts = sorted(Counter(map(markdown_cell, values)).items())
        several = len(counts) > 1
        facts[title] = "; ".join(f"{one}{f' ({n} runs)' * several}" for one, n in counts)
    if plan.recipe.plan is not None:
        under = [one for one in where if one.plan == plan.recipe.plan_id]
        first = min(under, key=lambda one: one.started, default=None)
        since = f" since commit {first.commit[:12]} on {first.started[:10]}" if first else ""
        named = f"named by {len(under)} of {len(records)} records{markdown_cell(since)}"
        facts["analysis plan"] = f"{plan.recipe.plan_id}, {named}"
    if shown := results.first.experiments:
        facts["claims"] = "; ".join(
            markdown_cell(f"{name} {one.claims}, first page {one.date} at commit {one.commit[:12]}")
            for name, one in shown.items()
        )
    if said := summary(reproductions(results.folder, plan.recipe_name), records):
        facts["reproduction"] = markdown_cell(said)
    again = f"`python -m senet_ablate report --recipe {plan.recipe_argument}`"
    facts["these files again, from the records"] = again
    lines = "\n".join(f"- {title}: {text}" for title, text in facts.items())
    return Section("What was run", [Text(about), Text(lines)])


def _training(results: RecipeResults) -> Iterator[Section]:
    """The curves of the plain and the standard SE network, of the first table that holds both."""
    tables = results.tables.values()
    both = (one for one in tables if one.experiment.reference and not one.refused)
    if (table := next(both, None)) is None:
        return
    names = {"plain": table.experiment.control, "SE": str(table.experiment.reference)}
    groups = {name: table.records[row] for name, row in names.items()}
    caption = (
        "Mean and range over the seeds, by epoch. The training loss is the one that was"
        " minimised, label smoothing included."
    )
    title = "Loss and error of the plain and the SE network by epoch"
    means = {name: plots.by_epoch(runs, "test_top1").mean() for name, runs in groups.items()}
    texts = pd.DataFrame(means).dropna(how="all").map(number, form=".2f")
    texts.insert(0, "epoch", texts.index)
    blocks: list[Block] = [*drawn("curves.svg", title, caption, plots.curves, groups)]
    if not texts.empty:
        folded = "The test errors as a table" if blocks else ""
        blocks.append(Grid("Mean test error by epoch, %", texts, folded=folded))
    if blocks:
        yield Section("Training", blocks)


def _experiments(results: RecipeResults) -> Iterator[Section]:
    """A section an experiment: question, table, plot, claims."""
    for name, table in results.tables.items():
        title = results.title(table)
        picture = drawn(f"{name}/plot.svg", title, "", plots.plot, table)
        blocks: list[Block] = [Text(table.experiment.question), *table_blocks(table), *picture]
        if table.verdicts:
            said = [_claim(one, results.badge(table, one)) for one in table.verdicts]
            blocks += [Text("### Claims"), Text("\n".join(said))]
        cells = shown(table)
        files: dict[str, pd.DataFrame | str] = {
            f"{name}/table.csv": table.rows,
            f"{name}/table.tex": latex_table(cells, "l" + "r" * (cells.shape[1] - 1)),
        }
        if held := records_with_gates(results.plan, name, results.records):
            made_up = results.plan.recipe.images == "made up"
            measured = gates.gates_table(held[0].class_gates, made_up)
            row = next(row for row, records in table.records.items() if held[0] in records)
            label = str(table.rows["label"][row])
            blocks += gates.blocks(held[0], label, measured, name)
            files[f"{name}/gates.csv"] = measured
        yield Section(title, blocks, files, _command(results, table))


def _every_run(results: RecipeResults) -> Section:
    """Every record, on a page to click in, those of no row first."""
    names = defaultdict[str, list[str]](list)
    for table in results.tables.values():
        for variant, found in table.records.items():
            for record in found:
                names[record.id].append(f"{table.name}/{variant}")
    rows = [
        {
            "rows": markdown_cell(", ".join(names[record.id]) or "none"),
            "seed": record.run.seed,
            "top-1 error, %": f"{record.top1:.2f}",
            "training, s": f"{record.provenance.train_s:.0f}",
            "record": f"[{record.id}](runs/{record.id}.json)",
            "failed because": health(record),
        }
        for record in sorted(results.records.values(), key=lambda record: bool(names[record.id]))
    ]
    folded = "All of them, with seed, error and training time"
    grid = Grid("Every run", pd.DataFrame(rows), ("rows", "record"), folded)
    about = Text(f"{len(rows)} records, in [runs/](runs).")
    return Section("Every run", [about, grid])


def table_blocks(table: Table) -> list[Block]:
    """A table, and what stands above and under it."""
    withheld = [Text(f"**Withheld**: {markdown_cell(table.refused)}.")] if table.refused else []
    grid = Grid(table.experiment.title, shown(table))
    return [*withheld, grid, *map(Text, notes(table))]


def _claim(verdict: Verdict, said: str) -> str:
    """A claim with its verdict, as it is printed, and its evidence, as an item of a list."""
    lines = [f"- {said} **{markdown_cell(verdict.claim)}**: {markdown_cell(verdict.says)}"]
    evidence = {"Paper": verdict.paper, "Here": verdict.ours, "Because": verdict.reason}
    return "\n".join(
        [*lines, *(f"  - {name}: {markdown_cell(text)}" for name, text in evidence.items() if text)]
    )


def _cells(row: pd.Series) -> dict[str, str]:
    def of_seeds(column: str, form: str, mark: str = "") -> str:
        return number(row[column], form, row[f"{column}_low"], row[f"{column}_high"], mark)

    def of_network(column: str, unit: float) -> str:
        value = (row[column] or math.nan) / unit
        return number(value, ".3g" if value < 1 else ".2f")

    failed = f"{row['failed']} ({row['failed_low']:.0f} to {row['failed_high']:.0f}%)"
    if not pd.isna(row["sound_top1"]):
        failed += f"; the others {row['sound_top1']:.2f}%"
    return {
        "": row["label"],
        "seeds": str(row["n"]),
        "of them failed": failed if row["failed"] else "",
        "top-1 error, %": of_seeds("top1", ".2f"),
        "against the control, points": of_seeds("effect", "+.2f", "*" * bool(row["differs"])),
        "top-5 error, %": of_seeds("top5", ".2f"),
        "params, M": of_network("params", 1e6),
        "mult-adds, G": of_network("macs", 1e9),
        "paper: top-1": number(row["paper_top1"]),
        "paper: top-5": number(row["paper_top5"]),
        "paper: params, M": number(row["paper_params"]),
        "paper: GFLOPs": number(row["paper_gflops"]),
        "remark": row["remark"],
    }


def shown(table: Table) -> pd.DataFrame:
    """A table as text cells, without the columns that are empty."""
    cells = pd.DataFrame([_cells(row) for _, row in table.rows.iterrows()])
    return filled(cells, "top-1 error, %")


def notes(table: Table) -> list[str]:
    """What stands under a table: what its numbers can resolve, what to mind, what is missing."""
    rows, parts = table.rows, []
    intervals = (
        "Intervals are 95%, over seeds, uncorrected; other test images of this kind would move a"
        f" row's error by ± {span(rows['image_error'], '.2f')} points."
    )
    if not math.isnan(table.resolution) or rows["differs"].any():
        star = (
            f"`*`: differs from its control by more than the noise between seeds (Holm over the"
            f" {table.comparisons} comparisons of the page, at {100 * table.alpha:g}%)."
        )
        finds = " So few seeds find no difference in 4 of 5 tries." * (table.resolution > 100) or (
            f" This test finds a difference in 4 of 5 tries if it is {table.resolution:.2f} points"
            f" or more ({table.resolution_of_half:.2f} in the half of the rows that scatter least)."
        )
        parts.append(f"{star}{'' if math.isnan(table.resolution) else finds} {intervals}")
    if table.waiting and rows["n"].any():
        some = "Not every row" if parts else "No row"
        parts.append(f"{some} is tested against its control yet: {table.waiting}.")
        parts += [] if len(parts) > 1 else [intervals]
    counts = rows["n"] != rows["n"][table.experiment.control]
    if (counts & (rows["effect"] == 0) & rows["effect_low"].isna()).any():
        equal = "Rows that are equal bit for bit in the seeds that they share differ by 0"
        parts.append(f"{equal}, whatever their means over other seeds.")
    if rows["remark"].str.contains("gates stuck").any():
        parts.append(
            "Gates are stuck where all of a block's, of every image and channel, stand at one value"
            f" that says nothing (to {STUCK}, root mean square; of softmax gates, which are small"
            f" and share one unit, to {STUCK:.0%} of their mean)."
        )
    parts += [f"**Mind**: {markdown_cell(sentence)}." for sentence in table.unfair]
    if table.missing:
        names = "; ".join(
            f"{rows['label'][name]}: {seeds_in_words(seeds)}"
            for name, seeds in table.missing.items()
        )
        parts.append(f"**Not run yet**: {markdown_cell(names)}.")
    return parts


def _command(results: RecipeResults, table: Table) -> str:
    """What trains a table: what is missing, or, where nothing is, all anew to compare."""
    plan = results.plan
    words = [plan.experiment_argument(table.name), "--recipe", plan.recipe_argument]
    verb = "run" if table.missing else "reproduce"
    command = f"python -m senet_ablate {verb} {shlex.join(words)}"
    if plan.recipe.plan is not None or verb == "reproduce":  # the plan, or the records, say
        return command
    seeds = max([plan.recipe.seeds, *(int(one.rows["n"].max()) for one in results.tables.values())])
    return f"{command} --seeds {seeds}"
