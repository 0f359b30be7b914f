"""What a check looks at, and what it finds there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from senet_ablate.records import Bench, ClassGates, Costs, Record
from senet_ablate.spec import Experiment

if TYPE_CHECKING:
    from senet_ablate.analysis.model import ErrorModel
    from senet_ablate.analysis.stats import Estimate

Outcome = Literal["supported", "contradicted", "unresolved", "not tested"]
ORDER: tuple[Outcome, ...] = ("contradicted", "not tested", "unresolved", "supported")
"""Of several outcomes the first one here decides."""
Rows = Mapping[str, Sequence[Record]]
"""The records of each variant, one a seed."""


@dataclass(frozen=True)
class Evidence:
    """All that there is on one experiment.

    rows: the records of each variant; may be empty. ids: `Run.row_id` of each. looks: the rows with
    the seeds of each look of the analysis plan, None where they are not all there yet; without a
    plan, one look at all rows. waiting: what the next look waits for. models: errors in % by
    quantity (top1, top5, throughout), rows by their id. margins: within which rows count as alike,
    points by quantity. cannot_host: variant -> why the recipe's network has no place for it.
    networks: gates by class, a network a seed; networks_planned: how many there are to be. benches:
    times by device. costs: of networks at 224 pixels. made_up: whether the images are.
    """

    experiment: Experiment
    rows: Rows
    ids: Mapping[str, str]
    looks: Sequence[Rows | None] = ()
    waiting: str = ""
    models: Mapping[str, "ErrorModel"] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    cannot_host: Mapping[str, str] = field(default_factory=dict)
    networks: Sequence[Sequence[ClassGates]] = ()
    networks_planned: int = 0
    benches: Sequence[Bench] = ()
    costs: Costs = field(default_factory=dict)
    made_up: bool = False

    def label(self, row: str) -> str:
        """What sentences call a row: as its table does, but not by a label with a comma, which
        would split the sentence; a number with the last word of its axis.
        """
        label, axis = self.experiment.variants[row].label, self.experiment.axis
        if label and "," not in label:
            return label
        return f"({axis.split()[-1]} = {row})" if axis and row.isdigit() else row


@dataclass(frozen=True)
class Comparison:
    """A difference of mean errors, with p-values for and against what is claimed of it.

    label: its name in a sentence. weights: of the rows in it. n: seeds of the row that has fewest.
    failures: p-value of the numbers of failed runs alone, where there are any.
    """

    name: str
    label: str
    weights: Mapping[str, float]
    difference: "Estimate"
    n: int
    p_for: float
    p_against: float
    failures: float


@dataclass(frozen=True)
class Finding:
    """What a check saw. `outcome` is None while it hangs on corrected p-values.

    applies: False where the check makes no sense for this network or data, so that the claim is
    judged on its others. p_for: small where every comparison speaks for the check; `weakest` does
    so least. p_against: small where one of them, `opposed`, speaks against it. (For `differ` it is
    the other way round: one for, all against.) exclusive: the hypotheses on the two sides cannot
    both be true. provisional: tables or networks that may change the outcome are not there yet.
    """

    ours: str
    outcome: Outcome | None = None
    reason: str = ""
    applies: bool = True
    p_for: float = math.nan
    p_against: float = math.nan
    weakest: Comparison | None = None
    opposed: Comparison | None = None
    exclusive: bool = False
    provisional: bool = False


def not_tested(reason: str, applies: bool = True) -> Finding:
    """The finding of a check that could not be made."""
    return Finding("", "not tested", reason, applies)
