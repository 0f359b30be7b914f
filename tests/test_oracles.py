"""Parameters and multiply-adds against numbers that we did not make: the paper's tables and
published counts.

Tolerances: 0.15 M parameters (the paper prints one decimal, and its Params columns fit learnable
parameters plus batch norm statistics, 0.05 M on ResNet-50) and 1% of the multiply-adds. A printed
figure that cannot be met is in UNMET with the reason; it is reported as an expected failure with
our number beside it, and if it is ever met, that is a failure.
"""

from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from skeletons import skeleton
from torch import nn

import senet_ablate
from senet_ablate.models.complexity import Cost, cost
from senet_ablate.models.preact import preact_network
from senet_ablate.models.se import se_blocks
from senet_ablate.models.shake import shake_network
from senet_ablate.spec.paper import paper_facts
from senet_ablate.spec.spec import SESpec

TABLES = yaml.safe_load(
    (Path(senet_ablate.__file__).parent / "spec" / "paper.yaml").read_text(encoding="utf-8")
)["tables"]
TABLE_2 = {
    "ResNet-50": "resnet50",
    "ResNet-101": "resnet101",
    "ResNet-152": "resnet152",
    "ResNeXt-50": "resnext50_32x4d",
    "ResNeXt-101": "resnext101_32x4d",
    "VGG-16": "vgg16_bn",
    "BN-Inception": "bn_inception",
    "Inception-ResNet-v2": "inception_resnet_v2",
}
TABLE_3 = {
    "MobileNet (1.0 MobileNet-224)": "mobilenet_v1",
    "ShuffleNet (1x, g=3)": "shufflenet_v1_g3",
}
TABLE_10 = {row: SESpec(reduction=int(row)) for row in ("2", "4", "8", "16", "32")} | {
    "original": None
}
TABLE_13 = {
    "ResNet-50": None,
    "SE_Stage_2": SESpec(stages=(2,)),
    "SE_Stage_3": SESpec(stages=(3,)),
    "SE_Stage_4": SESpec(stages=(4,)),
    "SE_All": SESpec(),
}
TABLE_15 = {"SE": SESpec(), "SE_3x3": SESpec(placement="conv3x3")}
TABLE_16 = {"ResNet-50": None, "NoSqueeze": SESpec(squeeze="none"), "SE": SESpec()}

UNMET = {
    ("Inception-ResNet-v2", "reimpl_gflops"): paper_facts()["cost_remarks"]["Inception-ResNet-v2"],
    ("Inception-ResNet-v2", "se_gflops"): paper_facts()["cost_remarks"]["SE-Inception-ResNet-v2"],
    ("ShuffleNet (1x, g=3)", "reimpl_mflops"): paper_facts()["cost_remarks"]["ShuffleNet"],
}


@cache
def counted(name: str, se: SESpec | None, pixels: int = 224) -> Cost:
    return cost(skeleton(name, 1000, se), (3, pixels, pixels))


def pixels_of(row: str) -> int:
    return 299 if row == "Inception-ResNet-v2" else 224  # the paper's crop, Section 5.1


def check_macs(row: str, column: str, macs: int, printed: float, unit: float) -> None:
    met = abs(macs / unit - printed) <= 0.01 * printed
    if (row, column) in UNMET:
        assert not met, f"{row}, {column}: {macs / unit:.2f} meets {printed}; take it out of UNMET"
        pytest.xfail(
            f"{row}, {column}: ours {macs / unit:.2f}, printed {printed}: {UNMET[row, column]}"
        )
    assert met, f"{row}, {column}: ours {macs / unit:.4f}, printed {printed}"


def check_params(row: str, params: int, printed: float) -> None:
    assert abs(params / 1e6 - printed) <= 0.15, (
        f"{row}: ours {params / 1e6:.3f} M, printed {printed} M"
    )


@pytest.mark.parametrize("column", ["reimpl_gflops", "se_gflops"])
@pytest.mark.parametrize("row", TABLES["imagenet_main"]["rows"])
def test_table_2_multiply_adds(row: str, column: str) -> None:
    se = SESpec() if column.startswith("se") else None
    macs = counted(TABLE_2[row], se, pixels_of(row)).macs
    check_macs(row, column, macs, TABLES["imagenet_main"]["rows"][row][column], 1e9)


@pytest.mark.parametrize("version", ["reimpl", "se"])
@pytest.mark.parametrize("row", TABLES["imagenet_mobile"]["rows"])
def test_table_3_parameters_and_multiply_adds(row: str, version: str) -> None:
    ours = counted(TABLE_3[row], SESpec() if version == "se" else None)
    printed = TABLES["imagenet_mobile"]["rows"][row]
    check_params(row, ours.params, printed[f"{version}_params"])
    check_macs(row, f"{version}_mflops", ours.macs, printed[f"{version}_mflops"], 1e6)


@pytest.mark.parametrize(
    ("table", "variants"),
    [
        ("ablation_reduction_ratio", TABLE_10),
        ("ablation_stages", TABLE_13),
        ("ablation_3x3", TABLE_15),
        ("role_of_squeeze", TABLE_16),
    ],
)
def test_tables_10_13_15_and_16_parameters_and_multiply_adds(
    table: str, variants: dict[str, SESpec | None]
) -> None:
    rows = TABLES[table]["rows"]
    assert rows.keys() == variants.keys()
    for row, se in variants.items():
        ours = counted("resnet50", se)
        check_params(row, ours.params, rows[row]["params"])
        if "gflops" in rows[row]:
            check_macs(row, "gflops", ours.macs, rows[row]["gflops"], 1e9)


@pytest.mark.parametrize(
    "name", ["resnet50", "vgg16_bn", "bn_inception", "mobilenet_v1", "shufflenet_v1_g3"]
)
def test_what_se_adds_is_the_papers_formula(name: str) -> None:
    """Parameters 2 C^2 / r a block (paper, Eq.

    5); multiply-adds the same, and two an element to pool and to scale.
    """
    se = SESpec()
    model = skeleton(name, 1000, se).eval()
    sizes = {}
    for panel, block in se_blocks(model).items():
        block.register_forward_hook(
            lambda module, args, output, panel=panel: sizes.update({panel: output.shape[1:]})
        )
    with torch.inference_mode():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    fully_connected = sum(
        2 * channels * (channels // se.reduction) for channels, _, _ in sizes.values()
    )
    elements = sum(channels * height * width for channels, height, width in sizes.values())
    assert counted(name, se).params - counted(name, None).params == fully_connected
    assert counted(name, se).macs - counted(name, None).macs == fully_connected + 2 * elements


def test_most_of_what_se_adds_sits_in_the_last_stage() -> None:
    plain, full, most = (
        counted("resnet50", se).params for se in (None, SESpec(), SESpec(stages="all_but_last"))
    )
    # paper, Section 4: about 10%, and about 4% without the last stage
    assert round(100 * (full - plain) / plain) == 10
    assert round(100 * (most - plain) / plain) == 4


@pytest.mark.parametrize(
    "name", ["resnet50", "resnet101", "resnet152", "resnext50_32x4d", "vgg16_bn"]
)
def test_parameters_are_torchvisions(name: str) -> None:
    """Its VGG has a bias in every convolution; ours does not, since a batch norm follows."""
    theirs = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    biases = sum(m.out_channels for m in skeleton(name, 1000).modules() if isinstance(m, nn.Conv2d))
    assert counted(name, None).params == theirs - (biases if name == "vgg16_bn" else 0)


# osmr/imgclsmob, tables of its README files: independent implementations, counted by their author
@pytest.mark.parametrize(
    ("name", "classes", "published"),
    [
        ("resnet20", 10, 272_474),
        ("resnet56", 10, 855_770),
        ("resnet110", 100, 1_736_564),
        ("preact_resnet110", 10, 1_730_522),
        ("preact_resnet164", 10, 1_703_258),
        ("mobilenet_v1", 1000, 4_231_976),
        ("shufflenet_v1_g3", 1000, 1_865_728),
        ("inception_resnet_v2", 1000, 55_843_464),
    ],
)
def test_parameters_are_the_published_count(name: str, classes: int, published: int) -> None:
    assert parameters(skeleton(name, classes)) == published


@pytest.mark.parametrize(
    ("name", "classes", "published"),
    [
        ("resnet20", 10, 274_847),
        ("resnet56", 10, 862_889),
        ("resnet110", 10, 1_744_952),
        ("resnet50", 1000, 28_088_024),
        ("resnext50_32x4d", 1000, 27_559_896),
        ("senet154", 1000, 115_088_984),
    ],
)
def test_parameters_with_se_are_the_published_count(
    name: str, classes: int, published: int
) -> None:
    """From the same tables; those networks have a bias in the two fully connected layers."""
    assert parameters(skeleton(name, classes, SESpec(bias=True))) == published


def test_bn_inception_has_the_published_count_less_a_bias_in_each_convolution() -> None:
    model = skeleton("bn_inception", 1000)
    biases = sum(layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert parameters(model) == 11_295_240 - biases  # osmr/imgclsmob


def test_inception_resnet_v2_has_the_multiply_adds_that_others_count() -> None:
    assert counted("inception_resnet_v2", None, 299).macs == pytest.approx(
        13.2e9, rel=0.01
    )  # arXiv:1707.07012


def test_shufflenet_has_the_multiply_adds_that_its_authors_count() -> None:
    assert counted("shufflenet_v1_g3", None).macs == pytest.approx(
        138e6, rel=0.01
    )  # megvii-model/ShuffleNet-Series


@pytest.mark.parametrize(
    ("name", "classes", "millions"),
    [
        ("resnet164", 10, 1.70),  # arXiv:1603.05027 compares at 1.7 M
        ("wrn_16_8", 10, 11.0),  # arXiv:1605.07146, Table 4
        ("shake_shake_26_2x96d", 10, 26.2),  # arXiv:1705.07485, Table 3
        ("shake_even_29_2x4x64d", 100, 34.4),  # the same
        ("googlenet_bn", 1000, 7.0),  # arXiv:1409.4842, about 7 M without the side classifiers
    ],
)
def test_parameters_are_the_published_millions(name: str, classes: int, millions: float) -> None:
    check_params(name, parameters(skeleton(name, classes)), millions)


def test_wide_and_shaken_networks_grow_to_other_published_counts() -> None:
    """The exact counts (osmr/imgclsmob, CIFAR-10) of relatives from the same code, as ours are
    printed rounded.
    """
    with torch.device("meta"):
        wide = preact_network("WRN-16-10", 16, widen=10)(10, None, "default")
        shaken = shake_network("Shake-Shake 26 2x32d", 32, 4)(10, None, "default")
    assert parameters(wide) == 17_116_634
    assert parameters(shaken) == 2_923_162


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
