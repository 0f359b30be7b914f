"""What happens to a terminal, a pipe or a plot costs nothing of what was trained."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from fabricated import record, write_recipe
from markdown_it import MarkdownIt
from test_cli import inside

from senet_ablate.cli.output import worked
from senet_ablate.records.store import read_records, write_record
from senet_ablate.report import plots
from senet_ablate.report.recipe_page import write_report
from senet_ablate.spec.plan import EXPERIMENTS_DIR, read_plan
from senet_ablate.spec.registry import BadInput

ROOT = Path(__file__).parents[1]


def senet(shell: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command line of a shell in which `senet` is the program."""
    program = f'senet() {{ {sys.executable} -m senet_ablate "$@"; }}; set -o pipefail; {shell}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT
    )


def test_a_sweep_whose_reader_has_gone_under_odd_settings_is_reported_all_the_same(
    tmp_path: Path,
) -> None:
    results = tmp_path / "ünï"
    settings = {"MPLBACKEND": "Qt4Agg", "PYTHONIOENCODING": "ascii"}
    words = f"senet run squeeze --recipe smoke --results {results} 2>/dev/full | head -1"
    done = senet(words, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "digits: 10 classes (0, 1, 2, ...), 192 training and 100 test images of 8x8 pixels\n"
    )
    page = results / "smoke"
    assert (page / "README.md").is_file() and (page / "squeeze" / "plot.svg").is_file()
    again = senet(f"senet report --recipe smoke --results {results}", **settings)
    assert again.returncode == 0 and again.stdout.startswith("see ") and "\\xfc" in again.stdout
    assert senet(f"senet verify --recipe smoke --results {results}").returncode == 0


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    done = senet("senet list | head -1")
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_a_log_that_is_full_ends_nothing() -> None:
    done = senet("senet describe nothing 2>/dev/full")
    assert done.returncode == 2, "the code says what the line could not"


def test_an_output_that_is_full_is_said() -> None:
    done = senet("senet list > /dev/full")
    assert done.returncode == 2 and done.stderr.startswith("senet-ablate: ")
    assert "No space left" in done.stderr and "Traceback" not in done.stderr


def test_what_fails_after_training_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: Exception) -> None:
        raise error

    assert worked("report", lambda: None)
    for error in (BadInput("a"), OSError(28, "No space left on device", "x"), KeyError("a\nb")):
        assert not worked("report", lambda error=error: fails(error))
        said = capsys.readouterr().err
        assert said.startswith("report: ") and said.count("\n") == 1 and "record is safe" in said


def test_results_may_lie_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    words = ("--recipe", "smoke", "--results", str(folder))
    assert inside("run", "role_of_excitation", *words, "--device", "cpu")[0] == 0
    assert list((folder / "smoke" / "weights").glob("*.safetensors"))
    code, said, _ = inside("verify", *words)
    assert code == 0 and "every record is sound" in said


def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from senet_ablate.spec.plan import read_plan\n"
        "from senet_ablate.train.job import SweepContext\n"
        "from senet_ablate.train.sweep import Sweep\n"
        "plan = read_plan('smoke', ['squeeze'])\n"
        f"context = SweepContext.of(plan, Path({str(tmp_path)!r}), Path('data'), device='cpu')\n"
        "print(len(Sweep(plan, context).train()), 'failed')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert "call what trains below `if __name__ == '__main__':`" in done.stderr
    assert "Traceback" not in done.stderr


ODD = """
title: Odd & <b>names</b> | `x`
question: Are names shown as they are?
control: "[18] max|avg"
variants:
  "[18] max|avg": {se: null, note: "one\\ntwo | three"}
  "*SE* (ours)": {se: {}}
  "$x_{$": {se: {reduction: 8}}
  "_cat": {se: {squeeze: max}}
  "<b>plain</b>": {se: {gate: tanh}}
  "漢字 `a` \\\\": {se: {gate: relu}}
"""


def test_odd_names_are_shown_as_they_are_with_their_numbers_under_their_headings(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "experiments"
    (folder / "recipes").mkdir(parents=True)
    smoke = (EXPERIMENTS_DIR / "recipes" / "smoke.yaml").read_text()
    cut = smoke.index("cannot_host"), smoke.index("train:")
    (folder / "recipes" / "smoke.yaml").write_text(smoke[: cut[0]] + smoke[cut[1] :])
    (folder / "my odd.yaml").write_text(ODD)
    plan = read_plan("smoke", folder=folder)
    for run in plan.runs():
        write_record(tmp_path, "smoke", record(run))
    page = write_report(plan, tmp_path, read_records(tmp_path, "smoke"))
    tables = [path.read_text() for path in (page, page.parent / "my odd" / "table.md")]
    gfm = MarkdownIt("commonmark").enable("table")
    for text in tables:
        html = gfm.render(text)
        for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
            sizes = {
                len(re.findall(r"<t[hd]", row))
                for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
            }
            assert len(sizes) == 1, "each row has the heading's cells"
        for name in ("[18] max|avg", "*SE* (ours)", "$x_{$", "_cat", "&lt;b&gt;plain&lt;/b&gt;"):
            assert re.search(rf"<td[^>]*>{re.escape(name)}</td>", html), name
        for link in re.findall(r'(?:href|src)="([^"#]+)"', html):
            assert (page.parent / unquote(link)).exists(), link
    rows = (page.parent / "my odd" / "table.tex").read_text().partition("\\midrule\n")[2]
    assert rows.startswith("{[}18] max\\textbar{}avg") and "\n{*}SE*" in rows
    assert "reproduce 'my odd' --recipe smoke" in page.read_text()
    assert "<b>names" not in (page.parent / "report.html").read_text()
    drawn = (page.parent / "my odd" / "plot.svg").read_text()
    assert "$x_{$" in drawn and "_cat" in drawn and "漢字" in drawn


def test_a_plot_that_fails_costs_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(figure: object) -> bytes:
        raise RuntimeError("no such font")

    monkeypatch.setattr(plots, "svg", fails)
    write_recipe(tmp_path, "smoke", seeds=1)
    plan = read_plan("smoke", ["squeeze"])
    page = write_report(plan, tmp_path, read_records(tmp_path, "smoke"))
    assert "top-1 error" in page.read_text() and (page.parent / "report.html").is_file()
    assert "squeeze/plot.svg: this plot could not be drawn" in caplog.text
    assert not list(page.parent.rglob("*.svg"))
