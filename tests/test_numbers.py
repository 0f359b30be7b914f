"""Numbers of training held against what is computed in another way: each line here is one that a
change of the code once got past the other tests.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from senet_ablate import SESpec, build_model
from senet_ablate.data import Batches, ImageSet, load_images
from senet_ablate.models.layers import FullyConnected, generator_of
from senet_ablate.records import Epoch
from senet_ablate.spec import GATES, Run, Training
from senet_ablate.train.checkpoint import TrainState
from senet_ablate.train.class_gates import collect
from senet_ablate.train.loop import evaluate, make_step, prepared, train, train_epoch

CPU = torch.device("cpu")


@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.5), (True, 0.9)])
def test_two_epochs_are_sgd_as_written_in_the_textbook(
    nesterov: bool, momentum: float, tiny: Training, digits: ImageSet
) -> None:
    """Loss, error, rate and weights against a loop of plain tensors, in float64."""
    changes = {"schedule": "cosine", "label_smoothing": 0.1, "weight_decay": 0.01}
    spec = tiny.model_copy(update=changes | {"nesterov": nesterov, "momentum": momentum})
    run = Run(spec, SESpec(), 3)
    model, optimizer, batches = prepared(run, digits, CPU)
    state = TrainState(model.double(), optimizer, CPU)
    step = make_step(spec, model, optimizer, batches)
    twin = build_model(spec.backbone, 10, run.se, seed=3).double()
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for epoch in (1, 2):
        lr, loss, error = train_epoch(state, batches, run, lambda x, y: step(x.double(), y))
        state.end_epoch(Epoch(lr=lr, train_loss=loss, train_top1=error))
        losses, wrong = [], 0
        for number, (x, y) in enumerate(batches.shuffled(3, epoch), 3 * (epoch - 1)):
            rate = spec.lr * 0.5 * (1 + math.cos(math.pi * number / 6))
            logits = twin(x.double()).log_softmax(1)
            wrong += int((logits.argmax(1) != y).sum())
            target = F.one_hot(y, 10).double() * 0.9 + 0.01
            losses.append(-(target * logits).sum(1).mean())
            grads = torch.autograd.grad(losses[-1], list(twin.parameters()))
            with torch.no_grad():
                for p, v, g in zip(twin.parameters(), velocity, grads, strict=True):
                    g = g + 0.01 * p
                    v.mul_(momentum).add_(g)
                    p.sub_(rate * (g + momentum * v if nesterov else v))
        assert lr == pytest.approx(rate)
        assert loss == pytest.approx(sum(map(torch.Tensor.item, losses)) / 3, rel=1e-5)
        assert error == pytest.approx(100 * wrong / 96)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert (ours - theirs).norm() < 1e-6 * theirs.norm()


def test_a_seed_sets_weights_generator_and_what_a_users_block_draws(
    tiny: Training, digits: ImageSet
) -> None:
    noise = SESpec(squeeze="random")
    model, optimizer, _ = prepared(Run(tiny, noise, 3), digits, CPU)
    twin = build_model(tiny.backbone, 10, noise, seed=3)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    generator = generator_of(model)
    assert generator and generator.initial_seed() == torch.initial_seed() == 3
    state = TrainState(model, optimizer, CPU)
    saved, drawn = state.state_dict(), torch.rand(3)
    torch.manual_seed(99)  # whatever happened before the run went on
    state.load_state_dict(saved)
    assert torch.equal(torch.rand(3), drawn)


def test_an_evaluation_is_what_a_plain_loop_counts(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny.model_copy(update={"label_smoothing": 0.1})  # of training alone
    model, _, _ = prepared(Run(tiny, SESpec(), 0), digits, CPU)
    batches = Batches(digits.test, digits, tiny, CPU)
    got = evaluate(model, batches, tiny)
    model.eval()
    chosen, everything = collect(model, batches, tiny, [3, 8])
    with monkeypatch.context() as patch:
        patch.setattr("senet_ablate.data.loader.EVALUATION_BATCH", 8)
        again, few = evaluate(model, batches, tiny), collect(model, batches, tiny, [3, 8])
    assert again.loss == pytest.approx(got.loss) and (again.correct == got.correct).all()
    for name, gates in got.gates.items():
        assert again.gates[name].model_dump() == pytest.approx(gates.model_dump(), rel=1e-4)
        np.testing.assert_allclose(few[0][name], chosen[name], rtol=1e-5)
        np.testing.assert_allclose(few[1][name], everything[name], rtol=1e-5)
    loss = 0.0
    answered = set()
    for x, y in batches.in_order():
        logits = model(x)
        loss -= logits.log_softmax(1)[range(len(y)), y].sum().item()
        answered |= {*logits.argmax(1).tolist()}
    assert got.loss == pytest.approx(loss / len(digits.test), rel=1e-5)
    assert got.answered == len(answered)


def test_what_is_random_about_a_crop_is_what_the_recipe_says(
    tiny: Training, digits: ImageSet
) -> None:
    spec = tiny.model_copy(update={"scale_crop": (0.3, 1.0), "crop_size": 6, "flip": True})
    batches = Batches(digits.train, digits, spec, CPU)
    drawn = [batches._draw(96, torch.Generator().manual_seed(k)) for k in range(30)]
    all_of = {name: torch.cat([draw[name] for draw in drawn]) for name in drawn[0]}
    height, width = all_of["edges"].T
    whole = height * width < 0.74  # no edge is cut off at 1 below 3 / 4
    area, aspect = (height * width)[whole], (width / height)[whole].log() / math.log(4 / 3)
    for uniform, low, high in ((area, 0.3, 0.74), (aspect, -1, 1), (all_of["place"], -1, 1)):
        share = (uniform - low) / (high - low)
        assert -1e-4 <= share.min() < 0.01 and 0.99 < share.max() <= 1 + 1e-4
        assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert whole.float().mean().item() == pytest.approx(0.44 / 0.7, abs=0.04)
    assert all_of["flip"].float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_weights_start_as_he_and_others_draw_them_each_layer_its_own() -> None:
    model = build_model("resnet29_bottleneck", 100, SESpec(4, bias=True), seed=3)
    first = list[float]()
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            weight = layer.weight.detach()
            linear = isinstance(layer, torch.nn.Linear | FullyConnected)
            fan = weight[0].numel() if linear else weight[:, 0].numel()
            drawn, n = weight.flatten() * math.sqrt(fan / 2), weight.numel()
            assert abs(drawn.std() - 1) < 5 / math.sqrt(2 * n), name
            assert abs(drawn.mean()) < 5 / math.sqrt(n), name
            assert layer.bias is None or not layer.bias.any(), name
            first.append(round(drawn[0].item(), 6))
    assert len(set(first)) == len(first) > 40


def test_a_plateau_is_seen_on_held_out_images_and_an_error_on_test_images(
    tiny: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"schedule": "plateau", "validation": 0.25, "patience": 1, "drops": 1, "epochs": 3}
    spec = Training.model_validate({**tiny.model_dump(), **fields})
    seen = list[tuple[int, float]]()

    def watched(model: Any, batches: Batches, **more: Any) -> Any:
        found = evaluate(model, batches, **more)
        seen.append((len(batches.labels), found.loss))
        return found

    monkeypatch.setattr("senet_ablate.train.loop.evaluate", watched)
    record = train(Run(spec, None, 0), load_images(spec, tmp_path), CPU)
    assert [e.validation_loss for e in record.epochs] == [loss for n, loss in seen if n == 24]
    assert [e.test_loss for e in record.epochs] == [loss for n, loss in seen if n == 50]


def test_the_commonest_class_is_that_of_the_test_images(tiny: Training, digits: ImageSet) -> None:
    record = train(Run(tiny.model_copy(update={"epochs": 1}), None, 0), digits, CPU)
    assert (
        record.majority
        == np.bincount(digits.test.labels).max()
        != np.bincount(digits.train.labels).max()
    )


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_training_step_computes_in_the_format_of_the_recipe(
    precision: str, dtype: torch.dtype, tiny: Training, digits: ImageSet
) -> None:
    chosen = tiny.model_copy(update={"precision": precision})
    model, optimizer, batches = prepared(Run(chosen, None, 0), digits, CPU)
    seen = []
    model.stem.conv.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    make_step(chosen, model, optimizer, batches)(*next(batches.shuffled(0, 1)))
    assert seen == [dtype]


def test_gates_have_their_known_values_between_and_beyond_their_ends() -> None:
    x = torch.tensor([-4.0, -1.5, 0.0, 1.5, 4.0])
    assert GATES["hard_sigmoid"](x).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert GATES["relu"](x).tolist() == [0, 0, 0, 1.5, 4]
