"""The paper's claims as an experiment's file states them.

A claim has checks; the kind of a check is a class of `analysis/claims/` that owns its fields and
what it makes of the evidence (registry CLAIM_KINDS).
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from senet_ablate.spec.registry import CLAIM_KINDS, BadInput
from senet_ablate.spec.schema import Frozen, Text, parse

Ledger = Literal["error", "arithmetic", "observation", "none"]
Rows = Annotated[tuple[Text, ...], Field(min_length=1)]
TwoRows = Annotated[tuple[Text, ...], Field(min_length=2)]


class Check(Frozen):
    """A claim in a form that can be tested; subclasses are the kinds.

    ledger: errors are judged against the noise between seeds, arithmetic is exact, observations are
    of gates and times.
    """

    ledger: ClassVar[Ledger] = "none"
    kind: Text

    @property
    def named(self) -> tuple[str, ...]:
        """Every row of the experiment that the check looks at."""
        return ()

    @property
    def mentioned(self) -> tuple[str, ...]:
        """The same, with the rows that decide whether it applies."""
        return self.named

    def examine(self, evidence: Any) -> Any:
        """What the check sees in the evidence: a Finding."""
        raise NotImplementedError


def _of_its_kind(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    if "kind" not in fields:
        raise BadInput("key 'kind' is missing")
    found = CLAIM_KINDS[parse(Text, fields["kind"])]
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise BadInput(f"kind {fields['kind']!r} is no class of checks")
    return parse(found, fields)


class RowCheck(Check):
    """A check of `rows`, `than` and `weights` as far as its kind has them."""

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(row for key in ("rows", "than", "weights") for row in getattr(self, key, ()))


class RowPairs(RowCheck):
    """Each of `rows` and the one of `than` in its place, unless `paired` says otherwise."""

    rows: Rows
    than: Rows

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        paired = getattr(self, "paired", True)
        if paired and self.than and len(self.rows) != len(self.than):
            raise ValueError("pairs need as many `rows` as `than`")
        return self


class Claim(Frozen):
    """One statement of the paper: its words in ours, the paper's evidence, and how we test it.

    top5: the paper's evidence for the same statement on the top-5 error, which is then a claim of
    its own. follows: ids of claims of the same experiment; it holds where they all hold, and
    nothing more is tested.
    """

    id: Text
    says: Text
    paper: Text = "not in the paper"
    checks: tuple[Annotated[SerializeAsAny[Check], BeforeValidator(_of_its_kind)], ...] = ()
    top5: Text = ""
    follows: tuple[Text, ...] = ()

    @property
    def ledger(self) -> Ledger:
        """The ledger of its checks but for those that cannot be tested."""
        return next((check.ledger for check in self.checks if check.ledger != "none"), "none")

    @model_validator(mode="after")
    def _has_one_kind_of_evidence(self) -> Self:
        if bool(self.checks) == bool(self.follows):
            raise ValueError(f"claim {self.id}: it has checks, or follows from other claims")
        if len({check.ledger for check in self.checks} - {"none"}) > 1:
            raise ValueError(f"claim {self.id}: errors and exact figures are claims of their own")
        if self.top5 and {getattr(one, "quantity", "") for one in self.checks} != {"top1"}:
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
