"""Networks under PyTorch's own tools, the fast ones; tools/check_networks.py runs every check over
every network.
"""

from functools import lru_cache
from typing import Any

import pytest
from networks import CHECKS, DRAWS, Network, draws, forms, network
from torch import nn

from senet_ablate.models.build import list_backbones
from senet_ablate.models.se import SEBlock
from senet_ablate.models.units import ResidualUnit

check = dict(CHECKS)
WITHOUT_COMPILER = [label for label in check if label not in ("torch.compile", "compiled step")]
CHEAP = ["folding", "hooks", "user's block", "deepcopy", "torch.save", "torch.fx", "empty batch"]
TINY = "resnet_tiny_bottleneck"

made = lru_cache(maxsize=1)(network)  # a check leaves a network as it was


def cases() -> list[Any]:
    """By measured seconds: with those that compile, what one core does in a minute."""
    chosen = [(TINY, form, WITHOUT_COMPILER) for form in ("plain", "standard")]
    chosen += [
        (TINY, form, [*CHEAP, "double backward"]) for form in ("pre", "post", "identity", "conv3x3")
    ]
    chosen += [("resnet20_bottleneck", form, CHEAP) for form in forms("resnet20_bottleneck")]
    chosen += [
        (name, form, CHEAP)
        for name in ("resnet20", "shufflenet_v1_g3")
        for form in ("plain", "standard")
    ]
    for name in ("mobilenet_v1", "preact_resnet110", "googlenet_bn"):
        chosen += [(name, "standard", ["folding", "torch.fx", "empty batch"])]
    for name in ("vgg16_bn", "shake_shake_26_2x96d"):
        chosen += [(name, "standard", ["torch.fx", "empty batch"])]
    return [
        pytest.param(*one, label, id="-".join((*one, label)))
        for *one, labels in chosen
        for label in labels
    ]


@pytest.mark.parametrize(("name", "placement", "label"), cases())
def test_a_network_is_a_plain_pytorch_module(name: str, placement: str, label: str) -> None:
    check[label](made(name, placement))


def test_those_that_draw_random_numbers_are_known_by_name() -> None:
    assert {name for name in list_backbones() if draws(name)} == {*DRAWS}


@pytest.fixture
def sound() -> Network:
    """A network that passes all checks, built before a fault is put in."""
    return network(TINY, "standard")


def test_folding_into_convolutions_that_ignore_their_bias_is_found(
    sound: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda self, x: self._conv_forward(x, self.weight, None)
    )
    with pytest.raises(AssertionError, match="is off by"):
        check["folding"](sound)


def test_a_unit_that_goes_round_hooks_and_subclasses_of_its_block_is_found(
    sound: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: ResidualUnit, x: Any) -> Any:
        gated = SEBlock.forward(self.se_standard, self.branch(self.se_pre(x)))  # type: ignore[arg-type]
        return self.se_post(
            self.activation(self.merge(gated, self.se_identity(self.shortcut(self.entry(x)))))
        )

    monkeypatch.setattr(ResidualUnit, "forward", forward)
    with pytest.raises(
        AssertionError, match=r"hooks global before, training False.*stage2.0.se_standard': 0"
    ):
        check["hooks"](sound)
    with pytest.raises(AssertionError, match="it is the ordinary block that counts"):
        check["user's block"](sound)
