"""What is asked for, as frozen values: SE specification, recipe, experiment, run.

Everything here is read from strict YAML (an unknown or repeated key is an error) and imports no
torch. A run's id is a hash of the fields that can change its numbers. Defaults are left out of the
hash, so a field that is added later, with a default, leaves the ids of old records as they were.
"""

import hashlib
import json
import math
import re
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as validated_dataclass

from senet_ablate.spec import registry
from senet_ablate.spec.claim import Claim
from senet_ablate.spec.registry import nearest
from senet_ablate.spec.schema import (
    Count,
    Flag,
    Frozen,
    Integer,
    NotNegative,
    Number,
    Positive,
    Share,
    Text,
    Whole,
    parse,
    plain,
)

Backbone = Annotated[Text, AfterValidator(registry.BACKBONES.check)]
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
    squeeze: Annotated[Text, AfterValidator(registry.SQUEEZES.check)] = "avg"
    excitation: Annotated[Text, AfterValidator(registry.EXCITATIONS.check)] = "fc"
    gate: Annotated[Text, AfterValidator(registry.GATES.check)] = "sigmoid"
    placement: Placement = "standard"
    stages: Literal["all", "all_but_last"] | tuple[Count, ...] = "all"
    bias: Flag = False
    block: Annotated[Text, AfterValidator(registry.BLOCKS.check)] = "se"

    @field_validator("stages", mode="before")
    @classmethod
    def _stages_are_a_set(cls, stages: Any) -> Any:
        if stages in ("all", "all_but_last"):
            return stages
        listed = [*map(plain, stages)] if isinstance(stages, list | tuple) else ()
        numbers = {stage for stage in listed if type(stage) is int and stage > 0}
        if not listed or len(numbers) < len(listed):
            raise ValueError(
                "stages are 'all', 'all_but_last', or one or more of the paper's numbers"
                f" (2, 3, ...), no stage twice; found {stages!r}"
            )
        return tuple(sorted(numbers))

    def inert(self) -> tuple[str, ...]:
        """The fields that cannot change this block's numbers, whatever they are set to."""
        if self.block != "se":
            return ()
        if self.gate == "constant":
            return ("reduction", "squeeze", "excitation", "placement", "stages", "bias")
        return ("reduction", "bias") if self.excitation == "none" else ()

    def canonical(self) -> "SESpec":
        """The same block with every inert field at its default, so that equal networks have equal
        specifications.
        """
        return replace(self, **{name: getattr(SESpec(), name) for name in self.inert()})


class Training(Frozen):
    """All that is held equal between the variants of a table, and can change their numbers."""

    dataset: Annotated[Text, AfterValidator(registry.DATASETS.check)]
    image_size: Count | None = None  # pixels; images are stored at this size; none: as they are
    train_images: Count | None = None  # use only so many, the same share of every class
    test_images: Count | None = None
    validation: Share = 0.0  # of the training images, held out
    backbone: Backbone
    stem: Text = "default"  # `64px` or `32px` for images smaller than the backbone was made for
    epochs: Count
    batch_size: Count
    lr: Positive
    momentum: Share = 0.9
    nesterov: Flag = False
    weight_decay: NotNegative = 1e-4
    schedule: Literal["cosine", "onecycle", "multistep", "plateau"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    milestones: tuple[Count, ...] = ()  # epochs after which lr is divided by 10
    drops: Whole = 0  # plateau: so many divisions of lr by 10
    patience: Whole = 0  # plateau: epochs without a better validation loss
    label_smoothing: Share = 0.0
    pad_crop: Whole = 0  # zero-pad by so many pixels a side, crop back at random
    flip: Flag = False
    # crop of an area share in this range and aspect 3/4 to 4/3; what leaves the image is cut off
    scale_crop: tuple[Number, Number] | None = None
    cutout: Whole = 0  # edge of a square of zeros at a random place, in pixels
    crop_size: Count | None = None  # pixels the network sees; smaller than image_size
    normalise: Literal["mean_std", "mean"] = "mean_std"
    precision: Literal["float32", "bf16"] = "float32"
    evaluate: Literal["test", "validation"] = "test"  # validation: the images held out
    # portable: on x86, instructions that every processor since 2013 has, so that bits repeat
    numerics: Literal["native", "portable"] = "native"
    # of training steps by torch.compile: the network, or each of its residual units
    compile: Flag | Literal["units"] = False
    test_every: Count = 1  # epochs between two points of the error curve; only the last one counts

    @model_validator(mode="after")
    def _keys_that_belong_together(self) -> Self:
        plateau = self.schedule == "plateau"
        rules = {
            "milestones belong to `schedule: multistep`, and it needs them": (
                (self.schedule == "multistep") == bool(self.milestones)
            ),
            "drops and patience belong to `schedule: plateau`, and it needs both": (
                plateau == bool(self.drops) == bool(self.patience)
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
        _check(rules)
        return self


def _check(rules: dict[str, bool]) -> None:
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(rule)


MOST_SEEDS = 1000  # a row; more is a slip of the finger
Seeds = tuple[Whole, ...]


class Look(Frozen):
    """When verdicts are made: seeds of each row, of the two reference rows, error rate spent."""

    seeds: Count
    reference_seeds: Count
    alpha: Annotated[Number, Field(gt=0, lt=1)]

    @property
    def words(self) -> str:
        return f"{self.seeds} seeds a row, {self.reference_seeds} of plain and SE"


def margins(plain_top1: float, plain_top5: float | None) -> dict[str, float]:
    """Within which two rows count as alike, points by quantity: a third of the gain of SE that is
    expected from the plain errors in %, which is the paper's relative gain (Tables 10 to 16); NaN
    where no plain error is expected.
    """
    top5 = math.nan if plain_top5 is None else 0.52 / 6.55 * plain_top5 / 3
    top1 = 1.02 / 23.30 * plain_top1 / 3
    return {"top1": top1, "top5": top5, "throughout": top1}


class AnalysisPlan(Frozen):
    """How a recipe's results will be judged, fixed before its first record.

    The reference rows are the plain network and standard SE under the recipe's own schedule, which
    stand in every comparison. Family `page`: at each look, the chance of any false verdict among
    all claims on errors of the recipe's page is at most its alpha; the looks' alphas add up to at
    most 5%.
    """

    seeds: Annotated[Seeds, Field(min_length=1)]
    reference_seeds: Annotated[Seeds, Field(min_length=1)]
    experiment_seeds: dict[Text, Seeds] = Field(default_factory=dict)
    looks: Annotated[tuple[Look, ...], Field(min_length=1)]
    # %, of the plain network in the search, on held-out images; with 5 classes there is no top-5
    plain_top1: Positive
    plain_top5: Positive | None = None
    family: Literal["page"]  # all claims on errors of the recipe's page
    spread: Literal["shared", "own"]
    block: Literal["seed", "none"]
    failures: Text

    @property
    def margins(self) -> dict[str, float]:
        """Within which two rows count as alike, points by quantity."""
        return margins(self.plain_top1, self.plain_top5)

    @model_validator(mode="after")
    def _looks_add_up(self) -> Self:
        last, both = self.looks[-1], (self.seeds, self.reference_seeds)
        rules = {
            "a seed is named twice": all(
                len(set(seeds)) == len(seeds) for seeds in (*both, *self.experiment_seeds.values())
            ),
            "experiment_seeds names an experiment without a seed": all(
                self.experiment_seeds.values()
            ),
            "each look must have the seeds of the one before": all(
                one.seeds <= other.seeds and one.reference_seeds <= other.reference_seeds
                for one, other in pairwise(self.looks)
            ),
            "reference_seeds must begin with `seeds`: rows are compared seed by seed": (
                self.reference_seeds[: len(self.seeds)] == self.seeds
            ),
            "the last look must be at all seeds": (
                (last.seeds, last.reference_seeds) == tuple(map(len, both))
            ),
            "the looks spend more than an error rate of 0.05 together": (
                sum(look.alpha for look in self.looks) <= 0.05 + 1e-12
            ),
        }
        _check(rules)
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
    cannot_host: dict[Text, Text] = Field(default_factory=dict)
    # `experiment/variant`: its first seed keeps weights, all seeds gates by class
    keep_weights: tuple[Text, ...] = ()
    plan: AnalysisPlan | None = None
    train: Training

    @property
    def plan_id(self) -> str:
        """Hash of the analysis plan and the experiments it is for, which every record carries;
        empty without a plan.
        """
        plan = self.plan and self.plan.model_dump(mode="json")
        return digest({"plan": plan, "experiments": list(self.experiments)})[:16] if plan else ""


class Variant(Frozen):
    """One row of an experiment. `se: null` is the plain network.

    backbone, cutout and epochs override the recipe's; lr_times is a factor on its learning rate.
    """

    se: SESpec | None
    backbone: Backbone | None = None
    cutout: Whole | None = None
    epochs: Count | None = None
    lr_times: Positive | None = None
    label: Text = ""  # how tables and plots name the row, where the paper's name would mislead
    note: Text = ""
    paper_row: Text = ""  # table/row of paper.yaml, where it is not this experiment's row

    @model_validator(mode="before")
    @classmethod
    def _inert_keys_are_errors(cls, data: Any) -> Any:
        written = data.get("se") if isinstance(data, dict) else None
        if isinstance(written, dict):
            for key in parse(SESpec, written).inert():
                if key in written:
                    raise ValueError(f"se.{key} changes nothing in this block; leave it out")
        return data

    @property
    def own(self) -> dict[str, Any]:
        """What the row sets in place of its recipe."""
        keys = {"backbone", "cutout", "epochs", "lr_times"}
        return self.model_dump(include=keys, exclude_none=True)

    def applied_to(self, train: Training) -> Training:
        """The recipe's `train` as this row has it. Raises BadInput where they conflict."""
        own = self.own
        if not own:
            return train
        own["lr"] = train.lr * own.pop("lr_times", 1.0)
        return parse(Training, train.model_dump(exclude_defaults=True) | own)


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

    @model_validator(mode="after")
    def _rows_exist_and_differ(self) -> Self:
        named = [("control", self.control), ("reference", self.reference or self.control)]
        for claim in self.claims:
            named += [(f"claim {claim.id}:", r) for one in claim.checks for r in one.mentioned]
        for where, row in named:
            if row not in self.variants:
                raise ValueError(f"{where} {row!r} is no variant; {nearest(row, self.variants)}")
        seen: dict[Any, str] = {}
        for name, variant in self.variants.items():
            number = re.fullmatch(r"\d+(\.\d+)?", name) and float(name)
            if self.axis and name != self.control and not number:  # the axis is logarithmic
                raise ValueError(
                    f"`axis` is {self.axis!r}, but variant {name!r} is no number above 0"
                )
            same = seen.setdefault(
                (variant.se and variant.se.canonical(), *variant.own.items()), name
            )
            if same != name:
                raise ValueError(f"variants {same!r} and {name!r} are the same network")
            if not self.control_of(name):
                raise ValueError(
                    f"variants.{name}: no plain variant with {variant.own} to compare it with"
                )
        ids = [claim.id for claim in self.claims]
        tested = [claim.id for claim in self.claims if claim.checks]
        for claim in self.claims:
            if ids.count(claim.id) > 1:
                raise ValueError(f"claim {claim.id} is there twice")
            for other in claim.follows:
                if other not in tested:
                    raise ValueError(
                        f"claim {claim.id}: it follows from {other!r}, which is no claim with"
                        " checks here"
                    )
        return self

    def control_of(self, name: str) -> str:
        """The variant that `name` is compared with: without SE and otherwise alike; empty if there
        is none.
        """
        own = self.variants[name].own
        plain = (row for row, value in self.variants.items() if value.se is None)
        return next((row for row in (self.control, *plain) if self.variants[row].own == own), "")


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Run:
    """Recipe + variant + seed: the unit of training."""

    train: Training
    se: SESpec | None
    seed: Integer

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Every field that can change the numbers and is not at its default; the id hashes this."""
        se = self.se and TypeAdapter(SESpec).dump_python(
            self.se.canonical(), mode="json", exclude_defaults=True
        )
        train = self.train.model_dump(mode="json", exclude_defaults=True)
        return {"train": train, "se": se, "seed": self.seed}

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits, equal for equal runs on every machine."""
        return digest(self.fields)[:16]

    @cached_property
    def row_id(self) -> str:
        """As `id`, without the seed: equal for all seeds of a row."""
        return digest({key: self.fields[key] for key in ("train", "se")})[:16]


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
