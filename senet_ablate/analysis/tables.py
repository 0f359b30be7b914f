"""Tables as data: one row a variant, our numbers over the seeds beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from senet_ablate.analysis.exclusions import fairness, health, mixed, stuck_gates
from senet_ablate.analysis.stats import estimate, holm, minimal_detectable, pooled_std, welch
from senet_ablate.analysis.verdicts import Verdict, judge
from senet_ablate.records.bench import Bench
from senet_ablate.records.class_gates import ClassGates
from senet_ablate.records.store import Record, read_records
from senet_ablate.spec.paper import published
from senet_ablate.spec.plan import (
    EXPERIMENTS_DIR,
    Plan,
    fitting_experiments,
    read_experiment,
    read_plan,
)
from senet_ablate.spec.spec import Experiment, margins


@dataclass(frozen=True)
class Table:
    """One experiment under one recipe.

    rows: index variant; columns label, n, top1, top1_low, top1_high, top5, top5_low, top5_high
    (test error, %, mean and 95% Student-t interval over the n sound seeds), effect, effect_low,
    effect_high, p (points of top-1 error against its control, Welch's interval, p by Holm over the
    table), params, macs, paper_top1, paper_top5 (%), paper_params (M), paper_gflops, remark.
    records: by variant, in the order of the seeds. missing: variant -> seeds that the recipe asks
    for and nobody ran. refused: why the numbers are withheld, empty if they are not. unfair: what
    makes the rows hard to compare. resolution: the smallest difference in points that this many
    seeds see with 80% power; NaN where nothing is known.
    """

    name: str
    experiment: Experiment
    rows: pd.DataFrame
    records: dict[str, list[Record]]
    missing: dict[str, list[int]]
    refused: str
    unfair: tuple[str, ...]
    resolution: float
    verdicts: tuple[Verdict, ...]


def table(
    plan: Plan,
    name: str,
    records: dict[str, Record],
    networks: Sequence[Sequence[ClassGates]] = (),
    benches: Sequence[Bench] = (),
) -> Table:
    """The table of an experiment, from whatever records there are.

    networks: gates by class, for claims on them. benches: what devices took, for claims on time.
    """
    experiment = plan.experiments[name]
    by_row = _by_row(records)
    found = {
        variant: [] if _unhosted(plan, name, variant) else by_row.get(plan.run(value, 0).row_id, [])
        for variant, value in experiment.variants.items()
    }
    missing = {
        variant: [
            seed
            for seed in plan.seeds_of(name, experiment.variants[variant])
            if seed not in {record.run.seed for record in have}
        ]
        for variant, have in found.items()
        if not _unhosted(plan, name, variant)
    }
    refused = "; ".join(mixed(found))
    sound = {
        variant: [] if refused else [one for one in have if not health(one)]
        for variant, have in found.items()
    }
    rows = pd.DataFrame([_row(plan, name, variant, sound[variant]) for variant in found]).set_index(
        "variant"
    )
    rows = rows.join(_effects(experiment, sound))
    rows["remark"] = [_remark(plan, name, variant, have) for variant, have in found.items()]
    counts = [len(have) for have in sound.values() if have]
    spread = pooled_std([[one.top1 for one in have] for have in sound.values()])
    unhosted = {
        variant: _unhosted(plan, name, variant)
        for variant in found
        if _unhosted(plan, name, variant)
    }
    return Table(
        name=name,
        experiment=experiment,
        rows=rows,
        records=found,
        missing={variant: seeds for variant, seeds in missing.items() if seeds},
        refused=refused,
        unfair=tuple(one for one in fairness(experiment, found) if one not in mixed(found)),
        resolution=minimal_detectable(spread, min(counts)) if counts else float("nan"),
        verdicts=_verdicts(plan, name, found, unhosted, networks, benches),
    )


def _verdicts(
    plan: Plan,
    name: str,
    found: dict[str, list[Record]],
    unhosted: dict[str, str],
    networks: Sequence[Sequence[ClassGates]],
    benches: Sequence[Bench],
) -> tuple[Verdict, ...]:
    """The verdicts on an experiment; under an analysis plan, those of its last look that every row
    has reached.
    """
    experiment, rules = plan.experiments[name], plan.recipe.plan
    if rules is None:
        return judge(experiment, found, unhosted, networks, benches)
    shared = margins(rules.expected_gain)
    hosted = [variant for variant in found if variant not in unhosted]
    for look in reversed(rules.looks):
        seeds = {
            variant: plan.seeds_at(look, name, experiment.variants[variant]) for variant in hosted
        }
        judged = {
            variant: [
                record for record in found[variant] if record.run.seed in seeds.get(variant, ())
            ]
            for variant in found
        }
        if all(len(judged[variant]) == len(seeds[variant]) for variant in hosted):
            alpha = look.alpha / max(plan.tables_on_errors(), 1)
            return judge(experiment, judged, unhosted, networks, benches, shared, alpha)
    first = rules.looks[0]
    ready = sum(
        len(found[v]) >= len(plan.seeds_at(first, name, experiment.variants[v])) for v in hosted
    )
    waiting = (
        f"the analysis plan judges errors from {first.seeds} seeds a row on; {ready} of"
        f" {len(hosted)} rows have them"
    )
    return judge(experiment, found, unhosted, networks, benches, shared, waiting=waiting)


def gates_of_seeds(plan: Plan, records: Mapping[str, Record]) -> list[tuple[ClassGates, ...]]:
    """Gates by class of every seed of the first row of `keep_weights`, where its record holds
    them.
    """
    row = plan.kept_rows[0] if plan.kept_rows else ()
    found = [records[run.id].class_gates for run in row if run.id in records]
    return [blocks for blocks in found if blocks]


def _row(plan: Plan, name: str, variant: str, records: list[Record]) -> dict[str, object]:
    value = plan.experiments[name].variants[variant]
    paper = published(plan.experiments[name], variant)
    row: dict[str, object] = {
        "variant": variant,
        "label": value.label or variant,
        "n": len(records),
    }
    for quantity in ("top1", "top5"):
        got = estimate([getattr(record, quantity) for record in records])
        row |= {quantity: got.mean, f"{quantity}_low": got.low, f"{quantity}_high": got.high}
    row |= {key: getattr(records[0], key) if records else None for key in ("params", "macs")}
    row |= {
        f"paper_{ours}": paper.get(theirs, float("nan"))
        for ours, theirs in (
            ("top1", "top1_err"),
            ("top5", "top5_err"),
            ("params", "params"),
            ("gflops", "gflops"),
        )
    }
    return row


def _effects(experiment: Experiment, sound: dict[str, list[Record]]) -> pd.DataFrame:
    """Difference to its control by variant, in points of top-1 error; below 0 is better than the
    control.
    """
    errors = {name: [record.top1 for record in have] for name, have in sound.items()}
    pairs = {name: experiment.control_of(name) for name in errors}
    found = {
        name: welch(errors[name], errors[control])
        for name, control in pairs.items()
        if name != control and errors[name] and errors[control]
    }
    corrected = holm([difference.p for difference in found.values()])
    rows = {
        name: {"effect": one.value, "effect_low": one.low, "effect_high": one.high, "p": p}
        for (name, one), p in zip(found.items(), corrected, strict=True)
    }
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["effect", "effect_low", "effect_high", "p"], dtype=float
    )


def _remark(plan: Plan, name: str, variant: str, records: list[Record]) -> str:
    """What a reader must know of a row:

    what left a seed out, what is odd about its gates, whether it is ours.
    """
    unhosted = _unhosted(plan, name, variant)
    remarks = [
        plan.experiments[name].variants[variant].note,
        f"not hosted: {unhosted}" if unhosted else "",
    ]
    left_out: dict[str, list[int]] = {}
    for record in records:
        for reason in health(record) or [f"gates stuck: {one}" for one in stuck_gates(record)]:
            left_out.setdefault(f"{'LEFT OUT, ' if health(record) else ''}{reason}", []).append(
                record.run.seed
            )
    remarks += [
        f"seed {', '.join(map(str, seeds))}: {reason}" for reason, seeds in left_out.items()
    ]
    return "; ".join(filter(None, remarks))


def _unhosted(plan: Plan, name: str, variant: str) -> str:
    return plan.recipe.cannot_host.get(f"{name}/{variant}", "")


def _by_row(records: dict[str, Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in sorted(records.values(), key=lambda record: record.run.seed):
        groups.setdefault(record.run.row_id, []).append(record)
    return groups


def read_reported(recipe: str, results: Path, folder: Path = EXPERIMENTS_DIR) -> Plan:
    """The plan of all that a recipe's page shows: its own experiments, and those on request of
    which there are runs.

    Such an experiment is shown if it has a run of its own, or if every row has one that other
    tables have too.
    """
    plan = read_plan(recipe, folder=folder)
    have = set(read_records(results, recipe))
    others = have - {run.id for run in plan.runs()}
    names = []
    for name in fitting_experiments(recipe, folder):
        rows = [
            {run.id for run in row.runs} for row in read_plan(recipe, [name], folder=folder).rows()
        ]
        asked = read_experiment(name, folder).on_request
        if asked and (any(others & ids for ids in rows) or all(have & ids for ids in rows)):
            names.append(name)
    return read_plan(recipe, list(dict.fromkeys([*plan.experiments, *names])), folder=folder)
