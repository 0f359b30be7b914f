"""The layers of ../shared/design.md: imports point down, and the arm of tables never sees torch."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "senet_ablate"
FACTS_TO_CLAIMS = {"registry", "strict", "spec", "plan", "paper", "stats", "store", "tables", "figures", "claims"} | {
    "vocabulary",
    "health",
    "findings",
    "class_gates",
}
FACTS_TO_CLAIMS |= {
    "report",
    "verify",
    "costs",
    "cost_page",
    "gate_facts",
    "gates_report",
    "seeds",
    "timing_facts",
    "timing_report",
    "event_files",
    "webpage",
    "compare",
    "tradeoffs",
    "gate_blocks",
    "review",
    "bench_facts",
    "bench_report",
    "fault_facts",
    "frame",
}
SPECS_TO_FACTS = {
    "se",
    "backbones",
    "data",
    "backbones.layers",
    "complexity",
    "schedule",
    "provenance",
    "train",
    "launch",
    "fast",
}
SPECS_TO_FACTS |= {"numerics", "survey", "describe", "interchange", "counting", "checkpoint", "weights", "excitation"}
SPECS_TO_FACTS |= {"resume", "fulfil", "launchers", "launch_ray", "launch_torchrun", "team", "together", "bench"}
SHARED = {
    "bench_facts",
    "registry",
    "strict",
    "vocabulary",
    "spec",
    "plan",
    "paper",
    "store",
    "costs",
    "class_gates",
    "gate_facts",
    "timing_facts",
    "fault_facts",
}  # specs, and the records in which the arms meet
TOP = {"cli", "network_cli", "evidence_cli", "options", "__main__", "__init__"}
LEVEL = {
    name: level
    for level, names in enumerate(
        [
            {"registry"},
            {"strict"},
            {"vocabulary"},
            {"spec", "backbones.layers"},
            {"paper", "numerics", "stats", "schedule"},
            {"plan", "class_gates"},
            {"store"},
            {"se", "data", "health", "provenance", "costs", "bench_facts"},
            {"backbones", "fast", "findings", "frame", "gate_facts", "timing_facts", "fault_facts"},
            {"claims"},
            {"tables"},
            {"figures", "webpage"},
            {"complexity", "interchange", "weights", "gates_report", "tradeoffs", "gate_blocks"},
            {"timing_report", "resume"},
            {"report", "seeds"},
            {"cost_page", "bench_report", "counting", "compare", "team"},
            {"together", "train", "describe", "survey", "verify", "review"},
            {"checkpoint", "excitation", "options"},
            {"fulfil"},
            {"launch"},
            {"launch_ray", "launch_torchrun"},
            {"launchers", "bench"},
            {"network_cli", "evidence_cli", "event_files"},
            {"cli", "__init__"},
            {"__main__"},
        ]
    )
    for name in names
}


def part_of(path: tuple[str, ...]) -> str:
    """A module at the top of the package or a folder there; the layers lie below `se`, the networks above it."""
    return "backbones.layers" if path == ("backbones", "layers") else path[0]


@cache
def modules() -> dict[str, set[str]]:
    """Part of the package -> the parts it imports."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = part_of(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "senet_ablate":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("senet_ablate."):
                names = [part_of(tuple((node.module or "").split(".")[1:]))]
            found.setdefault(part, set()).update(name for name in names if name != part)
    return found


def test_every_module_has_its_place() -> None:
    assert set(modules()) <= FACTS_TO_CLAIMS | SPECS_TO_FACTS | TOP
    assert set(modules()) <= set(LEVEL)


@pytest.mark.parametrize("part", sorted(modules()))
def test_imports_point_down(part: str) -> None:
    upward = [name for name in modules()[part] if LEVEL[name] >= LEVEL[part]]
    assert not upward, f"{part} imports {upward}"


@pytest.mark.parametrize("part", sorted(set(modules()) - TOP))
def test_the_two_arms_meet_only_in_records_and_specs(part: str) -> None:
    other = SPECS_TO_FACTS if part in FACTS_TO_CLAIMS else FACTS_TO_CLAIMS - SHARED
    assert not modules()[part] & other


def test_reporting_never_imports_torch() -> None:
    code = "import senet_ablate.review, senet_ablate.verify, senet_ablate.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_the_public_names_are_what_they_say() -> None:
    code = (
        "from senet_ablate.complexity import cost as first\n"
        "from senet_ablate import SESpec, SEBlock, build_model, list_backbones, cost, load_records\n"
        "assert cost is first and callable(build_model) and callable(load_records)\n"
        "assert 'resnet50' in list_backbones() and SESpec().reduction == 16 and isinstance(SEBlock, type)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True)
