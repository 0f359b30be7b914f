"""A wheel that is installed elsewhere works: recipes travel, results go where one works."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from senet_ablate.records.store import read_records
from senet_ablate.spec.plan import read_plan

ROOT = Path(__file__).parent.parent
SOURCES = ("senet_ablate", "experiments", "pyproject.toml", "README.md", "LICENSE")
RECIPE = """
title: Mine
about: My own.
seeds: 1
experiments: [mine]
train: {dataset: digits, train_images: 192, test_images: 100, backbone: resnet_tiny_bottleneck,
  epochs: 1, batch_size: 16, lr: 0.05}
"""
EXPERIMENT = """
title: Mine
question: Does it run?
control: plain
variants: {plain: {se: null}, SE: {se: {}}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "-q", "-w", "dist"]
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*command, *options], cwd=source, check=True)
    (wheel,) = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def senet(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "senet_ablate", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_every_file_of_the_package_is_in_the_wheel(installed: Path) -> None:
    ours = {path.relative_to(ROOT) for path in (ROOT / "senet_ablate").rglob("*") if path.is_file()}
    ours = {path for path in ours if "__pycache__" not in path.parts}
    assert ours == {path for path in ours if (installed / path).is_file()}
    for path in (ROOT / "experiments").rglob("*.yaml"):
        copy = installed / "senet_ablate" / path.relative_to(ROOT)
        assert copy.read_bytes() == path.read_bytes()


def test_the_smoke_recipe_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    words = ["--recipe", "smoke", "--device", "cpu"]
    done = senet(installed, tmp_path, "run", "role_of_squeeze", *words)
    assert done.returncode == 0, done.stderr
    runs = {run.id for run in read_plan("smoke", ["role_of_squeeze"]).runs()}
    assert set(read_records(tmp_path / "results", "smoke")) == runs
    assert (tmp_path / "results" / "smoke" / "README.md").is_file()
    assert senet(installed, tmp_path, "verify").returncode == 0


def test_own_recipes_and_experiments_by_path_or_in_ones_own_folder(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "experiments" / "mine.yaml").write_text(EXPERIMENT)
    words = ["--recipe", "mine.yaml", "--device", "cpu"]
    done = senet(installed, tmp_path, "run", *words)
    assert done.returncode == 0, done.stderr
    assert len(read_records(tmp_path / "results", "mine")) == 2
    page = (tmp_path / "results" / "mine" / "README.md").read_text()
    assert "--recipe mine.yaml" in page, "the printed command finds the recipe"
    done = senet(installed, tmp_path, "verify", "--recipe", "mine.yaml")
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.yaml").rename(tmp_path / "experiments" / "recipes" / "mine.yaml")
    assert "2 done, 0 to do" in senet(installed, tmp_path, "plan", "--recipe", "mine").stdout
    assert "mine" in senet(installed, tmp_path, "list").stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = senet(installed, elsewhere, "plan", "../experiments/mine.yaml", "--recipe", "smoke")
    assert "2 distinct runs" in done.stdout, done.stderr


def test_two_different_files_of_one_name_are_an_error(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text(RECIPE)
    done = senet(installed, tmp_path, "plan", "--recipe", "smoke.yaml")
    assert done.returncode == 2 and "two files of recipe 'smoke'" in done.stderr
    done = senet(installed, tmp_path, "plan", "--recipe", "none.yaml")
    assert done.returncode == 2 and "there is no such file" in done.stderr
