"""The small vocabulary in which an experiment's file states the paper's claims."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from senet_ablate.strict import Flag, Frozen, Number, Text

GateMeasure = Literal[
    "between_class_std", "within_class_std", "correlation", "share_high", "share_low", "centred_share", "mean"
]
TimeMeasure = Literal["training_step", "inference"]
_NEEDS = {
    "better": ("rows", "than"),
    "worse": ("rows", "than"),
    "no_worse": ("rows", "than"),
    "similar": ("rows",),
    "ordered": ("rows",),
    "not_monotone": ("rows",),
    "ratio": ("rows", "than", "low or high"),
    "gates_rise": ("rows",),
    "gates_fall": ("rows",),
    "gates_within": ("rows", "low or high"),
    "time": ("low or high",),
    "none": ("statement",),
}


class Check(Frozen):
    """A claim in a form that can be tested.

    On test error in points, against its noise (`quantity` top1, top5, or throughout, which is the top-1 error averaged
    over all of training in place of its end; `within` defaults to the experiment's margin):
      better        each of `rows` has a lower error than each of `than`
      worse         each of `rows` has a higher error than each of `than`
      no_worse      the error of each of `rows` is higher by less than `within` than that of each of `than`, or lower
      similar       any two of `rows` differ by less than `within`
      ordered       the error rises from the first of `rows` to the last
      not_monotone  it does not: some row is better than one named before it
    Arithmetic on the records (`quantity` params or macs):
      ratio         each of `rows` over the one of `than` in its place lies in [`low`, `high`]
    On the gates of a trained network, by class (`quantity` a measure of ClassGates; `rows` name its blocks, as in the
    paper, SE_4_6, or by their part: early, middle, late, next_to_last, last; see class_gates.find):
      gates_rise    the measure rises from the first of `rows` to the last
      gates_fall    it falls
      gates_within  it lies in [`low`, `high`] in every one of `rows`
    On the times of SE-ResNet-50 over ResNet-50 at 224 pixels, as `senet-ablate bench overhead` measured them
    (`quantity` training_step or inference, of one image; `device` gpu or cpu):
      time          their ratio lies in [`low`, `high`]
    And:
      none          the paper gives nothing that could be tested here; `statement` says why

    paired: each of `rows` is compared with the one of `than` in its place, not with all of them (as ratios always are).
    network: `paper` limits a check to the network that it is stated for, ResNet-50 at 224 pixels and 1,000 classes.
    """

    kind: Literal[
        "better",
        "worse",
        "no_worse",
        "similar",
        "ordered",
        "not_monotone",
        "ratio",
        "gates_rise",
        "gates_fall",
        "gates_within",
        "time",
        "none",
    ]
    rows: tuple[Text, ...] = ()
    than: tuple[Text, ...] = ()
    paired: Flag = False
    quantity: Literal["top1", "top5", "throughout", "params", "macs"] | GateMeasure | TimeMeasure = "top1"
    device: Literal["gpu", "cpu"] | None = None
    within: Annotated[Number, Field(gt=0)] | None = None
    low: Number | None = None
    high: Number | None = None
    network: Literal["any", "paper"] = "any"
    statement: Text = ""

    @property
    def on_gates(self) -> bool:
        """Whether `rows` are SE blocks of one network instead of rows of the table."""
        return self.kind.startswith("gates_")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        given = {
            "rows": bool(self.rows),
            "than": bool(self.than),
            "low or high": self.low is not None or self.high is not None,
            "statement": bool(self.statement),
        }
        for name, is_given in given.items():
            if (name in _NEEDS[self.kind]) != is_given:
                verb = "has no use for" if is_given else "needs"
                raise ValueError(f"a check of kind {self.kind!r} {verb} {name}")
        if self.within is not None and self.kind not in ("similar", "no_worse"):
            raise ValueError(f"a check of kind {self.kind!r} has no use for within")
        return self

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        allowed: tuple[str, ...] = ("top1", "top5", "throughout")
        if self.kind == "ratio":
            allowed = ("params", "macs")
        elif self.on_gates:
            allowed = get_args(GateMeasure)
        elif self.kind == "time":
            allowed = get_args(TimeMeasure)
        if (self.kind == "time") != (self.device is not None):
            raise ValueError("`device` belongs to a check of kind 'time', which needs it")
        if self.kind != "none" and self.quantity not in allowed:
            raise ValueError(f"a check of kind {self.kind!r} is on {', '.join(allowed)}, found {self.quantity!r}")
        if (self.kind == "ratio" or self.paired) and len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        if self.kind in ("similar", "ordered", "not_monotone", "gates_rise", "gates_fall") and len(self.rows) < 2:
            raise ValueError(f"a check of kind {self.kind!r} compares two rows or more")
        named = (*self.rows, *self.than)
        if len(set(named)) < len(named):
            raise ValueError(f"a check of kind {self.kind!r} names a row twice")
        return self


class Claim(Frozen):
    """One statement of the paper: its words in ours, the paper's evidence, and how we test it."""

    id: Text
    says: Text
    paper: Text
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
