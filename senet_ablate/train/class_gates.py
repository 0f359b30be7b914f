"""The gates of a trained network for the test images, class by class (paper, Section 7.2)."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from senet_ablate.data.images import ImageSet
from senet_ablate.data.loader import Batches
from senet_ablate.models.se import se_blocks
from senet_ablate.records.class_gates import ClassGates, Curves, describe
from senet_ablate.records.gate_facts import GateFacts, drawn_blocks, drawn_channels
from senet_ablate.records.store import read_records, weights_path
from senet_ablate.spec.plan import Plan
from senet_ablate.spec.registry import BadInput, nearest
from senet_ablate.spec.spec import Training
from senet_ablate.train.loop import drawing_for_evaluation, precision
from senet_ablate.train.provenance import provenance
from senet_ablate.train.weights import load_network

PAPERS_CLASSES = {
    "goldfish": "n01443537",
    "pug": "n02110958",
    "plane": "n03954731",
    "cliff": "n09246464",
}
CLASSES = 4

Gates = npt.NDArray[np.float32]


def measure(
    plan: Plan,
    results: Path,
    images: ImageSet,
    device: torch.device,
    command: str,
    names: Sequence[str] = (),
) -> GateFacts:
    """The gates of the network whose weights the recipe keeps; `names`: classes, none:
    `default_classes`.

    Raises BadInput, with the command that helps, where there is no record, no weights, no gate, or
    no such class.
    """
    began, recipe = time.monotonic(), plan.recipe_name
    if not plan.kept:
        raise BadInput(
            f"recipe {recipe!r} keeps no weights; name a row, e.g. `keep_weights:"
            " [role_of_excitation/SE]`"
        )
    run, entry = plan.kept[0], plan.recipe.keep_weights[0]
    again = f"`python -m senet_ablate run {entry.partition('/')[0]} --recipe {recipe}`"
    record = read_records(results, recipe).get(run.id)
    path = weights_path(results, recipe, run.id)
    if record is None:
        raise BadInput(
            f"{entry}, seed 0, has not been trained under recipe {recipe!r}; {again} does it"
        )
    if not path.is_file():
        raise BadInput(
            f"{path}: is missing, though run {run.id} is done; delete its record,"
            f" {results / recipe / 'runs' / run.id}.json, and {again} trains it anew and keeps its"
            " weights"
        )
    if record.diverged is not None:
        raise BadInput(
            f"{entry}, seed 0, diverged after epoch {record.diverged}; its gates say nothing"
        )
    labels = _labels(images, names or default_classes(images.classes))
    model = load_network(path, run, len(images.classes)).to(device)
    counts, blocks, curves = by_class(model, images, device, run.train, list(labels.values()))
    return GateFacts(
        run=run.id,
        weights=hashlib.sha256(path.read_bytes()).hexdigest(),
        tested=len(images.test),
        images=counts,
        blocks=blocks,
        curves=curves,
        provenance=provenance(run, images.checksum, device, command, began, 0.0),
    )


def by_class(
    model: nn.Module, images: ImageSet, device: torch.device, spec: Training, names: Sequence[str]
) -> tuple[dict[str, int], tuple[ClassGates, ...], dict[str, Curves]]:
    """Over the test images of the classes `names`: how many there are, the gates of every block,
    curves of some.

    Raises BadInput if the network has no gate.
    """
    labels = _labels(images, names)
    chosen, everything = collect(
        model, Batches(images.test, images, spec, device), spec, list(labels)
    )
    of_image = images.test.labels[np.isin(images.test.labels, list(labels))]
    counts = {name: int((of_image == label).sum()) for label, name in labels.items()}
    blocks = tuple(
        describe(name, gates, of_image, labels, everything[name]) for name, gates in chosen.items()
    )
    drawn = drawn_blocks(list(chosen))
    return (
        counts,
        blocks,
        {name: _curves(chosen[name], of_image, labels, everything[name]) for name in drawn},
    )


def default_classes(classes: Sequence[str]) -> list[str]:
    """Four classes:

    those of the paper's figures that the set has, by English name or WordNet id, filled up evenly.
    """
    wanted = [
        name
        for pair in PAPERS_CLASSES.items()
        for name in classes
        if name in pair or name.split(",")[0] == pair[0]
    ]
    spaced = np.linspace(0, len(classes) - 1, min(CLASSES, len(classes))).round().astype(int)
    rest = [
        classes[index] for index in [*spaced, *range(len(classes))] if classes[index] not in wanted
    ]
    return [*wanted, *dict.fromkeys(rest)][:CLASSES]


def _labels(images: ImageSet, names: Sequence[str]) -> dict[int, str]:
    """The label of each class named. Raises BadInput."""
    for name in names:
        if name not in images.classes:
            raise BadInput(f"--classes: unknown class {name!r}; {nearest(name, images.classes)}")
        if not (images.test.labels == images.classes.index(name)).any():
            raise BadInput(f"--classes: no test image of class {name!r}")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise BadInput(f"--classes wants two classes or more, each once, found {', '.join(names)}")
    return {images.classes.index(name): name for name in names}


@torch.no_grad()
def collect(
    model: nn.Module, batches: Batches, spec: Training, labels: Sequence[int]
) -> tuple[dict[str, Gates], dict[str, npt.NDArray[np.float64]]]:
    """By SE block, in order of depth: the gates for images of `labels` (images, channels), the mean
    over all (C,).

    A gate a pixel is averaged over its pixels first. Raises BadInput if the network has no gate.
    """
    found: dict[str, list[Tensor]] = {}
    sums: dict[str, Tensor] = {}
    wanted = torch.tensor(labels, device=batches.device)
    here = torch.zeros(0, dtype=torch.bool, device=batches.device)

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def see(module: nn.Module, inputs: Any, gate: Tensor) -> None:
            image = gate.float().mean((2, 3))
            found.setdefault(name, []).append(image[here].cpu())
            sums[name] = sums.get(name, 0) + image.double().sum(0)

        return see

    gates = {name: getattr(block, "gate", None) for name, block in se_blocks(model).items()}
    hooks = [
        gate.register_forward_hook(watch(name))
        for name, gate in gates.items()
        if isinstance(gate, nn.Module)
    ]
    if not hooks:
        raise BadInput(f"{spec.backbone}: this network has no gate to look at")
    model.eval()
    try:
        with drawing_for_evaluation(model, batches.device):
            for x, y in batches.in_order():
                here = torch.isin(y, wanted)
                with precision(spec, batches.device):
                    model(x)
    finally:
        for hook in hooks:
            hook.remove()
    chosen = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    return chosen, {
        name: (total / len(batches.labels)).cpu().numpy() for name, total in sums.items()
    }


def _curves(
    gates: Gates,
    of_image: npt.NDArray[np.int64],
    labels: dict[int, str],
    everything: npt.NDArray[np.float64],
) -> Curves:
    drawn = list(drawn_channels(gates.shape[1]))
    by_class = {
        name: gates[of_image == label][:, drawn].astype(np.float64)
        for label, name in labels.items()
    }
    return Curves(
        channels=tuple(drawn),
        everything=tuple(everything[drawn].tolist()),
        mean={name: tuple(values.mean(0).tolist()) for name, values in by_class.items()},
        std={name: tuple(values.std(0).tolist()) for name, values in by_class.items()},
    )
