"""Figures 6 and 7:

gates by class from kept weights to the page, with gates whose answer is known beforehand.
"""

import shutil
from collections.abc import Iterator
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
from senet_ablate.records.class_gates import paper_network
from senet_ablate.records.facts import read_facts
from senet_ablate.records.gate_facts import GateFacts, drawn_blocks, drawn_channels
from senet_ablate.records.store import read_record, runs_folder, weights_path
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
            patch.setattr(
                f"senet_ablate.{module}.read_reported",
                lambda recipe, records, begun=False, plan=plan: plan,
            )
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two runs of the experiment under the smoke recipe, and what `excitation` finds."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch, alone():
        patch.setattr("sys.argv", ["senet-ablate"])
        words = (
            "run",
            "role_of_excitation",
            "--recipe",
            "smoke",
            "--device",
            "cpu",
            "--results",
            str(folder),
        )
        assert senet(*words) == 0
        assert not (folder / "smoke" / "excitation.json").exists(), "the record has the gates"
        words = ("excitation", "--recipe", "smoke", "--device", "cpu", "--results", str(folder))
        assert senet(*words) == 0
    return folder


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_run_keeps_the_weights_its_recipe_names_and_looks_at_their_gates(results: Path) -> None:
    (run,) = read_plan("smoke").kept
    assert [path.stem for path in (results / "smoke" / "weights").iterdir()] == [run.id]
    facts = read_facts(results / "smoke" / "excitation.json", GateFacts)
    assert facts.run == run.id and list(facts.images) == ["0", "3", "6", "9"]
    assert [block.name for block in facts.blocks] == ["SE_2_1", "SE_3_1", "SE_4_1"]
    assert facts.tested == 100 and sum(facts.images.values()) < 100
    record = read_record(runs_folder(results, "smoke") / f"{run.id}.json")
    for (
        block
    ) in facts.blocks:  # what the record says of all images, seen here through the kept weights
        assert np.mean(facts.curves[block.name].everything) == pytest.approx(
            record.gates[block.name].mean, abs=0.05
        )


def test_kept_weights_are_the_network_that_was_judged(results: Path, tiny: Training) -> None:
    from senet_ablate.data import load_images

    plan = read_plan("smoke")
    (run,) = plan.kept
    images = load_images(run.train, results)
    network = load_weights(weights_path(results, "smoke", run.id), run, len(images.classes))
    judged = evaluate(
        network, Batches(images.test, images, run.train, torch.device("cpu")), run.train
    )
    record = read_record(runs_folder(results, "smoke") / f"{run.id}.json")
    assert judged.correct.tolist() == record.right().tolist()


def test_the_page_has_figures_table_and_judged_claims(results: Path) -> None:
    folder = results / "smoke" / "role_of_excitation"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"figure6.svg", "figure7.svg", "gates.csv"}
    assert (
        ">SE_4_1<" in (folder / "figure6.svg").read_text()
        and ">all<" in (folder / "figure6.svg").read_text()
    )
    page = (results / "smoke" / "README.md").read_text()
    assert "(role_of_excitation/figure6.svg)" in page and "(role_of_excitation/figure7.svg)" in page
    facts = read_facts(results / "smoke" / "excitation.json", GateFacts)
    plan = read_plan("smoke")
    without = {v.claim: v.outcome for v in tables(plan, {})["role_of_excitation"].verdicts}
    judged = {
        v.claim: v.outcome for v in tables(plan, {}, [facts.blocks])["role_of_excitation"].verdicts
    }
    assert set(without.values()) == {"not tested"}
    assert all(judged[claim] != "not tested" for claim in ("F6.1", "F6.2", "F7.1"))
    # its last stage is one block, of which the claims on the last block say the opposite of F6.2
    assert {judged[claim] for claim in ("F6.3", "F6.4", "F6.6")} == {"not tested"}


def test_without_weights_the_figures_come_from_the_record(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep whose weights are not kept still shows figures 6 and 7."""
    folder = copy / "smoke" / "role_of_excitation"
    table = (folder / "gates.csv").read_text()
    (copy / "smoke" / "excitation.json").unlink()
    for path in folder.glob("*.svg"):
        path.unlink()
    assert senet("report", "--recipe", "smoke", "--results", str(copy)) == 0
    assert (folder / "figure6.svg").is_file() and (folder / "gates.csv").read_text() == table
    assert senet("verify", "--recipe", "smoke", "--results", str(copy)) == 0
    assert "all test images each" in (copy / "smoke" / "README.md").read_text()


def test_a_second_run_leaves_the_facts_and_verify_holds(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "smoke" / "excitation.json"
    before = path.stat().st_mtime_ns
    assert (
        senet(
            "run",
            "role_of_excitation",
            "--recipe",
            "smoke",
            "--device",
            "cpu",
            "--results",
            str(copy),
        )
        == 0
    )
    assert path.stat().st_mtime_ns == before
    assert senet("verify", "--results", str(copy)) == 0


def test_classes_are_chosen_by_name(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("excitation", "--recipe", "smoke", "--device", "cpu", "--results", str(copy))
    assert senet(*words, "--classes", "7, 2") == 0
    facts = read_facts(copy / "smoke" / "excitation.json", GateFacts)
    assert list(facts.images) == ["7", "2"] == list(facts.curves["SE_4_1"].mean)
    assert "--classes 7,2" in (copy / "smoke" / "README.md").read_text()
    assert (
        senet(*words, "--classes", "7,seven") == 2
        and "unknown class 'seven'" in capsys.readouterr().err
    )
    assert senet(*words, "--classes", "7") == 2 and "two classes" in capsys.readouterr().err


def test_missing_weights_are_named_with_the_command_that_gets_them(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = read_plan("smoke").kept
    weights_path(copy, "smoke", run.id).unlink()
    words = ("excitation", "--recipe", "smoke", "--results", str(copy))
    assert senet(*words) == 2
    message = capsys.readouterr().err
    assert f"{run.id}.safetensors" in message and "run role_of_excitation --recipe smoke" in message
    (runs_folder(copy, "smoke") / f"{run.id}.json").unlink()
    assert senet(*words) == 2 and "has not been trained" in capsys.readouterr().err
    assert senet("excitation", "--recipe", "imagenet", "--data", str(copy)) == 2


def test_verify_names_changed_facts_foreign_weights_and_a_lost_record(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = read_plan("smoke").kept
    path, words = (
        copy / "smoke" / "excitation.json",
        ("verify", "--recipe", "smoke", "--results", str(copy)),
    )
    sound = path.read_text()
    path.write_text(sound.replace('"tested": 100', '"tested": 101'))
    assert senet(*words) == 1 and "checksum" in capsys.readouterr().err
    path.write_text(sound)
    weights = weights_path(copy, "smoke", run.id)
    save_weights(weights, build_model("resnet_tiny_bottleneck", 10, SESpec(), seed=5), run)
    assert senet(*words) == 1 and "other weights" in capsys.readouterr().err
    record = runs_folder(copy, "smoke") / f"{run.id}.json"
    record.unlink()
    assert senet(*words) == 1 and f"run {run.id} has no record" in capsys.readouterr().err


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
