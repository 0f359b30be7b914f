"""Where a record comes from: code, libraries, machine, data, command and time."""

import datetime
import functools
import hashlib
import importlib.metadata
import platform
import sys
import time
from pathlib import Path
from types import ModuleType

import torch

from senet_ablate.records import Compute, Provenance
from senet_ablate.records.commit import code_state
from senet_ablate.spec import BACKBONES, BLOCKS, EXCITATIONS, GATES, SQUEEZES, Run
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
    return f"cpu: {name.strip()}"


def own_operators(run: Run, afresh: bool = False) -> dict[str, str]:
    """SHA-256 of the source of each part that is a user's own, network or part of a block, as this
    process loaded it; afresh: as it is now, which a process that is started now will load.

    It stands for the file that the part is named by, and for those below the same folder that this
    one imports.
    """
    names = {run.train.backbone: BACKBONES}
    if run.se is not None:
        own = (run.se.squeeze, run.se.excitation, run.se.gate, run.se.block)
        names |= dict(zip(own, (SQUEEZES, EXCITATIONS, GATES, BLOCKS), strict=True))
    hashes = {}
    for name, registry in names.items():
        if ":" in name:
            registry[name]  # imports it
            hashes[name] = _source_hash(sys.modules[name.partition(":")[0]], afresh)
    return hashes


# by module: its spec, which a reload changes, and the hash of its source
_seen: dict[ModuleType, tuple[object, str]] = {}


def _source_hash(module: ModuleType, afresh: bool) -> str:
    spec, found = _seen.get(module, (None, ""))
    if not afresh and found and spec is module.__spec__:
        return found
    files = sorted(_sources(module))
    contents = b"".join(path.read_bytes() for path in files)
    now = hashlib.sha256(contents).hexdigest() if files else "no source"
    if not afresh:
        _seen[module] = module.__spec__, now
    return now


def _sources(module: ModuleType) -> set[Path]:
    """The files of a module, and of the modules below its folder of which it holds something."""
    folder, found, left = Path(module.__file__ or "").resolve().parent, set[Path](), [module]
    while left:
        one = left.pop()
        path, values = (
            Path(getattr(one, "__file__", None) or "").resolve(),
            list(vars(one).values()),
        )
        below = path.is_relative_to(folder) and path.is_file() and path not in found
        if not below or "site-packages" in path.parts[len(folder.parts) :]:
            continue
        found.add(path)
        homes = {str(getattr(value, "__module__", "")) for value in values} & sys.modules.keys()
        held = [value for value in values if isinstance(value, ModuleType)]
        held += [sys.modules[home] for home in homes]
        left += [other for other in held if other.__name__.partition(".")[0] != "senet_ablate"]
    return found
