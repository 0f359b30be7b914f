"""Tables as data: one row a variant, our numbers over the seeds beside the paper's."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from senet_ablate.analysis.evidence import Evidence, Rows
from senet_ablate.analysis.exclusions import fairness, health, mixed, one_network, stuck_gates
from senet_ablate.analysis.model import ErrorModel
from senet_ablate.analysis.stats import (
    NAN,
    Estimate,
    detectable_by,
    estimate,
    failure_interval,
    holm,
    image_stderr,
)
from senet_ablate.analysis.verdicts import (
    Verdict,
    error_model,
    errors_of,
    judge,
    looks_of,
    observed_margins,
    reached,
)
from senet_ablate.records import Bench, Costs, Record
from senet_ablate.records.first_page import FirstPage, exploratory, read_first_page
from senet_ablate.spec import AnalysisPlan, Experiment, Plan, list_experiments, read_plan
from senet_ablate.spec.paper import published
from senet_ablate.spec.plan import fitting_plans, recipe_name

log = logging.getLogger(__name__)

Pair = tuple[str, str]
Tested = dict[Pair, tuple[ErrorModel, float]]


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
    makes the rows hard to compare. margin: points of top-1 error within which rows count as alike.
    resolution: the difference to the control in points that the test behind `differs` finds in 4 of
    5 tries, on average over the rows; NaN where nothing is known. resolution_of_half: the same over
    the half of them that scatter least. waiting: what its first look waits for. model: of the top-1
    errors of all rows of the page. comparisons: how many differences the page's correction counts;
    alpha: what the last look at it spends. exploratory: why the verdicts are so; empty where plan
    and claims came first.
    """

    name: str
    experiment: Experiment
    rows: pd.DataFrame
    records: dict[str, list[Record]]
    missing: dict[str, list[int]]
    refused: str
    unfair: tuple[str, ...]
    margin: float
    resolution: float
    resolution_of_half: float
    verdicts: tuple[Verdict, ...]
    model: ErrorModel
    comparisons: int
    alpha: float
    waiting: str
    exploratory: str = ""


def tables(
    plan: Plan,
    records: Mapping[str, Record],
    benches: Sequence[Bench] = (),
    costs: Costs | None = None,
    first: FirstPage | None = None,
) -> dict[str, Table]:
    """Every table of a recipe's page, from whatever records there are.

    benches: times by device. costs: of networks at 224 pixels. first: what the claims said on their
    first page.
    """
    beside = {"benches": benches, "costs": costs or {}}
    found = by_row(records)
    cases = {name: case_of(plan, name, found, **beside) for name in plan.experiments}
    first = first or FirstPage()
    return {
        name: replace(table, exploratory=exploratory(plan, name, records, first))
        for name, table in tables_of_cases(plan, cases).items()
    }


def by_row(records: Mapping[str, Record]) -> dict[str, list[Record]]:
    """Records by `Run.row_id`, in the order of the seeds."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records.values(), key=lambda record: record.run.seed):
        found.setdefault(record.run.row_id, []).append(record)
    return found


def case_of(
    plan: Plan, name: str, found: Mapping[str, Sequence[Record]], **beside: Any
) -> Evidence:
    """The evidence on an experiment; found: records by `Run.row_id`; beside: what none holds."""
    experiment, rules = plan.experiments[name], plan.recipe.plan
    ids, hosts = plan.row_ids(name), plan.recipe.cannot_host
    unhosted = {v: hosts[f"{name}/{v}"] for v in ids if f"{name}/{v}" in hosts}
    rows = {v: [] if v in unhosted else found.get(row_id, []) for v, row_id in ids.items()}
    kept = plan.runs_with_gates(name)
    have = {record.id: record for run in kept[:1] for record in found.get(run.row_id, ())}
    networks = [record.class_gates for record in records_with_gates(plan, name, have)]
    to_come = sum(run.id not in have for run in kept) if rules else 0
    looks: list[Rows | None] = [] if rules else [rows]
    waiting = ""
    for look in rules.looks if rules else ():
        wanted = {v: plan.seeds_of(name, experiment.variants[v], look) for v in ids}
        judged = {v: [r for r in rows[v] if r.run.seed in wanted[v]] for v in ids}
        hosted = [len(judged[v]) == len(wanted[v]) for v in ids if v not in unhosted]
        looks.append(judged if all(hosted) else None)
        waiting = waiting or (
            f"the analysis plan judges errors from {look.seeds} seeds a row on; {sum(hosted)} of"
            f" {len(hosted)} rows have them"
        )
    return Evidence(
        experiment,
        rows,
        ids,
        looks,
        waiting,
        margins=rules.margins if rules else observed_margins(rows[experiment.control]),
        cannot_host=unhosted,
        networks=networks,
        networks_planned=len(networks) + to_come,
        made_up=plan.recipe.images == "made up",
        **beside,
    )


def tables_of_cases(plan: Plan, cases: Mapping[str, Evidence]) -> dict[str, Table]:
    """The tables of experiments whose evidence is at hand; each family by itself."""
    made = [_family(plan, family) for family in families(plan, cases)]
    return {name: table for name in cases for one in made if (table := one.get(name))}


def families(plan: Plan, cases: Mapping[str, Evidence]) -> list[dict[str, Evidence]]:
    """Those that the analysis plan is for, and any others, which change no verdict on the first."""
    found = (
        {n: c for n, c in cases.items() if (n in plan.apart) is apart} for apart in (False, True)
    )
    return [family for family in found if family]


def _family(plan: Plan, cases: Mapping[str, Evidence]) -> dict[str, Table]:
    rules, verdicts = plan.recipe.plan, judge(cases, plan.recipe.plan)
    refused = {name: mixed(case.rows) for name, case in cases.items()}
    model = error_model([case.rows for name, case in cases.items() if not refused[name]], rules)
    planned = {  # by table and variant: its row id, and that of its control
        name: {
            variant: (case.ids[variant], case.ids[control])
            for variant in case.experiment.variants
            if (control := case.experiment.control_of(variant)) != variant
            and not {variant, control} & case.cannot_host.keys()
        }
        for name, case in cases.items()
    }
    pairs = {
        name: {v: pair for v, pair in table.items() if {*pair} <= model.rows.keys()}
        for name, table in planned.items()
        if not refused[name]
    }
    family = sorted({pair for table in planned.values() for pair in table.values()})
    differ, tested = _differences(cases, pairs, family, rules)
    made = {}
    for name, case in cases.items():
        experiment, rows = case.experiment, case.rows
        ours = pairs.get(name, {})
        judged = {pair for pair in ours.values() if pair in tested}  # perhaps by another table
        looks = zip(looks_of(rules), case.looks, strict=True)
        own = [look.alpha for look, have in looks if have is not None]
        alpha = max(own[-1:] or [tested[pair][1] for pair in judged] or [looks_of(rules)[0].alpha])
        effects = {
            variant: (Estimate(0.0), False)  # what is certain is not tested
            if one_network(rows[variant], rows[experiment.control_of(variant)])
            else (model.difference(*pair), pair in differ)
            for variant, pair in ours.items()
        }
        resolution, resolution_of_half = _resolution(judged, tested, alpha / max(len(family), 1))
        missing = {}
        for variant, value in experiment.variants.items():
            have = {record.run.seed for record in rows[variant]}
            left = [seed for seed in plan.seeds_of(name, value) if seed not in have]
            if left and variant not in case.cannot_host:
                missing[variant] = left
        made[name] = Table(
            name=name,
            experiment=experiment,
            rows=_rows(case, {} if refused[name] else rows, effects),
            records={variant: list(have) for variant, have in rows.items()},
            missing=missing,
            refused=refused[name],
            unfair=fairness(experiment, rows),
            margin=case.margins["top1"],
            resolution=resolution,
            resolution_of_half=resolution_of_half,
            waiting="" if judged == {*planned[name].values()} else case.waiting,
            verdicts=verdicts[name],
            model=model,
            comparisons=len(family),
            alpha=alpha,
        )
    return made


def _differences(
    cases: Mapping[str, Evidence],
    pairs: Mapping[str, Mapping[str, Pair]],
    family: Sequence[Pair],
    rules: AnalysisPlan | None,
) -> tuple[set[Pair], Tested]:
    """The pairs of row and control that differ by more than noise, corrected for all that the page
    plans to have; and those that were tested, with model and alpha of the last look that did.
    """
    differ, tested = set[Pair](), Tested()
    for number, look in enumerate(looks_of(rules)):
        if rows := reached(cases, number):
            model = error_model(rows.values(), rules)
            ready = {pair for name in pairs if name in rows for pair in pairs[name].values()}
            tested |= dict.fromkeys(ready, (model, look.alpha))
            p_values = [model.difference(*pair).p if pair in ready else 1.0 for pair in family]
            corrected = holm(np.nan_to_num(p_values, nan=1.0))
            differ |= {pair for pair, p in zip(family, corrected, strict=True) if p < look.alpha}
    return differ, tested


def _resolution(ours: Iterable[Pair], tested: Tested, alpha: float) -> tuple[float, float]:
    """The difference that a row's test finds, at the first step of the correction, in 4 of 5 tries:
    on average over the rows, and over the half of them that scatter least.

    Some rows keep a spread of their own, and which is chance: so the mean power over all tested
    pairs of the page with as many seeds as those of this table had, at the look that tested them.
    """

    def seeds(pair: Pair) -> list[int]:
        model, _ = tested[pair]
        return [len(model.rows[row].by_seed) for row in pair]

    sizes = [seeds(pair) for pair in ours]
    tests = [model.difference(*pair) for pair, (model, _) in tested.items() if seeds(pair) in sizes]
    known = [(d.stderr, d.df) for d in tests if d.stderr > 0]
    known.sort(key=lambda test: detectable_by([test], alpha))
    return detectable_by(known, alpha), detectable_by(known[: -(-len(known) // 2)], alpha)


def records_with_gates(plan: Plan, name: str, records: Mapping[str, Record]) -> list[Record]:
    """The records of an experiment's row under `keep_weights` that hold gates by class, by seed."""
    found = [records[run.id] for run in plan.runs_with_gates(name) if run.id in records]
    return [record for record in found if record.class_gates]


def _rows(
    case: Evidence, found: Rows, effects: Mapping[str, tuple[Estimate, bool]]
) -> pd.DataFrame:
    """The rows of a table; found: the records that may be shown."""
    rows = []
    for variant, value in case.experiment.variants.items():
        records, hosts = found.get(variant, ()), case.cannot_host
        top1, top5 = (errors_of(records, quantity) for quantity in ("top1", "top5"))
        failed, n = len(top1.failed), len(records)
        low, high = failure_interval(failed, n) if failed else (NAN, NAN)
        effect, differs = effects.get(variant, (Estimate(NAN), False))
        row: dict[str, object] = {"variant": variant, "label": value.label or variant, "n": n}
        row |= {"failed": failed, "failed_low": low, "failed_high": high}
        row |= _columns("top1", top1.estimate) | _columns("top5", top5.estimate)
        row["sound_top1"] = estimate(top1.sound).value if failed else NAN
        right = np.array([record.right() for record in records])
        row["image_error"] = 1.96 * image_stderr(right) if n else NAN
        row |= {key: getattr(records[0], key) if n else None for key in ("params", "macs")}
        paper = {} if case.made_up else published(case.experiment, variant)
        row |= {f"paper_{key}": paper.get(key, NAN) for key in ("top1", "top5", "params", "gflops")}
        row |= _columns("effect", effect) | {"differs": differs}
        row["remark"] = _remark(value.note, hosts.get(variant, ""), case.rows[variant])
        rows.append(row)
    return pd.DataFrame(rows).set_index("variant")


def _columns(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _remark(note: str, unhosted: str, records: Sequence[Record]) -> str:
    """What a reader must know of a row: which seeds failed and why, what is odd about its gates,
    whether it is ours.
    """
    failed, stuck = dict[str, list[int]](), dict[str, dict[str, list[int]]]()
    for record in records:
        if reason := health(record):
            failed.setdefault(reason, []).append(record.run.seed)
            continue
        for block, place in stuck_gates(record).items():
            stuck.setdefault(f"{place:.2g}", {}).setdefault(block, []).append(record.run.seed)
    said = [note] if note else []
    said += [f"not hosted: {unhosted}"] if unhosted else []
    said += [f"{seeds_in_words(seeds)}: FAILED, {reason}" for reason, seeds in failed.items()]
    for at, blocks in stuck.items():
        listed = (f"{block} ({seeds_in_words(seeds)})" for block, seeds in sorted(blocks.items()))
        said.append(f"gates stuck at {at}: {', '.join(listed)}")
    return "; ".join(said)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Seeds in words; three and more in a row as a span."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def read_reported(
    recipe: str,
    records: Iterable[str],
    results: Path | None = None,
    asked: Iterable[str] = (),
    *,
    begun: bool = False,
) -> Plan:
    """The plan of a recipe's own experiments, and of all others that have begun: that have a run
    which no other has, or, on request, one in every row, or one at all where they were asked for or
    shown; and, as long as there are runs in no table, of the smallest with such a run, unless it is
    one of several on request.

    records: their ids. results: the folder that says which experiments have been shown. asked:
    names of others. begun: of the recipe's own, too, only those that have begun, as pages show
    them, unless the recipe lists them, its analysis plan is for them (whose family would grow with
    each table that begins), or none has. Raises BadInput.
    """
    plan, fitting, have = read_plan(recipe), fitting_plans(recipe), set(records)
    wanted = {*asked, *(shown_before(results, recipe) if results else ())}
    rows = {
        name: [{run.id for run in row.runs} for row in one.rows()] for name, one in fitting.items()
    }
    runs = {name: set[str]().union(*of_rows) for name, of_rows in rows.items()}

    def has_begun(name: str, beside: Iterable[str], by_rows: bool) -> bool:
        own = (have & runs[name]).difference(*(runs[one] for one in beside if one != name))
        by_rows = by_rows and all(have & of_row for of_row in rows[name])
        return bool(own) or by_rows or (name in wanted and bool(have & runs[name]))

    def size(name: str) -> tuple[bool, int]:
        return fitting[name].experiments[name].on_request, len(rows[name])

    shown = list(plan.experiments)
    if begun and not plan.recipe.experiments:
        fixed = {*shown} - plan.apart if plan.recipe.plan else ()
        shown = [n for n in shown if n in fixed or has_begun(n, plan.experiments, True)]
    others = [name for name in fitting if name not in shown]
    for name in others:
        if has_begun(name, fitting, fitting[name].experiments[name].on_request):
            shown.append(name)
    theirs = have & set[str]().union(*(runs[name] for name in others))
    while left := theirs.difference(*(runs[name] for name in shown)):
        holding = [name for name in others if left & runs[name]]
        least = min(holding, key=size)
        if size(least)[0] and sum(size(name) == size(least) for name in holding) > 1:
            break  # which of them was asked for, and so whose numbers the paper has, is not known
        shown.append(least)
    order = dict.fromkeys([*plan.experiments, *fitting])
    return read_plan(recipe, [name for name in order if name in shown] or list(plan.experiments))


def shown_before(results: Path, recipe: str) -> list[str]:
    """The experiments that were on a recipe's page; one that is not known is named in a warning."""
    recipe, found = recipe_name(recipe), []
    for name in read_first_page(results, recipe).experiments:
        if name in list_experiments():
            found.append(name)
        else:
            log.warning(
                "%s: no table of %s is made, which is no experiment that is known here; where it"
                " was given as a file, give that to `report` and `verify`, too",
                results / recipe,
                name,
            )
    return found
