"""Where a record says that it comes from."""

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.cli.options import command_line
from senet_ablate.data.images import ImageSet
from senet_ablate.spec import GATES, SQUEEZES
from senet_ablate.spec.plan import read_recipe
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.loop import train
from senet_ablate.train.provenance import own_operators

ROOT = Path(__file__).resolve().parent.parent
SAY = "from senet_ablate.records.commit import code_state; print(*code_state())"


def git(folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=clean, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def state(folder: Path, **environment: str) -> list[str]:
    """What the copy of the package in a folder says of itself."""
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init")
    (folder / "theirs.txt").write_text("theirs")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "theirs")
    return folder


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The sources, without .git, inside the repository of somebody else."""
    outer = repository(tmp_path / "outer")
    target = outer / "vendored"
    shutil.copytree(
        ROOT / "senet_ablate", target / "senet_ablate", ignore=shutil.ignore_patterns("__pycache__")
    )
    return target


def test_sources_inside_another_repository_are_of_no_commit(copied: Path) -> None:
    assert state(copied) == ["unknown", "False"]


def test_a_users_part_has_the_hash_of_its_file_whatever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from functools import partial\ndef power(x, p): return (x**p).mean((2, 3), True)\n"
    source += "cubes = partial(power, p=3)\n"
    (tmp_path / "their_powers.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    spec = read_recipe("smoke").train
    for name in ("their_powers:power", "their_powers:cubes"):
        found = own_operators(Run(spec, SESpec(squeeze=name), 0))
        assert found == {name: hashlib.sha256(source.encode()).hexdigest()}
    (tmp_path / "their_powers.py").write_text(source + "# edited while the first runs train\n")
    run = Run(spec, SESpec(squeeze=name), 0)
    assert own_operators(run) == found, "which they do by the first"
    assert own_operators(run, afresh=True) != found, "and those that are started now do not"
    importlib.reload(sys.modules["their_powers"])
    assert own_operators(run) == own_operators(run, afresh=True)


def test_a_part_whose_module_has_no_file_breaks_nothing() -> None:
    spec = read_recipe("smoke").train
    assert own_operators(Run(spec, SESpec(gate="math:exp"), 0)) == {"math:exp": "no source"}
    expit = "torch.special:expit"  # of a module in C, by a module in Python
    assert [*own_operators(Run(spec, SESpec(gate=expit), 0))] == [expit]


def test_a_part_added_in_a_process_has_the_hash_of_its_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def power(x):\n    return x.square().mean((2, 3), True)\n"
    (tmp_path / "their_script.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    power = importlib.import_module("their_script").power
    more = (
        "from functools import partial\nimport their_script\nsame = partial(their_script.power)\n"
    )
    (tmp_path / "their_partial.py").write_text(more)
    for entry, files in {power: source, "their_partial:same": source + more}.items():
        monkeypatch.setitem(SQUEEZES, "relu", entry)  # as a gate of ours is called
        run = Run(read_recipe("smoke").train, SESpec(squeeze="relu", gate="relu"), 0)
        assert own_operators(run) == {"relu": hashlib.sha256(files.encode()).hexdigest()}
    monkeypatch.setitem(GATES, "relu", "their_partial:same")
    monkeypatch.setitem(SQUEEZES, "relu", power)
    both = hashlib.sha256((source + more).encode()).hexdigest()
    assert own_operators(run) == {"relu": both}, "the squeeze's file and the gate's"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_checkout_of_somebody_else_names_its_commit(copied: Path) -> None:
    if tuple(map(int, re.findall(r"\d+", git(copied, "--version"))[:2])) < (2, 38):
        pytest.skip("older git takes no safe.directory from a command")
    git(copied, "init")
    git(copied, "add", ".")
    git(copied, "commit", "-m", "ours")
    commit = git(copied, "rev-parse", "HEAD")
    subprocess.run(["chown", "-R", "65534", str(copied)], check=True)
    assert state(copied) == [commit, "False"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_repository_of_somebody_else_above_the_package_runs_nothing(copied: Path) -> None:
    outer, ran = copied.parent, copied.parent / "ran"
    spy = outer / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {ran}\n")
    spy.chmod(0o755)
    git(outer, "config", "core.worktree", str(copied))
    git(outer, "config", "core.fsmonitor", str(spy))
    git(outer, "status")
    assert ran.is_file(), "git itself runs it for its owner"
    ran.unlink()
    subprocess.run(["chown", "-R", "65534", str(outer / ".git")], check=True)
    assert state(copied) == ["unknown", "False"] and not ran.exists()


def test_a_checkout_names_its_own_commit_whatever_git_variables_point_to(
    copied: Path, tmp_path: Path
) -> None:
    git(copied, "init")
    git(copied, "add", ".")
    git(copied, "commit", "-m", "ours")
    commit = git(copied, "rev-parse", "HEAD")
    other = repository(tmp_path / "other")
    pointed = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other)}
    assert state(copied) == [commit, "False"] == state(copied, **pointed)
    (copied / "senet_ablate" / "se.py").write_text("")
    assert state(copied, **pointed) == [commit, "True"]


def test_a_clock_that_is_put_back_makes_no_negative_duration(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(times)))
    where = train(Run(tiny, SESpec(), 0), digits, torch.device("cpu")).provenance
    assert 0 <= where.train_s <= where.wall_s < 600


def test_the_command_is_the_one_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["senet-ablate", "run", "a b", "--results", "caf\udce9"])
    assert command_line() == "python -m senet_ablate run 'a b' --results 'caf\\udce9'"
