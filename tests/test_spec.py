import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from senet_ablate.cli.options import RESULTS, read_se
from senet_ablate.records.store import read_records
from senet_ablate.spec.paper import paper_facts, published
from senet_ablate.spec.plan import (
    EXPERIMENTS_DIR,
    list_experiments,
    list_recipes,
    read_experiment,
    read_plan,
    read_recipe,
)
from senet_ablate.spec.registry import BadInput, Registry
from senet_ablate.spec.schema import load_yaml, parse
from senet_ablate.spec.spec import (
    AnalysisPlan,
    Experiment,
    Run,
    SESpec,
    Training,
    Variant,
    digest,
    margins,
)

TRAIN = {"dataset": "digits", "backbone": "resnet20", "epochs": 3, "batch_size": 8, "lr": 0.1}
SHARED_PAPER = Path(__file__).parents[2] / "shared" / "paper.yaml"


def run(se: SESpec | None = None, seed: int = 0, **train: object) -> Run:
    return Run(parse(Training, TRAIN | train), se, seed)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gate": "sigmod"}, "did you mean 'sigmoid'"),
        ({"squeeze": "mean"}, "known: avg, max, none"),
        ({"reduction": 0}, "reduction"),
        ({"reduction": "16"}, "reduction"),
        ({"reduction": True}, "reduction"),
        ({"placement": "front"}, "conv3x3"),
        ({"stages": []}, "no stage"),
        ({"stages": [2, 2]}, "twice"),
        ({"stages": "last"}, "all_but_last"),
        ({"bias": 1}, "bias"),
    ],
)
def test_a_wrong_se_field_is_refused_with_what_is_allowed(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        SESpec(**fields)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=words):
        parse(SESpec, fields)


def test_an_unknown_se_field_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(ValueError, match="reductoin"):
        SESpec(reductoin=4)  # type: ignore[call-arg]
    with pytest.raises(BadInput, match="did you mean 'reduction'"):
        parse(SESpec, {"reductoin": 4})


def test_a_specification_is_frozen_and_hashable() -> None:
    assert {SESpec(stages=(3, 2)): 1}[SESpec(stages=(2, 3))] == 1
    with pytest.raises(AttributeError):
        SESpec().reduction = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"lr": "1e-1"}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 0}, "lr"),
        ({"epochs": 0}, "epochs"),
        ({"backbone": "resnet20_"}, "did you mean 'resnet20'"),
        ({"dataset": "cifar"}, "cifar10"),
        ({"milestones": [1]}, "multistep"),
        ({"schedule": "multistep"}, "milestones"),
        ({"schedule": "multistep", "milestones": [3]}, "before the last epoch"),
        ({"schedule": "plateau", "drops": 3, "patience": 2}, "validation"),
        ({"schedule": "onecycle", "warmup_epochs": 1}, "onecycle"),
        ({"validation": 0.1}, "evaluate"),
        ({"scale_crop": [0.1, 1.0]}, "crop_size"),
        ({"nesterov": True, "momentum": 0}, "momentum"),
    ],
)
def test_a_wrong_training_key_is_refused_in_one_line(train: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words) as error:
        run(**train)
    assert "\n" not in str(error.value)


def test_the_id_hashes_what_can_change_the_numbers_and_nothing_else() -> None:
    assert run().id == run().id
    assert run(lr=0.1, momentum=0.9).id == run().id  # a default that is written out
    changed = [
        run(lr=0.2),
        run(seed=1),
        run(SESpec()),
        run(SESpec(reduction=8)),
        run(epochs=4),
        run(backbone="resnet32"),
    ]
    assert len({one.id for one in [run(), *changed]}) == 7
    assert run(SESpec(excitation="none", reduction=4)).id == run(SESpec(excitation="none")).id
    assert run(SESpec(gate="constant", squeeze="max")).id == run(SESpec(gate="constant")).id


def test_a_run_comes_back_from_its_fields_through_json() -> None:
    for one in (run(), run(SESpec(stages=(2, 4), gate="relu"), seed=3, pad_crop=4), run(SESpec())):
        again = parse(Run, json.loads(json.dumps(one.fields)))
        assert again == one and again.id == one.id


@pytest.mark.parametrize(
    "fields",
    [None, [], {}, {"train": TRAIN, "se": None}, {"train": TRAIN, "se": None, "seed": "0"}],
)
def test_fields_of_no_run_are_refused(fields: object) -> None:
    with pytest.raises(BadInput):
        parse(Run, fields)


def test_yaml_with_a_repeated_key_is_refused() -> None:
    with pytest.raises(BadInput, match=r"line 2.*twice"):
        load_yaml("a: 1\na: 2\n", "file")
    merged = load_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", "file")
    assert merged["b"] == {"x": 3, "y": 2}, "what is merged may be written anew"
    with pytest.raises(BadInput, match=r"line 2.*twice"):
        load_yaml("a: &a {x: 1}\nb: {<<: *a, x: 3, x: 4}\n", "file")


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['true']", "[1, 2", "{a: b: c}", "? [1]\n: 2", "\t- x"],
)
def test_yaml_that_is_unsafe_or_broken_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="file"):
        load_yaml(text, "file")


@pytest.mark.parametrize(
    "written",
    [
        *("010", "016", "08", "-012", "1:30", "1:30.5", "1_000", "1_0.5", "0x10", "0o17", "0b11"),
        *("yes", "No", "on", "OFF", "!!int '016'", "!!bool 'yes'", "1:30:00"),
        *("!!float '1:30'", "00", "0_1", "+0x1", "012.5"),
    ],
)
@pytest.mark.parametrize("text", ["first: 1\nkey: {}\n", "first: 1\n{}: 2\n", "- 1\n- [{}]\n"])
def test_a_value_that_means_something_else_than_it_looks_like_names_its_line(
    text: str, written: str
) -> None:
    with pytest.raises(BadInput, match=r"file: line 2: .*(decimal|true or false)"):
        load_yaml(text.format(written), "file")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("1e-3", 1e-3), ("1e3", 1000.0), ("1.5E2", 150.0), ("1.0e3", 1000.0), (".5", 0.5)),
        *(("-1e-3", -1e-3), ("1.", 1.0), ("0", 0), ("-7", -7), ("+7", 7), ("0.1", 0.1)),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("y", "y")),
        *(("'016'", "016"), ('"no"', "no"), ("'1:30'", "1:30"), ("2026-11-22", "2026-11-22")),
        *(
            ("=", "="),
            ("1:75", "1:75"),
            ("1.2.3", "1.2.3"),
            ("e3", "e3"),
            ("n01440764", "n01440764"),
        ),
        *(
            ("1 000", "1 000"),
            ("16px", "16px"),
            ("32x4d", "32x4d"),
            ("0 1", "0 1"),
            ("none", "none"),
        ),
        ("[2, 3]", [2, 3]),
    ],
)
def test_a_value_in_yaml_is_what_it_looks_like(written: str, meant: object) -> None:
    found = load_yaml(f"key: {written}\n", "file")["key"]
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize("key", ["true", "null", "1.5", "1e3", "[1]"])
def test_a_key_is_a_name_or_a_whole_number(key: str) -> None:
    with pytest.raises(BadInput, match=r"line 2: .*cannot be a key"):
        load_yaml(f"a: 1\n{key}: 2\n", "file")
    assert load_yaml("16: a\n2026-11-22: b\n'no': c\n", "") == {
        "16": "a",
        "2026-11-22": "b",
        "no": "c",
    }


def test_a_recipe_may_write_its_rate_as_a_power_and_not_its_batch_as_an_octal(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    text = (EXPERIMENTS_DIR / "recipes/smoke.yaml").read_text()
    (folder / "smoke.yaml").write_text(text.replace("lr: 0.05", "lr: 1e-3"))
    assert read_recipe("smoke", tmp_path).train.lr == 0.001
    (folder / "smoke.yaml").write_text(text.replace("batch_size: 16", "batch_size: 016"))
    line = text[: text.index("batch_size")].count("\n") + 1
    with pytest.raises(BadInput, match=rf"smoke\.yaml: line {line}: '016'"):
        read_recipe("smoke", tmp_path)


def test_a_specification_on_the_command_line_is_read_as_strictly() -> None:
    for pair in ("reduction=016", "reduction=1_6", "bias=yes", "reduction=1:30"):
        with pytest.raises(BadInput, match=f"--se {pair.partition('=')[0]}: "):
            read_se([pair])
    assert read_se(["reduction=8", "bias=true"]) == SESpec(reduction=8, bias=True)


@given(st.text(max_size=40))
def test_no_text_after_se_ends_in_anything_but_a_value_or_bad_input(text: str) -> None:
    try:
        assert isinstance(read_se([text]), SESpec)
    except BadInput as error:
        assert str(error)


def test_a_registry_explains_a_miss() -> None:
    things = Registry("thing", {"one": 1})
    with pytest.raises(BadInput, match="did you mean 'one'"):
        things["ona"]
    with pytest.raises(BadInput, match="cannot be imported"):
        things["no_such_module:part"]
    assert things["json:dumps"] is json.dumps


EXPERIMENT = {
    "title": "t",
    "question": "q",
    "control": "plain",
    "variants": {"plain": {"se": None}, "SE": {"se": {}}},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"control": "plane"}, "did you mean 'plain'"),
        ({"reference": "Se"}, "known: SE, plain"),
        ({"variants": {"plain": {"se": None}, "again": {"se": None}}}, "same network"),
        (
            {
                "variants": {
                    "plain": {"se": None},
                    "a": {"se": {"gate": "constant", "reduction": 4}},
                }
            },
            "changes nothing",
        ),
        (
            {
                "variants": {
                    "plain": {"se": None},
                    "a": {"se": {"excitation": "none", "bias": True}},
                }
            },
            "changes nothing",
        ),
        (
            {"variants": {"plain": {"se": None}, "a": {"se": {"gaet": "relu"}}}},
            "did you mean 'gate'",
        ),
        ({"variants": {"plain": {"se": None}, "a": {}}}, "missing"),
        ({"axis": "r"}, "'SE' is no number"),
        (
            {"axis": "r", "variants": {"plain": {"se": None}, "0": {"se": {}}}},
            "'0' is no number above 0",
        ),
    ],
)
def test_an_experiment_that_asks_for_nothing_sensible_is_refused(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        parse(Experiment, EXPERIMENT | change)


def test_numbers_of_a_data_frame_make_a_specification() -> None:
    for kind in (np.int64, np.uint8):
        assert repr(SESpec(reduction=kind(8))) == repr(SESpec(reduction=8))
    assert SESpec(stages=(np.int64(3), 4)).stages == (3, 4)  # type: ignore[arg-type]
    assert repr(SESpec(bias=np.True_)) == repr(SESpec(bias=True))  # type: ignore[arg-type]
    for wrong in (np.float64(8), np.bool_(True), True, 8.0):
        with pytest.raises(ValueError, match="valid integer"):
            SESpec(reduction=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list_experiments())
def test_every_experiment_reads_and_names_rows_the_paper_has(name: str) -> None:
    experiment = read_experiment(name)
    text = (EXPERIMENTS_DIR / f"{name}.yaml").read_text()
    assert text.startswith(f"# python -m senet_ablate run {name} ")
    rows = [published(experiment, variant) for variant in experiment.variants]
    if experiment.paper_table in paper_facts()["tables"] and "top1_err" in str(
        paper_facts()["tables"][experiment.paper_table]["columns"]
    ):
        own = set(paper_facts()["tables"][experiment.paper_table]["rows"])
        shown = {
            value.paper_row.partition("/")[2] or name for name, value in experiment.variants.items()
        }
        assert own <= shown, "a row of the paper's table is missing"
        assert sum(bool(row) for row in rows) >= len(own)


def test_a_network_and_its_se_version_take_each_its_own_columns_of_a_row() -> None:
    backbones, mobile, cifar = (
        read_experiment(name) for name in ("backbones", "mobile", "cifar_backbones")
    )
    assert published(backbones, "VGG-16") == {"top1": 27.02, "top5": 8.81, "gflops": 15.47}
    assert published(backbones, "SE-VGG-16") == {"top1": 25.22, "top5": 7.7, "gflops": 15.48}
    assert published(mobile, "MobileNet") == {
        "top1": 28.4,
        "top5": 9.4,
        "params": 4.2,
        "gflops": 0.569,
    }
    assert published(mobile, "SE-MobileNet") == {
        "top1": 25.3,
        "top5": 7.7,
        "params": 4.7,
        "gflops": 0.572,
    }
    assert published(cifar, "WRN-16-8") == {"top1": 20.43}
    assert published(cifar, "SE-WRN-16-8") == {"top1": 19.14}


ON_REQUEST = (
    *("attention", "backbones", "mobile", "cifar_backbones", "cifar10_backbones", "depth"),
    "schedule",
)


@pytest.mark.parametrize("name", ON_REQUEST)
def test_each_se_network_is_compared_with_the_plain_one_of_its_backbone(name: str) -> None:
    experiment = read_experiment(name)
    for variant, value in experiment.variants.items():
        control = experiment.variants[experiment.control_of(variant)]
        assert control.se is None and control.own == value.own
        assert (experiment.control_of(variant) == variant) == (value.se is None)
    alone = {"plain": {"se": None}, "SE": {"se": {}, "backbone": "resnet20"}}
    with pytest.raises(BadInput, match=r"variants\.SE: no plain variant with .*resnet20"):
        parse(Experiment, EXPERIMENT | {"variants": alone})


def test_an_experiment_on_request_runs_only_where_it_is_named_or_listed() -> None:
    assert not set(ON_REQUEST) & set(read_plan("cifar100").experiments)
    assert [*read_plan("cifar100", ["depth"]).experiments] == ["depth"]
    assert "cifar_backbones" in read_plan("cifar100-paper").experiments
    assert set(list_experiments()) - set(ON_REQUEST) == set(read_plan("smoke").experiments)


def test_a_row_trains_with_what_it_sets_in_place_of_the_recipe() -> None:
    rows = {
        row.variant: row.runs[0].train
        for row in read_plan("cifar100-paper", ["cifar_backbones"]).rows()
    }
    assert rows["ResNet-110"].cutout == 0 and rows["SE-WRN-16-8"].backbone == "wrn_16_8"
    shaken = [train for train in rows.values() if train.backbone == "shake_even_29_2x4x64d"]
    assert [train.cutout for train in shaken] == [8, 8]


def test_a_recipes_stem_holds_for_every_backbone() -> None:
    runs = read_plan("tiny-imagenet", ["depth"]).runs()
    assert {run.train.backbone for run in runs} == {"resnet50", "resnet101", "resnet152"}
    assert {run.train.stem for run in runs} == {"64px"}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_plans_with_every_experiment(name: str) -> None:
    plan = read_plan(name)
    runs = plan.runs()
    assert len({one.id for one in runs}) == len(runs) > 0
    seeds = [one.seed for one in runs]
    assert seeds == sorted(seeds), "breadth first: every row has one seed before any has two"


def test_the_plain_and_the_standard_network_are_shared_by_all_experiments() -> None:
    rows = list(read_plan("cifar100").rows())
    assert len({run.id for row in rows for run in row.runs}) < sum(len(row.runs) for row in rows)
    for se in (None, SESpec()):
        ids = {
            row.runs[0].id
            for row in rows
            if row.runs[0].se == se and row.runs[0].train.backbone == "resnet29_bottleneck"
        }
        assert len(ids) == 1


def test_wrong_names_of_files_are_explained() -> None:
    with pytest.raises(BadInput, match="did you mean 'reduction'"):
        read_experiment("reductions")
    with pytest.raises(BadInput, match="did you mean 'cifar100'"):
        read_recipe("cifar-100")
    with pytest.raises(BadInput, match="unknown recipe"):
        read_recipe("../recipes/cue")


def test_a_mistake_in_a_file_names_the_file_and_the_key(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "broken.yaml").write_text(
        "title: t\nquestion: q\ncontrol: a\nvariants: {a: {se: {gate: sigmod}}}\n"
    )
    with pytest.raises(BadInput, match=r"broken\.yaml: .*sigmod.*did you mean 'sigmoid'"):
        read_experiment("broken", tmp_path)


def test_the_published_numbers_are_those_that_were_checked() -> None:
    """By their SHA-256, where the shared facts are not at hand, too."""
    rows = {name: table["rows"] for name, table in paper_facts()["tables"].items()}
    assert digest(rows)[:16] == "b3af5b2dc35cc7ee"


@pytest.mark.skipif(
    not SHARED_PAPER.is_file(), reason="the shared facts are not beside this checkout"
)
def test_the_published_numbers_are_those_of_the_checked_facts() -> None:
    facts = {
        table["id"]: table["rows"] for table in yaml.safe_load(SHARED_PAPER.read_text())["tables"]
    }
    assert {name: table["rows"] for name, table in paper_facts()["tables"].items()} == facts


PLAN: dict[str, Any] = {
    "seeds": [2, 3],
    "reference_seeds": [2, 3, 4],
    "experiment_seeds": {"schedule": [7]},
    "looks": [
        {"seeds": 2, "reference_seeds": 2, "alpha": 0.01},
        {"seeds": 2, "reference_seeds": 3, "alpha": 0.04},
    ],
    "plain_top1": 46.6,
    "plain_top5": 13.1,
    "family": "page",
    "spread": "shared",
    "block": "seed",
    "failures": "as the suite finds them",
}


def test_a_margin_is_a_third_of_the_papers_relative_gain() -> None:
    plan = parse(AnalysisPlan, PLAN)
    expected = {"top1": 2.04 / 3, "top5": 1.04 / 3, "throughout": 2.04 / 3}
    assert plan.margins == margins(46.6, 13.1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference_seeds": [3, 2, 4]}, "must begin with"),
        ({"seeds": [2, 2]}, "named twice"),
        ({"experiment_seeds": {"schedule": [7, 7]}}, "named twice"),
        ({"experiment_seeds": {"schedule": []}}, "without a seed"),
        ({"looks": [PLAN["looks"][1], *PLAN["looks"]]}, "the seeds of the one before"),
        (
            {"looks": [{"seeds": 2, "reference_seeds": 2, "alpha": 0.01}]},
            "last look must be at all seeds",
        ),
        (
            {"looks": [{"seeds": 2, "reference_seeds": 3, "alpha": 0.06}]},
            "more than an error rate of 0.05",
        ),
        ({"seeds": []}, "seeds"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse(AnalysisPlan, PLAN | change)


def test_a_recipes_plan_says_the_seeds_of_each_row_and_marks_every_record() -> None:
    value = read_recipe("cifar100-cpu")
    assert value.plan is not None
    plan = read_plan("cifar100-cpu", ["controls", "schedule"])
    seeds = {(row.experiment, row.variant): [run.seed for run in row.runs] for row in plan.rows()}
    assert seeds["controls", "SE"] == seeds["schedule", "plain"] == list(value.plan.reference_seeds)
    assert seeds["controls", "Static gate"] == list(value.plan.seeds)
    assert seeds["schedule", "SE, 8 epochs"] == list(value.plan.experiment_seeds["schedule"])
    order = [run.seed for run in plan.runs()]
    assert order == sorted(order), "every row has one seed before any has two"
    assert 0 not in order and 1 not in order, "the pilots' seeds"
    changed = value.model_copy(update={"plan": value.plan.model_copy(update={"plain_top1": 1.0})})
    assert len(value.plan_id) == 16 and changed.plan_id != value.plan_id
    assert read_recipe("smoke").plan_id == ""
    with pytest.raises(BadInput, match="has 15 seeds, not 16"):
        read_plan("cifar100-cpu", seeds=16)


def test_a_row_may_have_a_budget_and_a_rate_of_its_own() -> None:
    rows = {
        row.variant: row.runs[0].train for row in read_plan("cifar100-cpu", ["schedule"]).rows()
    }
    full = read_recipe("cifar100-cpu").train
    assert rows["SE"] == rows["plain"] == full
    assert (rows["SE, 2 epochs"].epochs, rows["SE, 2 epochs"].lr) == (2, full.lr)
    slow = rows["plain, 8 epochs, rate / 4"]
    assert (slow.epochs, slow.lr) == (8, full.lr / 4)
    short = Variant(se=None, epochs=2)
    with pytest.raises(BadInput, match="milestones must rise and lie before the last epoch"):
        short.applied_to(full.model_copy(update={"schedule": "multistep", "milestones": (4, 8)}))


def test_the_plan_of_cifar100_cpu_takes_its_errors_and_its_rate_from_the_search() -> None:
    recipe = read_recipe("cifar100-cpu")
    searched = [(r.run, r) for r in read_records(RESULTS / "cifar100-cpu", "search").values()]
    full = [(run, r) for run, r in searched if run.train.epochs == recipe.train.epochs]
    both = {
        lr: np.mean(
            [
                np.mean([r.top1 for run, r in full if (run.train.lr, run.se) == (lr, se)])
                for se in (None, SESpec())
            ]
        )
        for lr in {run.train.lr for run, _ in full}
    }
    assert recipe.train.lr == min(both, key=lambda lr: both[lr])
    plain = [r for run, r in full if run.se is None and run.train.lr == recipe.train.lr]
    assert recipe.plan is not None and len(plain) > 1
    assert recipe.plan.plain_top1 == pytest.approx(np.mean([r.top1 for r in plain]), abs=0.005)
    assert recipe.plan.plain_top5 == pytest.approx(np.mean([r.top5 for r in plain]), abs=0.005)
    assert not {run.seed for run, _ in searched} & set(recipe.plan.reference_seeds), (
        "a seed of the search is reported"
    )
    assert all(run.train.evaluate == "validation" for run, _ in searched), "no test image was read"
