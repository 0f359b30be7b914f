"""Which code is running."""

import functools
import hashlib
import os
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
TRAINING_CODE = ("models", "data", "train")  # folders of the package that decide a run's numbers


@functools.cache
def code_state() -> tuple[str, bool]:
    """The commit of the package's checkout and whether anything but results differs from it.

    Without git it is the one in the file COMMIT that `tools/gpu_sweep.sh pack` writes, if the
    training code is still that commit's. Else unknown, also in sources that lie in a repository of
    something else.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        # a colleague's checkout is safe, as its code runs already; a repository above it is not
        command = ["git", "-c", f"safe.directory={PACKAGE.parent.as_posix()}", *words]
        said = subprocess.check_output(
            command, cwd=PACKAGE, env=environment, stderr=subprocess.DEVNULL
        )
        return said.decode().strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() == PACKAGE.parent:
            changes = git("status", "--porcelain", "--", ":/", ":(top,exclude)results")
            return git("rev-parse", "HEAD"), bool(changes)
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        commit, code = (PACKAGE.parent / "COMMIT").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "unknown", False
    return (commit if code == training_code() else "unknown"), False


@functools.cache
def training_code() -> str:
    """SHA-256 of the folders that decide a run's numbers; other code resumes no checkpoint."""
    hashed = hashlib.sha256()
    for path in sorted(one for name in TRAINING_CODE for one in (PACKAGE / name).rglob("*.py")):
        hashed.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    return hashed.hexdigest()
