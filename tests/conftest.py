import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # two cores, two test workers: more threads only wait for each other

# what the tests say of devices is said of a CPU; CUDA_VISIBLE_DEVICES=0 names a GPU for
# tests/test_cuda_graph.py
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from senet_ablate.train.numerics import PORTABLE

os.environ.update(
    PORTABLE
)  # before torch is loaded: the tests train with the recipes' portable numerics

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest
import torch
from matplotlib.figure import Figure

from senet_ablate.data import load_images
from senet_ablate.data.images import ImageSet
from senet_ablate.spec.spec import Training

torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Training:
    return Training(
        dataset="digits",
        train_images=96,
        test_images=50,
        backbone="resnet_tiny_bottleneck",
        epochs=2,
        batch_size=32,
        lr=0.05,
    )


@pytest.fixture
def digits(tiny: Training, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(tiny, tmp_path_factory.getbasetemp())


@pytest.fixture
def one_worker() -> Iterator[None]:
    """This machine has one core: for tests of something else than sharing work."""
    with alone():
        yield


@contextmanager
def alone() -> Iterator[None]:
    """The same while the context is open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("senet_ablate.train.launch.local.devices", lambda kind: ["cpu"])
        yield


@pytest.fixture
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot is drawn, which is what takes the time of a report:

    for tests of what stands beside them.
    """

    def savefig(figure: Figure, file: IO[bytes], format: str, **_: object) -> None:
        file.write(b'<svg viewBox="0 0 9 9"></svg>')

    monkeypatch.setattr(Figure, "savefig", savefig)


# Files whose tests take seconds each; the fast loop (tools/check.sh) leaves them out.
SLOW = [
    "backbones",
    "bench",
    "block_formula",
    "claims",
    "cli",
    "cuda_graph",
    "examples",
    "excitation",
    "experiments",
    "faults",
    "files",
    "fuzz",
    "gpu_tools",
    "job",
    "launch_ray",
    "launch_torchrun",
    "ledger",
    "notebook",
    "oracles",
    "output",
    "preflight",
    "pytorch_tools",
    "reproduction",
    "resume",
    "runs_at_once",
    "streaming",
    "sweep",
    "timm",
    "tools",
    "train",
    "webpage",
    "wheel",
    "provenance",
]


# The longest first, so that the others fill the time that one of two workers has left at the end.
FIRST = (
    *("launch_ray", "runs_at_once", "cli", "job", "wheel", "backbones", "launch_torchrun"),
    *("streaming", "train", "timm", "pytorch_tools", "output", "bench", "run_all", "gpu_tools"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = {item: item.path.stem.removeprefix("test_") for item in items}
    for item, name in names.items():
        if name in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda one: FIRST.index(names[one]) if names[one] in FIRST else len(FIRST))
