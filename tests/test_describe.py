"""Every network as a person sees it, in three forms."""

import io
from functools import cache

import pandas as pd
import pytest
from skeletons import skeleton

from senet_ablate.models.build import list_backbones
from senet_ablate.models.se import se_blocks
from senet_ablate.models.summary import describe, stages
from senet_ablate.spec.registry import _NETWORKS
from senet_ablate.spec.spec import SESpec

FILES = {name: file for file, names in _NETWORKS.items() for name in names}
# the last of each file, and any that is in none
NAMES = {FILES.get(name, name): name for name in list_backbones()}.values()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_every_kind_is_described_by_sizes_places_and_costs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = {}

    def once(name: str, classes: int, se: SESpec | None, stem: str) -> object:
        key = (name, classes, se, stem)
        if key not in built:
            built[key] = skeleton(name, classes, se, stem)
        return built[key]

    monkeypatch.setattr("senet_ablate.models.summary.build_to_count", once)
    monkeypatch.setattr(
        "senet_ablate.models.summary.stages", cache(stages)
    )  # counted once for all forms
    rows = pd.read_csv(io.StringIO(describe(name, SESpec(), form="csv")), index_col=0)
    parts = rows.drop(index="all")
    assert (
        parts[["params", "multiply-adds"]].sum() == rows.loc["all", ["params", "multiply-adds"]]
    ).all()
    assert rows["output"].notna().all() and rows.loc["all", "output"] in ("1000", "100")
    inner = parts[parts.index.str.startswith("stage")]
    sides = [int(size.split(" x ")[1]) for size in inner["output"]]
    assert sides == sorted(sides, reverse=True) and inner["units"].notna().all()
    assert (
        inner["SE"].notna().all()
        and inner["hidden"].notna().all()
        and (inner["params, +%"] > 0).all()
    )
    model = built[name, int(rows.loc["all", "output"]), SESpec(), "default"]
    assert int(inner["units"].sum()) == len(se_blocks(model)), "one block a unit"
    text = describe(name, SESpec())
    assert (
        text.startswith(f"{name}, SE with reduction 16, ")
        and f"{rows.loc['all', 'params']:,}" in text
    )
    assert "nan" not in text.lower() and "None" not in text


def test_parts_that_neither_cost_nor_change_the_size_are_left_out() -> None:
    assert "dropout" not in stages("googlenet_bn", None, 64, 10).index
    assert "pool" in stages("resnet20", None, 32, 10).index


def test_latex_has_the_cells_of_the_text() -> None:
    latex = describe("resnet20", SESpec(gate="tanh", stages=(2, 4)), form="latex")
    assert r"SE\_2\_1 ... SE\_2\_3" in latex and r"\toprule" in latex and "000000" not in latex
    assert "SE with reduction 16, gate tanh, stages (2, 4)" in describe(
        "resnet20", SESpec(gate="tanh", stages=(2, 4))
    )
