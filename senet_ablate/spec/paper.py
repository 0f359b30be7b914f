"""The paper's published numbers, for the tables that put ours beside them (facts in paper.yaml)."""

from functools import cache
from pathlib import Path
from typing import Any

from senet_ablate.spec.claim import Claim
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.schema import load_yaml, parse
from senet_ablate.spec.spec import Experiment


@cache
def paper_facts() -> dict[str, Any]:
    """All of paper.yaml.

    tables: the published tables by id, with caption, columns and their units, recipe, rows.
    digitised_fig6, digitised_fig7: what was read off these figures, by the paper's panel name.
    timings_ms: times of ResNet-50 by kind of work, `plain` and `SE`. cost_remarks: row of a table
    -> why our multiply-adds are not those that the paper prints for it. out_of_scope: claims that
    this suite does not test.
    """
    path = Path(__file__).with_name("paper.yaml")
    return load_yaml(path.read_text(encoding="utf-8"), str(path))


@cache
def out_of_scope() -> tuple[Claim, ...]:
    """Claims of the paper that this suite does not test; each says why."""
    return parse(tuple[Claim, ...], paper_facts()["out_of_scope"])


# Tables 2 to 5 have a row a network, whose columns carry its version: the re-trained plain one, or
# that with SE.
_PLAIN, _SE = ("original_", "reimpl_", ""), ("senet_", "se_", "")
_COLUMNS = {  # of the paper -> ours, and how many of its units make one of ours
    "top1_err": ("top1", 1),
    "err": ("top1", 1),
    "top5_err": ("top5", 1),
    "params": ("params", 1),
    "gflops": ("gflops", 1),
    "mflops": ("gflops", 1000),
}


def published(experiment: Experiment, variant: str) -> dict[str, float]:
    """What the paper prints for a row: errors top1, top5 (%), params (M), gflops, as far as it
    has them.

    Where a row of the paper holds a network without and with SE, the variant takes the columns of
    its own version; the plain one those of the authors' own training. Raises BadInput if the
    experiment or the variant names a table or row that the paper does not have.
    """
    value, tables = experiment.variants[variant], paper_facts()["tables"]
    table, _, row = (value.paper_row or f"{experiment.paper_table or ''}/{variant}").partition("/")
    if not table:
        return {}
    if table not in tables:
        raise BadInput(f"the paper has no table {table!r}; {nearest(table, tables)}")
    rows = tables[table]["rows"]
    if value.paper_row and row not in rows:
        raise BadInput(f"table {table!r} has no row {row!r}; {nearest(row, rows)}")
    printed = rows.get(row, {})
    return {
        ours: found / units
        for version in (_PLAIN if value.se is None else _SE)
        for column, (ours, units) in _COLUMNS.items()
        if (found := printed.get(version + column)) is not None
    }
