"""Tables as data: one row a variant, our numbers over the seeds beside the paper's."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from senet_ablate.analysis.evidence import Evidence, Rows
from senet_ablate.analysis.exclusions import fairness, health, mixed, stuck_gates
from senet_ablate.analysis.model import ErrorModel
from senet_ablate.analysis.stats import (
    ALPHA,
    NAN,
    detectable_by,
    estimate,
    failure_interval,
    holm,
    image_stderr,
)
from senet_ablate.analysis.verdicts import (
    Case,
    Look,
    Verdict,
    error_models,
    judge,
    observed_margins,
)
from senet_ablate.records.bench import Bench
from senet_ablate.records.class_gates import ClassGates
from senet_ablate.records.cost import Costs
from senet_ablate.records.first_page import FirstPage, exploratory
from senet_ablate.records.store import Record
from senet_ablate.spec.paper import published
from senet_ablate.spec.plan import Plan, fitting_plans, read_plan
from senet_ablate.spec.spec import Experiment


@dataclass(frozen=True)
class Table:
    """One experiment under one recipe.

    rows: index variant; columns label, n (seeds), failed (how many of them), failed_low,
    failed_high (%, exact 95% interval), top1, top1_low, top1_high, top5, top5_low, top5_high (test
    error, %, mean over all n seeds and 95% interval over seeds; without interval where runs
    failed), sound_top1 (mean of the others, where runs failed), image_error (points: 1.96 standard
    errors over test images), effect, effect_low, effect_high (points of top-1 error against its
    control, by the model of all rows), differs (whether that is more than noise at the page's
    looks), params, macs, paper_top1, paper_top5 (%), paper_params (M), paper_gflops, remark.
    records: by variant, in the order of the seeds. missing: variant -> seeds that the recipe asks
    for and nobody ran. refused: why the numbers are withheld, empty if they are not. unfair: what
    makes the rows hard to compare. resolution: the difference to the control in points that the
    test behind `differs` finds in 4 of 5 tries; NaN where nothing is known. model: of the top-1
    errors of all rows of the page. comparisons: how many
    differences the page's correction counts; alpha: what its last look spends. exploratory: why the
    verdicts are so; empty where plan and claims came first.
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
    model: ErrorModel
    comparisons: int = 0
    alpha: float = ALPHA
    exploratory: str = ""


def tables(
    plan: Plan,
    records: Mapping[str, Record],
    networks: Sequence[Sequence[ClassGates]] = (),
    benches: Sequence[Bench] = (),
    costs: Costs | None = None,
    first: FirstPage | None = None,
) -> dict[str, Table]:
    """Every table of a recipe's page, from whatever records there are.

    networks: gates by class, a network a seed. benches: times by device. costs: of networks at 224
    pixels. first: what the claims said on their first page.
    """
    by_row = _by_row(records)
    found = {
        name: {
            variant: (
                [] if _unhosted(plan, name, variant) else by_row.get(plan.run(value, 0).row_id, [])
            )
            for variant, value in experiment.variants.items()
        }
        for name, experiment in plan.experiments.items()
    }
    cases = {
        name: _case(plan, name, rows, networks, benches, costs or {})
        for name, rows in found.items()
    }
    first = first or FirstPage(experiments={})
    return {
        name: replace(table, exploratory=exploratory(plan, name, records, first))
        for name, table in tables_of_cases(plan, cases).items()
    }


def tables_of_cases(plan: Plan, cases: Mapping[str, Case]) -> dict[str, Table]:
    """The tables of experiments whose evidence is at hand."""
    found = {name: case.evidence.rows for name, case in cases.items()}
    rules = plan.recipe.plan
    looks = [
        Look(look.alpha, f"{look.seeds} seeds a row, {look.reference_seeds} of plain and SE")
        for look in (rules.looks if rules else ())
    ] or [Look(ALPHA)]
    shared = rules is not None and rules.spread == "shared"
    block = rules is not None and rules.block == "seed"
    verdicts = judge(cases, looks, shared, block)
    model = error_models(list(found.values()), shared, block)["top1"]
    pairs = {
        (name, variant): (
            rows[variant][0].run.row_id,
            rows[control][0].run.row_id,
        )
        for name, rows in found.items()
        for variant in rows
        if (control := plan.experiments[name].control_of(variant)) != variant
        and control
        and rows[variant]
        and rows[control]
        and not mixed(rows)
    }
    differ, counted, alpha = _differences(cases, pairs, looks, shared, block)
    return {
        name: _table(plan, name, rows, verdicts[name], model, pairs, differ, counted, alpha)
        for name, rows in found.items()
    }


def table(
    plan: Plan,
    name: str,
    records: Mapping[str, Record],
    networks: Sequence[Sequence[ClassGates]] = (),
    benches: Sequence[Bench] = (),
) -> Table:
    """One of `tables`."""
    return tables(plan, records, networks, benches)[name]


def _differences(
    cases: Mapping[str, Case],
    pairs: Mapping[tuple[str, str], tuple[str, str]],
    looks: Sequence[Look],
    shared: bool,
    block: bool,
) -> tuple[set[tuple[str, str]], int, float]:
    """The distinct pairs of row and control that differ by more than noise, how many pairs are
    corrected for, and the alpha of the last look that any table has reached.
    """
    differ: set[tuple[str, str]] = set()
    everything, alpha = sorted(_planned(cases)), looks[0].alpha
    for number, look in enumerate(looks):
        reached = {n: rows for n, case in cases.items() if (rows := case.looks[number]) is not None}
        if not reached:
            continue
        alpha = look.alpha
        model = error_models(list(reached.values()), shared, block)["top1"]
        ready = {pair for (name, _), pair in pairs.items() if name in reached}
        p_values = [difference_p(model, *pair) if pair in ready else 1.0 for pair in everything]
        p_values = [1.0 if math.isnan(p) else p for p in p_values]
        corrected = holm(p_values)
        differ |= {pair for pair, p in zip(everything, corrected, strict=True) if p < look.alpha}
    return differ, len(everything), alpha


def _planned(cases: Mapping[str, Case]) -> set[tuple[str, str]]:
    """The distinct pairs of row and control of a page, trained already or not."""
    return {
        (case.rows_by_id[variant], case.rows_by_id[control])
        for case in cases.values()
        for variant in case.experiment.variants
        if (control := case.experiment.control_of(variant)) not in ("", variant)
        and not {variant, control} & case.evidence.cannot_host.keys()
    }


def difference_p(model: ErrorModel, one: str, other: str) -> float:
    """Two-sided p-value of a difference between two rows."""
    if not {one, other} <= model.rows.keys():
        return NAN
    if model.failed((one, other)):
        return min(1.0, 2 * min(model.ranks(one, other)))
    return model.contrast({one: 1, other: -1}).p


def _table(
    plan: Plan,
    name: str,
    found: Rows,
    verdicts: tuple[Verdict, ...],
    model: ErrorModel,
    pairs: Mapping[tuple[str, str], tuple[str, str]],
    differ: set[tuple[str, str]],
    counted: int,
    alpha: float,
) -> Table:
    experiment = plan.experiments[name]
    refused = "; ".join(mixed(found))
    shown: Rows = {variant: [] if refused else have for variant, have in found.items()}
    rows = pd.DataFrame([_row(plan, name, variant, shown[variant]) for variant in found]).set_index(
        "variant"
    )
    effects = {}
    for variant in found:
        if (name, variant) not in pairs:
            continue
        one, other = pair = pairs[name, variant]
        d = model.contrast({one: 1, other: -1})
        ends = {"effect_low": d.low, "effect_high": d.high}
        effects[variant] = {"effect": d.value, **ends, "differs": pair in differ}
    columns = ["effect", "effect_low", "effect_high", "differs"]
    rows = rows.join(pd.DataFrame.from_dict(effects, orient="index", columns=columns))
    for column in columns[:3]:
        rows[column] = rows[column].astype(float)
    rows["differs"] = [value is True for value in rows["differs"]]
    rows["remark"] = [_remark(plan, name, variant, have) for variant, have in found.items()]
    missing = {
        variant: [
            seed
            for seed in plan.seeds_of(name, experiment.variants[variant])
            if seed not in {record.run.seed for record in have}
        ]
        for variant, have in found.items()
        if not _unhosted(plan, name, variant)
    }
    return Table(
        name=name,
        experiment=experiment,
        rows=rows,
        records={variant: list(have) for variant, have in found.items()},
        missing={variant: seeds for variant, seeds in missing.items() if seeds},
        refused=refused,
        unfair=tuple(one for one in fairness(experiment, found) if one not in mixed(found)),
        resolution=_resolution(
            [pairs[name, variant] for variant in effects],
            model,
            set(pairs.values()),
            alpha / max(counted, 1),
        ),
        verdicts=verdicts,
        model=model,
        comparisons=counted,
        alpha=alpha,
    )


def _resolution(
    ours: Sequence[tuple[str, str]],
    model: ErrorModel,
    pairs: Collection[tuple[str, str]],
    alpha: float,
) -> float:
    """The difference that a row's test finds, at the first step of the correction, in 4 of 5 tries.

    Some rows keep a spread of their own, and which is chance: so the mean power over all pairs of
    the page with as many seeds as those of this table.
    """

    def seeds(pair: tuple[str, str]) -> tuple[int, ...]:
        return tuple(len(model.rows[row].by_seed) for row in pair)

    sizes = {seeds(pair) for pair in ours}
    tests = [
        (d.stderr, d.df)
        for one, other in pairs
        if seeds((one, other)) in sizes
        for d in [model.contrast({one: 1, other: -1})]
    ]
    return detectable_by(tests, alpha)


def _case(
    plan: Plan,
    name: str,
    found: dict[str, list[Record]],
    networks: Sequence[Sequence[ClassGates]],
    benches: Sequence[Bench],
    costs: Costs,
) -> Case:
    """An experiment with its evidence, and the rows of each look of the analysis plan."""
    experiment, rules = plan.experiments[name], plan.recipe.plan
    unhosted = {v: why for v in found if (why := _unhosted(plan, name, v))}
    evidence = Evidence(
        rows=found,
        variants=experiment.variants,
        margins=(rules.margins if rules else observed_margins(found[experiment.control])),
        cannot_host=unhosted,
        networks=networks,
        benches=benches,
        costs=costs,
        made_up=plan.recipe.images == "made up",
    )
    ids = {variant: plan.run(value, 0).row_id for variant, value in experiment.variants.items()}
    if rules is None:
        return Case(experiment, evidence, (found,), rows_by_id=ids)
    hosted = [variant for variant in found if variant not in unhosted]
    looks: list[Rows | None] = []
    waiting = ""
    for look in rules.looks:
        wanted = {v: plan.seeds_of(name, experiment.variants[v], look) for v in hosted}
        judged = {
            v: [record for record in found[v] if record.run.seed in wanted.get(v, ())]
            for v in found
        }
        ready = sum(len(judged[v]) == len(wanted[v]) for v in hosted)
        looks.append(judged if ready == len(hosted) else None)
        waiting = waiting or (
            f"the analysis plan judges errors from {look.seeds} seeds a row on; {ready} of"
            f" {len(hosted)} rows have them"
        )
    return Case(experiment, evidence, tuple(looks), waiting, ids)


def gates_of_seeds(plan: Plan, records: Mapping[str, Record]) -> list[tuple[ClassGates, ...]]:
    """Gates by class of every seed of the first row of `keep_weights`, where its record holds
    them.
    """
    row = plan.kept_rows[0] if plan.kept_rows else ()
    found = [records[run.id].class_gates for run in row if run.id in records]
    return [blocks for blocks in found if blocks]


def _row(plan: Plan, name: str, variant: str, records: Sequence[Record]) -> dict[str, object]:
    value = plan.experiments[name].variants[variant]
    made_up = plan.recipe.images == "made up"
    paper = {} if made_up else published(plan.experiments[name], variant)
    sound = [record for record in records if not health(record)]
    failed = len(records) - len(sound)
    low, high = failure_interval(failed, len(records)) if failed else (NAN, NAN)
    row: dict[str, object] = {
        "variant": variant,
        "label": value.label or variant,
        "n": len(records),
        "failed": failed,
        "failed_low": low,
        "failed_high": high,
    }
    for quantity in ("top1", "top5"):
        got = estimate([getattr(record, quantity) for record in records])
        ends = (NAN, NAN) if failed else (got.low, got.high)
        row |= {quantity: got.mean, f"{quantity}_low": ends[0], f"{quantity}_high": ends[1]}
    row["sound_top1"] = estimate([record.top1 for record in sound]).mean if failed else NAN
    row["image_error"] = (
        1.96 * image_stderr(np.array([record.right() for record in records])) if records else NAN
    )
    row |= {key: getattr(records[0], key) if records else None for key in ("params", "macs")}
    row |= {
        f"paper_{ours}": paper.get(theirs, NAN)
        for ours, theirs in (
            ("top1", "top1_err"),
            ("top5", "top5_err"),
            ("params", "params"),
            ("gflops", "gflops"),
        )
    }
    return row


def _remark(plan: Plan, name: str, variant: str, records: Sequence[Record]) -> str:
    """What a reader must know of a row: which seeds failed and why, what is odd about its gates,
    whether it is ours.
    """
    unhosted = _unhosted(plan, name, variant)
    remarks = [
        plan.experiments[name].variants[variant].note,
        f"not hosted: {unhosted}" if unhosted else "",
    ]
    said: dict[str, list[int]] = {}
    for record in records:
        for reason in _reasons(record):
            said.setdefault(reason, []).append(record.run.seed)
    remarks += [f"seed {', '.join(map(str, seeds))}: {reason}" for reason, seeds in said.items()]
    return "; ".join(filter(None, remarks))


def _reasons(record: Record) -> Iterator[str]:
    failures = health(record)
    yield from (f"FAILED, {reason}" for reason in failures)
    if not failures:
        yield from (f"gates stuck: {one}" for one in stuck_gates(record))


def _unhosted(plan: Plan, name: str, variant: str) -> str:
    return plan.recipe.cannot_host.get(f"{name}/{variant}", "")


def _by_row(records: Mapping[str, Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in sorted(records.values(), key=lambda record: record.run.seed):
        groups.setdefault(record.run.row_id, []).append(record)
    return groups


def read_reported(recipe: str, records: Iterable[str], *, begun: bool = False) -> Plan:
    """The plan of a recipe's own experiments, and of those on request that have begun: that have a
    run of their own, or one in every row that other tables have too.

    records: their ids. begun: the same of the others, as pages show them, unless the recipe lists
    them or none has.
    """
    plan = read_plan(recipe)
    have = set(records)
    shown = plan.recipe.experiments or (begun and _begun(plan, have)) or plan.experiments
    others = have - {run.id for run in plan.runs()}
    names = []
    for name, fitting in fitting_plans(recipe).items():
        rows = [{run.id for run in row.runs} for row in fitting.rows()]
        asked = fitting.experiments[name].on_request
        if asked and (any(others & ids for ids in rows) or all(have & ids for ids in rows)):
            names.append(name)
    return read_plan(recipe, list(dict.fromkeys([*shown, *names])))


def _begun(plan: Plan, have: set[str]) -> list[str]:
    """The experiments that have a run which no other one has, or one in every row."""
    rows: dict[str, list[set[str]]] = {}
    for row in plan.rows():
        rows.setdefault(row.experiment, []).append({run.id for run in row.runs})
    runs = {name: set[str]().union(*ids) for name, ids in rows.items()}
    times = Counter(id for ids in runs.values() for id in ids)
    return [
        name
        for name, ids in rows.items()
        if any(times[id] == 1 for id in have & runs[name]) or all(have & row for row in ids)
    ]
