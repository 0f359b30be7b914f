"""The end of a residual unit in one go: the algebra in float64, the Triton kernels under Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from senet_ablate import SEBlock, SESpec, build_model
from senet_ablate.kernels.engine import engine, forced
from senet_ablate.kernels.fused import Written, merged

FORMATS = [torch.channels_last, torch.contiguous_format]


def unit_end(
    shape: tuple[int, int, int, int], layout: torch.memory_format, seed: int = 0
) -> tuple[nn.BatchNorm2d, SEBlock, Tensor, Tensor, Tensor]:
    """A batch norm and SE block with weights of no special value; input, shortcut and gradient."""
    torch.manual_seed(seed)
    norm, block = nn.BatchNorm2d(shape[1]).double(), SEBlock(shape[1], SESpec(4, bias=True)).double()
    for parameter in (*norm.parameters(), *block.parameters()):
        nn.init.normal_(parameter, mean=0.3)
    x, shortcut, dy = (torch.randn(shape, dtype=torch.float64).to(memory_format=layout) for _ in range(3))
    return norm, block, x * 2 + 5, shortcut, dy


@pytest.mark.parametrize("layout", FORMATS, ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("with_se", [True, False], ids=["SE", "plain"])
@pytest.mark.parametrize("shape", [(4, 8, 5, 7), (1, 12, 3, 3), (6, 8, 1, 1)])
def test_value_and_all_eight_gradients_are_those_of_autograd(
    shape: tuple[int, int, int, int], with_se: bool, layout: torch.memory_format
) -> None:
    norm, block, x, shortcut, dy = unit_end(shape, layout)
    x.requires_grad_(), shortcut.requires_grad_()
    parameters = [x, shortcut, *norm.parameters(), *(block.parameters() if with_se else [])]
    assert len(parameters) == (8 if with_se else 4)
    results, states = [], []
    for fused in (True, False):
        norm.reset_running_stats()
        if fused:
            y = merged(x, norm, (lambda z: block.gate(block.excitation(z))) if with_se else None, shortcut, Written())
        else:
            u = norm(x)
            y = torch.relu((block(u) if with_se else u) + shortcut)
        results.append([y, *torch.autograd.grad(y, parameters, dy)])
        states.append([buffer.clone() for buffer in norm.buffers()])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() < 1e-12 * max(1, theirs.abs().max())
    for ours, theirs in zip(*states, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)


def test_the_kernels_agree_with_the_formulae_under_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_kernels_agree_with_the_formulae_on_a_gpu() -> None:
    with torch.device("cuda"):
        check_kernels()


@pytest.mark.parametrize("se", [None, SESpec(), SESpec(gate="softmax", bias=True), SESpec(squeeze="max")])
@pytest.mark.parametrize("backbone", ["resnet_tiny_bottleneck", "resnet20"])
def test_a_network_of_fused_units_is_the_same_network(
    backbone: str, se: SESpec | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, calls = Written(), []
    monkeypatch.setattr(written, "join", lambda *maps: calls.append(1) or Written().join(*maps))
    monkeypatch.setattr("senet_ablate.backbones.residual.passes", lambda: written)
    x, results = torch.randn(6, 3, 8, 8, dtype=torch.float64), []
    for choice in ("fused", "naive"):
        model = build_model(backbone, 5, se, seed=1).double()
        with forced(choice):  # type: ignore[arg-type]
            model(x).logsumexp(1).sum().backward()
            judged = model.eval()(x)
        results.append([judged, *(p.grad for p in model.parameters()), *model.buffers()])
    units = {"resnet_tiny_bottleneck": 3, "resnet20": 9}[backbone]
    assert len(calls) == (0 if se and se.squeeze == "max" else units), "in training alone"
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_cpu_takes_the_lean_path() -> None:
    assert engine(torch.device("cpu")) == "lean" == engine(torch.device("meta"))


def check_kernels() -> None:
    """Every pass, then a whole unit, on random shapes in both layouts; raises where something is off."""
    from senet_ablate.kernels.triton_passes import Kernels

    torch.set_num_threads(1)
    written, kernels = Written(), Kernels()
    for seed, (layout, shape) in enumerate(
        (layout, shape)
        for layout in FORMATS
        for shape in ((2, 5, 3, 7), (3, 70, 9, 5), (1, 130, 2, 2), (2, 3, 25, 23), (2, 16, 1, 1))
    ):
        torch.manual_seed(seed)
        x, shortcut, dy = (torch.randn(shape).to(memory_format=layout) for _ in range(3))
        by_channel, slope = torch.randn(shape[1]), torch.randn(shape[1])
        scale, offset = torch.randn(shape[:2]), torch.randn(shape[:2])
        for name, arguments in {
            "moments": (x,),
            "join": (x, by_channel, scale, offset, shortcut),
            "mask": (dy, shortcut, x, by_channel),
            "spread": (dy, x, by_channel, scale, offset, slope),
        }.items():
            found, wanted = getattr(kernels, name)(*arguments), getattr(written, name)(*(a.double() for a in arguments))
            for ours, theirs in zip(*((v,) if isinstance(v, Tensor) else v for v in (found, wanted)), strict=True):
                torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=2e-5, msg=f"{name} {shape} {layout}")
        norm, block, x, shortcut, dy = (part.float() for part in unit_end((2, 8, 5, 6), layout, seed))
        x.requires_grad_(), shortcut.requires_grad_()
        results = []
        for passes in (kernels, written):
            y = merged(x, norm, lambda z, block=block: block.gate(block.excitation(z)), shortcut, passes)  # type: ignore[misc]
            parameters = [x, shortcut, *norm.parameters(), *block.parameters()]
            results.append([y, *torch.autograd.grad(y, parameters, dy)])
        for ours, theirs in zip(*results, strict=True):
            assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6, (shape, layout)
    far = torch.randn(2, 4, 40, 40) + 1000  # a mean a thousand times the spread
    _, squares = kernels.moments(far)
    torch.testing.assert_close(squares.double(), written.moments(far.double())[1], rtol=1e-3, atol=0)
    half, short = x.detach().bfloat16(), shortcut.detach().bfloat16()
    zero, one = torch.zeros(8), torch.ones(2, 8)
    ours, theirs = (passes.join(half, zero, one, 0 * one, short) for passes in (kernels, written))
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=0)


if __name__ == "__main__":
    check_kernels()
