"""The gates of a trained network for the test images, class by class (paper, Section 7.2)."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from senet_ablate.data import Batches, ImageSet
from senet_ablate.records import ClassGates, read_record
from senet_ablate.records.class_gates import Curves, describe
from senet_ablate.records.gate_facts import GateFacts, drawn_blocks, drawn_channels
from senet_ablate.records.store import runs_folder, weights_path
from senet_ablate.spec import BadInput, Plan, Training, nearest
from senet_ablate.train.checkpoint import load_weights
from senet_ablate.train.loop import evaluate
from senet_ablate.train.provenance import provenance

PAPERS_CLASSES = {
    "goldfish": "n01443537",
    "pug": "n02110958",
    "plane": "n03954731",
    "cliff": "n09246464",
}
CLASSES = 4

Values = npt.NDArray[np.float64]


def measure(
    plan: Plan,
    results: Path,
    images: ImageSet,
    device: torch.device,
    command: str,
    names: Sequence[str] = (),
) -> GateFacts:
    """The gates of the network whose weights the recipe keeps.

    names: classes; none: `default_classes`. Raises BadInput, with the command that helps, where
    there is no record, no weights, no gate, or no such class.
    """
    began, recipe = time.monotonic(), plan.recipe_name
    if not plan.kept:
        raise BadInput(
            f"recipe {recipe!r} keeps no weights; name a row, e.g. `keep_weights:"
            " [role_of_excitation/SE]`"
        )
    run, entry = plan.kept[0], plan.recipe.keep_weights[0]
    record = runs_folder(results, recipe) / f"{run.id}.json"
    path = weights_path(results, recipe, run.id)
    why = ""
    if not record.is_file():
        why = f"has not been trained under recipe {recipe!r}"
    elif not path.is_file():
        why = f"has a record, but no {path}; delete {record}"
    elif (last := read_record(record).diverged) is not None:
        why = f"diverged after epoch {last}, so its gates say nothing"
    if why:
        words = f"run {entry.partition('/')[0]} --recipe {plan.recipe_argument}"
        raise BadInput(
            f"{entry}, seed {run.seed}, {why}; `python -m senet_ablate {words}` trains it"
        )
    names = names or default_classes(images.classes)
    model = load_weights(path, run, len(images.classes)).to(device)
    blocks, curves = by_class(model, images, device, run.train, names)
    counts = Counter(images.test.labels.tolist())
    return GateFacts(
        run=run.id,
        weights=hashlib.sha256(path.read_bytes()).hexdigest(),
        tested=len(images.test),
        images={name: counts[images.classes.index(name)] for name in names},
        blocks=blocks,
        curves=curves,
        provenance=provenance(run, images.checksum, device, command, began),
    )


def by_class(
    model: nn.Module, images: ImageSet, device: torch.device, spec: Training, names: Sequence[str]
) -> tuple[tuple[ClassGates, ...], dict[str, Curves]]:
    """The gates of every block for test images of some classes; curves of some. Raises BadInput."""
    labels = _labels(images, names)
    test = Batches(images.test, images, spec, device)
    chosen, overall = collect(model, test, spec, list(labels))
    of_image = images.test.labels[np.isin(images.test.labels, list(labels))]
    blocks = [describe(name, chosen[name], of_image, labels, overall[name]) for name in chosen]
    curves = {}
    for block in drawn_blocks(list(chosen)):
        channels = list(drawn_channels(chosen[block].shape[1]))
        gates = {
            name: chosen[block][of_image == label][:, channels].astype(np.float64)
            for label, name in labels.items()
        }
        curves[block] = Curves(
            channels=tuple(channels),
            everything=tuple(overall[block][channels].tolist()),
            mean={name: tuple(values.mean(0).tolist()) for name, values in gates.items()},
            std={name: tuple(values.std(0).tolist()) for name, values in gates.items()},
        )
    return tuple(blocks), curves


def default_classes(classes: Sequence[str]) -> list[str]:
    """Four classes: those of the paper's figures that the set has, then others, evenly spaced.

    The paper's are known by English name or WordNet id.
    """
    wanted = [
        name for pair in PAPERS_CLASSES.items() for name in classes if name.split(",")[0] in pair
    ]
    spaced = np.linspace(0, len(classes) - 1, min(CLASSES, len(classes))).round().astype(int)
    others = [classes[index] for index in [*spaced, *range(len(classes))]]
    return list(dict.fromkeys([*wanted, *others]))[:CLASSES]


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


def collect(
    model: nn.Module, batches: Batches, spec: Training, labels: Sequence[int]
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, Values]]:
    """By SE block, in order of depth: gates for images of `labels` (images, C), mean of all (C,).

    A gate a pixel is averaged over its pixels first. Raises BadInput if the network has no gate.
    """
    found: dict[str, list[Tensor]] = {}
    sums: dict[str, Tensor] = {}
    wanted = torch.tensor(labels, device=batches.device)

    def on_gate(name: str, gate: Tensor, y: Tensor) -> None:
        mean = gate.float().mean((2, 3))
        found.setdefault(name, []).append(mean[torch.isin(y, wanted)].cpu())
        sums[name] = sums.get(name, 0) + mean.double().sum(0)

    names = list(evaluate(model, batches, spec, on_gate=on_gate).gates)
    if not names:
        raise BadInput(f"{spec.backbone}: this network has no gate of each image to look at")
    count = len(batches.labels)
    return (
        {name: torch.cat(found[name]).numpy() for name in names},
        {name: (sums[name] / count).cpu().numpy() for name in names},
    )
