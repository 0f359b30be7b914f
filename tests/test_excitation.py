"""Figures 6 and 7: gates by class from a run to the page, with gates whose answer is known."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import alone
from torch import Tensor, nn

from senet_ablate import SESpec, build_model
from senet_ablate.analysis.tables import tables
from senet_ablate.cli.main import _guarded, app
from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.models.se import se_blocks
from senet_ablate.records import Record, read_record
from senet_ablate.records.class_gates import drawn_blocks, drawn_channels, paper_network
from senet_ablate.records.store import runs_folder, weights_path
from senet_ablate.report.gates import gates_table
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.checkpoint import load_weights, save_weights
from senet_ablate.train.class_gates import by_class, collect, default_classes
from senet_ablate.train.loop import evaluate


def senet(*words: str) -> int:
    return _guarded(lambda: app(list(words), standalone_mode=True))


@pytest.fixture(scope="module", autouse=True)
def one_table() -> Iterator[None]:
    """Pages of this file hold the one experiment that it is about:

    the others would be drawn again and again.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            "report.pages",
            "analysis.tables",
        ):  # the other way round verify would keep the patched one for good
            plan = read_plan("smoke", ["role_of_excitation"])
            patch.setattr(f"senet_ablate.{module}.read_reported", lambda *_, plan=plan, **__: plan)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two runs of the experiment under the smoke recipe."""
    folder = tmp_path_factory.mktemp("results")
    words = ("role_of_excitation", "--recipe", "smoke", "--device", "cpu", "--results", str(folder))
    with pytest.MonkeyPatch.context() as patch, alone():
        patch.setattr("sys.argv", ["senet-ablate"])
        assert senet("run", *words) == 0
    return folder


@pytest.fixture(scope="module")
def kept(results: Path) -> Record:
    """The record of the run whose weights are kept."""
    (run,) = read_plan("smoke").kept
    return read_record(runs_folder(results, "smoke") / f"{run.id}.json")


def test_a_run_keeps_the_weights_its_recipe_names_and_looks_at_its_gates(
    results: Path, kept: Record
) -> None:
    assert [path.stem for path in (results / "smoke" / "weights").iterdir()] == [kept.id]
    assert [block.name for block in kept.class_gates] == ["SE_2_1", "SE_3_1", "SE_4_1"]
    for block in kept.class_gates:
        assert list(block.class_means) == ["0", "3", "6", "9"]
        everything = kept.class_curves[block.name].everything  # all channels, where all are drawn
        assert np.mean(everything) == pytest.approx(kept.gates[block.name].mean, abs=0.05)


def test_kept_weights_are_the_network_that_was_judged(results: Path, kept: Record) -> None:
    """And a user can look at the gates of other classes with them."""
    from senet_ablate.data import load_images

    run, cpu = kept.run, torch.device("cpu")
    images = load_images(run.train, results)
    network = load_weights(weights_path(results, "smoke", run.id), run, len(images.classes))
    judged = evaluate(network, Batches(images.test, images, run.train, cpu), run.train)
    assert judged.correct.tolist() == kept.right().tolist()
    same, _ = by_class(network, images, cpu, run.train)
    for ours, recorded in zip(same, kept.class_gates, strict=True):
        assert ours.class_means == pytest.approx(recorded.class_means, rel=1e-5)
    others, curves = by_class(network, images, cpu, run.train, ["7", "2"])
    assert list(others[0].class_means) == ["7", "2"] == list(curves["SE_4_1"].mean)


def test_the_page_has_figures_table_and_judged_claims(results: Path, kept: Record) -> None:
    folder = results / "smoke" / "role_of_excitation"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"figure6.svg", "figure7.svg", "gates.csv"}
    figure = (folder / "figure6.svg").read_text()
    assert ">SE_4_1<" in figure and ">all<" in figure
    page = (results / "smoke" / "README.md").read_text()
    assert "(role_of_excitation/figure6.svg)" in page and "(role_of_excitation/figure7.svg)" in page
    assert f"(standard SE, run {kept.id}) by class: 0, 3, 6, 9, all test images each" in page
    plan = read_plan("smoke")
    without = {v.claim: v.outcome for v in tables(plan, {})["role_of_excitation"].verdicts}
    with_gates = tables(plan, {kept.id: kept})["role_of_excitation"].verdicts
    judged = {v.claim: v.outcome for v in with_gates}
    assert set(without.values()) == {"not tested"}
    assert all(judged[claim] != "not tested" for claim in ("F6.1", "F6.2", "F7.1"))
    # its last stage is one block, of which the claims on the last block say the opposite of F6.2
    assert {judged[claim] for claim in ("F6.3", "F6.4", "F6.6")} == {"not tested"}
    assert senet("verify", "--results", str(results)) == 0


def test_weights_of_another_run_or_network_are_refused(tiny: Training, tmp_path: Path) -> None:
    path, run = tmp_path / "w.safetensors", Run(tiny, SESpec(), 0)
    save_weights(path, build_model(tiny.backbone, 10, SESpec()), run)
    assert load_weights(path, run, 10) is not None
    with pytest.raises(BadInput, match="not of run"):
        load_weights(path, Run(tiny, SESpec(), 1), 10)
    with pytest.raises(BadInput, match="does not fit"):
        load_weights(path, run, 11)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="cannot be read"):
        load_weights(path, run, 10)


def test_gates_are_collected_by_image_and_averaged_over_pixels_first(
    digits: ImageSet, tiny: Training
) -> None:
    model = build_model(tiny.backbone, 10, SESpec(squeeze="none"))
    block = se_blocks(model)["SE_3_1"]
    seen: list[Tensor] = []
    gate = block.gate
    assert isinstance(gate, nn.Module)
    gate.register_forward_hook(lambda module, inputs, output: seen.append(output))
    batches = Batches(digits.test, digits, tiny, torch.device("cpu"))
    chosen, everything = collect(model, batches, tiny, [3, 8])
    whole = torch.cat(seen).mean((2, 3)).numpy()  # test images x channels
    assert seen[0].shape[2] > 1, "a gate a pixel"
    of_class = np.isin(digits.test.labels, [3, 8])
    np.testing.assert_allclose(chosen["SE_3_1"], whole[of_class], rtol=1e-6)
    np.testing.assert_allclose(everything["SE_3_1"], whole.mean(0), rtol=1e-5)
    with pytest.raises(BadInput, match="no gate"):
        collect(build_model(tiny.backbone, 10), batches, tiny, [3, 8])


def test_the_curve_of_a_class_is_that_of_its_images(digits: ImageSet, tiny: Training) -> None:
    model, cpu = build_model(tiny.backbone, 10, SESpec()), torch.device("cpu")
    found, curves = by_class(model, digits, cpu, tiny, ["7", "2"])
    batches = Batches(digits.test, digits, tiny, cpu)
    gates, _ = collect(model, batches, tiny, list(range(10)))
    for block in found:
        for name in ("7", "2"):
            of_class = gates[block.name][digits.test.labels == int(name)].astype(float)
            assert block.class_means[name] == pytest.approx(of_class.mean(), rel=1e-6)
            drawn = curves[block.name]
            expected = of_class.mean(0)[list(drawn.channels)]
            assert drawn.mean[name] == pytest.approx(expected, rel=1e-6)


def test_classes_without_test_images_are_not_looked_at(digits: ImageSet, tiny: Training) -> None:
    model, cpu = build_model(tiny.backbone, 10, SESpec()), torch.device("cpu")

    def only(*labels: int) -> ImageSet:
        chosen = np.flatnonzero(np.isin(digits.test.labels, labels))
        return replace(digits, test=digits.test.take(chosen))

    found, _ = by_class(model, only(2, 5, 7), cpu, tiny)
    assert list(found[0].class_means) == ["2", "5", "7"]
    with pytest.raises(BadInput, match="fewer than two classes"):
        by_class(model, only(2), cpu, tiny)


def test_default_classes_are_the_papers_where_the_set_has_them() -> None:
    assert default_classes([str(digit) for digit in range(10)]) == ["0", "3", "6", "9"]
    assert default_classes(["a", "b"]) == ["a", "b"] and default_classes(["a", "b", "c"]) == [
        "a",
        "b",
        "c",
    ]
    assert default_classes(["n01443537", "x", "y", "n09246464", "z"]) == [
        "n01443537",
        "n09246464",
        "x",
        "z",
    ]
    assert default_classes([*"abcdef", "cliff, drop", "goldfish"])[:2] == [
        "goldfish",
        "cliff, drop",
    ]


def test_panels_and_channels_are_those_of_the_papers_figures() -> None:
    depth = {2: 3, 3: 4, 4: 6, 5: 3}  # ResNet-50
    names = [f"SE_{stage}_{unit + 1}" for stage, units in depth.items() for unit in range(units)]
    assert drawn_blocks(names) == ["SE_2_3", "SE_3_4", "SE_4_6", "SE_5_1", "SE_5_2", "SE_5_3"]
    assert drawn_blocks(["SE_2_1", "SE_3_1", "SE_4_1"]) == ["SE_2_1", "SE_3_1", "SE_4_1"]
    assert drawn_blocks([f"SE_mixed{n}" for n in range(9)]) == [f"SE_mixed{n}" for n in range(3, 9)]
    assert [len(drawn_channels(width)) for width in (256, 512, 1024, 2048)] == [43, 47, 49, 50], (
        "as in paper.yaml"
    )


def test_the_papers_values_stand_beside_the_blocks_with_their_place() -> None:
    rows = gates_table(paper_network())
    assert rows["panel"].tolist() == rows["block"].tolist() and len(rows) == 6
    assert (rows["correlation"] == rows["paper_correlation"]).all()
    tiny = [
        block.model_copy(update={"name": f"SE_{stage}_1"})
        for stage, block in enumerate(paper_network()[:3], 2)
    ]
    rows = gates_table(tiny)
    assert rows[["block", "panel"]].to_numpy().tolist() == [
        ["SE_2_1", "SE_2_3"],
        ["SE_3_1", "SE_4_6"],
        ["SE_4_1", "SE_5_1"],
    ]
    assert isinstance(rows, pd.DataFrame) and rows.loc[0, "paper_between_class_std"] == 0.0171


def test_a_recipe_cannot_keep_what_is_no_variant(tmp_path: Path) -> None:
    source = Path(__file__).parent.parent / "experiments"
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "recipes" / "smoke.yaml"
    path.write_text(path.read_text().replace("role_of_excitation/SE", "role_of_excitation/se"))
    with pytest.raises(
        BadInput, match=r"keep_weights: 'role_of_excitation/se' is no experiment/variant"
    ):
        read_plan("smoke", folder=tmp_path)
