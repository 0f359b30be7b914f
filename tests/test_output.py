"""What happens to a terminal, a pipe or a plot costs nothing of what was trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from senet_ablate.cli.output import worked
from senet_ablate.spec.registry import BadInput

ROOT = Path(__file__).parents[1]


def senet(shell: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command line of a shell in which `senet` is the program."""
    program = f'senet() {{ {sys.executable} -m senet_ablate "$@"; }}; set -o pipefail; {shell}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT
    )


def test_a_sweep_whose_reader_has_gone_under_odd_settings_is_reported_all_the_same(
    tmp_path: Path,
) -> None:
    results = tmp_path / "ünï"
    settings = {"MPLBACKEND": "Qt4Agg", "PYTHONIOENCODING": "ascii"}
    done = senet(f"senet run squeeze --recipe smoke --results {results} | head -1", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "digits: 10 classes, 192 training and 100 test images of 8x8 pixels\n"
    page = results / "smoke"
    assert (page / "README.md").is_file() and (page / "squeeze" / "plot.svg").is_file()
    again = senet(f"senet report --recipe smoke --results {results}", **settings)
    assert again.returncode == 0 and again.stdout.startswith("see ") and "\\xfc" in again.stdout
    assert senet(f"senet verify --recipe smoke --results {results}").returncode == 0


@pytest.mark.parametrize("verb", ["list", "describe resnet20", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(verb: str) -> None:
    done = senet(f"senet {verb} | head -1")
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_an_output_that_is_full_is_said() -> None:
    done = senet("senet list > /dev/full")
    assert done.returncode == 2 and done.stderr.startswith("senet-ablate: ")
    assert "No space left" in done.stderr and "Traceback" not in done.stderr


def test_what_fails_after_training_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: Exception) -> None:
        raise error

    assert worked("report", lambda: None)
    for error in (BadInput("a"), OSError(28, "No space left on device", "x"), KeyError("a\nb")):
        assert not worked("report", lambda error=error: fails(error))
        said = capsys.readouterr().err
        assert said.startswith("report: ") and said.count("\n") == 1 and "record is safe" in said
