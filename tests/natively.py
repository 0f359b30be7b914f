"""Programs in a process of their own without portable numerics, for what compiles code."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from senet_ablate.train.numerics import PORTABLE

TESTS = Path(__file__).resolve().parent


def natively(program: str) -> None:
    """Run a program, which may import the tests' modules; AssertionError with its last lines if it
    fails.
    """
    clean = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    clean |= {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory() as cache
    ):  # the usual one may hold code compiled under other instructions
        clean["TORCHINDUCTOR_CACHE_DIR"] = cache
        done = subprocess.run(
            [sys.executable, "-c", program], env=clean, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr[-2000:]
