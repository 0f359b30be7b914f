"""What every registered network must do, plain and with SE; a new name is tested without editing
this file.
"""

from functools import cache
from typing import NamedTuple, get_args
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from skeletons import skeleton
from torch import Tensor, nn

from senet_ablate.models.build import build_model, list_backbones
from senet_ablate.models.se import CannotHost, SEBlock, SEPlacement, se_blocks
from senet_ablate.models.shake import Shaken
from senet_ablate.models.vgg import GridPool
from senet_ablate.spec.registry import BACKBONES, BadInput
from senet_ablate.spec.spec import Placement, SESpec

CLASSES = 5
STEM = "32px"  # the one that every network knows
PIXELS = 24  # the fewest that leave a pixel to the last stage of every network
SIZES = {"default": 224, "64px": 64, "32px": 32}


@cache  # for tests that only look at it
def look_at(name: str, se: SESpec | None = None, stem: str = STEM) -> nn.Module:
    return skeleton(name, CLASSES, se, stem)


@cache
def places(name: str) -> list[str]:
    """The placements that a network offers."""

    def offered(placement: str) -> bool:
        try:
            look_at(name, SESpec(placement=placement))
        except CannotHost:
            return False
        return True

    return [placement for placement in get_args(Placement) if offered(placement)]


@cache
def stems(name: str) -> list[str]:
    """The stems that a network knows."""

    def known(stem: str) -> bool:
        try:
            look_at(name, stem=stem)
        except BadInput:
            return False
        return True

    return [stem for stem in SIZES if known(stem)]


def stage_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children() if name.startswith("stage")]


class Network(NamedTuple):
    name: str
    plain: nn.Module


# which are others of the same code, with more units
DEEPER = {
    *("resnet44", "resnet56", "resnet110", "resnet56_bottleneck", "resnet164", "resnet101"),
    *("resnet152", "resnext101_32x4d"),
}
COMPUTED = [name for name in list_backbones() if name not in DEEPER]


@pytest.fixture(scope="module", params=COMPUTED)
def network(request: pytest.FixtureRequest) -> Network:
    """A plain network, built once for all tests that run it."""
    return Network(request.param, build_model(request.param, CLASSES, stem=STEM))


def se_everywhere(network: Network) -> nn.Module:
    """The network with SE in all its places at once; all other weights are those of the plain
    one.
    """

    def fill(self: SEPlacement, placement: Placement, stage: int, channels: int) -> nn.Module:
        return SEBlock(
            channels, SESpec(placement=placement, reduction=max(2, channels // 16))
        )  # 8 hidden units or more

    with mock.patch.object(SEPlacement, "__call__", fill):
        model = skeleton(network.name, CLASSES, stem=STEM)
    model.load_state_dict(network.plain.state_dict(), assign=True, strict=False)
    for block in (module for module in model.modules() if isinstance(module, SEBlock)):
        block.to_empty(device="cpu")
        for layer in (block.excitation.reduce, block.excitation.expand):
            layer.reset_parameters()
    return model.requires_grad_()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(1)  # dropout and shares of branches
    return model(images)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))


def test_a_gate_of_one_gives_back_the_plain_network_bit_for_bit(network: Network) -> None:
    controlled = build_model(network.name, CLASSES, SESpec(gate="constant"), stem=STEM)
    assert se_blocks(controlled)
    expected = dict(network.plain.named_parameters())
    assert [*expected] == [name for name, _ in controlled.named_parameters()]
    assert all(
        torch.equal(parameter, expected[name]) for name, parameter in controlled.named_parameters()
    )
    for mode in (True, False):
        for model in (network.plain.train(mode), controlled.train(mode)):
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.reset_running_stats()
        with torch.no_grad():
            assert torch.equal(logits(network.plain, images()), logits(controlled, images()))


def test_every_parameter_learns_with_se_in_every_place(network: Network) -> None:
    model = se_everywhere(network).train()
    assert all(
        any(f".se_{place}." in name for name, _ in model.named_parameters())
        for place in places(network.name)
    )
    result = logits(model, images())
    assert result.shape == (2, CLASSES)
    (result * torch.linspace(-1, 1, CLASSES)).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent, f"{network.name}: no gradient in {silent}"
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", COMPUTED)
def test_every_stem_leaves_an_image_of_its_size_more_than_nothing_under_every_kind_of_block(
    name: str,
) -> None:
    known = stems(name)
    assert {"default", STEM} <= set(known)
    specs = {
        "default": SESpec(squeeze="max"),
        "64px": SESpec(squeeze="none", bias=True),
        "32px": SESpec(gate="tanh"),
    }
    for stem in known:
        model = skeleton(name, CLASSES, specs[stem], stem).to_empty(device="cpu").eval()
        for value in (*model.parameters(), *model.buffers()):
            value.data.zero_()  # faster than a pass on the meta device
        side = SIZES[stem] if known == [*SIZES] else 32
        sides = []
        last = model.get_submodule(stage_names(model)[-1])
        last.register_forward_hook(
            lambda module, args, output, sides=sides: sides.append(output.shape[2:])
        )
        with torch.inference_mode():
            assert model(torch.zeros(1, 3, side, side)).shape == (1, CLASSES)
        assert min(sides[0]) >= 2, f"{stem}: {side} pixels end on {tuple(sides[0])}"


@pytest.mark.parametrize("name", list_backbones())
def test_a_stem_that_does_not_exist_names_those_that_do(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name}.*unknown stem '7px'; known: default"):
        build_model(name, stem="7px")


@pytest.mark.parametrize("name", list_backbones())
def test_se_adds_parameters_and_renames_none(name: str) -> None:
    plain = {key: value.shape for key, value in look_at(name).state_dict().items()}
    for placement in places(name):
        se = {
            key: value.shape
            for key, value in look_at(name, SESpec(placement=placement)).state_dict().items()
        }
        added = se.keys() - plain.keys()
        assert {key: se[key] for key in plain} == plain
        assert added and all(f".se_{placement}." in key for key in added)


@pytest.mark.parametrize("name", list_backbones())
def test_blocks_are_numbered_by_stage_and_unit_and_sit_where_asked(name: str) -> None:
    stages = {int(stage.removeprefix("stage")): stage for stage in stage_names(look_at(name))}
    for placement in places(name):
        model = look_at(name, SESpec(placement=placement))
        counts = {number: len(model.get_submodule(stage)) for number, stage in stages.items()}
        expected = [
            f"SE_{number}_{unit + 1}" for number, count in counts.items() for unit in range(count)
        ]
        assert [*se_blocks(model)] == expected
    for number in stages:
        one = se_blocks(look_at(name, SESpec(stages=(number,))))
        assert one and all(panel.startswith(f"SE_{number}_") for panel in one)
    most = se_blocks(look_at(name, SESpec(stages="all_but_last")))
    assert {int(panel.split("_")[1]) for panel in most} == {*stages} - {max(stages)}


@pytest.mark.parametrize("name", list_backbones())
def test_a_stage_or_a_width_that_a_network_lacks_is_an_error_that_says_what_it_has(
    name: str,
) -> None:
    stages = [int(stage.removeprefix("stage")) for stage in stage_names(look_at(name))]
    with pytest.raises(
        CannotHost, match=f"{name}: no stage 9; it has stages {', '.join(map(str, stages))}"
    ):
        look_at(name, SESpec(stages=(stages[0], 9)))
    with pytest.raises(
        CannotHost, match=rf"{name}: stage \d, placement standard: \d+ channels // reduction 5000"
    ):
        look_at(name, SESpec(reduction=5000))


@pytest.mark.parametrize("name", list_backbones())
def test_the_standard_place_exists_and_a_missing_one_is_explained(name: str) -> None:
    offered = places(name)
    assert "standard" in offered
    for placement in set(get_args(Placement)) - set(offered):
        with pytest.raises(
            CannotHost, match=f"{name}: no place '{placement}' .*; it has: .*standard"
        ):
            look_at(name, SESpec(placement=placement))


def test_a_network_that_leaves_se_out_is_an_error_and_not_a_plain_network() -> None:
    def bare(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))

    with mock.patch.dict(BACKBONES, bare=bare):
        assert build_model("bare", CLASSES)(torch.zeros(1, 3, 2, 2)).shape == (1, CLASSES)
        with pytest.raises(CannotHost, match=r"bare: no place 'standard' .*; it has: none"):
            build_model("bare", CLASSES, SESpec())


def test_the_hidden_width_is_exact_and_follows_the_place() -> None:
    blocks = se_blocks(look_at("shufflenet_v1_g3", SESpec()))
    hidden = {name: block.excitation.reduce.out_channels for name, block in blocks.items()}
    # a unit that concatenates sees the 240 - 24, 480 - 240 and 960 - 480 new channels alone
    assert hidden["SE_3_1"] == 216 // 16 and hidden["SE_3_2"] == 240 // 16
    assert (
        hidden["SE_4_1"] == 240 // 16
        and hidden["SE_5_1"] == 480 // 16
        and hidden["SE_5_4"] == 960 // 16
    )


def test_se_in_a_bn_inception_follows_every_concatenation_also_the_narrowing_ones() -> None:
    widths = [
        block.excitation.expand.out_channels
        for block in se_blocks(look_at("bn_inception", SESpec())).values()
    ]
    # arXiv:1502.03167, Fig. 5, and the num_output of the `_1x1_up` layers of the authors'
    # SE-BN-Inception
    assert widths == [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]


def test_grid_pooling_is_adaptive_average_pooling() -> None:
    for height, width in [(1, 1), (2, 5), (6, 7), (7, 7), (9, 14), (15, 8)]:
        x = torch.randn(2, 3, height, width, dtype=torch.float64)
        torch.testing.assert_close(GridPool(7)(x), F.adaptive_avg_pool2d(x, 7))


class Times(nn.Module):
    """x * factor, to tell two branches apart."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("even", [True, False])
def test_shaken_branches_share_by_image_and_their_gradients_by_another_share(even: bool) -> None:
    shaken = Shaken(Times(1.0), Times(0.0), even_backward=even)
    x = torch.ones(1000, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    forward = shaken(x)
    shares = forward[:, 0, 0, 0].detach()
    assert torch.allclose(
        forward, shares[:, None, None, None].expand_as(forward)
    )  # one share an image
    assert (
        shares.min() >= 0
        and shares.max() <= 1
        and abs(shares.mean() - 0.5) < 0.05
        and 0.25 < shares.std() < 0.33
    )
    (backward,) = torch.autograd.grad(forward.sum(), x)  # d/dx of beta * 1x + (1 - beta) * 0x
    backward_shares = backward[:, 0, 0, 0]
    if even:
        assert torch.equal(backward, torch.full_like(backward, 0.5))
    else:
        assert abs(torch.corrcoef(torch.stack((shares, backward_shares)))[0, 1]) < 0.15
        assert 0.25 < backward_shares.std() < 0.33
    assert torch.equal(shaken.eval()(x), 0.5 * x)


def test_shares_repeat_with_the_global_seed() -> None:
    model = build_model("shake_even_29_2x4x64d", CLASSES).train()
    with torch.no_grad():
        first, second = logits(model, images()), logits(model, images())
        assert torch.equal(first, second) and not torch.equal(first, model(images()))
