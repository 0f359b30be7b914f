import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from natively import natively

from senet_ablate import SESpec, build_model
from senet_ablate.analysis.exclusions import health
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.data.loader import Batches
from senet_ablate.models.layers import Dropout, Random, draw_from
from senet_ablate.records.store import Record, pack, write_record
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.loop import evaluate, prepared, train, train_step
from senet_ablate.train.schedule import lr_at, plateaus

CPU = torch.device("cpu")


def facts(record: Record) -> dict[str, object]:
    """A record without its times."""
    content = record.model_dump(exclude={"provenance"})
    return content | {"data": record.provenance.data}


@pytest.mark.parametrize(
    "se", [None, SESpec(), SESpec(squeeze="random")], ids=["plain", "SE", "random"]
)
def test_equal_runs_give_equal_records_bit_for_bit(
    se: SESpec | None, tiny: Training, digits: ImageSet
) -> None:
    first = train(Run(tiny, se, 4), digits, CPU)
    torch.manual_seed(99)  # whatever happened before
    assert facts(train(Run(tiny, se, 4), digits, CPU)) == facts(first)
    assert facts(train(Run(tiny, se, 5), digits, CPU)) != facts(first)


def test_the_constant_gate_trains_exactly_like_the_plain_network(
    tiny: Training, digits: ImageSet
) -> None:
    plain = facts(train(Run(tiny, None, 0), digits, CPU))
    constant = facts(train(Run(tiny, SESpec(gate="constant"), 0), digits, CPU))
    same = ("epochs", "correct", "wrong_top1", "wrong_top5", "params", "tested", "classes")
    for epoch in (*plain["epochs"], *constant["epochs"]):
        del epoch["gates"]  # all 1 in the one, none in the other
    assert {key: plain[key] for key in same} == {key: constant[key] for key in same}


def test_how_often_the_test_set_is_read_changes_no_number(tiny: Training, digits: ImageSet) -> None:
    se = SESpec(squeeze="random")
    often, seldom, once = (
        train(Run(tiny.model_copy(update={"test_every": n, "epochs": 4}), se, 0), digits, CPU)
        for n in (1, 2, 9)
    )
    read = [[e.test_top1 is not None for e in one.epochs] for one in (often, seldom, once)]
    assert read == [[True] * 4, [False, True, False, True], [False, False, False, True]]
    for one in (seldom, once):
        assert one.correct == often.correct and one.epochs[-1] == often.epochs[-1]
    assert seldom.epochs[1] == often.epochs[1]


def test_training_learns_the_digits(digits: ImageSet, tiny: Training, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from senet_ablate.data import load_images

    spec = tiny.model_copy(
        update={"train_images": 640, "epochs": 4, "schedule": "onecycle", "test_images": None}
    )
    record = train(Run(spec, SESpec(), 0), load_images(spec, tmp_path), CPU)
    assert record.top1 < 15 and record.epochs[-1].train_loss < record.epochs[0].train_loss / 2
    assert record.tested == 500 and record.right().sum() == 500 - record.wrong_top1
    assert record.wrong_top5 is not None and record.wrong_top5 <= record.wrong_top1


def test_evaluation_counts_what_a_plain_loop_counts(tiny: Training, digits: ImageSet) -> None:
    model, _, _ = prepared(Run(tiny, None, 0), digits, CPU)
    batches = Batches(digits.test, digits, tiny, CPU)
    got = evaluate(model, batches, tiny)
    model.eval()
    wrong1 = wrong5 = 0
    for x, y in batches.in_order():
        for row, label in zip(model(x), y, strict=True):
            ranking = row.argsort(descending=True).tolist()
            wrong1 += ranking[0] != label
            wrong5 += int(label) not in ranking[:5]
    assert (int((~got.correct).sum()), got.wrong_top5) == (wrong1, wrong5)


def test_five_classes_have_no_top5(tiny: Training, digits: ImageSet) -> None:
    few = ImageSet(
        digits.train.take(np.flatnonzero(digits.train.labels < 4)),
        digits.test.take(np.flatnonzero(digits.test.labels < 4)),
        *(digits.classes[:4], digits.mean, digits.std, digits.checksum),
    )
    record = train(Run(tiny.model_copy(update={"batch_size": 16, "epochs": 1}), None, 0), few, CPU)
    assert record.wrong_top5 is None and math.isnan(record.top5)


def test_a_loss_that_is_not_finite_ends_the_run_and_is_on_record(
    tiny: Training, digits: ImageSet
) -> None:
    record = train(Run(tiny.model_copy(update={"lr": 1e30, "epochs": 5}), SESpec(), 0), digits, CPU)
    assert record.diverged is not None and len(record.epochs) == record.diverged < 5
    assert record.gates == {}


def test_the_gates_on_record_are_those_of_the_test_images(tiny: Training, digits: ImageSet) -> None:
    model, _, _ = prepared(Run(tiny, SESpec(reduction=4), 0), digits, CPU)
    batches = Batches(digits.test, digits, tiny, CPU)
    gates = evaluate(model, batches, tiny).gates
    inputs: list[torch.Tensor] = []
    block = model.stage2[0].se_standard  # type: ignore[index,union-attr]
    block.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    evaluate(model, batches, tiny)
    x = torch.cat(inputs)
    gate = block.gate(block.excitation(block.squeeze(x)))[:, :, 0, 0].detach().double()
    got = gates["SE_2_1"]
    assert got.mean == pytest.approx(gate.mean().item())
    assert got.std == pytest.approx(gate.std(correction=0).item(), rel=1e-4)
    assert got.within == pytest.approx(gate.std(0, correction=0).mean().item(), rel=1e-4)
    assert (got.low, got.high) == ((gate < 0.1).double().mean(), (gate > 0.9).double().mean())
    assert list(gates) == ["SE_2_1", "SE_3_1", "SE_4_1"]


def test_gates_of_a_users_own_block_may_have_no_space(
    tiny: Training, digits: ImageSet, tmp_path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "classic.py").write_text(
        "import torch\nclass Block(torch.nn.Module):\n    def __init__(self, channels, spec):\n    "
        "    super().__init__(); self.fc = torch.nn.Linear(channels, channels); self.gate ="
        " torch.nn.Sigmoid()\n    def forward(self, x): return x * self.gate(self.fc(x.mean((2,"
        " 3))))[:, :, None, None]\n"
    )
    monkeypatch.chdir(tmp_path)
    one = tiny.model_copy(update={"epochs": 1})
    record = train(Run(one, SESpec(block="classic:Block"), 0), digits, CPU)
    assert 0 < record.gates["SE_2_1"].mean < 1
    assert len(record.provenance.operators["classic:Block"]) == 64


def spec(**fields: object) -> Training:
    known = {"dataset": "digits", "backbone": "resnet20", "epochs": 10, "batch_size": 8, "lr": 0.4}
    return Training.model_validate({**known, **fields})


def test_cosine_with_warmup_rises_in_equal_steps_and_falls_to_nothing() -> None:
    rates = [lr_at(spec(warmup_epochs=2), step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(0.4) and rates[30] == pytest.approx(0.2)
    assert 0 < rates[-1] < 0.001 and sorted(rates[10:], reverse=True) == rates[10:]


def test_onecycle_is_torchs() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=50, cycle_momentum=False
    )
    theirs = []
    for _ in range(50):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [lr_at(spec(schedule="onecycle"), step, 5) for step in range(50)]
    assert ours == pytest.approx(theirs)


def test_multistep_divides_by_ten_after_its_milestones() -> None:
    rates = [
        lr_at(spec(schedule="multistep", milestones=[3, 6]), epoch * 5, 5) for epoch in range(10)
    ]
    assert rates == pytest.approx([0.4] * 3 + [0.04] * 3 + [0.004] * 4)


@pytest.mark.parametrize(
    ("losses", "passed"),
    [
        ([], 0),
        ([3, 2, 1], 0),
        ([1, 2], 0),
        ([1, 2, 2], 1),
        ([1, 2, 2, 2, 2], 2),
        ([1, 2, 2, 0.5, 2, 2], 2),
        ([1] * 9, 3),
    ],
)
def test_a_plateau_is_patience_epochs_without_a_new_best(losses: list[float], passed: int) -> None:
    assert plateaus(losses, patience=2, most=3) == passed


def test_the_plateau_schedule_watches_held_out_training_images(tiny: Training, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from senet_ablate.data import load_images

    plateau = {
        "schedule": "plateau",
        "validation": 0.25,
        "drops": 2,
        "patience": 1,
        "epochs": 6,
        "lr": 3.0,
    }
    slow = Training.model_validate({**tiny.model_dump(), **plateau})
    images = load_images(slow, tmp_path)
    assert (
        images.validation is not None and len(images.validation) == 24 and len(images.train) == 72
    )
    record = train(Run(slow, None, 0), images, CPU)
    losses = [epoch.validation_loss for epoch in record.epochs]
    assert all(loss is not None for loss in losses)
    expected = [3.0 * 0.1 ** plateaus(losses[:epoch], 1, 2) for epoch in range(6)]
    assert [epoch.lr for epoch in record.epochs] == pytest.approx(expected)


def test_bf16_is_only_used_where_the_recipe_says_so(tiny: Training, digits: ImageSet) -> None:
    seen = []
    for precision in ("float32", "bf16"):
        chosen = tiny.model_copy(update={"precision": precision})
        model, _, batches = prepared(Run(chosen, None, 0), digits, CPU)
        model.stem.conv.register_forward_hook(
            lambda module, args, output: seen.append(output.dtype)
        )  # type: ignore[union-attr]
        evaluate(model, batches, chosen)
    assert set(seen[: len(seen) // 2]) == {torch.float32} and set(seen[len(seen) // 2 :]) == {
        torch.bfloat16
    }


def test_a_user_can_train_on_any_image_set() -> None:
    generator = np.random.default_rng(0)
    split = Split(generator.integers(0, 256, (32, 12, 12, 3), dtype=np.uint8), np.arange(32) % 3)
    record = train(Run(spec(epochs=1), SESpec(), 0), image_set(split, split, ["a", "b", "c"]), CPU)
    assert record.tested == 32 and record.macs > 0


DRAWING = [SESpec(squeeze="random"), SESpec(squeeze="random", gate="tanh")]


@pytest.mark.parametrize("se", DRAWING, ids=["sigmoid", "tanh"])
def test_what_else_its_process_draws_changes_no_number_of_a_run(
    se: SESpec, tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(Run(tiny, se, 1), digits, CPU)
    step = train_step

    def disturbed(*args: Any, **kwargs: Any) -> Any:
        torch.rand(3)  # another run of this process, say
        return step(*args, **kwargs)

    monkeypatch.setattr("senet_ablate.train.loop.train_step", disturbed)
    assert facts(train(Run(tiny, se, 1), digits, CPU)) == facts(alone)


def test_dropout_draws_from_its_own_generator_and_keeps_the_mean() -> None:
    layer, x = Dropout(0.25), torch.ones(400, 50)
    layer.generator = torch.Generator().manual_seed(3)
    first = layer(x)
    torch.rand(1)
    layer.generator.manual_seed(3)
    assert torch.equal(first, layer(x)) and first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(
    "name", ["vgg16_bn", "senet154", "shake_shake_26_2x96d", "shake_even_29_2x4x64d"]
)
def test_every_network_that_draws_has_its_generator_set(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 10)
    draw_from(model, torch.Generator())
    random = [module for module in model.modules() if isinstance(module, Random)]
    assert random and all(module.generator is not None for module in random)
    drawing = (torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.AlphaDropout)
    assert not any(isinstance(module, drawing) for module in model.modules()), (
        "torch's own draw globally"
    )


class NotFinite(torch.nn.Module):
    """Logits that are not finite, in evaluation alone, for the first image of a batch."""

    def __init__(self, model: torch.nn.Module, value: float) -> None:
        super().__init__()
        self.model, self.value = model, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        if not self.training:
            logits = logits.clone()
            logits[0, 0] = self.value
        return logits


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("test_every", [1, 99], ids=["every epoch", "at the end"])
def test_a_logit_that_is_not_finite_is_no_result(
    value: float,
    test_every: int,
    tiny: Training,
    digits: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def build(*args: Any, **kwargs: Any) -> torch.nn.Module:
        return NotFinite(build_model(*args, **kwargs), value)

    monkeypatch.setattr("senet_ablate.train.loop.build_model", build)
    spec = tiny.model_copy(update={"test_every": test_every})
    record = train(Run(spec, None, 0), digits, CPU)
    assert record.diverged == len(record.epochs) == (0 if test_every == 1 else spec.epochs - 1)
    assert health(record) == f"diverged after epoch {record.diverged}"
    assert not record.right()[0], "an image with such a logit is wrong"
    text = write_record(tmp_path, "r", record).read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("lr", [1e10, 1e38])
def test_no_rate_makes_a_record_that_is_not_json(
    lr: float, tiny: Training, digits: ImageSet, tmp_path: Path
) -> None:
    for se in (None, SESpec(), SESpec(gate="relu", squeeze="none")):
        record = train(Run(tiny.model_copy(update={"lr": lr, "epochs": 3}), se, 0), digits, CPU)
        text = write_record(tmp_path, "r", record).read_text()
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def noise(share: float, count: int = 200) -> ImageSet:
    """Images that say nothing, of two classes of which the first has a share of the images."""
    generator = np.random.default_rng(0)
    labels = (np.arange(count) >= share * count).astype(np.int64)
    split = Split(generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), labels)
    other = Split(generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), labels)
    return image_set(split, other, ["often", "seldom"])


def test_noise_in_unequal_classes_gives_no_sound_run(tiny: Training) -> None:
    spec = tiny.model_copy(update={"train_images": None, "test_images": None, "epochs": 2})
    for seed in range(3):
        record = train(Run(spec, SESpec(), seed), noise(0.9), CPU)
        assert (record.majority, record.tested) == (180, 200)
        assert health(record), (
            f"{record.top1}% error is what always answering the first class gives"
        )


def test_chance_is_the_share_of_the_commonest_class(tiny: Training, digits: ImageSet) -> None:
    record = train(Run(tiny.model_copy(update={"epochs": 1}), None, 0), digits, CPU)

    def judged(right: int, majority: int | None, answered: int = 2) -> str:
        flags = np.arange(400) < right
        counts = {
            "tested": 400,
            "wrong_top1": 400 - right,
            "correct": pack(flags),
            "classes": 2,
            "gates": {},
        }
        return health(
            record.model_copy(update=counts | {"majority": majority, "answered": answered})
        )

    assert judged(340, 360) and not judged(380, 360), (
        "of nine to one, 85% right is guessing, 95% is not"
    )
    assert not judged(340, 200) and judged(205, 200), "equal classes, as ever"
    assert not judged(340, None), "old records do not say it: 1 / classes"
    assert "same answer" in judged(300, 200, answered=1)


COMPILED = """
import torch
from senet_ablate import SESpec
from senet_ablate.data import load_images
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.loop import train

fields = dict(dataset="digits", train_images=96, test_images=50, epochs=2, batch_size=32, lr=0.05)
torch.set_num_threads(1)
records = []
for compiled in (False, True):
    spec = Training(backbone="resnet_tiny_bottleneck", compile=compiled, **fields)
    records.append(train(Run(spec, SESpec(), 0), load_images(spec, None), torch.device("cpu")))
written, compiled = records
assert written.id != compiled.id
for one, other in zip(written.epochs, compiled.epochs, strict=True):
    assert abs(one.train_loss - other.train_loss) <= 1e-3 * one.train_loss, (one, other)
"""


def test_compiled_steps_learn_what_the_network_as_written_learns() -> None:
    natively(COMPILED)


def test_progress_is_reported_within_an_epoch(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senet_ablate.train.loop.REPORT_EVERY_S", 0.0)
    seen: list[int] = []
    train(Run(tiny, None, 0), digits, CPU, progress=seen.append)
    assert (
        sum(seen) == 96 * tiny.epochs
        and [count for count in seen if count] == [32] * 3 * tiny.epochs
    )
