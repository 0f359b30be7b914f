"""Which code is running."""

import functools
import os
import subprocess
from pathlib import Path


@functools.cache
def code_state() -> tuple[str, bool]:
    """The commit of the package's checkout and whether anything but results differs from it.

    Unknown outside git, and in sources that lie in a repository of something else.
    """
    package = Path(__file__).resolve().parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return "unknown", False
        changes = git("status", "--porcelain", "--", ":/", ":(top,exclude)results")
        return git("rev-parse", "HEAD"), bool(changes)
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
