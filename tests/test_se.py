"""The block against the paper's formula, and every registered operator in every placement."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from senet_ablate import SEBlock, SESpec, build_model
from senet_ablate.models.se import CannotHost, FCExcitation, RandomSqueeze, se_blocks
from senet_ablate.spec.registry import BLOCKS, EXCITATIONS, GATES, SQUEEZES, BadInput
from senet_ablate.spec.spec import PLACEMENTS

NET = "resnet_tiny_bottleneck"


def test_the_block_is_the_papers_formula() -> None:
    block = SEBlock(32, SESpec(reduction=8)).double()
    x = torch.randn(3, 32, 5, 7, dtype=torch.float64)
    first, second = (p[:, :, 0, 0] for p in block.parameters())
    assert first.shape == (4, 32) and second.shape == (32, 4), (
        "two matrices, no bias, C // r exactly"
    )
    z = x.sum((2, 3)) / 35
    s = 1 / (1 + torch.exp(-(torch.clamp(z @ first.T, min=0) @ second.T)))
    torch.testing.assert_close(block(x), x * s[:, :, None, None])


def test_nosqueeze_is_two_1x1_convolutions_with_a_gate_a_pixel() -> None:
    block = SEBlock(16, SESpec(squeeze="none", reduction=4)).double()
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    first, second = block.parameters()
    inner = torch.nn.functional.conv2d(x, first).relu()
    torch.testing.assert_close(block(x), x * torch.nn.functional.conv2d(inner, second).sigmoid())


def test_without_excitation_the_gate_sees_the_squeeze_itself() -> None:
    block = SEBlock(8, SESpec(excitation="none"))
    x = torch.randn(2, 8, 3, 3)
    assert not list(block.parameters())
    torch.testing.assert_close(block(x), x * x.mean((2, 3), keepdim=True).sigmoid())


def test_the_hidden_width_is_never_rounded() -> None:
    assert SEBlock(50, SESpec(reduction=16)).excitation.reduce.out_channels == 3  # type: ignore[union-attr]
    with pytest.raises(CannotHost, match="15 channels // reduction 16"):
        SEBlock(15, SESpec())


def test_bias_is_that_of_both_layers() -> None:
    assert sum(p.ndim == 1 for p in SEBlock(32, SESpec(bias=True)).parameters()) == 2


@pytest.mark.parametrize(
    ("gate", "x", "y"),
    [
        ("sigmoid", 0.0, 0.5),
        ("tanh", 0.0, 0.0),
        ("relu", -1.0, 0.0),
        ("hard_sigmoid", 3.0, 1.0),
        ("constant", -9.0, 1.0),
    ],
)
def test_a_gate_has_its_known_value(gate: str, x: float, y: float) -> None:
    assert GATES[gate](torch.tensor([[x]])).item() == y


def test_softmax_shares_one_unit_among_the_channels() -> None:
    gate = GATES["softmax"](torch.randn(4, 9, 1, 1))
    torch.testing.assert_close(gate.sum(1), torch.ones(4, 1, 1))


def test_the_random_squeeze_knows_nothing_of_its_input() -> None:
    draws = []
    for x in (torch.zeros(4, 6, 3, 3), torch.randn(4, 6, 3, 3)):
        squeeze = RandomSqueeze(6)
        squeeze.generator = torch.Generator().manual_seed(0)
        draws.append(squeeze(x))
    assert torch.equal(*draws) and draws[0].std() > 0.5


def test_a_static_gate_is_learned_and_the_same_for_every_image() -> None:
    block = SEBlock(8, SESpec(squeeze="ones", reduction=2))
    x = torch.randn(5, 8, 3, 3)
    gates = block(x) / x
    torch.testing.assert_close(gates, gates[:1, :, :1, :1].expand_as(gates))
    assert gates[0, :, 0, 0].std() > 0.001
    block(x).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in block.parameters()
    )


PARTS = {"squeeze": SQUEEZES, "excitation": EXCITATIONS, "gate": GATES, "block": BLOCKS}


def specs() -> list[SESpec]:
    """Every squeeze with every excitation and gate, and each part in every place."""
    operators = list(itertools.product(SQUEEZES, EXCITATIONS, GATES))
    mixed = [SESpec(squeeze=s, excitation=e, gate=g) for s, e, g in operators]
    # r = 2: with no bias, a hidden layer of one or two units can be dead from the start (its row
    # all negative)
    named = [(field, name) for field, registry in PARTS.items() for name in registry]
    return mixed + [
        SESpec(2, placement=placement, **{field: name})  # type: ignore[arg-type]
        for field, name in named
        for placement in PLACEMENTS
    ]


def label(se: SESpec) -> str:
    return "-".join((se.block, se.squeeze, se.excitation, se.gate, se.placement))


@pytest.mark.parametrize("se", dict.fromkeys(specs()), ids=label)
def test_every_parameter_gets_a_finite_gradient(se: SESpec) -> None:
    torch.manual_seed(0)
    model = build_model(NET, 5, se)
    model(torch.randn(8, 3, 8, 8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not (se.gate == "relu" or name.endswith("bias")):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_constant_gate_gives_back_the_plain_network_bit_for_bit(placement: str) -> None:
    x, results = torch.randn(8, 3, 8, 8), []
    for se in (None, SESpec(gate="constant", placement=placement)):  # type: ignore[arg-type]
        model = build_model(NET, 5, se, seed=3)
        loss = model(x).logsumexp(1).sum()
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters()), *model.buffers()])
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_plain_and_se_start_from_the_same_weights() -> None:
    plain, se = build_model(NET, 5, seed=1), build_model(NET, 5, SESpec(), seed=1)
    ours = dict(se.named_parameters())
    assert all(torch.equal(parameter, ours[name]) for name, parameter in plain.named_parameters())
    other = dict(build_model(NET, 5, seed=2).named_parameters())
    assert not torch.equal(ours["stem.conv.weight"], other["stem.conv.weight"])


def test_the_blocks_sit_where_the_specification_says() -> None:
    assert list(se_blocks(build_model("resnet20", 10, SESpec(stages=(2, 4))))) == [
        *("SE_2_1", "SE_2_2", "SE_2_3", "SE_4_1", "SE_4_2", "SE_4_3")
    ]
    assert {
        name[:4] for name in se_blocks(build_model("resnet20", 10, SESpec(stages="all_but_last")))
    } == {"SE_2", "SE_3"}
    widths = {
        placement: [
            module.reduce.in_channels
            for module in build_model(
                "resnet29_bottleneck", 10, SESpec(placement=placement, reduction=8)
            ).modules()  # type: ignore[arg-type]
            if isinstance(module, FCExcitation)
        ]
        for placement in PLACEMENTS
    }
    outside = [64] * 3 + [128] * 3 + [256] * 3
    assert widths["standard"] == widths["post"] == widths["identity"] == outside
    assert widths["conv3x3"] == [16] * 3 + [32] * 3 + [64] * 3
    assert widths["pre"] == [16, *outside[:-1]]


@pytest.mark.parametrize(
    ("backbone", "fields", "words"),
    [
        ("resnet20", {"placement": "conv3x3"}, "no place 'conv3x3'"),
        ("resnet20", {"stages": (5,)}, "no stage 5; it has stages 2, 3, 4"),
        ("resnet20", {"reduction": 32}, "16 channels // reduction 32"),
    ],
)
def test_what_a_network_cannot_host_is_an_error_that_says_why(
    backbone: str, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(CannotHost, match=words):
        build_model(backbone, 10, SESpec(**fields))  # type: ignore[arg-type]


def test_a_users_own_operators_work_by_reference(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "their_module.py").write_text(
        "import torch\nclass TheirSqueeze(torch.nn.Module):\n    def __init__(self, channels):\n   "
        "     super().__init__(); self.weight = torch.nn.Parameter(torch.ones(1, channels, 1, 1))\n"
        "    def forward(self, x): return self.weight * x.mean((2, 3), keepdim=True)\nclass"
        " TheirBlock(torch.nn.Module):\n    def __init__(self, channels, spec):\n       "
        " super().__init__(); self.conv = torch.nn.Conv2d(channels, channels, 1)\n    def"
        " forward(self, x): return x * self.conv(x).sigmoid()\n"
    )
    monkeypatch.chdir(tmp_path)
    for spec in (
        SESpec(squeeze="their_module:TheirSqueeze"),
        SESpec(block="their_module:TheirBlock"),
    ):
        model = build_model(NET, 5, spec)
        assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)
        assert len(se_blocks(model)) == 3


class Attention(nn.Module):
    """A user's block that draws as it is built, and calls a part of it as networks call blocks."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels, 1, 1))
        self.se_part = nn.Sequential(nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.scale + self.se_part(x))


def test_what_a_block_of_a_user_draws_as_it_is_built_is_seeded_too() -> None:
    spec, found = SESpec(block=f"{__name__}:Attention"), []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        state = torch.get_rng_state()
        model = build_model("resnet20", 10, spec, seed=3)
        assert torch.equal(torch.get_rng_state(), state), "the global generator stays as it was"
        found.append(dict(model.named_parameters()))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    other = dict(build_model("resnet20", 10, spec, seed=4).named_parameters())
    name = "stage2.0.se_standard.scale"
    assert not torch.equal(found[0][name], other[name])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ({"num_classes": SESpec()}, "num_classes: input should be a valid integer"),
        ({"num_classes": 0}, "num_classes: .*greater than or equal to 1"),
        ({"se": "standard"}, "se is an SESpec, or None .*'standard'"),
        ({"se": False}, "found False"),
    ],
)
def test_a_network_asked_for_wrongly_is_one_clear_message(words: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=rf"^resnet20: .*{what}"):
        build_model("resnet20", **words)


def test_seeds_of_numpy_are_seeds() -> None:
    one, other = (build_model("resnet20", 10, seed=seed) for seed in (np.int64(3), 3))
    assert torch.equal(
        one.state_dict()["classifier.weight"], other.state_dict()["classifier.weight"]
    )


def test_a_block_is_found_and_not_a_part_of_it() -> None:
    blocks = se_blocks(build_model("resnet20", 10, SESpec(block=f"{__name__}:Attention")))
    assert len(blocks) == 9 and {type(block) for block in blocks.values()} == {Attention}
    outside = nn.ModuleDict({"features": nn.ModuleDict({"a": nn.ModuleDict({"se_b": nn.ReLU()})})})
    assert se_blocks(outside) == {}
