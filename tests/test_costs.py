"""The page of costs:

counted facts as committed, the paper's columns beside them, and what verify says of a change.
"""

from pathlib import Path

import pytest
import torch
from test_cli import inside
from torch import Tensor, nn

from senet_ablate.models.build import build_model, list_backbones
from senet_ablate.models.complexity import cost
from senet_ablate.models.summary import count, stages, to_count
from senet_ablate.records.cost import facts_path, read_costs, write_costs
from senet_ablate.report.cost_page import SE, beside_paper, by_stage, networks, pages
from senet_ablate.report.pages import verify_page, write_page
from senet_ablate.spec import BadInput, Experiment, Plan, SESpec, Variant, read_plan
from senet_ablate.train.job import SweepContext
from senet_ablate.train.sweep import Sweep

RESULTS = Path(__file__).parent.parent / "results"
COSTS = read_costs(RESULTS)


def test_the_committed_facts_hold_every_network_without_and_with_se() -> None:
    assert [*COSTS] == to_count()
    assert {name for name, _ in COSTS} == set(list_backbones())
    assert verify_page("cost", RESULTS) == []


@pytest.mark.parametrize(
    "name", ["resnet50", "shufflenet_v1_g3", "wrn_16_8", "resnet_tiny_bottleneck", "vgg16_bn"]
)
def test_the_committed_facts_are_what_is_counted_now(name: str) -> None:
    for se in (None, SE):
        assert count(name, se) == COSTS[name, se]


def test_parts_add_up_to_the_whole_and_stages_to_what_se_adds() -> None:
    for one in COSTS.values():
        assert sum(part.params for part in one.parts.values()) == one.params
        assert sum(part.macs for part in one.parts.values()) == one.macs
    rows = networks(COSTS)
    for name in rows.index:
        added = by_stage(COSTS[name, None], COSTS[name, SE]).sum()
        assert added["params"] == pytest.approx(rows.loc[name, "params_added"])
        assert added["macs"] == pytest.approx(rows.loc[name, "macs_added"])


def test_every_printed_cost_is_near_ours_or_its_distance_is_explained() -> None:
    rows = beside_paper(COSTS)
    assert set(rows.index) == {f"Table {number}" for number in (2, 3, 10, 13, 15, 16)}
    far = rows[(rows["params_off"].abs() > 0.15) | (rows["macs_off"].abs() > 1)]
    assert list(far["row"]) == ["Inception-ResNet-v2", "SE-Inception-ResNet-v2", "ShuffleNet"]
    assert (rows["remark"] != "").equals(rows["row"].isin(far["row"]))
    assert not (rows["remark"] == "not explained").any()
    resnet = rows[rows["row"] == "SE_Stage_4"].iloc[0]
    assert (resnet["paper_params"], resnet["paper_gflops"]) == (26.4, 3.86)


def test_the_page_has_the_papers_remark_on_the_last_stage_in_our_numbers() -> None:
    page = pages(RESULTS)["cost/README.md"].markdown()
    assert "SE adds 9.8% to the parameters, and without the last stage 3.7%" in page


@pytest.mark.usefixtures("blank_plots")
def test_a_changed_file_or_fact_is_named_and_report_writes_the_page_again(tmp_path: Path) -> None:
    write_costs(tmp_path, list(COSTS.values()))
    assert read_costs(tmp_path) == COSTS
    write_page("cost", tmp_path)
    assert inside("verify", "--results", str(tmp_path))[0] == 0
    table = tmp_path / "cost" / "table.csv"
    table.write_text(table.read_text().replace("25557032", "25557033"))
    code, _, errors = inside("verify", "--results", str(tmp_path))
    assert code == 1 and "cost/table.csv: does not follow from its facts" in errors
    assert inside("report", "--results", str(tmp_path))[0] == 0
    assert inside("verify", "--results", str(tmp_path))[0] == 0
    facts = facts_path(tmp_path)
    facts.write_text(facts.read_text().replace("25557032", "25557033"))
    for verb in ("verify", "report"):
        code, _, errors = inside(verb, "--results", str(tmp_path))
        assert code and "facts.json: its content does not match its checksum" in errors


def test_without_facts_the_page_says_which_command_makes_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"facts\.json.*senet_ablate cost"):
        write_page("cost", tmp_path)


def reads_values(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3), keepdim=True) * min(1.0, abs(x.max().item()) + 1)


class Chosen(nn.Module):
    """Computes as a value says that it holds."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(2))
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(self.count)):  # type: ignore[call-overload]
            x = self.conv(x)
        return x


def test_a_block_is_counted_by_the_values_that_it_holds() -> None:
    se = SESpec(block=f"{__name__}:Chosen", stages=(4,))
    twice = 3 * 2 * 64 * 64 * 8 * 8
    plain = cost(build_model("resnet20", 10), (3, 32, 32))
    assert cost(build_model("resnet20", 10, se), (3, 32, 32)).macs == plain.macs + twice
    told = stages("resnet20", se, 32, 10).loc["all", "multiply-adds"]
    assert told == plain.macs + twice
    with torch.device("meta"):
        empty = build_model("resnet20", 10, se)
    with pytest.raises(RuntimeError):  # what it would do is not known
        cost(empty, (3, 32, 32))


def test_a_sweep_counts_such_a_block_too(tmp_path: Path) -> None:
    smoke, se = read_plan("smoke", ["role_of_squeeze"]), SESpec(block=f"{__name__}:Chosen")
    rows = {"plain": Variant(se=None), "mine": Variant(se=se)}
    mine = Experiment(title="mine", question="?", control="plain", variants=rows)
    plan = Plan("smoke", smoke.recipe, {"mine": mine})
    found = Sweep(plan, SweepContext.of(plan, tmp_path, tmp_path)).costs
    built = [build_model(smoke.recipe.train.backbone, 10, row.se) for row in rows.values()]
    assert [one.macs for one in found.values()] == [cost(one, (3, 8, 8)).macs for one in built]


def test_an_operator_that_reads_values_is_counted_on_real_tensors() -> None:
    own = SESpec(squeeze=f"{__name__}:reads_values")
    found, usual = (cost(build_model("resnet20", 10, se), (3, 32, 32)) for se in (own, SESpec()))
    assert found.params == usual.params and found.macs >= usual.macs
