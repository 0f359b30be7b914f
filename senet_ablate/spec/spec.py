"""What is asked for, as frozen values: SE specification, recipe, experiment, run.

Everything here is read from strict YAML (an unknown or repeated key is an error) and imports no
torch. A run's id is a hash of the fields that can change its numbers. Defaults are left out of the
hash, so a field that is added later, with a default, leaves the ids of old records as they were.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, field_validator, model_validator
from pydantic.dataclasses import dataclass as validated_dataclass

from senet_ablate.spec.claim import Claim
from senet_ablate.spec.registry import (
    BACKBONES,
    BLOCKS,
    DATASETS,
    EXCITATIONS,
    GATES,
    SQUEEZES,
    BadInput,
    nearest,
)
from senet_ablate.spec.schema import Count, Flag, Frozen, Integer, Number, Text, parse

Placement = Literal["standard", "pre", "post", "identity", "conv3x3"]
PLACEMENTS = {
    "standard": "on the residual branch, before the addition (paper, Fig. 5b)",
    "pre": "on the branch's input, before its first layer (Fig. 5c)",
    "post": "after the ReLU that follows the sum (Fig. 5d)",
    "identity": "on the shortcut (Fig. 5e)",
    "conv3x3": "inside the branch, right after the 3x3 convolution (Table 15)",
}


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SESpec:
    """One kind of Squeeze-and-Excitation block and where a network carries it (paper, Sections 3
    and 6).

    reduction: the ratio r; the hidden width is exactly C // r. squeeze, excitation, gate, block:
    registered names, or a user's own `module:name`. placement: the slot of the unit (paper, Fig. 5;
    `conv3x3` is Table 15). stages: "all", "all_but_last", or the paper's numbers, stage N being
    convN_x. bias: of the two FC layers; the paper's ablations have none. Raises
    pydantic.ValidationError (a ValueError) for a value that no network could carry.
    """

    reduction: Count = 16
    squeeze: Text = "avg"
    excitation: Text = "fc"
    gate: Text = "sigmoid"
    placement: Placement = "standard"
    stages: Literal["all", "all_but_last"] | tuple[Count, ...] = "all"
    bias: Flag = False
    block: Text = "se"

    @field_validator("squeeze", "excitation", "gate", "block")
    @classmethod
    def _known_name(cls, name: str, info: Any) -> str:
        registry = {"squeeze": SQUEEZES, "excitation": EXCITATIONS, "gate": GATES, "block": BLOCKS}[
            info.field_name
        ]
        return registry.check(name)

    @field_validator("stages", mode="before")
    @classmethod
    def _stages_are_a_set(cls, stages: Any) -> Any:
        if isinstance(stages, str) and stages not in ("all", "all_but_last"):
            raise ValueError(
                f"{stages!r} is neither 'all', 'all_but_last' nor a list of stage numbers"
            )
        if isinstance(stages, list | tuple):
            if not stages:
                raise ValueError("no stage is named; a network without SE is `se: null`")
            if any(type(stage) is not int or stage < 1 for stage in stages):
                raise ValueError(
                    f"stages are the paper's numbers (2, 3, ...), found {list(stages)}"
                )
            if len(set(stages)) != len(stages):
                raise ValueError(f"a stage is named twice in {list(stages)}")
            return tuple(sorted(stages))
        return stages

    def inert(self) -> tuple[str, ...]:
        """The fields that cannot change this block's numbers, whatever they are set to."""
        if self.block == "se" and self.gate == "constant":
            return ("reduction", "squeeze", "excitation", "placement", "stages", "bias")
        if self.block == "se" and self.excitation == "none":
            return ("reduction", "bias")
        return ()

    def canonical(self) -> "SESpec":
        """The same block with every inert field at its default, so that equal networks have equal
        specifications.
        """
        return replace(self, **{name: getattr(SESpec(), name) for name in self.inert()})


class Training(Frozen):
    """All that is held equal between the variants of a table, and can change their numbers."""

    dataset: Text
    image_size: Count | None = None  # pixels; images are stored at this size; none: as they are
    train_images: Count | None = None  # use only so many, the same share of every class
    test_images: Count | None = None
    # share of the training images that is held out
    validation: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    backbone: Text
    stem: Text = "default"  # `64px` or `32px` for images smaller than the backbone was made for
    epochs: Count
    batch_size: Count
    lr: Annotated[Number, Field(gt=0)]
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    nesterov: Flag = False
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "onecycle", "multistep", "plateau"] = "cosine"
    warmup_epochs: Annotated[Number, Field(ge=0)] = 0.0
    milestones: tuple[Count, ...] = ()  # epochs after which lr is divided by 10
    drops: Annotated[Integer, Field(ge=0)] = 0  # plateau: so many divisions of lr by 10
    # plateau: epochs without a better validation loss
    patience: Annotated[Integer, Field(ge=0)] = 0
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    # zero-pad by so many pixels a side, crop back at random
    pad_crop: Annotated[Integer, Field(ge=0)] = 0
    flip: Flag = False
    # crop of an area share in this range and aspect 3/4 to 4/3
    scale_crop: tuple[Number, Number] | None = None
    # edge of a square of zeros at a random place, in pixels
    cutout: Annotated[Integer, Field(ge=0)] = 0
    crop_size: Count | None = None  # pixels the network sees; smaller than image_size
    normalise: Literal["mean_std", "mean"] = "mean_std"
    precision: Literal["float32", "bf16"] = "float32"
    evaluate: Literal["test", "validation"] = "test"  # validation: the images held out
    # portable: on x86, instructions that every processor since 2013 has, so that bits repeat
    numerics: Literal["native", "portable"] = "native"
    # of training steps by torch.compile: the network, or each of its residual units
    compile: Flag | Literal["units"] = False
    test_every: Count = 1  # epochs between two points of the error curve; only the last one counts

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        return DATASETS.check(name)

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        return BACKBONES.check(name)

    @model_validator(mode="after")
    def _keys_that_belong_together(self) -> Self:
        plateau = self.schedule == "plateau"
        rules = {
            "milestones belong to `schedule: multistep`, and it needs them": (
                (self.schedule == "multistep") == bool(self.milestones)
            ),
            "drops and patience belong to `schedule: plateau`, and it needs both": (
                plateau == bool(self.drops) and plateau == bool(self.patience)
            ),
            "`validation` is for `schedule: plateau` or `evaluate: validation`, and both need it": (
                (self.validation > 0) == (plateau or self.evaluate == "validation")
            ),
            "milestones must rise and lie before the last epoch": (
                list(self.milestones) == sorted(set(self.milestones))
                and all(milestone < self.epochs for milestone in self.milestones)
            ),
            "onecycle has its own warm-up: `warmup_epochs` does nothing": (
                self.schedule != "onecycle" or not self.warmup_epochs
            ),
            "warmup_epochs must be fewer than epochs": self.warmup_epochs < self.epochs,
            "`compile` and `numerics: portable` exclude each other:"
            " compiled code picks its own instructions": not (
                self.compile and self.numerics == "portable"
            ),
            "nesterov needs momentum": self.momentum > 0 or not self.nesterov,
            "scale_crop and pad_crop exclude each other": not (self.scale_crop and self.pad_crop),
            "scale_crop needs crop_size": not self.scale_crop or self.crop_size is not None,
            "scale_crop is a range of area shares, 0 < low <= high <= 1": (
                self.scale_crop is None or 0 < self.scale_crop[0] <= self.scale_crop[1] <= 1
            ),
            "crop_size must not exceed image_size": (
                self.crop_size is None
                or self.image_size is None
                or self.crop_size <= self.image_size
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise ValueError(rule)
        return self


MOST_SEEDS = 1000  # a row; more is a slip of the finger
# Gain of standard SE over the plain network, relative to its error (Tables 10 to 16)
PAPERS_GAIN = {"top1": 1.02 / 23.30, "top5": 0.52 / 6.55}
Seeds = tuple[Annotated[Integer, Field(ge=0)], ...]


class Look(Frozen):
    """A point at which verdicts are made:

    seeds of each row, those of the two reference rows, error rate spent.
    """

    seeds: Count
    reference_seeds: Count
    alpha: Annotated[Number, Field(gt=0, lt=1)]


def expected_gain(plain_top1: float, plain_top5: float) -> dict[str, float]:
    """The gain of SE where the paper's relative gain holds, from the plain errors; points by
    quantity.
    """
    top1, top5 = PAPERS_GAIN["top1"] * plain_top1, PAPERS_GAIN["top5"] * plain_top5
    return {"top1": top1, "top5": top5, "throughout": top1}


def margins(gain: dict[str, float]) -> dict[str, float]:
    """Within which two rows count as alike: a third of the expected gain; points by quantity."""
    return {quantity: points / 3 for quantity, points in gain.items()}


class AnalysisPlan(Frozen):
    """How a recipe's results will be judged, fixed before its first record.

    The reference rows are the plain network and standard SE under the recipe's own schedule, which
    stand in every comparison. Family `page`: at each look, the chance of any false verdict among
    all claims on errors of the recipe's page is at most its alpha; the looks' alphas add up to at
    most 5%.
    """

    seeds: Annotated[Seeds, Field(min_length=1)]
    reference_seeds: Annotated[Seeds, Field(min_length=1)]
    experiment_seeds: Annotated[dict[Text, Seeds], Field(default_factory=dict)]
    looks: Annotated[tuple[Look, ...], Field(min_length=1)]
    # %, of the plain network in the search, on held-out images
    plain_top1: Annotated[Number, Field(gt=0)]
    plain_top5: Annotated[Number, Field(gt=0)]
    family: Literal["page"]  # all claims on errors of the recipe's page
    spread: Literal["shared", "own"]
    block: Literal["seed", "none"]
    failures: Text

    @property
    def expected_gain(self) -> dict[str, float]:
        """The paper's relative gain of SE, of this recipe's plain error; points by quantity."""
        return expected_gain(self.plain_top1, self.plain_top5)

    def seeds_of(self, experiment: str, reference: bool) -> Seeds:
        """The seeds of a row of an experiment."""
        return (
            self.reference_seeds if reference else self.experiment_seeds.get(experiment, self.seeds)
        )

    @model_validator(mode="after")
    def _looks_add_up(self) -> Self:
        if any(len(set(seeds)) < len(seeds) for seeds in (self.seeds, self.reference_seeds)):
            raise ValueError("a seed is named twice")
        if self.reference_seeds[: len(self.seeds)] != self.seeds:
            raise ValueError(
                "reference_seeds must begin with `seeds`: rows are compared seed by seed"
            )
        last = self.looks[-1]
        if (last.seeds, last.reference_seeds) != (len(self.seeds), len(self.reference_seeds)):
            raise ValueError("the last look must be at all seeds")
        if sum(look.alpha for look in self.looks) > 0.05 + 1e-12:
            raise ValueError("the looks spend more than an error rate of 0.05 together")
        return self


class Recipe(Frozen):
    """What every variant of every table has in common, and how its pages introduce it."""

    title: Text
    about: Text
    warning: Text = ""  # printed at the top of every page of this recipe
    # made up: by the program; its pages show no paper numbers and give no verdict on the paper
    images: Literal["natural", "made up"] = "natural"
    # how many seeds a variant, unless --seeds says otherwise
    seeds: Annotated[Count, Field(le=MOST_SEEDS)] = 5
    experiments: tuple[Text, ...] = ()  # which ones `run` means by all; none: all of them
    # `experiment/variant` -> why this backbone has no place for it
    cannot_host: Annotated[dict[Text, Text], Field(default_factory=dict)]
    # `experiment/variant`: its first seed keeps weights, all seeds gates by class
    keep_weights: tuple[Text, ...] = ()
    plan: AnalysisPlan | None = None
    train: Training

    @property
    def plan_id(self) -> str:
        """Hash of the analysis plan and the experiments it is for, which every record carries;
        empty without a plan.
        """
        if self.plan is None:
            return ""
        return digest(
            {"plan": self.plan.model_dump(mode="json"), "experiments": list(self.experiments)}
        )[:16]


class Variant(Frozen):
    """One row of an experiment. `se: null` is the plain network.

    backbone, cutout and epochs override the recipe's; lr_times is a factor on its learning rate.
    """

    se: SESpec | None
    backbone: Text | None = None
    cutout: Annotated[Integer | None, Field(ge=0)] = None
    epochs: Count | None = None
    lr_times: Annotated[Number | None, Field(gt=0)] = None
    label: Text = ""  # how tables and plots name the row, where the paper's name would mislead
    note: Text = ""
    paper_row: Text = ""  # table/row of paper.yaml, where it is not this experiment's row

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str | None) -> str | None:
        return name if name is None else BACKBONES.check(name)

    @property
    def own(self) -> dict[str, Any]:
        """What the row sets in place of its recipe, by the recipe's keys."""
        keys = {"backbone": "backbone", "cutout": "cutout", "epochs": "epochs", "lr": "lr_times"}
        return {
            key: value for key, name in keys.items() if (value := getattr(self, name)) is not None
        }

    def applied_to(self, train: Training) -> Training:
        """The recipe's `train` as this row has it. Raises BadInput where they conflict."""
        own = self.own
        if self.lr_times is not None:
            own["lr"] = train.lr * self.lr_times
        return parse(Training, train.model_dump(exclude_defaults=True) | own) if own else train


class Experiment(Frozen):
    """One table or figure of the paper: its question, its variants by the paper's row names, its
    control.

    A variant that overrides the recipe is compared with the plain one that does so too; see
    `control_of`.
    """

    title: Text
    question: Text
    paper_table: Text | None = None  # id in paper.yaml; none: the paper has no such table
    control: Text
    reference: Text | None = None  # row to compare the others with beside the control
    axis: Text = ""  # what numeric row names measure; empty: rows are categories
    on_request: Flag = False  # run only where it is named or the recipe lists it
    variants: dict[Text, Variant]
    claims: tuple[Claim, ...] = ()

    @field_validator("claims")
    @classmethod
    def _each_error_on_its_own(cls, claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
        return tuple(one for claim in claims for one in claim.expanded())

    @model_validator(mode="before")
    @classmethod
    def _inert_keys_are_errors(cls, data: Any) -> Any:
        variants = data.get("variants") if isinstance(data, dict) else None
        for name, variant in variants.items() if isinstance(variants, dict) else ():
            written = variant.get("se") if isinstance(variant, dict) else None
            if isinstance(written, dict):
                for key in parse(SESpec, written).inert():
                    if key in written:
                        raise ValueError(
                            f"variants.{name}.se.{key} changes nothing in this block; leave it out"
                        )
        return data

    @model_validator(mode="after")
    def _rows_exist_and_differ(self) -> Self:
        if self.control not in self.variants:
            raise ValueError(
                f"control {self.control!r} is no variant; {nearest(self.control, self.variants)}"
            )
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(
                f"reference {self.reference!r} is no variant;"
                f" {nearest(self.reference, self.variants)}"
            )
        for name in self.variants if self.axis else ():
            if name != self.control and not re.fullmatch(r"\d+(\.\d+)?", name):
                raise ValueError(f"`axis` is {self.axis!r}, but variant {name!r} is no number")
        seen: dict[Any, str] = {}
        for name, variant in self.variants.items():
            key = (variant.se and variant.se.canonical(), *variant.own.items())
            if key in seen:
                raise ValueError(f"variants {seen[key]!r} and {name!r} are the same network")
            seen[key] = name
            if self.control_of(name) not in self.variants:
                raise ValueError(
                    f"variants.{name}: no plain variant with {variant.own} to compare it with"
                )
        ids = [claim.id for claim in self.claims]
        for claim in self.claims:
            if ids.count(claim.id) > 1:
                raise ValueError(f"claim {claim.id} is there twice")
            for check in claim.checks:
                for row in check.mentioned:
                    if row not in self.variants:
                        raise ValueError(
                            f"claim {claim.id}: {row!r} is no variant;"
                            f" {nearest(row, self.variants)}"
                        )
            for other in claim.follows:
                if other not in ids or self.claims[ids.index(other)].follows:
                    raise ValueError(
                        f"claim {claim.id}: it follows from {other!r}, which is no claim with"
                        " checks here"
                    )
        return self

    def control_of(self, name: str) -> str:
        """The variant that `name` is compared with:

        without SE and otherwise alike; empty if there is none.
        """
        own = self.variants[name].own
        if own == self.variants[self.control].own:
            return self.control
        return next(
            (
                name
                for name, value in self.variants.items()
                if value.se is None and value.own == own
            ),
            "",
        )


@dataclass(frozen=True)
class Run:
    """Recipe + variant + seed: the unit of training."""

    train: Training
    se: SESpec | None
    seed: int

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Every field that can change the numbers and is not at its default; the id hashes this."""
        se = (
            None
            if self.se is None
            else TypeAdapter(SESpec).dump_python(self.se.canonical(), mode="json")
        )
        default = TypeAdapter(SESpec).dump_python(SESpec(), mode="json")
        return {
            "train": self.train.model_dump(mode="json", exclude_defaults=True),
            "se": se and {key: value for key, value in se.items() if value != default[key]},
            "seed": self.seed,
        }

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits, equal for equal runs on every machine."""
        return digest(self.fields)[:16]

    @cached_property
    def row_id(self) -> str:
        """As `id`, without the seed: equal for all seeds of a row."""
        return digest({key: value for key, value in self.fields.items() if key != "seed"})[:16]

    @staticmethod
    def from_fields(fields: Any) -> "Run":
        """The run that `fields` were taken from. Raises BadInput if they no longer parse."""
        if isinstance(fields, Run):
            return fields
        if (
            not isinstance(fields, dict)
            or set(fields) != {"train", "se", "seed"}
            or type(fields["seed"]) is not int
        ):
            raise BadInput("a run has the fields train, se and seed")
        se = None if fields["se"] is None else parse(SESpec, fields["se"])
        return Run(parse(Training, fields["train"]), se, fields["seed"])


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
