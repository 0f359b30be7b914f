"""Where a record comes from: code, libraries, machine, data, command and time."""

import ast
import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import operator
import platform
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from senet_ablate.models.build import own_parts
from senet_ablate.records import Compute, Provenance
from senet_ablate.records.commit import PACKAGE, code_state
from senet_ablate.spec import Run
from senet_ablate.train.distributed import world_size
from senet_ablate.train.numerics import settings

LIBRARIES = ("senet-ablate", "torch", "torchvision", "numpy", "pillow", "scikit-learn")


def provenance(
    run: Run,
    data: str,
    device: torch.device,
    command: str,
    began: float,
    train_s: float = 0.0,
    plan: str = "",
    compute: Compute | None = None,
) -> Provenance:
    """The provenance of a run that began at `began` of time.monotonic() and trained for train_s."""
    commit, dirty = code_state()
    wall_s = time.monotonic() - began
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=wall_s)
    return Provenance(
        command=command,
        commit=commit,
        dirty=dirty,
        versions=_versions(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        threads=torch.get_num_threads(),
        started=started.isoformat(timespec="seconds"),
        wall_s=wall_s,
        train_s=train_s,
        data=data,
        operators=own_operators(run),
        processes=world_size(),
        instructions=torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else "",
        settings=settings(),
        plan=plan,
        compute=compute,
    )


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
        if sys.platform == "darwin":  # where that is "arm"; this is Apple M3, say
            name = subprocess.getoutput("sysctl -n machdep.cpu.brand_string")
    return f"cpu: {name.strip()}"


def own_operators(run: Run, afresh: bool = False) -> dict[str, str]:
    """SHA-256 of the source of each part that is a user's own, network or part of a block, as this
    process loaded it; afresh: as it is now, which a process that is started now will load.

    It stands for the file that the part is named by, those beside and below that this one imports,
    and the file that defines the part.
    """
    homes: dict[str, list[str]] = {}
    for name, reference, own in own_parts(run.train.backbone, run.se):
        part = inspect.unwrap(own)
        home = str(getattr(getattr(part, "func", part), "__module__", ""))  # of a partial
        homes.setdefault(name, []).extend([reference.partition(":")[0], home])
    return {
        name: _source_hash(tuple(filter(None, map(sys.modules.get, of))), afresh)
        for name, of in homes.items()
    }


# by the modules of a part: their specs, which a reload changes, and the hash of their source
_seen: dict[tuple[ModuleType, ...], tuple[list[object], str]] = {}


def _source_hash(modules: tuple[ModuleType, ...], afresh: bool) -> str:
    specs: list[object] = [getattr(module, "__spec__", None) for module in modules]
    then, found = _seen.get(modules, ([], ""))
    if not afresh and found and all(map(operator.is_, then, specs)):
        return found
    files = set[Path]().union(*map(_sources, modules))
    contents = b"".join(sorted(path.read_bytes() for path in files))  # wherever they lie
    now = hashlib.sha256(contents).hexdigest() if files else "no source"
    if not afresh:
        _seen[modules] = specs, now
    return now


def _sources(module: ModuleType) -> set[Path]:
    """The file of a module, and of what it imports beside and below itself, by the text of the
    imports; nothing of Python, of this package, or of what is installed.
    """
    path, found = Path(getattr(module, "__file__", None) or "/").resolve(), set[Path]()
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    python = path.is_relative_to(sysconfig.get_path("stdlib")) and not installed
    if python or not path.is_file():  # as modules in C
        return found
    above = module.__name__.count(".") + (path.stem == "__init__")
    root, left = path.parents[min(above, len(path.parents) - 1)], [path]
    while left:
        file = left.pop()
        if file.is_file() and file not in found and not file.is_relative_to(PACKAGE):
            found.add(file)
            left += () if installed else _imports(file, root)
    return found


def _imports(file: Path, root: Path) -> Iterator[Path]:
    """Every file that a file may import, of those below `root` or, where it says so, beside it."""
    try:
        tree = ast.parse(file.read_bytes() if file.suffix == ".py" else b"")
    except (SyntaxError, ValueError):  # nor can Python import it
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        level = getattr(node, "level", 0)  # leading dots
        folder, above = root, getattr(node, "module", None)
        if level:
            folder = file.parents[min(level, len(file.parents)) - 1]
            yield folder / "__init__.py"
        for one in node.names:
            part = folder
            for word in f"{above}.{one.name}".split(".") if above else one.name.split("."):
                part /= word
                yield from (part / "__init__.py", part.with_suffix(".py"))
