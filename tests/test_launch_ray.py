"""--launcher ray on Ray's own local cluster of several nodes."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.fulfil import Place, fulfil
from senet_ablate.registry import BadInput
from senet_ablate.spec import Run, Training
from senet_ablate.store import Record, read_records, runs_folder

ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install -e '.[ray]'")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that takes no runs, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def place(results: Path) -> Place:
    return Place(results, "own", results, "auto", "test", every=0.2)


def settled(record: Record) -> dict[str, Any]:
    return record.model_dump(exclude={"provenance": {"started", "wall_s", "train_s"}})


def runs(tiny: Training, epochs: int) -> list[Run]:
    spec = tiny.model_copy(update={"epochs": epochs})
    return [Run(spec, se, seed) for seed in (0, 1) for se in (None, SESpec())]


def test_two_nodes_write_the_records_of_the_serial_launcher_also_when_one_is_lost(
    cluster: Any, tiny: Training, tmp_path: Path
) -> None:
    from senet_ablate.launch_ray import launch_ray

    todo, seen = runs(tiny, 30), list[tuple[int, int]]()
    node = sorted(cluster.worker_nodes, key=str)[0]
    lost: list[float] = []

    def progress(finished: int, images: int) -> None:
        seen.append((finished, images))
        if not lost and len(list((tmp_path / "ray" / "own" / "checkpoints").glob("*.safetensors"))) == 2:
            lost.append(time.monotonic())
            cluster.remove_node(node, allow_graceful=False)

    assert launch_ray(todo, place(tmp_path / "ray"), progress) == []
    assert lost, "both nodes were in the middle of a run when one was lost"
    assert sum(finished for finished, _ in seen) == len(todo)
    assert sum(images for _, images in seen) == len(todo) * 96 * 30
    for run in todo:
        fulfil(run, place(tmp_path / "serial"), torch.device("cpu"), lambda images: None)
    ours, theirs = (read_records(tmp_path / name, "own") for name in ("ray", "serial"))
    assert {n: settled(r) for n, r in ours.items()} == {n: settled(r) for n, r in theirs.items()}
    assert not list((tmp_path / "ray" / "own" / "checkpoints").iterdir())
    times = {path: path.stat().st_mtime_ns for path in runs_folder(tmp_path / "ray", "own").iterdir()}
    assert launch_ray(todo, place(tmp_path / "ray"), progress) == []
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is on record is not trained again"


def test_a_run_that_fails_is_named_and_stops_no_other(
    cluster: Any, tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from senet_ablate.launch_ray import launch_ray

    (tmp_path / "ray_breaks.py").write_text("def squeeze(x): raise RuntimeError('this operator is broken')\n")
    monkeypatch.chdir(tmp_path)
    one = tiny.model_copy(update={"epochs": 1})
    two = [Run(one, SESpec(squeeze="ray_breaks:squeeze"), 0), Run(one, None, 0)]
    failures = launch_ray(two, place(tmp_path / "results"), lambda finished, images: None)
    assert [(failure.run, failure.cause) for failure in failures] == [(two[0], "RuntimeError: this operator is broken")]
    assert set(read_records(tmp_path / "results", "own")) == {two[1].id}


@pytest.mark.parametrize(("device", "message"), [("cuda", "has no GPU"), ("cuda:1", "auto, cpu, cuda")])
def test_a_device_that_the_cluster_lacks_is_one_clear_message(
    cluster: Any, device: str, message: str, tmp_path: Path
) -> None:
    from senet_ablate.launch_ray import slots_of_cluster

    with pytest.raises(BadInput, match=message):
        slots_of_cluster(Place(tmp_path, "own", tmp_path, device, "test"))
