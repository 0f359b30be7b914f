"""./run_all.sh: sets up, trains or reproduces, and ends with the agreement."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUB = """#!/bin/sh
if [ "$2" = pip ]; then
    echo "$*" >> pips
    case "$*" in *download.pytorch.org*) exit ${CPU_INDEX:-0};; esac
    echo "Collecting torch"; sleep 2; echo "ERROR: no network"; exit ${PIP_STATUS:-0}
fi
echo "$*" >> calls
if [ "$3" = reproduce ]; then
    mkdir -p "reproductions/$5"
    echo "- 9 of 9 records of $5 are equal" > "reproductions/$5/agreement.md"
fi
case "$*" in *"$FAILING"*) exit ${STATUS:-0};; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv holds a Python that notes what it is called with."""
    for name in ("run_all.sh", "requirements-run.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (stub.parent / "pip").touch(0o755)  # which comes last into an environment
    for recipe in ("cue", "digits", "cifar100-cpu"):
        (tmp_path / "results" / recipe / "runs").mkdir(parents=True)
        (tmp_path / "results" / recipe / "runs" / "0.json").touch()
    return tmp_path


def run_all(
    checkout: Path, *words: str, **settings: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The finished process, and what Python was called with."""
    (checkout / "calls").unlink(missing_ok=True)
    clean = {name: value for name, value in os.environ.items() if name != "SENET_ABLATE_RESULTS"}
    environment = clean | {"FAILING": "nothing"} | settings
    done = subprocess.run(
        ["bash", "run_all.sh", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
    )
    calls = checkout / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_it_installs_once_trains_anew_and_ends_with_the_agreement(checkout: Path) -> None:
    done, calls = run_all(checkout)
    assert done.returncode == 0, done.stderr
    assert "5.7 GB" in done.stderr and "Collecting torch" in done.stderr, "set-up can be watched"
    verbs = [f"-m senet_ablate reproduce --recipe {recipe}" for recipe in ("cue", "digits")]
    assert calls == verbs
    assert done.stdout.endswith(
        "cue (reproductions/cue/agreement.md)\n  9 of 9 records of cue are equal\n"
        "digits (reproductions/digits/agreement.md)\n  9 of 9 records of digits are equal\n"
    )
    assert "installing" not in run_all(checkout)[0].stderr


@pytest.mark.slow
@pytest.mark.parametrize("reached", [True, False])
def test_without_a_gpu_the_small_build_of_pytorch_is_tried_first(
    checkout: Path, reached: bool
) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for name in ("bash", "grep", "uname", "du", "cut", "tail", "sleep", "cmp", "cp", "sed", "cat"):
        (tools / name).symlink_to(shutil.which(name) or "missing")
    path = str(tools)  # no nvidia-smi
    settings = {"PATH": path, "PYTHON": sys.executable, "CPU_INDEX": "0" if reached else "1"}
    assert run_all(checkout, **settings)[0].returncode == 0
    small, usual = (checkout / "pips").read_text().splitlines()
    assert re.search(r"whl/cpu --no-deps torch==[\d.]+ torchvision==[\d.]+$", small)
    assert usual.endswith("-r requirements-run.txt") and "index-url" not in usual
    (checkout / "pips").unlink()
    (checkout / ".venv" / "requirements.installed").unlink()
    (tools / "nvidia-smi").symlink_to("/bin/true")
    assert run_all(checkout, **settings)[0].returncode == 0
    assert (checkout / "pips").read_text().splitlines() == [usual]


def test_a_recipe_without_committed_records_is_run(checkout: Path) -> None:
    (checkout / ".venv" / "requirements.installed").write_bytes(
        (checkout / "requirements-run.txt").read_bytes()
    )
    assert run_all(checkout, "cifar100", "--seeds", "5")[1] == [
        "-m senet_ablate run --recipe cifar100 --seeds 5"
    ]
    assert run_all(checkout, "cifar100-cpu", "--data", "d")[1] == [
        "-m senet_ablate reproduce --recipe cifar100-cpu --data d"
    ]
    assert run_all(checkout, "cue", "--results", "mine")[1] == [
        "-m senet_ablate run --recipe cue --results mine"
    ]


def test_exit_codes_are_those_of_the_commands(checkout: Path) -> None:
    failed, calls = run_all(checkout, FAILING="--recipe cue", STATUS="1")
    assert failed.returncode == 1 and len(calls) == 2, "a run that failed stops no other recipe"
    bad, calls = run_all(checkout, FAILING="--recipe cue", STATUS="2")
    assert bad.returncode == 2 and len(calls) == 1
    assert run_all(checkout, "cifar100", FAILING="cifar100", STATUS="130")[0].returncode == 130


@pytest.mark.slow
def test_an_installation_that_fails_says_why_and_is_tried_again(checkout: Path) -> None:
    for _ in range(2):
        done, calls = run_all(checkout, PIP_STATUS="1")
        assert done.returncode == 2 and not calls
        assert "ERROR: no network" in done.stderr and "install.log" in done.stderr


def test_an_environment_whose_making_was_broken_off_is_made_whole(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "pip").unlink()
    python = checkout / "python"
    made = "echo venv >> pips; touch .venv/bin/pip; chmod +x .venv/bin/pip"
    python.write_text(f'#!/bin/sh\n[ "$1 $2" != "-m venv" ] || {{ {made}; }}\n')
    python.chmod(0o755)
    for _ in range(2):
        assert run_all(checkout, PYTHON=str(python))[0].returncode == 0
    assert (checkout / "pips").read_text().splitlines()[0] == "venv"
    assert (checkout / "pips").read_text().count("venv") == 1


def test_an_environment_without_pip_that_it_did_not_make_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "pip").unlink()
    python = checkout / "python"
    python.write_text('#!/bin/sh\n[ "$2" != "venv" ]\n')
    python.chmod(0o755)
    done, _ = run_all(checkout, PYTHON=str(python))
    assert done.returncode == 2 and "python3-venv" in done.stderr
    assert (checkout / ".venv" / "bin" / "python").is_file()
