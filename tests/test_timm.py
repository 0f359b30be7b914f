"""Our networks against timm's with the same (random) weights, in float64, and where timm is known
to differ.
"""

from pathlib import Path

import pytest
import torch
from checkpoints import difference, randomised
from torch import nn

from senet_ablate.models.build import build_model
from senet_ablate.models.pretrained import import_weights
from senet_ablate.models.se import CannotHost, SEBlock, SEPlacement
from senet_ablate.models.units import basic_unit
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import SESpec

timm = pytest.importorskip("timm")

CLASSES = 7
PUBLISHED_SE = SESpec(bias=True)  # the released models have a bias in both fully connected layers
PAIRS = [
    ("resnet50", "resnet50", None, 64),
    ("seresnet50", "resnet50", PUBLISHED_SE, 64),
    ("legacy_seresnet50", "resnet50", PUBLISHED_SE, 64),
    ("seresnext50_32x4d", "resnext50_32x4d", PUBLISHED_SE, 64),
    ("legacy_seresnext50_32x4d", "resnext50_32x4d", PUBLISHED_SE, 64),
    ("legacy_senet154", "senet154", PUBLISHED_SE, 64),
    ("inception_resnet_v2", "inception_resnet_v2", None, 96),
    ("vgg16_bn", "vgg16_bn", None, 64),
]


def saved(name: str, folder: Path, suffix: str = ".pth") -> tuple[nn.Module, Path]:
    """timm's network `name` and its file."""
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name, num_classes=CLASSES))
    path = folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), path)
    else:
        torch.save(theirs.state_dict(), path)
    return theirs, path


@pytest.mark.parametrize(("theirs", "ours", "se", "pixels"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_timms_weights_give_timms_logits(
    theirs: str, ours: str, se: SESpec | None, pixels: int, tmp_path: Path
) -> None:
    suffix = ".safetensors" if theirs == "resnet50" else ".pth"
    reference, path = saved(theirs, tmp_path, suffix)
    network = import_weights(path, ours, se)
    assert difference(network, reference, pixels) < 1e-4
    assert network.state_dict().keys() == build_model(ours, CLASSES, se).state_dict().keys()


def test_only_the_first_pooling_and_the_batch_norms_epsilon_tell_the_imported_networks_from_ours(
    tmp_path: Path,
) -> None:
    """timm's legacy networks pool as Caffe, its Inception-ResNet-v2 norms as TF-Slim; the weights
    are the same.
    """
    for name, ours, se, pixels in PAIRS:
        if name not in ("legacy_seresnext50_32x4d", "inception_resnet_v2"):
            continue
        reference, path = saved(name, tmp_path)
        imported = import_weights(path, ours, se)
        built = build_model(ours, CLASSES, se).eval()
        built.load_state_dict(imported.state_dict())
        assert difference(built, reference, pixels) > 1e-3
        if ours == "inception_resnet_v2":
            for layer in built.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = 1e-3
        else:
            built.stem.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        assert difference(built, reference, pixels) < 1e-4


def test_a_file_with_se_does_not_fit_the_plain_network(tmp_path: Path) -> None:
    _, path = saved("legacy_seresnet50", tmp_path)
    with pytest.raises(
        BadInput, match=r"as torchvision.resnet50: missing .*; unexpected .*with SE or without"
    ):
        import_weights(path, "resnet50")
    with pytest.raises(
        BadInput, match=r"'layer1.0.se_module.fc1.weight' has shape 16 x 256 x 1 x 1, not 32 x 256"
    ):
        import_weights(path, "resnet50", SESpec(reduction=8, bias=True))
    with pytest.raises(BadInput, match=r"it has 384 values, resnet50 with .* has 352; .*bias=true"):
        import_weights(path, "resnet50", SESpec())
    for placement in ("pre", "post", "identity", "conv3x3"):
        with pytest.raises(BadInput, match=r"stands where|has shape"):
            import_weights(path, "resnet50", SESpec(bias=True, placement=placement))  # type: ignore[arg-type]


def test_timms_legacy_basic_block_has_a_relu_before_its_gate_that_the_plain_block_lacks() -> None:
    """So its SE network is not its plain network plus SE; with that ReLU added to ours, the two
    agree.
    """
    theirs = randomised(timm.models.senet.SEResNetBlock(64, 64, groups=1, reduction=16)).double()
    ours = basic_unit(64, 64, 1, 2, SEPlacement(PUBLISHED_SE, (2,))).double().eval()
    values = theirs.state_dict()
    names = {
        "conv1": "branch.conv1",
        "bn1": "branch.norm1",
        "conv2": "branch.conv2",
        "bn2": "branch.norm2",
    }
    names |= {
        f"se_module.fc{n}": f"se_standard.excitation.{ours}"
        for n, ours in ((1, "reduce"), (2, "expand"))
    }
    ours.load_state_dict(
        {
            names[module] + "." + leaf: value
            for key, value in values.items()
            for module, _, leaf in [key.rpartition(".")]
        }
    )
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() > 0.1
        ours.branch.add_module("relu2", nn.ReLU())
        torch.testing.assert_close(ours(x), theirs(x))


def test_timm_rounds_the_hidden_width_to_8_where_ours_is_exact() -> None:
    def theirs(channels: int, reduction: int) -> int:
        return int(timm.layers.SEModule(channels, rd_ratio=1 / reduction).fc1.out_channels)

    def ours(channels: int, reduction: int) -> int:
        return int(SEBlock(channels, SESpec(reduction=reduction)).excitation.reduce.out_channels)

    # at 64 channels its ratios 8, 16 and 32 are one network; ours are three
    assert [theirs(64, reduction) for reduction in (8, 16, 32)] == [8, 8, 8]
    assert [ours(64, reduction) for reduction in (8, 16, 32)] == [8, 4, 2]
    assert theirs(64, 128) == 8
    with pytest.raises(CannotHost):
        ours(64, 128)
    assert all(
        theirs(width, 16) == ours(width, 16) for width in (256, 512, 1024, 2048)
    )  # so seresnet50 agrees
