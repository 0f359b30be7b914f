"""The blocks in examples/ against their papers' formulas, written out here, and the commands of
examples/README.md as they stand there."""

import math
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skeletons import skeleton
from test_cli import inside
from torch import Tensor, nn

from examples.cbam import ChannelAttention
from examples.eca import ECA
from examples.gather_excite import GatherExcite, GatherExcite4
from examples.srm import SRM
from senet_ablate import SESpec, build_model, cost, load_records
from senet_ablate.models.se import SEBlock, se_blocks
from senet_ablate.spec.plan import read_experiment

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEC = SESpec(reduction=4, bias=True)
CHANNELS, SIDE = 24, 6
PIXELS = SIDE * SIDE


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def eca(block: ECA, x: Tensor) -> Tensor:
    """Section 3.2.3: channel i by the k / 2 channels at each of its sides."""
    (weights,) = block.parameters()
    k = weights.numel()
    y = x.clone()
    for n, image in enumerate(x):
        means = [float(channel.sum()) / PIXELS for channel in image]
        for i in range(CHANNELS):
            near = [(j, i + j - k // 2) for j in range(k)]
            logit = sum(float(weights[0, 0, j]) * means[i2] for j, i2 in near if 0 <= i2 < CHANNELS)
            y[n, i] *= sigmoid(logit)
    return y


def gather_excite(block: GatherExcite, x: Tensor) -> Tensor:
    """Section 3.1: the mean over the window around each e-th pixel, at its nearest pixels."""
    e = block.extent
    gates = torch.empty_like(x)
    for row in range(SIDE):
        for column in range(SIDE):
            if e is None:
                window = x
            else:
                cells = math.ceil(SIDE / e)  # nearest of `cells` cells to each of SIDE pixels
                i, j = (place * cells // SIDE * e for place in (row, column))
                window = x[:, :, max(0, i - e + 1) : i + e, max(0, j - e + 1) : j + e]
            gates[:, :, row, column] = window.flatten(2).mean(2).sigmoid()
    return x * gates


def srm(block: SRM, x: Tensor) -> Tensor:
    """Eqs. 1 to 5, with the batch's own statistics or the running ones."""
    weight = block.integrate.weight[:, 0]
    flat = x.flatten(2)
    std = (flat.var(2, correction=0) + 1e-5).sqrt()
    z = weight[:, 0] * flat.mean(2) + weight[:, 1] * std
    norm = block.norm
    mean, var = z.mean(0), z.var(0, correction=0)
    if not block.training:
        mean, var = norm.running_mean, norm.running_var
    z = (z - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    return x * (1 / (1 + (-z).exp()))[:, :, None, None]


def cbam(block: ChannelAttention, x: Tensor) -> Tensor:
    """Section 3.1, Eq. 2: both descriptors through W0, ReLU, W1, then their sum."""
    w0, b0, w1, b1 = block.parameters()

    def mlp(z: Tensor) -> Tensor:
        return (z @ w0.flatten(1).T + b0).clamp(min=0) @ w1.flatten(1).T + b1

    flat = x.flatten(2)
    return x * (mlp(flat.mean(2)) + mlp(flat.max(2).values)).sigmoid()[:, :, None, None]


FORMULAS = {ECA: eca, GatherExcite: gather_excite, GatherExcite4: gather_excite, SRM: srm}
FORMULAS |= {ChannelAttention: cbam}
SCALE = CHANNELS * PIXELS
FC = CHANNELS * (CHANNELS // 4)
COSTS = {  # parameters; multiply-adds: pooling, layers, scaling
    ECA: (3, SCALE + 3 * CHANNELS + SCALE),
    GatherExcite: (0, SCALE + SCALE),
    # its pooling in windows is not counted, as in ShuffleNet's, but PyTorch's arithmetic on indices
    GatherExcite4: (0, SCALE + 2 * SIDE),
    SRM: (4 * CHANNELS, 2 * SCALE + 2 * CHANNELS + SCALE),
    ChannelAttention: (2 * FC + CHANNELS // 4 + CHANNELS, 2 * SCALE + 4 * FC + SCALE),
}


def made(kind: type[nn.Module]) -> nn.Module:
    """A block in float64 with no special value in it."""
    torch.manual_seed(0)
    block = kind(CHANNELS, SPEC).double()
    for value in block.parameters():
        value.data.uniform_(-0.5, 0.5)
    for value in block.buffers():
        value.copy_(torch.rand_like(value, dtype=torch.float64) + 0.5)
    return block


def images(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, CHANNELS, SIDE, SIDE, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_block_is_its_papers_formula(kind: type[nn.Module]) -> None:
    for training in (True, False):
        block, x = made(kind).train(training), images()
        with torch.no_grad():
            expected = FORMULAS[kind](block, x)  # before the block moves its running statistics
            torch.testing.assert_close(block(x), expected)
        assert not torch.allclose(expected, x)


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_gradients_of_a_block_are_those_of_differences(kind: type[nn.Module]) -> None:
    block, x = made(kind), images(2)[:, :, :3, :3].contiguous().requires_grad_()
    names, weights = [name for name, _ in block.named_parameters()], list(block.parameters())

    def gated(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(gated, (x, *weights), fast_mode=True)
    block(x).square().sum().backward()
    assert all(value.grad.any() for value in (x, *weights))


@pytest.mark.parametrize("kind", COSTS)
def test_parameters_and_multiply_adds_of_a_block_are_counted(kind: type[nn.Module]) -> None:
    found = cost(nn.Sequential(kind(CHANNELS, SPEC)), (CHANNELS, SIDE, SIDE))
    assert (found.params, found.macs) == COSTS[kind]


def test_ecas_kernel_is_the_odd_number_nearest_to_the_papers() -> None:
    """Eq. 12 with gamma 2 and b 1; the paper names 3 to 7 for the widths of ResNet-50."""
    for channels in (16, 64, 100, 256, 512, 1024, 2048):
        t = (math.log2(channels) + 1) / 2
        kernel = ECA(channels, SPEC).conv.kernel_size[0]
        assert kernel % 2 == 1 and abs(kernel - t) <= 1
    assert ECA(256, SPEC).conv.kernel_size == (5,)


def test_the_global_extent_is_se_without_excitation() -> None:
    x = images()
    se = SEBlock(CHANNELS, SESpec(excitation="none"))
    assert torch.equal(GatherExcite(CHANNELS, SPEC)(x), se(x))


def test_every_block_of_the_experiment_sits_in_every_unit_and_records_its_gates() -> None:
    variants = read_experiment("attention").variants
    assert len(variants) == len(FORMULAS) + 2 and read_experiment("attention").on_request
    for variant in variants.values():
        if variant.se:
            for placement in ("standard", "identity"):
                se = replace(variant.se, placement=placement)  # type: ignore[arg-type]
                blocks = se_blocks(skeleton("resnet20_bottleneck", 10, se))
                assert len(blocks) == 6
            assert all(isinstance(block.gate, nn.Module) for block in blocks.values())


def test_equal_seeds_give_equal_weights_of_a_users_block() -> None:
    se = SESpec(block="examples.srm:SRM")
    one, two, other = (
        build_model("resnet_tiny_bottleneck", 10, se, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    key = next(key for key in one if key.endswith("integrate.weight"))
    assert not torch.equal(one[key], other[key])


@pytest.mark.usefixtures("one_worker")
def test_the_documented_commands_run_in_a_folder_with_the_example_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (EXAMPLES / "README.md").read_text()
    commands = re.findall(r"^    python -m senet_ablate (.*)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["plan", "run", "run"]
    for name in ("eca.py", "experiments/eca.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for command in commands[:2]:
        code, out, errors = inside(*shlex.split(command.replace("digits", "smoke")))
        assert code == 0, errors
        if command.startswith("plan"):
            rows = {words[1]: words for words in map(str.split, out.splitlines()) if words}
            params = {name: int(rows[name][3].replace(",", "")) for name in ("plain", "SE", "ECA")}
            assert 0 < params["ECA"] - params["plain"] < 20 < params["SE"] - params["plain"]
    assert len(load_records("my-results", "smoke")) == 3
    table = (tmp_path / "my-results" / "smoke" / "README.md").read_text()
    assert "## Efficient channel attention" in table and "| ECA" in table
    assert "## Reduction ratio" not in table, "a table of which no row but plain and SE was run"
    code, _, errors = inside("verify", "--results", "my-results")
    assert code == 0, errors
