"""Every generated file of a recipe, as bytes from its records alone:

nothing here trains, and nothing is typed.
"""

import re
import shlex
from collections import Counter
from pathlib import Path

import pandas as pd

from senet_ablate.analysis.escape import latex_table, link_target, markdown_cell, markdown_table
from senet_ablate.analysis.evidence import Outcome
from senet_ablate.analysis.frame import strangers
from senet_ablate.analysis.tables import Table, gates_of_seeds
from senet_ablate.analysis.tables import tables as tables_of
from senet_ablate.analysis.verdicts import Verdict, outcome_words
from senet_ablate.records.bench import read_benches, read_timings
from senet_ablate.records.cost import read_costs_if_any
from senet_ablate.records.first_page import FirstPage, note_first_page, read_first_page
from senet_ablate.records.gate_facts import current_gates
from senet_ablate.records.store import Record, read_records, write_whole
from senet_ablate.report import gates as gates_report
from senet_ablate.report import html as webpage
from senet_ablate.report import plots as figures
from senet_ablate.report import speed as timing_report
from senet_ablate.spec.plan import Plan


def write_report(plan: Plan, results: Path) -> Path:
    """Write every table, plot and page of a recipe; returns the path of its README."""
    folder = results / plan.recipe_name
    records = read_records(results, plan.recipe_name)
    shown = [row.experiment for row in plan.rows() if any(run.id in records for run in row.runs)]
    note_first_page(plan, results, dict.fromkeys(shown))
    write_files(folder, report_files(plan, results))
    return folder / "README.md"


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write generated files by their path in `folder`, those that do not show the same already."""
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)


def report_files(plan: Plan, results: Path) -> dict[str, bytes]:
    """Every generated file of a recipe by its path in the recipe's results folder."""
    records = read_records(results, plan.recipe_name)
    timings = read_timings(plan, results)
    gates = current_gates(plan, results, records)
    benches = read_benches(results)
    networks = gates_of_seeds(plan, records) or ([gates.blocks] if gates else [])
    costs = read_costs_if_any(results)
    first = read_first_page(results, plan.recipe_name)
    tables = [*tables_of(plan, records, networks, benches, costs, first).values()]
    files: dict[str, bytes] = {}
    annexes: dict[str, str] = {}
    with figures.style():
        for one in tables:
            folder = one.name
            files[f"{folder}/table.md"] = markdown(one).encode()
            files[f"{folder}/table.csv"] = one.rows.to_csv(
                lineterminator="\n", float_format="%.10g"
            ).encode()
            files[f"{folder}/table.tex"] = latex(one).encode()
            figure = figures.plot(one)
            if figure is not None:
                files[f"{folder}/plot.svg"] = figures.svg(figure)
        figure = figures.curves(_plain_and_se(tables))
        if figure is not None:
            files["curves.svg"] = figures.svg(figure)
        if gates and gates_report.EXPERIMENT in plan.experiments:
            files |= gates_report.gates_files(gates)
            annexes[gates_report.EXPERIMENT] = gates_report.section(gates, plan.recipe_name)
        files |= timing_report.timing_files(plan, tables, timings)
    annexes["cost"] = timing_report.section(plan, timings, "pareto.svg" in files)
    files["README.md"] = page(plan, tables, records, set(files), annexes, first).encode()
    speed = []
    if timings:
        rows = timing_report.measured(timing_report.by_device(timings))
        cells = timing_report.cells(rows, timings[0].unit)
        speed = [webpage.grid("Speed", [timing_report.legend(timings)], cells)]
    by_class = (
        [
            webpage.grid(
                "Gates by class",
                [gates_report.sample(gates), gates_report.LEGEND],
                gates_report.gates_cells(gates),
            )
        ]
        if gates
        else []
    )
    sections = [
        webpage.section(
            one,
            shown(one),
            notes(one),
            _command(one, tables, plan),
            files,
            by_class if one.name == gates_report.EXPERIMENT else [],
        )
        for one in tables
    ]
    summary, facts = _summary(plan, records), provenance(plan, records, first)
    files["report.html"] = webpage.html(
        plan, tables, records, sections, summary, facts, files, speed
    ).encode()
    return files


def _plain_and_se(tables: list[Table]) -> dict[str, list[Record]]:
    """The runs of the plain network and of the standard SE network, from the first table that holds
    both.
    """
    for one in tables:
        if one.experiment.reference:
            return {
                "plain": one.records[one.experiment.control],
                "SE": one.records[one.experiment.reference],
            }
    return {}


OUTCOMES: tuple[Outcome, ...] = ("supported", "contradicted", "unresolved", "not tested")
COLUMNS = {
    "label": "",
    "n": "seeds",
    "failed": "of them failed",
    "top1": "top-1 error, %",
    "effect": "against the control, points",
    "top5": "top-5 error, %",
    "params": "params, M",
    "macs": "mult-adds, G",
    "paper_top1": "paper: top-1",
    "paper_top5": "paper: top-5",
    "paper_params": "paper: params, M",
    "paper_gflops": "paper: GFLOPs",
    "remark": "remark",
}


def shown(table: Table) -> pd.DataFrame:
    """A table as text cells:

    mean with its 95% interval, units in the heading, empty where there is nothing.
    """
    rows = pd.DataFrame(index=table.rows.index)
    for column, heading in COLUMNS.items():
        values = table.rows[column]
        if column in ("top1", "top5", "effect"):
            cells = [_interval(row, column) for _, row in table.rows.iterrows()]
        elif column in ("params", "macs"):
            cells = [_scaled(value, 1e6 if column == "params" else 1e9) for value in values]
        elif column == "failed":
            cells = [_failed(row) for _, row in table.rows.iterrows()]
        else:
            cells = ["" if pd.isna(value) else str(value) for value in values]
        if column in ("label", "n", "top1") or any(cells):
            rows[heading] = cells
    return rows


def _interval(row: pd.Series, column: str) -> str:
    if pd.isna(row[column]):
        return ""
    sign = "+" if column == "effect" else ""
    star = "*" if column == "effect" and row["differs"] else ""
    if pd.isna(row[f"{column}_low"]):
        return f"{row[column]:{sign}.2f}{star}"
    return (
        f"{row[column]:{sign}.2f}{star} [{row[f'{column}_low']:{sign}.2f},"
        f" {row[f'{column}_high']:{sign}.2f}]"
    )


def _failed(row: pd.Series) -> str:
    """How many seeds failed, with the interval of their share, and what the others give."""
    if not row["failed"]:
        return ""
    share = f"{row['failed']} ({row['failed_low']:.0f} to {row['failed_high']:.0f}%)"
    others = "" if pd.isna(row["sound_top1"]) else f"; the others {row['sound_top1']:.2f}%"
    return f"{share}{others}"


def _scaled(value: float | None, unit: float) -> str:
    return (
        ""
        if value is None or pd.isna(value)
        else f"{value / unit:.3g}"
        if value < unit
        else f"{value / unit:.2f}"
    )


def markdown(table: Table) -> str:
    """The table with what is missing from it, as Markdown."""
    parts = [markdown_table(shown(table)), *notes(table)]
    if table.refused:
        parts.insert(0, f"**Withheld**: {table.refused}.")
    return "\n\n".join(parts) + "\n"


def notes(table: Table) -> list[str]:
    """What stands under a table: what its numbers can resolve, what to mind, what is missing."""
    parts = []
    if table.resolution == table.resolution:
        parts.append(
            f"`*`: differs from its control by more than the noise between seeds (Holm over the"
            f" {table.comparisons} comparisons of the page, at {100 * table.alpha:g}%). This test"
            f" finds a difference in 4 of 5 tries if it is {table.resolution:.2f} points or more."
            f" Intervals are 95%, over seeds, uncorrected; other test images of this kind would"
            f" move an error by about ± {table.rows['image_error'].median():.2f} points."
        )
    parts += [f"**Mind**: {sentence}." for sentence in table.unfair]
    if table.missing:
        names = ", ".join(
            f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in table.missing.items()
        )
        parts.append(f"**Not run yet**: {names}.")
    return parts


def latex(table: Table) -> str:
    """The table for a paper, with booktabs rules."""
    rows = shown(table)
    return latex_table(rows, "l" + "r" * (rows.shape[1] - 1))


def page(
    plan: Plan,
    tables: list[Table],
    records: dict[str, Record],
    files: set[str],
    annexes: dict[str, str],
    first: FirstPage,
) -> str:
    """The README of a recipe's results; `annexes`:

    experiment -> what follows its table; cost -> its section.
    """
    recipe = plan.recipe
    parts = [f"# {recipe.title}"]
    if recipe.warning:
        parts.append(f"> **{recipe.warning}**")
    facts = [f"- {title}: {text}" for title, text in provenance(plan, records, first).items()]
    parts += [recipe.about, f"{_summary(plan, records)}\n\n" + "\n".join(facts)]
    parts += [
        "[The same as one page to sort and zoom in](report.html); save it, it needs nothing else.",
        "## Claims",
    ]
    if recipe.warning:
        parts.append(
            "Each verdict is about these images and this training alone; see the warning above."
        )
    if reasons := dict.fromkeys(one.exploratory for one in tables if one.exploratory):
        parts.append(f"**Exploratory**: {'; '.join(reasons)}.")
    parts.append(ledger(tables))
    if "curves.svg" in files:
        parts += [
            "## Training",
            (
                "Mean and range over the seeds. The training loss is the one that was minimised,"
                " label smoothing included."
            ),
            "![Training curves](curves.svg)",
        ]
    parts += [annexes["cost"]] if annexes.get("cost") else []
    for one in tables:
        parts += [f"## {one.experiment.title}", one.experiment.question, markdown(one).strip()]
        if one.verdicts:
            parts.append(_claims(one.verdicts))
        if f"{one.name}/plot.svg" in files:
            parts.append(
                f"![{markdown_cell(one.experiment.title)}]({link_target(one.name)}/plot.svg)"
            )
        if one.name in annexes:
            parts.append(annexes[one.name])
        links = ", ".join(
            f"[{kind}]({link_target(one.name)}/{kind})"
            for kind in ("table.csv", "table.tex")
            if f"{one.name}/{kind}" in files
        )
        parts.append(f"{links}; again by `{_command(one, tables, plan)}`")
    return "\n\n".join(parts) + "\n"


def ledger(tables: list[Table]) -> str:
    """All claims of all experiments with their verdicts, as Markdown."""
    verdicts = [verdict for one in tables for verdict in one.verdicts]
    counts = Counter[str](verdict.outcome for verdict in verdicts)
    made_up = any(verdict.made_up for verdict in verdicts)
    rows = [
        (
            f"[{markdown_cell(one.experiment.title)}](#{_anchor(one.experiment.title)})",
            verdict.claim,
            verdict.says,
            _outcome(verdict),
        )
        for one in tables
        for verdict in one.verdicts
    ]
    summary = ", ".join(f"{counts[one]} {outcome_words(one, made_up)}" for one in OUTCOMES)
    head = pd.DataFrame(rows, columns=["table", "claim", "the paper says", "here"])
    return f"{summary}.\n\n{markdown_table(head, markup=('table', 'here'))}"


def _claims(verdicts: tuple[Verdict, ...]) -> str:
    rows = [(v.claim, v.says, v.paper, v.ours, _outcome(v), v.reason) for v in verdicts]
    heads = ["claim", "the paper says", "its evidence", "ours", "verdict", "because"]
    table = pd.DataFrame(rows, columns=heads)
    return markdown_table(table.loc[:, (table != "").any()], markup=("verdict",))


def _outcome(verdict: Verdict) -> str:
    partly = ", in part" if verdict.partly else ""
    bold = "**" if verdict.outcome in ("supported", "contradicted") else ""
    return f"{bold}{verdict.words}{bold}{partly}"


def _anchor(title: str) -> str:
    """The link target that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _command(table: Table, tables: list[Table], plan: Plan) -> str:
    """What makes a table again, with the seeds that it has."""
    words = ["run", table.name, "--recipe", plan.recipe_name]
    command = f"python -m senet_ablate {shlex.join(words)}"
    if plan.recipe.plan is not None:  # it says the seeds
        return command
    seeds = max([plan.recipe.seeds, *(int(one.rows["n"].max()) for one in tables)])
    return f"{command} --seeds {seeds}"


def _summary(plan: Plan, records: dict[str, Record]) -> str:
    others = strangers(plan.recipe_name, records)
    count = sum(map(len, others.values()))
    apart = f", of which {count} belong to no row here ({'; '.join(others)})" if count else ""
    return (
        f"{len(records)} runs{apart}. Errors are those of the last epoch on the test images;"
        " nothing was chosen by them.\nIntervals are Student-t, 95%, over the seeds."
    )


def provenance(
    plan: Plan, records: dict[str, Record], first: FirstPage | None = None
) -> dict[str, str]:
    """What was run, on what, and how to run it again."""
    train = plan.recipe.train.model_dump(mode="json", exclude_defaults=True)
    facts = {"recipe": ", ".join(f"{key} {value}" for key, value in train.items())}
    for title, values in (
        ("device", Counter(record.provenance.device for record in records.values())),
        ("libraries", Counter(_libraries(record) for record in records.values())),
        ("code", Counter(_code(record) for record in records.values())),
        ("data (SHA-256)", Counter(record.provenance.data for record in records.values())),
        ("command", Counter(record.provenance.command for record in records.values())),
    ):
        facts[title] = "; ".join(
            f"{value} ({count} runs)" if len(values) > 1 else value
            for value, count in sorted(values.items())
        )
    if plan.recipe.plan is not None:
        facts["analysis plan"] = f"{plan.recipe.plan_id}, which every record names"
    shown = first.experiments if first else {}
    if shown:
        facts["claims"] = "; ".join(
            f"{name} {one.claims}, first page {one.date} at commit {one.commit[:12]}"
            for name, one in shown.items()
        )
    facts["these files again, from the records"] = (
        f"`python -m senet_ablate report --recipe {plan.recipe_argument}`"
    )
    return facts


def _libraries(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.provenance.versions.items())


def _code(record: Record) -> str:
    changes = " with uncommitted changes" if record.provenance.dirty else ""
    return f"commit {record.provenance.commit[:12]}{changes}"
