"""Where a record comes from: code, libraries, machine, data, command and time."""

import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import platform
import sys
import time
from pathlib import Path
from types import ModuleType

import torch

from senet_ablate.records import Compute, Provenance
from senet_ablate.records.commit import code_state
from senet_ablate.spec import BLOCKS, EXCITATIONS, GATES, SQUEEZES, Run
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
    """SHA-256 of the source file of each part that is a user's own, as this process loaded it;
    afresh: as it is now, which a process that is started now will load.
    """
    if run.se is None:
        return {}
    names = (run.se.squeeze, run.se.excitation, run.se.gate, run.se.block)
    hashes = {}
    for name, registry in zip(names, (SQUEEZES, EXCITATIONS, GATES, BLOCKS), strict=True):
        if ":" in name:
            try:
                source = inspect.getsourcefile(registry[name])
            except TypeError:  # a partial, or an object that can be called
                source = inspect.getsourcefile(sys.modules[name.partition(":")[0]])
            module = sys.modules[name.partition(":")[0]]
            hashes[name] = _source_hash(module, source, afresh) if source else "no source"
    return hashes


# of a module and its file: the module's spec, which a reload changes, and the file's hash
_seen: dict[tuple[ModuleType, str], tuple[object, str]] = {}


def _source_hash(module: ModuleType, source: str, afresh: bool) -> str:
    spec, found = _seen.get((module, source), (None, ""))
    if not afresh and found and spec is module.__spec__:
        return found
    now = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    if not afresh:
        _seen[module, source] = module.__spec__, now
    return now
