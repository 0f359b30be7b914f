"""The package is nine folders: imports point down, and what makes tables never sees torch."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from senet_ablate import records, spec
from senet_ablate.records.store import Record
from senet_ablate.spec.registry import BadInput

PACKAGE = Path(__file__).parent.parent / "senet_ablate"
BELOW = {
    "spec": set(),
    "records": {"spec"},
    "data": {"records", "spec"},
    "models": {"records", "spec"},
    "train": {"models", "data", "records", "spec"},
    "bench": {"train", "models", "data", "records", "spec"},
    "analysis": {"records", "spec"},
    "report": {"analysis", "records", "spec"},
    "cli": {"bench", "train", "models", "data", "report", "analysis", "records", "spec"},
}
"""Folder -> those that it may import: cli, two arms (training, tables), records and spec."""
NO_TORCH = ("spec", "records", "analysis", "report")


def test_the_package_is_nine_folders() -> None:
    folders = {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == set(BELOW)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    for folder in folders:
        docstring = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
        assert docstring and len(docstring.splitlines()[0]) < 120, folder


def imported(path: Path) -> set[str]:
    """The folders of the package that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "senet_ablate":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("senet_ablate."):
            found.add((node.module or "").split(".")[1])
    return found


@pytest.mark.parametrize("folder", BELOW)
def test_imports_point_down(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        upward = imported(path) - BELOW[folder] - {folder}
        assert not upward, f"{path.relative_to(PACKAGE)} imports {sorted(upward)}"


@pytest.mark.parametrize("folder", BELOW)
def test_no_two_modules_of_a_folder_import_each_other(folder: str) -> None:
    paths = {
        path.stem: path for path in (PACKAGE / folder).rglob("*.py") if path.stem != "__init__"
    }
    needs = {
        name: (
            {
                node.module.rpartition(".")[2]
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith(f"senet_ablate.{folder}.")
            }
            & set(paths)
        )
        for name, path in paths.items()
    }
    tuple(TopologicalSorter(needs).static_order())  # raises CycleError


def test_no_two_concepts_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert len(places) > 50 and not twice


def test_reporting_never_imports_torch() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for folder in NO_TORCH
        for path in (PACKAGE / folder).rglob("*.py")
        if path.stem not in ("__init__", "tensorboard")
    ]
    code = (
        f"import {', '.join(modules)}, senet_ablate.cli.main, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_the_public_names_are_what_they_say() -> None:
    code = (
        "from senet_ablate.models.complexity import cost as first\nfrom senet_ablate import SESpec,"
        " SEBlock, build_model, list_backbones, cost, load_records\nassert cost is first and"
        " callable(build_model) and callable(load_records)\nassert 'resnet50' in list_backbones()"
        " and SESpec().reduction == 16 and isinstance(SEBlock, type)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True)
    assert spec.BadInput is BadInput and records.Record is Record


def test_the_picture_of_the_architecture_is_the_one_that_holds() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    drawn: dict[str, set[str]] = {folder: set() for folder in BELOW}
    for one, other in re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE):
        drawn[one].add(other)

    def reached(folder: str) -> set[str]:
        return drawn[folder].union(*(reached(other) for other in drawn[folder]))

    assert {folder: reached(folder) for folder in BELOW} == BELOW
    used = {
        folder: set().union(*map(imported, (PACKAGE / folder).rglob("*.py"))) - {folder}
        for folder in BELOW
    }
    for folder, others in drawn.items():
        assert others <= used[folder], f"{folder} does not import {others - used[folder]}"
