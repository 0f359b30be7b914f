"""Checks that run by themselves: which runs must not be averaged in, and what makes a table unfair.

A run is left out when its loss diverged, when its error is that of guessing, or when the gates of
every one of its SE blocks are stuck, so that it is no evidence about SE. A single stuck block is a
note beside the row and no reason to leave it out: in the paper's own network the gates of SE_5_2
stand near 1 (Fig. 6).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from scipy import special

from senet_ablate.analysis.evidence import Rows
from senet_ablate.records.compute import Compute
from senet_ablate.records.store import Gates, Record
from senet_ablate.spec.spec import Experiment

CHANCE_ALPHA = 0.01
STUCK = 0.02  # of a gate's scale, root mean square; FC layers start out several times further apart
# Where a gate comes to rest when it no longer says anything; constant gates are so by design.
RESTS: dict[str, tuple[float, ...]] = {
    "tanh": (-1.0, 0.0, 1.0),
    "relu": (0.0,),
    "softmax": (),
    "constant": (),
}
OTHER_RESTS = (0.0, 0.5, 1.0)


def health(record: Record) -> tuple[str, ...]:
    """Why a run must not be averaged in; empty for a sound one."""
    reasons = []
    if record.diverged is not None:
        reasons.append(f"diverged after epoch {record.diverged}")
    elif at_chance(record):
        reasons.append(
            f"no better than always answering the commonest class ({record.top1:.1f}% error)"
        )
    elif record.answered == 1:
        reasons.append(f"it gives every image the same answer ({record.top1:.1f}% error)")
    stuck = stuck_gates(record)
    if stuck and len(stuck) == len(record.gates) and not _blind(record):
        reasons.append(f"all gates are stuck: {'; '.join(stuck)}")
    return tuple(reasons)


def at_chance(record: Record) -> bool:
    """Whether the number of right images is one that guessing reaches in 1 of 100 cases (binomial).

    Guessing is right with the share of the commonest test class; in old records, which do not say
    it, 1 / classes.
    """
    right = record.tested - record.wrong_top1
    chance = 1 / record.classes if record.majority is None else record.majority / record.tested
    return right == 0 or float(special.bdtrc(right - 1, record.tested, chance)) > CHANCE_ALPHA


def stuck_gates(record: Record) -> tuple[str, ...]:
    """A sentence for each SE block whose gates all stand at one place where they say nothing.

    "At" means that the root mean square distance of all gates (images and channels) from that
    place, which takes in mean and spread, is under STUCK. The places depend on the gate's range: 0,
    1/2 and 1 for sigmoids, 0 for ReLU, 0 and +-1 for tanh. Softmax gates share one unit and are
    small by design: they are stuck where they are all alike.
    """
    se = record.run.se if record.gates else None
    if se is None:
        return ()
    sentences = []
    for name, gates in record.gates.items():
        at = [rest for rest in RESTS.get(se.gate, OTHER_RESTS) if _distance(gates, rest) < STUCK]
        if se.gate == "softmax" and gates.std < STUCK * gates.mean:
            at = [gates.mean]
        sentences += [
            f"{name} at {rest:.2g} (mean {gates.mean:.3f}, spread {gates.std:.3f})" for rest in at
        ]
    return tuple(sentences)


def _distance(gates: Gates, place: float) -> float:
    return math.hypot(gates.mean - place, gates.std)


def _blind(record: Record) -> bool:
    """Whether the gates cannot see the image, by design:

    controls whose best answer is a constant gate.
    """
    se = record.run.se
    return se is not None and se.squeeze in ("random", "ones")


def fairness(experiment: Experiment, rows: Rows) -> tuple[str, ...]:
    """What makes the rows of a table unfit to be compared as they stand, in sentences; empty for a
    fair table.
    """
    return (
        *mixed(rows),
        *_same_networks(experiment, rows),
        *_missing_seeds(rows),
        *_mixed_machines(rows),
    )


def mixed(rows: Rows) -> tuple[str, ...]:
    """Whether records of different data meet in the table: then nothing in it may be compared.

    (Its rows are picked by their whole specification, so their recipes are equal.)
    """
    sentences = []
    facts: dict[str, Callable[[Record], Any]] = {
        "test data or labels": lambda record: record.provenance.data[:12],
        "number of training images": lambda record: record.train_images,
        "number of test images": lambda record: record.tested,
    }
    for what, fact in facts.items():
        seen = _rows_by(rows, fact)
        if len(seen) > 1:
            sentences.append(f"the {what} differ between rows: {_listing(seen)}")
    return tuple(sentences)


def _same_networks(experiment: Experiment, rows: Rows) -> Iterator[str]:
    """Pairs of rows whose records prove one network:

    equal parameters, losses and right images for each shared seed.
    """
    for one, other in combinations(rows, 2):
        if _is_constant(experiment, one) or _is_constant(experiment, other):
            continue  # the constant gate is the plain network, on purpose
        pairs = shared_seeds(rows[one], rows[other])
        if pairs and all(outcome(a) == outcome(b) for a, b in pairs):
            yield (
                f"{one} and {other} are one network: equal to the last bit in {len(pairs)} of"
                f" {len(pairs)} seeds"
            )


def _is_constant(experiment: Experiment, name: str) -> bool:
    se = experiment.variants[name].se
    return se is not None and se.gate == "constant"


def outcome(record: Record) -> tuple[Any, ...]:
    """What two runs of one network with the same seed must have in common; not the multiply-adds,
    which count a multiplication by 1 too.
    """
    losses = tuple(epoch.train_loss for epoch in record.epochs)
    return record.params, record.correct, record.wrong_top5, losses


def shared_seeds(a: Sequence[Record], b: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The records of two rows in pairs, seed by seed."""
    by_seed = {record.run.seed: record for record in b}
    return [(record, by_seed[record.run.seed]) for record in a if record.run.seed in by_seed]


def _missing_seeds(rows: Rows) -> Iterator[str]:
    every = {record.run.seed for records in rows.values() for record in records}
    for name, records in rows.items():
        missing = sorted(every - {record.run.seed for record in records})
        if missing:
            listed = ", ".join(map(str, missing))
            yield f"{name} has {len(records)} of {len(every)} seeds; missing: {listed}"


def _mixed_machines(rows: Rows) -> Iterator[str]:
    facts: dict[str, Callable[[Record], Any]] = {
        "devices": lambda record: record.provenance.device,
        "PyTorch versions": lambda record: record.provenance.versions.get("torch", "unknown"),
    }
    for what, fact in facts.items():
        seen = _rows_by(rows, fact)
        if len(seen) > 1:
            yield f"runs were made on different {what}: {_listing(seen)}"
    known = {  # records from before it was kept say nothing
        name: [record for record in records if record.provenance.compute]
        for name, records in rows.items()
    }
    for setting in Compute.model_fields:
        seen = _rows_by(known, _computed_with(setting))
        if len(seen) > 1:
            yield f"runs were computed with different {setting}: {_listing(seen)}"


def _computed_with(setting: str) -> Callable[[Record], str]:
    return lambda record: (
        record.provenance.compute.word(setting) if record.provenance.compute else ""
    )


def _rows_by(rows: Rows, value: Callable[[Record], Any]) -> dict[str, list[str]]:
    """The rows in which each value occurs."""
    seen: dict[str, list[str]] = {}
    for name, records in rows.items():
        for found in {str(value(record)) for record in records}:
            seen.setdefault(found, []).append(name)
    return seen


def _listing(seen: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in sorted(seen.items()))
