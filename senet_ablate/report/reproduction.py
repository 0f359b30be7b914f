"""The page of a reproduction: how far a machine agrees with a recipe's committed records."""

from collections import Counter
from pathlib import Path

import pandas as pd

from senet_ablate.analysis.escape import markdown_cell, markdown_code
from senet_ablate.analysis.reproduction import Agreement, Reproduction
from senet_ablate.records.facts import slug, write_facts
from senet_ablate.report.cells import number
from senet_ablate.report.document import Document, Grid, Section, Text, write_files

ORDER: tuple[Agreement, ...] = ("bit for bit", "agrees", "differs", "too few seeds to say")


def write_reproduction(folder: Path, facts: Reproduction) -> Path:
    """Write the sealed facts, the table of rows and the page; returns the path of the page."""
    write_facts(folder / f"{file_name(facts)}.json", facts)
    write_files(folder, page(folder, facts).files("agreement.md"))
    return folder / "agreement.md"


def file_name(facts: Reproduction) -> str:
    """Of the facts: the machine."""
    return slug(" ".join(facts.devices))


def sentences(facts: Reproduction) -> list[str]:
    """The agreement in a few lines."""
    outcomes = Counter(row.outcome for row in facts.rows)
    other = [one for one in facts.verdicts if one.committed != one.ours]
    lines = [
        f"{len(facts.equal)} of {len(facts.equal) + len(facts.other)} records are equal bit for"
        " bit, times aside",
        f"{len(facts.rows)} rows: "
        + ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ORDER if outcomes[outcome]),
        f"{len(facts.verdicts) - len(other)} of {len(facts.verdicts)} verdicts are the same",
    ]
    lines += [
        f"differs: {row.experiment}/{row.variant}: {row.ours:.2f}% here, {row.committed:.2f}%"
        " committed"
        for row in facts.rows
        if row.outcome == "differs"
    ]
    lines += [
        f"differs: claim {one.claim}: {one.ours} here, {one.committed} committed" for one in other
    ]
    return lines


def page(folder: Path, facts: Reproduction) -> Document:
    """Rows and verdicts side by side."""
    settings = "".join(f" {name}={value}" for name, value in facts.settings.items())
    made = (
        f"{', '.join(facts.devices)} ({', '.join(facts.instructions)}{settings}), {facts.date},"
        f" commit {facts.commit}, torch {facts.versions.get('torch')}"
    )
    about = (
        f"Trained on {markdown_cell(made)}, by {markdown_code(facts.command)}.\n\n"
        "A row agrees if the 95% interval of the difference of its mean top-1 errors (Welch) lies"
        " within the margin in which the ledger calls rows alike, and differs if it lies outside."
        " Verdicts are made from the same runs on both sides."
    )
    contribute = (
        f"To contribute: copy `{file_name(facts)}.json` to"
        f" `results/{facts.recipe}/reproductions/`. The tables of these records:"
        f" `python -m senet_ablate report --recipe {facts.recipe} --results {folder.parent}`."
    )
    rows = [
        {
            "row": f"{row.experiment}/{row.variant}",
            "seeds": row.seeds,
            "equal": row.equal,
            "failed: committed, here": f"{row.failed[0]}, {row.failed[1]}",
            "committed, %": f"{row.committed:.2f}",
            "here, %": f"{row.ours:.2f}",
            "difference, points": number(row.ours - row.committed, "+.2f", row.low, row.high),
            "margin": number(row.margin, ".2f"),
            "outcome": row.outcome,
        }
        for row in facts.rows
    ]
    verdicts = [
        {"claim": one.claim, "says": one.says, "committed": one.committed, "here": one.ours}
        | {"differs": "" if one.committed == one.ours else "*"}
        for one in facts.verdicts
    ]
    unrounded = pd.DataFrame([row.model_dump(exclude={"failed"}) for row in facts.rows])
    grid = Grid("Rows", pd.DataFrame(rows))
    sections = [Section("Rows", [Text(about), grid], {"agreement.csv": unrounded})]
    if verdicts:
        sections.append(Section("Verdicts", [Grid("Verdicts", pd.DataFrame(verdicts))]))
    sections.append(Section("To contribute", [Text(contribute)]))
    lead = "\n".join(f"- {markdown_cell(sentence)}" for sentence in sentences(facts))
    return Document(f"Reproduction of {facts.recipe}", lead, sections)
