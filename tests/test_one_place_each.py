"""CONTRIBUTING, "One place each": a part that is registered is in every list, is counted and
planned, and the tests of the others are run on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from test_cli import inside

from senet_ablate.models.summary import to_count
from senet_ablate.spec.registry import BACKBONES, BLOCKS, GATES, SQUEEZES

ROOT = Path(__file__).parent.parent
PARTS = '''
from torch import nn

from senet_ablate.models.layers import conv_norm_relu, head, made_for, sequential, stem_strides
from senet_ablate.models.se import SEPlacement
from senet_ablate.models.units import bottleneck_unit, make_stages
from senet_ablate.spec.registry import BACKBONES, BLOCKS, GATES, SQUEEZES


def power(x):
    """Mean of squares, N x C x H x W to N x C x 1 x 1."""
    return x.square().mean((2, 3), keepdim=True)


def floor(logits):
    """No gate below one half."""
    return 0.5 + logits.sigmoid() / 2


class Scale(nn.Module):
    """A factor a channel, whatever the image."""

    def __init__(self, channels, spec):
        super().__init__()
        self.factors = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x):
        return self.factors(x)


@made_for(16)
def fournet(num_classes, se, stem):
    """Two stages of two units."""
    place, (stride, _) = SEPlacement(se, (2, 3)), stem_strides(stem)
    return sequential(
        stem=conv_norm_relu(3, 16, 3, stride),
        **make_stages(16, {2: 64, 3: 128}, (2, 2), bottleneck_unit, place),
        **head(128, num_classes),
    )


SQUEEZES["power"], GATES["floor"] = power, floor
BLOCKS["scale"], BACKBONES["fournet"] = Scale, fournet
'''
EXPERIMENT = """
title: Mine
question: Are the new names known?
control: plain
variants:
  plain: {se: null}
  Power: {se: {squeeze: power}}
  Floor: {se: {gate: floor}}
  Scale: {se: {block: scale}}
  plain fournet: {backbone: fournet, se: null}
  fournet: {backbone: fournet, se: {squeeze: power, gate: floor}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "their_parts.py").write_text(PARTS)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def registered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    with (
        mock.patch.dict(SQUEEZES),
        mock.patch.dict(GATES),
        mock.patch.dict(BLOCKS),
        mock.patch.dict(BACKBONES),
        mock.patch.dict("senet_ablate.spec.plan._given"),  # other tests know no mine.yaml
    ):
        exec(PARTS, {"__name__": "their_parts"})
        yield folder


@pytest.mark.usefixtures("registered")
def test_list_describe_plan_and_the_costs_know_new_names() -> None:
    code, out, _ = inside("list")
    lines = {tuple(line.split(maxsplit=1)) for line in out.splitlines() if line[:2] == "  "}
    assert code == 0 and lines >= {
        ("power", "Mean of squares, N x C x H x W to N x C x 1 x 1."),
        ("floor", "No gate below one half."),
        ("scale", "A factor a channel, whatever the image."),
        ("fournet", "Two stages of two units."),
    }
    code, out, errors = inside("describe", "fournet", "--se", "squeeze=power", "gate=floor")
    assert code == 0, errors
    assert "16x16 pixels, 100 classes" in out and "SE_3_1 ... SE_3_2" in out
    code, out, errors = inside("plan", "mine.yaml", "--recipe", "smoke", "--results", "mine")
    assert code == 0 and "6 distinct runs, 0 done, 6 to do" in out, errors
    assert {("fournet", None)} <= {*to_count()}


def test_an_unknown_name_is_answered_with_a_new_one(registered: Path) -> None:
    wrong = (registered / "mine.yaml").read_text().replace("squeeze: power}}", "squeeze: powr}}")
    (registered / "mine.yaml").write_text(wrong)
    code, _, errors = inside("plan", "mine.yaml", "--recipe", "smoke", "--results", "mine")
    assert code == 2 and "did you mean 'power'?" in errors


@pytest.mark.slow
def test_the_tests_of_the_others_run_on_new_names(folder: Path) -> None:
    files = [f"tests/test_{name}.py" for name in ("se", "backbones", "describe")]
    words = [
        "-n",
        "0",
        "-p",
        "their_parts",
        "-q",
        "-rA",
        "-k",
        "fournet or power or floor or scale",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    for test in (
        "test_se.py::test_every_parameter_gets_a_finite_gradient[se-power-none-tanh-standard]",
        "test_se.py::test_every_parameter_gets_a_finite_gradient[se-power-fc-sigmoid-conv3x3]",
        "test_se.py::test_every_parameter_gets_a_finite_gradient[se-avg-fc-floor-post]",
        "test_se.py::test_every_parameter_gets_a_finite_gradient[scale-avg-fc-sigmoid-identity]",
        "test_backbones.py::test_every_parameter_learns_with_se_in_every_place[fournet]",
        "test_describe.py::test_a_network_of_every_kind_is_described_by_sizes_places_and_costs[fournet]",
    ):
        assert f"PASSED tests/{test}" in passed
