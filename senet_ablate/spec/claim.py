"""The small vocabulary in which an experiment's file states the paper's claims."""

from typing import Any, Literal, Self, get_args

from pydantic import field_validator, model_validator

from senet_ablate.spec.schema import Flag, Frozen, Number, Text

GateMeasure = Literal[
    "between_class_std",
    "centred_between_class_std",
    "within_class_std",
    "correlation",
    "share_high",
    "share_low",
    "centred_share",
    "mean",
]
TimeMeasure = Literal["training_step", "inference"]
ERRORS = ("top1", "top5", "throughout")
_NEEDS = {
    "better": ("rows", "than"),
    "no_worse": ("rows", "than"),
    "similar": ("rows",),
    "differ": ("rows",),
    "contrast": ("weights", "side"),
    "identical": ("rows",),
    "ratio": ("rows", "than", "low or high"),
    "gates_rise": ("rows",),
    "gates_within": ("rows", "low or high"),
    "time": ("low or high",),
    "none": ("statement",),
}
_TWO_ROWS = ("similar", "differ", "identical", "gates_rise")


class Check(Frozen):
    """A claim in a form that can be tested.

    On test error in points, against its noise (`quantity` top1, top5, or throughout, which is the
    top-1 error averaged over all of training in place of its end). The margin is the analysis
    plan's, see AnalysisPlan:
      better        each of `rows` has a lower error than each of `than` no_worse      the error of
      each of `rows` is higher by less than the margin than that of each of `than`, or lower similar
      any two of `rows` differ by less than the margin differ        two of `rows` differ; with
      `than`, two of the differences between `rows` and `than`, in pairs, do contrast      the sum
      of mean errors times `weights` lies on its `side`: below_zero, below_margin, within_margin
    Exact, on the records:
      identical     `rows` are equal bit for bit in every seed that they share ratio         each of
      `rows` over the one of `than` in its place lies in [`low`, `high`] (`quantity` params, macs)
    On the gates of trained networks, by class (`quantity` a measure of ClassGates; `rows` name
    their blocks, as in the paper, SE_4_6, or by their part: early, middle, late, next_to_last,
    last; see class_gates.find):
      gates_rise    the measure rises from the first of `rows` to the last
      gates_within  it lies in [`low`, `high`] in every one of `rows`
    On the times of SE-ResNet-50 over ResNet-50 at 224 pixels, as `senet-ablate bench overhead`
    measured them (`quantity` training_step or inference, of one image; `device` gpu or cpu):
      time          their ratio lies in [`low`, `high`]
    And:
      none          the paper gives nothing that could be tested here; `statement` says why

    paired: each of `rows` is compared with the one of `than` in its place, not with all of them (as
    ratios always are). network: `paper` limits a check to the network that it is stated for,
    ResNet-50 at 224 pixels and 1,000 classes. needs, without: rows that the recipe's network must
    be able to host, or not, for the check to make sense.
    """

    kind: Literal[
        "better",
        "no_worse",
        "similar",
        "differ",
        "contrast",
        "identical",
        "ratio",
        "gates_rise",
        "gates_within",
        "time",
        "none",
    ]
    rows: tuple[Text, ...] = ()
    than: tuple[Text, ...] = ()
    weights: tuple[tuple[Text, Number], ...] = ()
    side: Literal["below_zero", "below_margin", "within_margin"] | None = None
    paired: Flag = False
    quantity: (
        Literal["top1", "top5", "throughout", "params", "macs"] | GateMeasure | TimeMeasure
    ) = "top1"
    device: Literal["gpu", "cpu"] | None = None
    low: Number | None = None
    high: Number | None = None
    network: Literal["any", "paper"] = "any"
    needs: tuple[Text, ...] = ()
    without: tuple[Text, ...] = ()
    statement: Text = ""

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_by_row(cls, weights: Any) -> Any:
        return tuple(weights.items()) if isinstance(weights, dict) else weights

    @property
    def named(self) -> tuple[str, ...]:
        """Every row that the check looks at."""
        return (*self.rows, *self.than, *(name for name, _ in self.weights))

    @property
    def on_errors(self) -> bool:
        """Whether it is judged against the noise between seeds."""
        return self.kind in ("better", "no_worse", "similar", "differ", "contrast")

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
            "weights": bool(self.weights),
            "side": self.side is not None,
        }
        for name, is_given in given.items():
            optional = self.kind == "differ" and name == "than"
            if not optional and (name in _NEEDS[self.kind]) != is_given:
                verb = "has no use for" if is_given else "needs"
                raise ValueError(f"a check of kind {self.kind!r} {verb} {name}")
        return self

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        allowed: tuple[str, ...] = ERRORS
        if self.kind == "ratio":
            allowed = ("params", "macs")
        elif self.on_gates:
            allowed = get_args(GateMeasure)
        elif self.kind == "time":
            allowed = get_args(TimeMeasure)
        if (self.kind == "time") != (self.device is not None):
            raise ValueError("`device` belongs to a check of kind 'time', which needs it")
        if self.kind not in ("none", "identical") and self.quantity not in allowed:
            raise ValueError(
                f"a check of kind {self.kind!r} is on {', '.join(allowed)}, found {self.quantity!r}"
            )
        in_pairs = self.kind == "ratio" or self.paired or (self.kind == "differ" and self.than)
        if in_pairs and len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        if self.kind in _TWO_ROWS and len(self.rows) < 2:
            raise ValueError(f"a check of kind {self.kind!r} compares two rows or more")
        if self.weights and abs(sum(weight for _, weight in self.weights)) > 1e-9:
            raise ValueError("the weights of a contrast add up to 0")
        if not all(weight for _, weight in self.weights):
            raise ValueError("a weight of 0 says nothing of its row")
        if len(set(self.named)) < len(self.named):
            raise ValueError(f"a check of kind {self.kind!r} names a row twice")
        return self

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> Self:
        on_rows = not self.on_gates and self.kind not in ("time", "none")
        inert = {
            "paired": self.paired and self.kind not in ("better", "no_worse", "ratio"),
            "quantity": self.quantity != "top1" and self.kind in ("identical", "none"),
            "network": self.network != "any" and not on_rows,
            "needs or without": bool(self.needs or self.without) and not on_rows,
        }
        for name, is_inert in inert.items():
            if is_inert:
                raise ValueError(f"a check of kind {self.kind!r} has no use for {name}")
        return self


class Claim(Frozen):
    """One statement of the paper: its words in ours, the paper's evidence, and how we test it.

    top5: the paper's evidence for the same statement on the top-5 error, which is then a claim of
    its own. follows: ids of claims of the same experiment; it holds where they all hold, and
    nothing more is tested.
    """

    id: Text
    says: Text
    paper: Text
    checks: tuple[Check, ...] = ()
    top5: Text = ""
    follows: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _has_one_kind_of_evidence(self) -> Self:
        if bool(self.checks) == bool(self.follows):
            raise ValueError(f"claim {self.id}: it has checks, or follows from other claims")
        ledgers = {
            "error" if check.on_errors else "other" for check in self.checks if check.kind != "none"
        }
        if len(ledgers) > 1:
            raise ValueError(f"claim {self.id}: errors and exact figures are claims of their own")
        on_top1 = [check.on_errors and check.quantity == "top1" for check in self.checks]
        if self.top5 and not (on_top1 and all(on_top1)):
            raise ValueError(f"claim {self.id}: `top5` repeats checks on the top-1 error")
        return self

    def expanded(self) -> "tuple[Claim, ...]":
        """The claim, and the one on the top-5 error where there is one."""
        if not self.top5:
            return (self,)
        checks = tuple(check.model_copy(update={"quantity": "top5"}) for check in self.checks)
        says = f"{self.says.rstrip('.')} (top-5 error)."
        other = Claim(id=f"{self.id}/top-5", says=says, paper=self.top5, checks=checks)
        return self.model_copy(update={"top5": ""}), other
