"""The paper's published numbers, for the tables that put ours beside them (facts in paper.yaml)."""

from functools import cache
from pathlib import Path
from typing import Any

from senet_ablate.registry import BadInput, nearest
from senet_ablate.spec import Experiment
from senet_ablate.strict import load_yaml


@cache
def _facts() -> dict[str, Any]:
    path = Path(__file__).with_name("paper.yaml")
    return load_yaml(path.read_text(encoding="utf-8"), str(path))


def tables() -> dict[str, Any]:
    """The published tables by id: paper_table, caption, columns with units, recipe, rows."""
    return _facts()["tables"]


def digitised(figure: str) -> dict[str, Any]:
    """What was read off a figure, by the paper's panel name: `digitised_fig6` or `digitised_fig7`."""
    return _facts()[figure]


def published(experiment: Experiment, variant: str) -> dict[str, float]:
    """What the paper prints for a row: any of top1_err, top5_err (%), params (M), gflops; empty if it has no such row.

    Raises BadInput if the experiment or the variant names a table or row that the paper does not have.
    """
    elsewhere = experiment.variants[variant].paper_row
    table, _, row = elsewhere.partition("/") if elsewhere else (experiment.paper_table, "", variant)
    if table is None:
        return {}
    if table not in tables():
        raise BadInput(f"the paper has no table {table!r}; {nearest(table, tables())}")
    rows = tables()[table]["rows"]
    if elsewhere and row not in rows:
        raise BadInput(f"table {table!r} has no row {row!r}; {nearest(row, rows)}")
    return {name: value for name, value in rows.get(row, {}).items() if value is not None}
