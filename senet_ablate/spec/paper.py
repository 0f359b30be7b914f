"""The paper's published numbers, for the tables that put ours beside them (facts in paper.yaml)."""

from functools import cache
from pathlib import Path
from typing import Any

from senet_ablate.spec.claim import Claim
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.schema import load_yaml, parse
from senet_ablate.spec.spec import Experiment


@cache
def out_of_scope() -> tuple[Claim, ...]:
    """Claims of the paper that this suite does not test; each says why."""
    path = Path(__file__).with_name("out_of_scope.yaml")
    return parse(tuple[Claim, ...], load_yaml(path.read_text("utf-8"), str(path))["claims"])


@cache
def _facts() -> dict[str, Any]:
    path = Path(__file__).with_name("paper.yaml")
    return load_yaml(path.read_text(encoding="utf-8"), str(path))


def tables() -> dict[str, Any]:
    """The published tables by id: paper_table, caption, columns with units, recipe, rows."""
    return _facts()["tables"]


def digitised(figure: str) -> dict[str, Any]:
    """What was read off figure 6 or 7 (`digitised_fig6`, ...), by the paper's panel name."""
    return _facts()[figure]


def timings_ms() -> dict[str, dict[str, float]]:
    """The paper's times of ResNet-50 in ms, `plain` and `SE`, by kind of work:

    training_step, inference.
    """
    return _facts()["timings_ms"]


def cost_remarks() -> dict[str, str]:
    """Row of a table -> why our multiply-adds are not those that the paper prints for it."""
    return _facts()["cost_remarks"]


# Tables 2 to 5 have a row a network, whose columns carry its version: the re-trained plain one, or
# that with SE.
_PLAIN, _SE = ("reimpl_", "original_"), ("se_", "senet_")
_OURS = {
    **{name: (name, 1) for name in ("top1_err", "top5_err", "params", "gflops")},
    "err": ("top1_err", 1),
    "mflops": ("gflops", 1000),
}


def published(experiment: Experiment, variant: str) -> dict[str, float]:
    """What the paper prints for a row: any of top1_err, top5_err (%), params (M), gflops; empty if
    it has no such row.

    Where a row of the paper holds a network without and with SE, the variant takes the columns of
    its own version; the plain one those of the authors' own training. Raises BadInput if the
    experiment or the variant names a table or row that the paper does not have.
    """
    value = experiment.variants[variant]
    table, _, row = (
        value.paper_row.partition("/") if value.paper_row else (experiment.paper_table, "", variant)
    )
    if table is None:
        return {}
    if table not in tables():
        raise BadInput(f"the paper has no table {table!r}; {nearest(table, tables())}")
    rows = tables()[table]["rows"]
    if value.paper_row and row not in rows:
        raise BadInput(f"table {table!r} has no row {row!r}; {nearest(row, rows)}")
    return _as_ours(rows.get(row, {}), plain=value.se is None)


def _as_ours(columns: dict[str, float | None], plain: bool) -> dict[str, float]:
    """Columns of the paper by our names and in our units, those of the other version left out."""
    found = {}
    for column, value in columns.items():
        version = next((prefix for prefix in (*_PLAIN, *_SE) if column.startswith(prefix)), "")
        name = column.removeprefix(version)
        if value is not None and name in _OURS and version in ("", *(_PLAIN if plain else _SE)):
            ours, unit = _OURS[name]
            found[ours] = value / unit
    return found
