"""The tools of developers: what they write follows from what they read."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from senet_ablate import load_records
from senet_ablate.records.store import read_records, write_record
from senet_ablate.spec.plan import read_plan

ROOT = Path(__file__).resolve().parent.parent
WHO = ("NAME", "EMAIL")  # of git's author and committer


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


def test_what_docs_say_of_cifar100_follows_from_its_records(
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = tool("cifar100_findings")
    runs = load_records(ROOT / "results", "cifar100-cpu")
    runs = runs[(runs["lr"] == 0.4) & runs["seed"].isin([2, 3, 4])]
    fields = {"placement": "standard", "gate": "sigmoid", "reduction": 16, "excitation": "fc"}
    standard = runs[[*fields]] == [*fields.values()]
    rows = {
        "plain": runs["plain"],
        "SE": standard.all(axis=1) & (runs["squeeze"] == "avg") & (runs["stages"] == "all"),
    }
    plain, se = (
        runs[chosen].set_index(["epochs", "seed"])["top1"].sort_index() for chosen in rows.values()
    )
    ours = findings.pooled(findings.rows_of("cifar100-cpu"), "SE", "plain")
    assert ours == pytest.approx(list(se - plain)) and len(ours) == 12
    findings.main()
    said = capsys.readouterr().out
    assert f"SE - plain, all four budgets: {(se - plain).mean():+.2f}" in said


def test_collecting_records_commits_nothing_that_somebody_is_writing(tmp_path: Path) -> None:
    checkout, sweep = tmp_path / "checkout", tmp_path / "sweep"
    (checkout / "tools").mkdir(parents=True)
    for name in ("resume_sweep.sh", "sweep_commit"):
        shutil.copy(ROOT / "tools" / name, checkout / "tools")
    made = "results/cifar100-cpu/runs"
    for name in ("README.md", "results/README.md", "results/forest.svg", "results/shown.svg"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("as it was\n")
    python = checkout / ".venv" / "bin" / "python"  # in place of `report` and `paste_tables`
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$1" in tools/*) echo pasted >>README.md;; esac\n')
    python.chmod(0o755)

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", *words]
        return subprocess.run(
            command, cwd=checkout, check=True, capture_output=True, text=True
        ).stdout

    def collect(record: str) -> str:
        (sweep / made).mkdir(parents=True, exist_ok=True)
        (sweep / made / record).write_text("{}")
        names = {f"GIT_{who}_{what}": "me@x" for who in ("AUTHOR", "COMMITTER") for what in WHO}
        subprocess.run(
            ["tools/resume_sweep.sh", "collect"],
            cwd=checkout,
            env={**os.environ, **names, "SWEEP": str(sweep)},
            check=True,
        )
        return git("show", "--name-only", "--format=").strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "begin")
    assert collect("1.json").split() == ["README.md", f"{made}/1.json"]
    (checkout / "README.md").write_text("half a sentence\n")
    assert collect("2.json") == f"{made}/2.json"
    assert (checkout / "README.md").read_text() == "half a sentence\n"


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
