"""Checks that run by themselves: which runs have failed, and what makes a table unfair.

A run has failed when its loss diverged, when its error is that of guessing, or when it answers one
class only. Stuck gates are a note beside the row: in the paper's own network those of SE_5_2 stand
near 1 (Fig. 6).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from scipy import special

from senet_ablate.analysis.evidence import Rows
from senet_ablate.records import Compute, Record
from senet_ablate.spec import Experiment

CHANCE_ALPHA = 0.01
STUCK = 0.02  # of a gate's scale, root mean square; FC layers start out several times further apart
# Where a gate comes to rest when it no longer says anything; constant gates are so by design.
RESTS: dict[str, tuple[float, ...]] = {"tanh": (-1.0, 0.0, 1.0), "relu": (0.0,), "constant": ()}
OTHER_RESTS = (0.0, 0.5, 1.0)


def health(record: Record) -> str:
    """Why a run has failed; empty for a sound one."""
    if record.diverged is not None:
        return f"diverged after epoch {record.diverged}"
    if at_chance(record):
        return f"no better than always answering the commonest class ({record.top1:.1f}% error)"
    if record.answered == 1:
        return f"it gives every image the same answer ({record.top1:.1f}% error)"
    return ""


def at_chance(record: Record) -> bool:
    """Whether the number of right images is one that guessing reaches in 1 of 100 cases (binomial).

    Guessing is right with the share of the commonest test class; in old records, which do not say
    it, 1 / classes.
    """
    right = record.tested - record.wrong_top1
    chance = 1 / record.classes if record.majority is None else record.majority / record.tested
    return right == 0 or float(special.bdtrc(right - 1, record.tested, chance)) > CHANCE_ALPHA


def stuck_gates(record: Record) -> dict[str, float]:
    """The SE blocks whose gates all stand at one place where they say nothing, and that place.

    "At" means that the root mean square distance of all gates (images and channels) from that
    place, which takes in mean and spread, is under STUCK. The places depend on the gate's range: 0,
    1/2 and 1 for sigmoids, 0 for ReLU, 0 and +-1 for tanh. Softmax gates share one unit and are
    small by design: they are stuck where they are all alike.
    """
    gate = record.run.se.gate if record.run.se else "constant"
    found = {}
    for name, gates in record.gates.items():
        rests, scale = RESTS.get(gate, OTHER_RESTS), 1.0
        if gate == "softmax":
            rests, scale = (gates.mean,), gates.mean
        for rest in rests:
            if math.hypot(gates.mean - rest, gates.std) < STUCK * scale:
                found[name] = rest
    return found


Facts = dict[str, Callable[[Record], Any]]
DATA: Facts = {
    "the test data or labels differ between rows": lambda one: one.provenance.data[:12],
    "the number of training images differ between rows": lambda one: one.train_images,
    "the number of test images differ between rows": lambda one: one.tested,
}
MACHINES: Facts = {
    "runs were made on different devices": lambda one: one.provenance.device,
    "runs were made on different PyTorch versions": lambda one: one.provenance.versions.get(
        "torch", "unknown"
    ),
}


def mixed(rows: Rows) -> str:
    """Whether records of different data meet in the table: then nothing in it may be compared.

    (Its rows are picked by their whole specification, so their recipes are equal.)
    """
    return "; ".join(_apart(rows, DATA))


def fairness(experiment: Experiment, rows: Rows) -> tuple[str, ...]:
    """What to mind when the rows of a table are compared, in sentences; empty for a fair table."""
    gates = {name: value.se and value.se.gate for name, value in experiment.variants.items()}
    # the constant gate is the plain network, on purpose
    pairs = combinations((name for name in rows if gates[name] != "constant"), 2)
    equal = (
        f"{one} and {other} are one network: equal to the last bit in {count} of {count} seeds"
        for one, other in pairs
        if (count := one_network(rows[one], rows[other]))
    )
    settings = {
        f"runs were computed with different {name}": _setting(name) for name in Compute.model_fields
    }
    return (*equal, *_apart(rows, MACHINES | settings))


def _setting(name: str) -> Callable[[Record], Any]:
    """Of the process that trained a run; older records say nothing."""
    return lambda one: one.provenance.compute and one.provenance.compute.word(name)


def _apart(rows: Rows, facts: Facts) -> Iterator[str]:
    """The facts that differ, each with its values and the rows in which they occur."""
    for what, fact in facts.items():
        seen: dict[str, list[str]] = {}
        for name, records in rows.items():
            for value in {str(value) for value in map(fact, records) if value is not None}:
                seen.setdefault(value, []).append(name)
        if len(seen) > 1:
            listed = (f"{value} ({', '.join(names)})" for value, names in sorted(seen.items()))
            yield f"{what}: {'; '.join(listed)}"


def outcome(record: Record) -> tuple[Any, ...]:
    """What two runs of one network with the same seed must have in common; not the multiply-adds,
    which count a multiplication by 1 too.
    """
    losses = tuple((epoch.train_loss, epoch.test_top1) for epoch in record.epochs)
    return record.params, record.wrong_top1, record.correct, record.wrong_top5, losses


def shared_seeds(a: Sequence[Record], b: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The records of two rows in pairs, seed by seed."""
    by_seed = {record.run.seed: record for record in b}
    return [(record, by_seed[record.run.seed]) for record in a if record.run.seed in by_seed]


def one_network(a: Sequence[Record], b: Sequence[Record]) -> int:
    """In how many seeds two rows are equal bit for bit; 0 unless in all that they share. Runs that
    diverged in their first epoch have nothing to be told apart by, and do not count.
    """
    pairs = shared_seeds(a, b)
    alike = all(outcome(one) == outcome(other) for one, other in pairs)
    return sum(one.diverged != 0 for one, _ in pairs) if alike else 0
