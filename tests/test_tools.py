"""The tools of developers: what they write follows from what they read."""

import importlib.util
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

from senet_ablate.records.store import read_records, write_record
from senet_ablate.spec.plan import read_plan

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_search_follows_from_its_records() -> None:
    search, folder = tool("search_schedule"), ROOT / "results" / "cifar100-cpu"
    points = [*search.found(folder), *search.elsewhere(folder)]
    assert (folder / "search.md").read_text() == search.page("cifar100-cpu", points)
    assert {point.judged_on for point in points if point.source == "here"} == {"held out"}
    upside_down = [
        point._replace(top1=tuple(100 - error for error in point.top1)) for point in points
    ]
    said = search.page("cifar100-cpu", upside_down, "portable")
    assert "is the lowest of those tried" in said and "portable numerics" in said
    with pytest.raises(SystemExit, match="no run was searched yet"):
        search.page("cifar100-cpu", [])


@pytest.mark.usefixtures("one_worker")
def test_a_sweep_goes_on_on_another_processor_only_where_it_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep() -> str:
        words = ["smoke", "role_of_squeeze", "--results", str(tmp_path), "--data", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["tools/sweep.py", *words])
        before = signal.getsignal(signal.SIGTERM)
        try:
            tool("sweep").main()
        finally:
            signal.signal(signal.SIGTERM, before)
        return capsys.readouterr().out

    wanted = {run.id for run in read_plan("smoke", ["role_of_squeeze"]).runs()}
    assert f"{len(wanted)} runs, 0 done, {len(wanted)} to do here" in sweep()
    done = read_records(tmp_path, "smoke")
    assert set(done) == wanted and not (tmp_path / "smoke" / "README.md").exists(), (
        "no page, no error is read"
    )
    for record in done.values():
        elsewhere = record.provenance.model_copy(update={"device": "cpu: of another make"})
        write_record(tmp_path, "smoke", record.model_copy(update={"provenance": elsewhere}))
    lost = min(done)
    (tmp_path / "smoke" / "runs" / f"{lost}.json").unlink()
    said = sweep()
    assert "gives the same bits as cpu: of another make" in said and "1 to do here" in said
    (tmp_path / "smoke" / "runs" / f"{lost}.json").unlink()
    for record in done.values():
        if record.id != lost:
            other = {
                "macs": record.macs + 1,
                "provenance": record.provenance.model_copy(update={"device": "cpu: other"}),
            }
            write_record(tmp_path, "smoke", record.model_copy(update=other))
    said = sweep()
    assert (
        "gives OTHER bits as cpu: other" in said
        and "0 to do here; seeds left for other makes: [0]" in said
    )
    assert not (tmp_path / "smoke" / "runs" / f"{lost}.json").exists()
