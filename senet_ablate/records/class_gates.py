"""What the gates of a trained network do for images of different classes (Figs. 6 and 7)."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from senet_ablate.spec.paper import paper_facts
from senet_ablate.spec.schema import Frozen

HIGH, LOW = 0.9, 0.1
DRAWN = 50  # channels a panel at most, "fifty uniformly sampled channels" (paper, Section 7.2)
MEASURES = {
    "mean": "mean gate",
    "between_class_std": "spread between classes",
    "centred_between_class_std": "the same, class means removed",
    "centred_share": "ratio of the two",
    "within_class_std": "spread within a class",
    "correlation": "correlation of class curves",
    "share_high": f"share > {HIGH}",
    "share_low": f"share < {LOW}",
}
"""Measures of ClassGates, as tables and sentences call them."""


class ClassGates(Frozen):
    """The gates of one SE block by class. A class curve is the mean gate of each channel over the
    images of that class.

    A network is a list of these in order of depth; names are the paper's, SE_4_6 being the sixth
    unit of stage 4.
    """

    name: str
    class_means: dict[str, float]  # mean gate over channels, by class
    between_class_std: float  # over class curves, mean over channels
    centred_between_class_std: float  # the same, each class curve less its own mean
    within_class_std: float  # over the images of a class, mean over channels and classes
    correlation: float | None  # of two class curves, mean over pairs; None where one is constant
    share_high: float  # of channels whose mean gate over all images is above HIGH
    share_low: float  # and below LOW

    @property
    def mean(self) -> float:
        """Mean gate over channels and classes."""
        return sum(self.class_means.values()) / len(self.class_means)

    @property
    def centred_share(self) -> float:
        """The spread between classes once each has its own level, over that without."""
        spread = self.between_class_std
        return self.centred_between_class_std / spread if spread else 0.0


class Curves(Frozen):
    """The gates of one block over the test images; one value a drawn channel."""

    channels: tuple[int, ...]  # which are drawn, counted from 0
    everything: tuple[float, ...]  # mean gate over all test images, whatever their class
    mean: dict[str, tuple[float, ...]]  # by class, over its images
    std: dict[str, tuple[float, ...]]


def describe(
    name: str,
    gates: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    classes: dict[int, str],
    everything: npt.NDArray[np.floating],
) -> ClassGates:
    """The gates (images, channels) of one block with the label of each image (images,), for the
    classes that are named.

    everything: mean gate over all images (channels,), where `gates` are not of all of them.
    Standard deviations are of the classes and images at hand, not estimates for others (no n - 1),
    as in the digitised figures. Shares are over all images. Raises ValueError if a class has no
    image, or fewer than two are named.
    """
    if len(classes) < 2 or not all((labels == label).any() for label in classes):
        raise ValueError("two classes or more are wanted, each with an image")
    of_class = [gates[labels == label].astype(np.float64) for label in classes]
    curves = np.stack([images.mean(axis=0) for images in of_class])  # classes x channels
    levels = curves.mean(axis=1)
    constant = (curves.min(axis=1) == curves.max(axis=1)).any()
    pairs = np.triu_indices(len(curves), k=1)
    return ClassGates(
        name=name,
        class_means=dict(zip(classes.values(), levels.tolist(), strict=True)),
        between_class_std=float(curves.std(axis=0).mean()),
        centred_between_class_std=float((curves - levels[:, None]).std(axis=0).mean()),
        within_class_std=float(np.mean([images.std(axis=0).mean() for images in of_class])),
        correlation=None if constant else float(np.atleast_2d(np.corrcoef(curves))[pairs].mean()),
        share_high=float((everything > HIGH).mean()),
        share_low=float((everything < LOW).mean()),
    )


def places(names: Sequence[str]) -> dict[str, str]:
    """Place in the network -> name of the SE block there, for the places that Figs. 6 and 7 draw.

    early: the last block of the first stage (SE_2_3 in ResNet-50); second: of the second of four
    stages (SE_3_4); middle: of the last but one (SE_4_6); late, next_to_last and last: the first
    block of the last stage and its last two (SE_5_1, SE_5_2, SE_5_3), of which the paper says
    opposite things: so a stage of two blocks has no next_to_last, one of a single block no last.
    Empty for a network of fewer than two numbered stages.
    """
    stages: dict[int, list[str]] = {}
    for name in names:
        if match := re.fullmatch(r"SE_(\d+)_\d+", name):
            stages.setdefault(int(match[1]), []).append(name)
    if len(stages) < 2:
        return {}
    *early, last = (stages[stage] for stage in sorted(stages))
    found = {"early": early[0][-1]}
    if len(early) > 2:
        found["second"] = early[1][-1]
    found |= {"middle": early[-1][-1], "late": last[0]}
    if len(last) > 2:
        found["next_to_last"] = last[-2]
    return found | ({"last": last[-1]} if len(last) > 1 else {})


def find(network: Sequence[ClassGates], wanted: str) -> ClassGates | None:
    """The block of a network by its name or by its place, see `places`; None if there is none."""
    by_name = {block.name: block for block in network}
    return by_name.get(wanted) or by_name.get(places(list(by_name)).get(wanted, ""))


def paper_network() -> list[ClassGates]:
    """SE-ResNet-50 by Figs. 6 and 7: 50 channels a block, four classes (two for the spread)."""
    between, within = paper_facts()["digitised_fig6"], paper_facts()["digitised_fig7"]
    return [
        ClassGates(
            name=name,
            class_means={
                label: mean for label, mean in block["class_means"].items() if label != "all"
            },
            between_class_std=block["mean_interclass_std"],
            centred_between_class_std=block["mean_interclass_std_after_centering_each_class"],
            within_class_std=float(
                np.mean([band["mean_halfwidth"] for band in within[name].values()])
            ),
            correlation=block["mean_pairwise_corr"],
            share_high=block["frac_all_gt_0p9"],
            share_low=block["frac_all_lt_0p1"],
        )
        for name, block in between.items()
    ]


def drawn_channels(channels: int) -> range:
    """Every ceil(C/50)-th channel, as the paper's figures have them."""
    return range(0, channels, -(-channels // DRAWN))


def drawn_blocks(names: Sequence[str]) -> list[str]:
    """The blocks that the paper would draw; the last six of a network without numbered stages."""
    return list(dict.fromkeys(places(names).values())) or list(names[-6:])
