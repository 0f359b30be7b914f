"""The gates of a trained network for the test images, class by class (paper, Section 7.2)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from senet_ablate.data import Batches, ImageSet
from senet_ablate.records import ClassGates
from senet_ablate.records.class_gates import Curves, describe, drawn_blocks, drawn_channels
from senet_ablate.spec import BadInput, Training
from senet_ablate.train.loop import evaluate

PAPERS_CLASSES = {
    "goldfish": "n01443537",
    "pug": "n02110958",
    "plane": "n03954731",
    "cliff": "n09246464",
}
CLASSES = 4

Values = npt.NDArray[np.float64]


def by_class(
    model: nn.Module,
    images: ImageSet,
    device: torch.device,
    spec: Training,
    names: Sequence[str] = (),
) -> tuple[tuple[ClassGates, ...], dict[str, Curves]]:
    """The gates of every block for test images of some classes; curves of the blocks to draw.

    names: two classes or more; none: `default_classes` of those that have test images. Raises
    BadInput where fewer than two have, or the network has no gate, and ValueError for a class that
    there is not.
    """
    present = [images.classes[label] for label in np.unique(images.test.labels)]
    if len(present) < 2:
        raise BadInput("fewer than two classes have test images")
    labels = {images.classes.index(name): name for name in names or default_classes(present)}
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
