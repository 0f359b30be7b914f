"""The review notebook runs from top to bottom on any results folder, and defines nothing that the
package does not.
"""

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from fabricated import write_recipe

from senet_ablate.report.document import Figure, Section
from senet_ablate.report.notebook import Review, open_results, recipes_with_records
from senet_ablate.spec.plan import list_experiments, read_plan, read_recipe
from senet_ablate.spec.registry import BadInput

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "review.ipynb"
# Jupyter's own libraries: a new event loop a process, ports that the kernel's exit leaves open
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def execute(results: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SENET_ABLATE_RESULTS", str(results))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(
        cwd=str(NOTEBOOK.parent)
    )
    return notebook


def outputs(notebook: Any, cell: str) -> list[dict[str, Any]]:
    """What a cell showed, by MIME type."""
    found = next(one for one in notebook.cells if one["id"] == cell)
    return [output["data"] for output in found["outputs"] if "data" in output]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("results"), "smoke", seeds=2)


def test_every_cell_runs_and_shows_what_it_is_about(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute(results, monkeypatch)
    for cell in notebook.cells:
        if cell["cell_type"] == "code" and cell["id"] not in ("pair", "others"):
            assert outputs(notebook, cell["id"]), cell["id"]
            assert "stream" not in {output["output_type"] for output in cell["outputs"]}, (
                "no warning, no log line"
            )
    assert "say nothing about SE" in str(outputs(notebook, "open"))
    assert "T10.1" in str(outputs(notebook, "ledger"))
    for name in ("curves", "gate-plot", "tradeoff-plot", "squeeze-table"):
        assert any("image/svg+xml" in one for one in outputs(notebook, name)), name
    assert "SE_2_1" in outputs(notebook, "gates")[0]["text/html"]
    assert "McNemar" in outputs(notebook, "compare")[0]["text/markdown"]
    everything = str(notebook)
    for name in list_experiments():
        experiment = read_plan("smoke", [name]).experiments[name]
        if not experiment.on_request:
            assert experiment.question.split("?")[0] in everything, name


def test_a_sweep_that_has_only_begun_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path, "smoke", seeds=1)
    first = sorted((tmp_path / "smoke" / "runs").glob("*.json"))[0]
    for path in first.parent.iterdir():
        if path != first:
            path.unlink()
    notebook = execute(tmp_path, monkeypatch)
    assert "same runs" in outputs(notebook, "compare")[0]["text/markdown"]
    assert "Not run yet" in str(outputs(notebook, "reduction-table"))


def test_the_notebook_defines_nothing_and_imports_only_the_package() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse(cell["source"])):
                assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
                if isinstance(node, ast.ImportFrom):
                    assert node.module is not None and node.module.split(".")[0] in (
                        "senet_ablate",
                        "IPython",
                    )
                assert not isinstance(node, ast.Import)
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(
        re.fullmatch("[a-z0-9_]+(-[a-z]+)*", one) for one in ids
    ), "ids by hand"


@pytest.fixture(scope="module")
def review(results: Path) -> Review:
    return open_results("smoke", results)


def test_the_recipe_with_the_most_records_is_taken_and_a_missing_one_named(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENET_ABLATE_RESULTS", str(results))
    assert open_results().results.plan.recipe_name == "smoke" == recipes_with_records(results)[0]
    with pytest.raises(BadInput, match="has no records of 'cue'; known: smoke"):
        open_results("cue")
    with pytest.raises(BadInput, match="has no records; `python -m senet_ablate run"):
        open_results(results=tmp_path)


def test_what_is_not_there_is_said(review: Review) -> None:
    assert "nothing on `mobile`" in str(review.section("mobile"))
    assert "Nothing is recorded" in str(review.gate_plot("original")), (
        "the plain network has no gates"
    )


def test_a_section_is_that_of_the_page(review: Review) -> None:
    section = review.section("reduction")
    assert isinstance(section, Section)
    assert section.markdown() in review.page.markdown() and section.html() in review.page.html()
    assert review.section("Reduction ratio") is section
    assert any(isinstance(block, Figure) for block in section.blocks)


def test_the_ledger_can_be_narrowed_to_one_verdict(review: Review) -> None:
    every, some = review.ledger().markdown(), review.ledger("not tested").markdown()
    assert every.count("\n") > some.count("\n") > 3
    assert "supported" not in some


def test_records_of_an_older_recipe_are_explained(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "smoke", tmp_path / "cue")
    with pytest.raises(BadInput, match="belong to no row"):
        open_results("cue", tmp_path).pair()


def test_its_committed_outputs_are_those_of_the_pages() -> None:
    """Of the recipe that it was run on; texts and tables, cell by cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder, compared = NOTEBOOK.parent.parent / "results", 0
    about = "".join(one["text/markdown"] for one in outputs(notebook, "open"))
    names = recipes_with_records(folder)
    (recipe,) = [name for name in names if read_recipe(name).about in about]
    review = open_results(recipe, folder)
    for cell in notebook.cells:
        call = re.fullmatch(r"review\.(section|ledger)\((?:\"([^\"]*)\")?\)", cell["source"])
        if cell["cell_type"] == "code" and call:
            section = getattr(review, call[1])(*filter(None, [call[2]]))
            shown = [one.get("text/markdown", "") for one in outputs(notebook, cell["id"])]
            shown = [text for text in shown if text]
            wanted = [block.markdown() for block in section.blocks if not isinstance(block, Figure)]
            wanted = [text for text in wanted if text]  # a folded table is the page's alone
            assert [text.strip() for text in shown] == [text.strip() for text in wanted], cell["id"]
            compared += len(wanted)
    assert compared > 50
