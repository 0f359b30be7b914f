"""What one check of a claim sees in the data, before a table's checks are corrected for being
many.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any, Literal

from senet_ablate.analysis.exclusions import Rows, health, outcome, shared_seeds
from senet_ablate.analysis.stats import NAN, POWER, Difference, contrast, estimate, seeds_needed
from senet_ablate.records.bench import WORK, Bench
from senet_ablate.records.class_gates import ClassGates, find
from senet_ablate.records.store import Record
from senet_ablate.spec.claim import Check

Outcome = Literal["supported", "contradicted", "unresolved", "not tested"]
EQUIVALENCE_POWER = (
    0.9  # two one-sided tests must both succeed: 90% each leaves at least 80% for both
)


@dataclass(frozen=True)
class Comparison:
    """One pair of rows:

    p-values for and against the check, and how far (points) the difference lies on its side.
    """

    name: str
    difference: Difference
    p_for: float
    p_against: float
    lead: float


@dataclass(frozen=True)
class Finding:
    """What a check saw. `outcome` is None while it hangs on the corrected p-values of its
    comparisons.

    applies: False where the check makes no sense for this network or data, so that the claim is
    judged on its others. p_for: small where every comparison speaks for the check; `weakest` is the
    one that does so least. p_against: small where one of them, `opposed`, speaks against it. (For
    `differ` it is the other way round: one for, all against.)
    """

    ours: str
    outcome: Outcome | None = None
    reason: str = ""
    applies: bool = True
    comparisons: tuple[Comparison, ...] = ()
    p_for: float = NAN
    p_against: float = NAN
    weakest: Comparison | None = None
    opposed: Comparison | None = None
    wanted_power: float = POWER
    one_is_enough: bool = False
    seeds: int | None = None

    def seeds_needed(self, alpha: float) -> int | None:
        """Seeds a row that settle the check (one-sided `alpha`, 80% power) if the differences seen
        are the truth.
        """
        if self.one_is_enough:  # on either side
            level = alpha / len(self.comparisons)
            found = [
                seeds_needed(c.lead, c.difference.std, level, self.wanted_power)
                for c in self.comparisons
            ]
            return min((n for n in found if n is not None), default=None)
        behind = [c for c in self.comparisons if c.lead <= 0]
        asked = behind or self.comparisons
        needed = [
            seeds_needed(c.lead, c.difference.std, 2 * alpha, self.wanted_power) for c in asked
        ]
        known = [n for n in needed if n is not None]
        if behind:  # one comparison the other way is enough to contradict
            return min(known, default=None)
        return max(known) if known and len(known) == len(needed) else None


def not_tested(reason: str, applies: bool = True) -> Finding:
    """The finding of a check that could not be made."""
    return Finding("", "not tested", reason, applies)


def examine(
    check: Check,
    rows: Rows,
    margins: Mapping[str, float],
    cannot_host: Mapping[str, str],
    networks: Sequence[Sequence[ClassGates]],
    benches: Sequence[Bench] = (),
) -> Finding:
    """What `check` sees.

    margins: within which rows count as alike, points by quantity. networks: gates by class of
    trained networks. benches: benchmark results by device.
    """
    if check.kind == "none":
        return not_tested(check.statement)
    if check.kind == "time":
        return _time(check, benches)
    if check.on_gates:
        return _gates(check, networks)
    for name in check.without:
        if name not in cannot_host:
            return not_tested(f"stated for a network that has no place for {name}", applies=False)
    for name in (*check.needs, *check.named):
        if name in cannot_host:
            return not_tested(f"{name}: {cannot_host[name]}", applies=False)
    for name in check.named:
        if not rows.get(name):
            return not_tested(f"{name} has no records yet")
        if check.network == "paper" and not all(map(_is_papers_network, rows[name])):
            return not_tested("stated for ResNet-50 at 224 pixels and 1,000 classes", applies=False)
    if check.kind == "identical":
        return _identical(check, rows)
    return (
        _ratio(check, rows)
        if check.kind == "ratio"
        else _errors(check, rows, margins[check.quantity])
    )


def _is_papers_network(record: Record) -> bool:
    train = record.run.train
    pixels = train.crop_size or train.image_size
    return (train.backbone, train.stem, pixels, record.classes) == (
        "resnet50",
        "default",
        224,
        1000,
    )


def _identical(check: Check, rows: Rows) -> Finding:
    """Rows that are equal bit for bit are equal; that is not tested."""
    first, *others = check.rows
    pairs = [pair for other in others for pair in shared_seeds(rows[first], rows[other])]
    if not pairs:
        return not_tested(f"{', '.join(check.rows)} share no seed yet")
    same = sum(outcome(a) == outcome(b) for a, b in pairs)
    sentence = f"{same} of {len(pairs)} pairs of runs with the same seed are equal bit for bit"
    return Finding(sentence, "supported" if same == len(pairs) else "contradicted")


def _ratio(check: Check, rows: Rows) -> Finding:
    """Arithmetic: the cost of a network does not depend on its seed."""
    what = "parameters" if check.quantity == "params" else "multiply-adds"
    sentences, values = [], []
    for names in zip(check.rows, check.than, strict=True):
        one, other = (getattr(rows[name][0], check.quantity) for name in names)
        values.append(one / other)
        sentences.append(
            f"{what} of {names[0]} / {names[1]}: {one:,} / {other:,} = {one / other:.4g}"
        )
    holds = all(_within(check, value) for value in values)
    return Finding(
        f"{'; '.join(sentences)} (wanted: {_bounds(check)})",
        "supported" if holds else "contradicted",
    )


def _time(check: Check, benches: Sequence[Bench]) -> Finding:
    """The ratio of SE to plain within a round, each as our networks train; its quartiles decide."""
    on = [
        one
        for one in benches
        if one.device.startswith("cpu: ") == (check.device == "cpu") and "overhead" in one.parts
    ]
    if not on:
        return not_tested(
            f"no {str(check.device).upper()} was timed yet (senet-ablate bench overhead)"
        )
    outcomes: set[Outcome] = set()
    sentences = []
    for bench in on:
        part = bench.parts["overhead"]
        row = part.row(WORK[check.quantity], "SE")
        quartiles = part.ratio(row) if row else None
        if row is None or quartiles is None:
            return not_tested(f"bench overhead of {bench.device} has no {WORK[check.quantity]}")
        low, middle, high = quartiles
        inside = [_within(check, value) for value in (low, high)]
        apart = not any(inside) and (check.low is None or low > check.low or high < check.low)
        outcomes.add("supported" if all(inside) else "contradicted" if apart else "unresolved")
        sentences.append(
            f"{row.name} / {row.over}: {middle:.3f} [{low:.3f}, {high:.3f}] on {bench.device}"
        )
    ours = f"{WORK[check.quantity]}, {'; '.join(sentences)} (wanted: {_bounds(check)})"
    return Finding(ours, outcomes.pop() if len(outcomes) == 1 else "unresolved")


def _within(check: Check, value: float) -> bool:
    low = -math.inf if check.low is None else check.low
    return low <= value <= (math.inf if check.high is None else check.high)


def _bounds(check: Check) -> str:
    if check.low is None:
        return f"at most {check.high:g}"
    return f"at least {check.low:g}" if check.high is None else f"{check.low:g} to {check.high:g}"


def _gates(check: Check, networks: Sequence[Sequence[ClassGates]]) -> Finding:
    """The same of every network, since the spread of one network over seeds is not known."""
    if not networks:
        return not_tested("no gates by class were recorded yet (senet-ablate excitation)")
    outcomes: set[Outcome] = set()
    sentences = []
    for network in networks:
        blocks = [find(network, name) for name in check.rows]
        names = [block.name for block in blocks if block is not None]
        if len(set(names)) < len(check.rows):
            return not_tested(
                f"this network has not the blocks {', '.join(check.rows)}, all different",
                applies=False,
            )
        values = [getattr(block, check.quantity) for block in blocks]
        outcomes.add(_gate_outcome(check, values))
        shown = ", ".join(
            f"{'?' if v is None else f'{v:.3f}'} ({n})" for v, n in zip(values, names, strict=True)
        )
        sentences.append(f"{check.quantity.replace('_', ' ')} {shown}")
    ours = f"{'; '.join(sentences)} [{len(networks)} network{'s' * (len(networks) > 1)}]"
    if check.kind == "gates_within":
        ours += f" (wanted: {_bounds(check)})"
    return Finding(ours, outcomes.pop() if len(outcomes) == 1 else "unresolved")


def _gate_outcome(check: Check, values: list[float | None]) -> Outcome:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "unresolved"
    if check.kind == "gates_within":
        return "supported" if all(_within(check, value) for value in known) else "contradicted"
    if all(early < late for early, late in pairwise(known)):
        return "supported"
    return "contradicted" if known[-1] <= known[0] else "unresolved"


_NO_VALUE = {
    "top1": "no image was tested",
    "top5": "a data set of 5 classes or fewer has no top-5 error",
    "throughout": "the error was read at the last epoch alone",
}


def _errors(check: Check, rows: Rows, margin: float) -> Finding:
    """Every comparison that the check asks for, by Welch's test."""
    values = {
        name: [getattr(record, check.quantity) for record in rows[name]] for name in check.named
    }
    if any(map(math.isnan, (error for errors in values.values() for error in errors))):
        return not_tested(_NO_VALUE[check.quantity], applies=False)
    for name in values:
        unsound = [f"seed {r.run.seed} {'; '.join(why)}" for r in rows[name] if (why := health(r))]
        if unsound:  # averaging the runs that are left would flatter the row
            return not_tested(f"{name} is not ranked: {', '.join(unsound)}")
        if len(values[name]) < 2:
            return not_tested(f"{name} has fewer than 2 seeds")
    kind = check.side or check.kind
    if math.isnan(margin) and kind in _BY_MARGIN:
        return not_tested("no margin is known: the plain network has no sound run yet")
    comparisons = tuple(
        Comparison(name, difference, *_COMPARISONS[kind](difference, margin))
        for name, weights in _contrasts(check).items()
        for difference in [contrast([values[row] for row in weights], list(weights.values()))]
    )
    some = kind == "differ"  # one comparison is enough for it, and all speak against it
    p_for, p_against = [c.p_for for c in comparisons], [c.p_against for c in comparisons]
    return Finding(
        _means(check, values),
        comparisons=comparisons,
        p_for=_any_of(p_for) if some else _all_of(p_for),
        p_against=_all_of(p_against) if some else _any_of(p_against),
        weakest=(_least if some else _most)(comparisons, lambda c: c.p_for),
        opposed=(_most if some else _least)(comparisons, lambda c: c.p_against),
        wanted_power=EQUIVALENCE_POWER if kind in ("similar", "within_margin") else POWER,
        one_is_enough=some,
    )


def _contrasts(check: Check) -> dict[str, dict[str, float]]:
    """The weighted sums of mean errors that a check is about, by how they are written."""
    if check.kind == "contrast":
        weights = dict(check.weights)
        return {" ".join(f"{weight:+g} {name}" for name, weight in weights.items()): weights}
    if check.kind == "differ" and check.than:
        pairs = [*combinations(zip(check.rows, check.than, strict=True), 2)]
        return {
            f"({a} − {b}) − ({c} − {d})": {a: 1, b: -1, c: -1, d: 1} for (a, b), (c, d) in pairs
        }
    if check.paired:
        found = [*zip(check.rows, check.than, strict=True)]
    else:
        found = [*product(check.rows, check.than)] if check.than else [*combinations(check.rows, 2)]
    return {f"{one} − {other}": {one: 1, other: -1} for one, other in found}


def _most(comparisons: Sequence[Comparison], p: Callable[[Comparison], float]) -> Comparison:
    return max(comparisons, key=lambda c: math.inf if math.isnan(p(c)) else p(c))


def _least(comparisons: Sequence[Comparison], p: Callable[[Comparison], float]) -> Comparison:
    return min(comparisons, key=lambda c: math.inf if math.isnan(p(c)) else p(c))


def _lower(d: Difference, margin: float) -> tuple[float, float, float]:
    return d.below(0), d.above(0), -d.value


def _not_higher(d: Difference, margin: float) -> tuple[float, float, float]:
    return d.below(margin), d.above(margin), margin - d.value


def _alike(d: Difference, margin: float) -> tuple[float, float, float]:
    """Two one-sided tests for; against, a difference beyond the margin on either side."""
    beyond = min(1.0, 2 * min(d.above(margin), d.below(-margin))) if d.df > 0 else NAN
    return max(d.below(margin), d.above(-margin)), beyond, margin - abs(d.value)


def _apart(d: Difference, margin: float) -> tuple[float, float, float]:
    """A difference on either side for; against, two one-sided tests that it lies within the
    margin.
    """
    return d.p, max(d.below(margin), d.above(-margin)), abs(d.value)


_COMPARISONS: dict[str, Callable[[Difference, float], tuple[float, float, float]]] = {
    "better": _lower,
    "below_zero": _lower,
    "no_worse": _not_higher,
    "below_margin": _not_higher,
    "similar": _alike,
    "within_margin": _alike,
    "differ": _apart,
}
_BY_MARGIN = (
    "no_worse",
    "below_margin",
    "similar",
    "within_margin",
)  # `differ` has a test without it too


def _all_of(p_values: list[float]) -> float:
    """p-value of "not all of them hold": the largest (intersection-union test, Berger 1982).

    NaN if one is missing.
    """
    return NAN if any(map(math.isnan, p_values)) else max(p_values)


def _any_of(p_values: list[float]) -> float:
    """p-value of "none of them holds": the smallest, times their number (Bonferroni)."""
    known = [p for p in p_values if not math.isnan(p)]
    return min(1.0, len(known) * min(known)) if known else NAN


def _means(check: Check, values: dict[str, list[Any]]) -> str:
    """The mean error of each row with half its 95% interval."""
    parts = []
    for name, errors in values.items():
        e = estimate(errors)
        parts.append(
            f"{name} {e.mean:.2f}" + ("" if math.isnan(e.low) else f" ± {e.mean - e.low:.2f}")
        )
    counts = sorted({len(errors) for errors in values.values()})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    quantity = check.quantity.replace("top", "top-").replace(
        "throughout", "mean of all epochs' top-1"
    )
    return f"{quantity} error in %, {seeds}: {', '.join(parts)}"
