"""Networks, blocks and data sets of a user's own: what is recorded of them, and what goes wrong."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricated import record as fabricated
from torch import Tensor, nn

from senet_ablate import SESpec, build_model, cost
from senet_ablate.data import Batches, load_images
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.models.layers import SMALL_STEMS, head, sequential, stem_strides
from senet_ablate.models.se import SEBlock, SEPlacement, se_blocks
from senet_ablate.models.units import PlainUnit
from senet_ablate.records import write_record
from senet_ablate.spec import BACKBONES
from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Experiment, Run, Training, Variant
from senet_ablate.train.class_gates import by_class
from senet_ablate.train.job import SweepContext
from senet_ablate.train.loop import evaluate, make_step, train
from senet_ablate.train.provenance import own_operators
from senet_ablate.train.sweep import Sweep, check_networks, pending

CPU = torch.device("cpu")


class Twice(nn.Module):
    """One gate for the mean and for the maximum, whose shapes differ."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3), keepdim=True)) * self.gate(x.mean(1))[:, None]


class Static(nn.Module):
    """A learned gate that is the same for every image."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.logits, self.gate = nn.Parameter(torch.zeros(1, channels, 1, 1)), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.logits)


class Forgetful(nn.Module):
    """Returns its gate and forgets the product."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).sigmoid()


class Open(nn.Module):
    """Starts with open gates, by a `reset_parameters` of the block and of a layer."""

    class Last(nn.Conv2d):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self.weight)

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, 4, 1), self.Last(4, channels, 1)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.first.bias, 7.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.last(self.first(x.mean((2, 3), keepdim=True))).sigmoid()


def network(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    """A network with a parameter that it draws as it is built, after its SE block."""
    strides, places = stem_strides(stem, SMALL_STEMS), SEPlacement(se, (2,))
    unit = PlainUnit(sequential(conv=nn.Conv2d(8, 8, 3, padding=1)), 8, places, 2)
    layers = {"stem": nn.Conv2d(3, 8, 3, strides[0], 1), "stage2": nn.Sequential(unit)}
    model = sequential(**layers, **head(8, num_classes))
    model.register_parameter("position", nn.Parameter(torch.randn(8)))
    return model


def power(exponent: int) -> object:
    def squeeze(x: Tensor) -> Tensor:
        return (x**exponent).mean((2, 3), keepdim=True)

    return squeeze


squares, cubes = power(2), power(3)


def written(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_a_record_knows_the_source_of_a_network_and_of_what_a_file_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Training
) -> None:
    written(tmp_path, own_helper="def pool(x): return x.mean((2, 3), True)\n")
    part = "import torch\nfrom own_helper import pool\n@torch.no_grad()\n"
    part += "def squeeze(x): return pool(x)\n"
    written(tmp_path, own_part=part, own_net="def net(num_classes, se, stem): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    train = tiny.model_copy(update={"backbone": "own_net:net"})
    plain, mine = Run(train, None, 0), Run(tiny, SESpec(squeeze="own_part:squeeze"), 0)
    before = own_operators(plain), own_operators(mine)
    assert [*before[0]] == ["own_net:net"] and [*before[1]] == ["own_part:squeeze"]
    written(tmp_path, own_helper="def pool(x): return x.amax((2, 3), True)\n")
    assert own_operators(mine, afresh=True) != before[1], "a file that the part imports"
    assert own_operators(plain, afresh=True) == before[0]
    written(tmp_path, own_net="def net(num_classes, se, stem): return None\n")
    assert own_operators(plain, afresh=True) != before[0]
    written(tmp_path, own_helper="def pool(x): return x.mean((2, 3), True)\n")
    assert own_operators(mine, afresh=True) == before[1]
    written(tmp_path, own_part=part.replace("pool(x)", "2 * pool(x)"))
    assert own_operators(mine, afresh=True) != before[1], "the part's own file, below a decorator"


def test_the_hash_follows_the_text_of_imports_whatever_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Training
) -> None:
    """Constants, packages with and without __init__, a part that is defined elsewhere."""
    other = tmp_path / "elsewhere"
    for folder in ("own_package/deep", "own_space"):
        (tmp_path / folder).mkdir(parents=True)
    other.mkdir()
    written(other, own_far="def far(x): return x.mean((2, 3), True)\n")
    written(tmp_path, own_constants="POWER = 2\n", own_unrelated="import own_constants\n")
    written(tmp_path / "own_space", helper="def mean(x): return x.mean((2, 3), True)\n")
    init = "from own_far import far\nfrom .deep import near\n"
    written(tmp_path / "own_package", __init__=init, unused="")
    written(tmp_path / "own_package" / "deep", __init__="from . import pool\nnear = pool.pool\n")
    pool = "import own_space.helper\ndef pool(x):\n    from own_constants import POWER\n"
    written(tmp_path / "own_package" / "deep", pool=pool + "    return own_space.helper.mean(x)\n")
    for folder in (tmp_path, other):
        monkeypatch.syspath_prepend(folder)
    runs = {name: Run(tiny, SESpec(squeeze=f"own_package:{name}"), 0) for name in ("far", "near")}

    def hashes() -> dict[str, str]:
        return {name: own_operators(run, afresh=True).popitem()[1] for name, run in runs.items()}

    before = hashes()
    importlib.import_module("own_package.unused")
    assert hashes() == before, "what else the process has loaded does not matter"
    for path, names in {
        tmp_path / "own_constants.py": {"far", "near"},
        tmp_path / "own_space" / "helper.py": {"far", "near"},
        tmp_path / "own_package" / "deep" / "pool.py": {"far", "near"},
        other / "own_far.py": {"far"},
        tmp_path / "own_package" / "unused.py": set(),
        tmp_path / "own_unrelated.py": set(),
    }.items():
        text = path.read_text()
        path.write_text(f"{text}# edited\n")
        after = hashes()
        assert {name for name in runs if after[name] != before[name]} == names, path
        path.write_text(text)
    assert hashes() == before


def test_parts_of_one_file_that_are_defined_in_others_have_hashes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Training
) -> None:
    """Also one whose module is none that is loaded, and beside a file that Python cannot read."""
    written(tmp_path, own_broken="def (:\n", own_op="from own_mixed import *\n")
    text = "import torch\nfrom torch.nn.functional import hardsigmoid\ndef mine(x): return x\n"
    text += "try: import own_broken\nexcept SyntaxError: pass\nop = torch.ops.aten.sigmoid\n"
    written(tmp_path, own_mixed=text)
    monkeypatch.syspath_prepend(tmp_path)
    for names in (("mine", "hardsigmoid", "op"), ("op", "hardsigmoid", "mine")):
        runs = [Run(tiny, SESpec(gate=f"own_mixed:{name}"), 0) for name in names]
        assert [own_operators(run) for run in runs] == [own_operators(run, True) for run in runs]
    (tmp_path / "own_broken.py").write_text("def (:  # edited\n")
    assert own_operators(runs[0], afresh=True) != own_operators(runs[0])


def test_a_module_of_the_same_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("sched")
    with pytest.raises(BadInput, match=r"no attribute 'Att' \(found .*sched\.py\)"):
        build_model("resnet20", 10, SESpec(block="sched:Att"))
    assert "sched" in sys.modules


@pytest.mark.parametrize("block", [Twice, Static])
def test_a_gate_that_is_not_one_call_an_image_costs_no_run(
    block: type, tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(tiny.backbone, 10, SESpec(block=f"{__name__}:{block.__name__}")).eval()
    names = digits.classes[:2]
    if block is Static:
        monkeypatch.setattr("senet_ablate.data.loader.EVALUATION_BATCH", len(digits.test) - 1)
        batches = Batches(digits.test, digits, tiny, CPU)
        assert evaluate(model, batches, tiny).gates == {}, "nor by a last batch of one image"
        with pytest.raises(BadInput, match="no gate of each image"):  # which a run survives
            by_class(model, digits, CPU, tiny, names)
        return
    monkeypatch.setattr("senet_ablate.data.loader.EVALUATION_BATCH", 16)
    blocks, _ = by_class(model, digits, CPU, tiny, names)
    assert len(blocks) == len(se_blocks(model))


def test_a_block_that_changes_the_shape_is_refused_before_training(tiny: Training) -> None:
    model = build_model(tiny.backbone, 10, SESpec(block=f"{__name__}:Forgetful"))
    with pytest.raises(BadInput, match=r"Forgetful changes the shape .* 8, 8\] in, .* 1, 1\] out"):
        cost(model, (3, 8, 8))


class Mixing(nn.Module):
    """A gate by the mean over all images of a batch."""

    def __init__(self, channels: int, spec: SESpec) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((0, 2, 3), keepdim=True).sigmoid()


class InPlace(Mixing):
    """Changes a gate whose gradient takes its value."""

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True).sigmoid()
        gate *= 2
        return x * gate


def own_sweep(folder: Path, **variant: Any) -> Sweep:
    """A sweep of a plain network and one other row, on digits."""
    recipe = read_plan("smoke", ["squeeze"])
    variants = {"plain": Variant(se=None), "mine": Variant(**variant)}
    own = Experiment(title="t", question="q", control="plain", variants=variants)
    plan = replace(recipe, experiments={"mine": own})
    return Sweep(plan, SweepContext.of(plan, folder, folder, device="cpu"))


def test_a_network_whose_answers_hang_on_the_batch_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_sweep(tmp_path, se=SESpec(block="test_own_parts:Static")).costs
    assert not caplog.records
    assert own_sweep(tmp_path, se=SESpec(block="test_own_parts:Mixing")).costs
    assert "mine/mine: what it answers to an image depends on" in caplog.text


def of_seven(num_classes: int, se: SESpec | None, stem: str) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))


def test_what_is_wrong_with_a_users_part_is_said_by_plan_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mine/mine: ValueError: 2 images give 2 x 7 logits"):
        _ = own_sweep(tmp_path, se=None, backbone="test_own_parts:of_seven", cutout=1).costs
    sweep = own_sweep(tmp_path, se=SESpec(block="test_own_parts:InPlace"))
    sweep.pending = [run for run in sweep.runs if run.se]
    with pytest.raises(BadInput, match=r"(?s)mine/mine: RuntimeError.*your own: .*InPlace"):
        sweep.estimate_s()


def test_all_records_of_edited_parts_are_named_at_once(tmp_path: Path) -> None:
    sweep = own_sweep(tmp_path, se=SESpec(block="test_own_parts:Static"))
    own = [run for run in sweep.runs if run.se]
    for run in own:
        made = fabricated(run)
        where = {"operators": {"test_own_parts:Static": "0" * 64}, "data": sweep.images.checksum}
        where_made = made.provenance.model_copy(update=where)
        write_record(tmp_path, "smoke", made.model_copy(update={"provenance": where_made}))
    with pytest.raises(BadInput, match=", ".join(run.id for run in own)):
        pending(sweep.plan, tmp_path, sweep.images)


def test_a_block_counts_the_same_however_pooling_and_scaling_are_written() -> None:
    class Net(nn.Module):
        def __init__(self, pool: object) -> None:
            super().__init__()
            self.pool = pool

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(self.pool(x))  # type: ignore[operator]

    pools = [
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.sum((2, 3), keepdim=True),
        lambda x: x.amax((2, 3), keepdim=True),
        lambda x: x.flatten(2).max(2).values[..., None, None],
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d(1),
    ]
    assert {cost(Net(pool), (64, 8, 8)).macs for pool in pools} == {2 * 64 * 8 * 8}


def test_initial_weights_are_those_of_a_users_reset_parameters() -> None:
    model = build_model("resnet20", 10, SESpec(block=f"{__name__}:Open"))
    block = next(iter(se_blocks(model).values()))
    assert isinstance(block, Open)
    assert not block.last.weight.any() and block.first.weight.any()
    assert (block.first.bias == 7.0).all(), "the block's after those of its layers"


def test_a_users_network_starts_plain_and_with_se_from_the_same_values() -> None:
    name = f"{__name__}:network"
    plain, se = (build_model(name, 10, spec, seed=3) for spec in (None, SESpec(reduction=2)))
    assert len(se_blocks(se)) == 1
    own = dict(se.named_parameters())
    shared = {key: value for key, value in plain.named_parameters() if key in own}
    assert "position" in shared and len(shared) == len(dict(plain.named_parameters()))
    assert all(torch.equal(value, own[key]) for key, value in shared.items())


def test_a_network_added_in_a_process_does_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "mine", network)
    plain, se = (build_model("mine", 10, spec, seed=3) for spec in (None, SESpec(reduction=2)))
    own = dict(se.named_parameters())
    assert all(torch.equal(value, own[key]) for key, value in plain.named_parameters())


class Keeps(SEBlock):
    """Keeps an activation, as one does to look at it."""

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.gate(self.excitation(self.squeeze(x)))
        return x * self.last


def test_a_block_that_keeps_an_activation_trains_where_a_graph_is_captured(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def captured(train: Training, model: nn.Module, *others: Any) -> Any:
        model(torch.zeros(2, 3, 8, 8))  # as a capture runs it
        return make_step(train, model, *others)

    monkeypatch.setattr("senet_ablate.train.loop.make_step", captured)
    one = tiny.model_copy(update={"epochs": 1})
    record = train(Run(one, SESpec(block=f"{__name__}:Keeps"), 0), digits, CPU)
    usual = cost(build_model(tiny.backbone, 10, SESpec()), (3, 8, 8))
    assert record.macs == usual.macs


def test_parts_that_print_alike_are_different_networks() -> None:
    plan = read_plan("smoke", ["role_of_squeeze"])
    rows = {
        "plain": Variant(se=None),
        "2": Variant(se=SESpec(squeeze=f"{__name__}:squares")),
        "3": Variant(se=SESpec(squeeze=f"{__name__}:cubes")),
        "4": Variant(se=SESpec(block=f"{__name__}:Twice", reduction=4)),
        "8": Variant(se=SESpec(block=f"{__name__}:Twice", reduction=8)),
    }
    mine = Experiment(title="mine", question="?", control="plain", variants=rows)
    check_networks(Plan("smoke", plan.recipe, {"mine": mine}), 10)


def colours(count: int, labels: list[int], shape: tuple[int, ...] = (8, 8, 3)) -> Split:
    return Split(np.zeros((count, *shape), np.uint8), np.array(labels))


def grey(root: Path, image_size: int | None, download: bool) -> ImageSet:
    part = colours(2, [0, 1], (8, 8))
    return image_set(part, part, ["a", "b"])


def floats(root: Path, image_size: int | None, download: bool) -> ImageSet:
    part = colours(2, [0, 1])
    part = Split(part.images.astype(np.float32), part.labels)  # type: ignore[arg-type]
    return ImageSet(part, part, ("a", "b"), (0.0,) * 3, (1.0,) * 3, "")


def from_1_on(root: Path, image_size: int | None, download: bool) -> ImageSet:
    part = colours(2, [1, 2])
    return image_set(part, part, ["a", "b"])


def nothing(root: Path, image_size: int | None, download: bool) -> None:
    return None


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ("grey", "ValueError: cannot reshape"),
        ("floats", r"images are uint8, N x H x W x 3, found float32 of shape \(2, 8, 8, 3\)"),
        ("from_1_on", "label 2 of 2 classes among the training images; they are counted from 0"),
        ("nothing", "AttributeError: 'NoneType'"),
    ],
)
def test_what_is_wrong_with_a_users_data_set_is_bad_input(
    loader: str, words: str, tiny: Training, tmp_path: Path
) -> None:
    train = tiny.model_copy(update={"dataset": f"{__name__}:{loader}"})
    with pytest.raises(BadInput, match=f"{loader}: {words}"):
        load_images(train, tmp_path)
