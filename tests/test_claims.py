"""The ledger on simulated records: the paper's own numbers, planted differences, none, too few."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import fabricated
import numpy as np
import pytest
import yaml
from judging import judge
from scipy import stats as scipy_stats

from senet_ablate.analysis.exclusions import fairness, health, mixed, stuck_gates
from senet_ablate.analysis.stats import power, seeds_needed
from senet_ablate.analysis.tables import tables as tables_of
from senet_ablate.analysis.verdicts import Verdict
from senet_ablate.records.bench import Bench, Measured, Part
from senet_ablate.records.class_gates import ClassGates, describe, find, paper_network
from senet_ablate.records.cost import Costs, NetworkCost
from senet_ablate.records.store import Epoch, Gates, Record
from senet_ablate.spec import paper, plan
from senet_ablate.spec.claim import Check, Claim
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import parse
from senet_ablate.spec.spec import AnalysisPlan, Experiment, Run, SESpec, Training

TESTED = 10_000_000  # so many that rounding to whole images is no part of the noise
TRAIN = parse(
    Training,
    {"dataset": "image-folder", "image_size": 256, "crop_size": 224, "backbone": "resnet50"}
    | {"epochs": 16, "batch_size": 8, "lr": 0.1},
)
PROVENANCE = fabricated.record(plan.read_plan("smoke").runs()[0]).provenance
EXPERIMENTS = {name: plan.read_experiment(name) for name in plan.list_experiments()}
ALL_CLAIMS = [(name, claim.id) for name, one in EXPERIMENTS.items() for claim in one.claims]
MILLION = 1_000_000

# Rows of which the paper tells something without printing it: errors (top-1, top-5) and costs as
# its text has them.
UNPRINTED = {
    "SE_All_but_last": {"top1": 22.30, "top5": 6.05, "params": 26.5},
    "SE_Stage_5": {"top1": 23.15, "top5": 6.50, "params": 27.2},
    "Constant gate": {"top1": 23.30, "top5": 6.55},
    "Random squeeze": {"top1": 23.30, "top5": 6.55},
    "Static gate": {"top1": 23.30, "top5": 6.55},
    "NoExcitation": {"top1": 22.90, "top5": 6.40},
}
# `schedule`, which the paper does not have: SE is behind at first, gains with the budget, and most
# at high rates. Errors of plain and SE by budget.
PLANTED = {
    ", 2 epochs": (60.0, 60.8),
    ", 4 epochs": (55.0, 54.8),
    ", 8 epochs": (51.0, 50.0),
    ", 8 epochs, rate / 4": (55.0, 54.7),
    ", 8 epochs, rate / 2": (53.0, 52.4),
    ", 8 epochs, rate x 2": (50.6, 49.0),
    "": (47.8, 46.0),
}
UNPRINTED |= {
    f"{name}{budget}": {"top1": error}
    for budget, errors in PLANTED.items()
    for name, error in zip(("plain", "SE"), errors, strict=True)
}


def wrong(**errors: float) -> dict[str, Any]:
    """The fields of a record with these errors by quantity; which images are right is stood for by
    how many.
    """
    found: dict[str, Any] = {}
    for quantity, error in errors.items():
        count = round(error / 100 * TESTED)
        if quantity == "throughout":
            found["epochs"] = (curve(error), curve(error))
        else:
            found |= {f"wrong_{quantity}": count}
            found |= {"correct": str(count)} if quantity == "top1" else {}
    return found


def changed_by(records: Sequence[Record], **update: Any) -> list[Record]:
    return [record.model_copy(update=update) for record in records]


def record(run: Run, top1: float, top5: float = 5.0, **changes: Any) -> Record:
    facts: dict[str, Any] = {"id": run.id, "run": run, "classes": 1000, "train_images": 1000}
    facts |= {"tested": TESTED, "params": 25_600_000, "macs": 3_860_000_000, "epochs": ()}
    facts |= wrong(top1=top1, top5=top5) | {"gates": {}, "provenance": PROVENANCE}
    return Record.model_construct(**(facts | changes))


def as_published(
    name: str, spread: float = 0.005, seeds: int = 5, share: float = 0.0
) -> dict[str, list[Record]]:
    """Records that scatter about the paper's errors by `spread` points and a `share` of them, and
    have its costs.
    """
    return {v: list(records) for v, records in _published(name, spread, seeds, share).items()}


@cache
def _published(name: str, spread: float, seeds: int, share: float) -> dict[str, list[Record]]:
    experiment, draw = EXPERIMENTS[name], np.random.default_rng(0)
    rows: dict[str, list[Record]] = {}
    for variant, value in experiment.variants.items():
        facts = paper.published(experiment, variant) or UNPRINTED.get(variant, {})
        if "top1" not in facts:
            continue
        plain = value.se is None or value.se.gate == "constant"
        params = round(MILLION * facts.get("params", 25.6 if plain else 28.1))
        macs = round(1e9 * facts.get("gflops", 3.86 if plain else 3.87))
        means = facts["top1"], facts.get("top5", facts["top1"])  # Tables 4, 5 print one
        errors = [mean + (spread + share * mean) * draw.standard_normal(seeds) for mean in means]
        train = value.applied_to(TRAIN)
        # figure 4 prints no numbers: all through training as far apart as at its end
        rows[variant] = [
            record(Run(train, value.se, seed), *pair, params=params, macs=macs).model_copy(
                update={"epochs": (curve(pair[0] + 20), curve(pair[0]))}
            )
            for seed, pair in enumerate(zip(*errors, strict=True))
        ]
    for variant, value in experiment.variants.items():
        if value.se is not None and value.se.gate == "constant":  # the plain network, bit for bit
            runs = zip(rows[variant], rows[experiment.control], strict=True)
            rows[variant] = [
                plain.model_copy(update={"id": own.id, "run": own.run}) for own, plain in runs
            ]
    return rows


def curve(error: float) -> Epoch:
    return Epoch(lr=0.1, train_loss=1.0, train_top1=error, test_top1=error)


def mean_of(records: Sequence[Record], quantity: str) -> float:
    return float(np.mean([getattr(one, quantity) for one in records]))


def changed(
    rows: Mapping[str, list[Record]], means: Mapping[str, float], quantity: str
) -> dict[str, list[Record]]:
    """The same records about other means."""
    moved = dict(rows)
    for name, mean in means.items():
        shift = mean - mean_of(rows[name], quantity)
        moved[name] = [
            one.model_copy(update=wrong(**{quantity: getattr(one, quantity) + shift}))
            for one in rows[name]
        ]
    return moved


def papers_margin(plain: float, quantity: str) -> float:
    """A third of the paper's relative gain, of a plain error."""
    return plain * (0.52 / 6.55 if quantity == "top5" else 1.02 / 23.30) / 3


def against(check: Check, rows: dict[str, list[Record]], control: str) -> dict[str, list[Record]]:
    """Records that speak as clearly against a check as the paper's speak for it."""
    first = check.named[0]
    if check.kind == "ratio":
        factor = 0.5 * check.low if (check.low or 0) > 0 else 3.0 * (check.high or 1.0)
        value = round(getattr(rows[check.than[0]][0], check.quantity) * factor)
        return rows | {first: changed_by(rows[first], **{check.quantity: value})}
    if check.kind == "identical":
        one, *others = rows[first]
        odd = one.model_copy(update=wrong(top1=one.top1 + 1e-5))  # by a single image
        return rows | {first: [odd, *others]}
    means = {name: mean_of(rows[name], check.quantity) for name in check.named}
    center = sum(means.values()) / len(means)
    plain = mean_of(rows[control], "top5" if check.quantity == "top5" else "top1")
    far = 3 * papers_margin(plain, check.quantity)
    if check.kind == "differ":
        own = dict(zip(check.rows, check.than, strict=True)) if check.than else {}
        means |= {name: means[own[name]] - 1 if own else center for name in check.rows}
    elif not check.by_margin:
        means = {name: 2 * center - mean for name, mean in means.items()}
    elif check.kind == "contrast":
        value = sum(weight * means[name] for name, weight in check.weights.items())
        means[first] += (far - value) / check.weights[first]
    else:
        assert check.kind in ("similar", "no_worse")
        means[first] = (means[first] if check.kind == "similar" else max(means.values())) + far
    return changed(rows, means, check.quantity)


def network_against(check: Check) -> list[ClassGates]:
    """The paper's network but for one measure of the blocks that a check names, which speaks
    against it.
    """
    network, field = paper_network(), check.quantity
    blocks = [block for name in check.rows if (block := find(network, name))]
    first, last = blocks[0], blocks[-1]
    changes = {first.name: getattr(last, field), last.name: getattr(first, field)}
    if check.kind == "gates_within":
        changes = {first.name: check.low - 0.1 if check.low is not None else 1.5 * check.high}
    if field == "centred_share":
        field = "centred_between_class_std"
        changes = {first.name: changes[first.name] * first.between_class_std}
    return [
        block.model_copy(update={field: changes[block.name]} if block.name in changes else {})
        for block in network
    ]


def verdicts(name: str, rows: Mapping[str, Sequence[Record]], **more: Any) -> dict[str, Verdict]:
    return {verdict.claim: verdict for verdict in judge(EXPERIMENTS[name], rows, **more)}


def claim_of(name: str, claim: str) -> Claim:
    return next(one for one in EXPERIMENTS[name].claims if one.id == claim)


def checks_behind(name: str, claim: str) -> list[Check]:
    """The checks of a claim, or of those that it follows from."""
    one = claim_of(name, claim)
    return [*one.checks, *(c for other in one.follows for c in claim_of(name, other).checks)]


def test_every_claim_has_its_own_id_and_every_table_has_claims() -> None:
    ids = [claim for _, claim in ALL_CLAIMS]
    assert len(set(ids)) == len(ids)
    own = "attention"  # which is not the paper's
    assert all(experiment.claims for name, experiment in EXPERIMENTS.items() if name != own)
    counts = {2: 9, 3: 2, 4: 1, 5: 1, 10: 7, 11: 2, 12: 3, 13: 3, 14: 5, 15: 3, 16: 3}
    wanted = {f"T{table}.{k}" for table, count in counts.items() for k in range(1, count + 1)}
    wanted |= {f"S.{k}" for k in (1, 2, 3)} | {f"control.{k}" for k in range(1, 6)}
    others = "cost.1 cost.2 cost.3 cost.3b FN2.1 F4.1 F6.1 F6.5 F7.2 T10.0"
    assert wanted | set(others.split()) <= set(ids)


def test_a_claim_on_both_errors_is_two_claims() -> None:
    one, other = claim_of("stages", "T13.1"), claim_of("stages", "T13.1/top-5")
    assert (one.top5, other.top5) == ("", "") and other.paper == "gains of 0.07, 0.23 and 0.33"
    assert other.says == f"{one.says.rstrip('.')} (top-5 error)."
    assert {check.quantity for check in one.checks} == {"top1"}
    assert {check.quantity for check in other.checks} == {"top5"}
    back = tuple(check.model_copy(update={"quantity": "top1"}) for check in other.checks)
    assert back == one.checks
    rows = as_published("stages")
    worse = {"SE_Stage_2": mean_of(rows["ResNet-50"], "top5") + 1}
    found = verdicts("stages", changed(rows, worse, "top5"))
    assert (found["T13.1"].outcome, found["T13.1/top-5"].outcome) == ("supported", "contradicted")
    assert found["T13.1"].ours.startswith("top-1 error")
    assert found["T13.1/top-5"].ours.startswith("top-5 error")


@pytest.mark.parametrize(("name", "claim"), ALL_CLAIMS)
def test_the_opposite_of_each_check_contradicts_its_claim(name: str, claim: str) -> None:
    rows = as_published(name)
    for check in checks_behind(name, claim):
        if check.kind == "none" or getattr(check, "without", ()):
            continue
        known = beside(name)
        if check.kind.startswith("gates"):
            known["networks"] = [network_against(check)] * 3
        elif check.kind == "time":
            known["benches"] = paper_benches(times=2.0)
        elif check.kind == "ratio" and check.network == "paper":
            known["costs"] = costs_of(name, **{check.rows[0]: 0.5 if check.low else 1.5})
        else:
            rows = against(check, as_published(name), EXPERIMENTS[name].control)
        found = verdicts(name, rows, **known)[claim]
        assert found.outcome == "contradicted" and found.ours, (check, found)


def beside(name: str) -> dict[str, Any]:
    """The paper's evidence that is in no record: gates of three networks, times, costs at 224
    pixels.
    """
    networks, costs = [paper_network()] * 3, costs_of(name)
    return {"networks": networks, "benches": paper_benches(), "costs": costs}


def costs_of(name: str, **factors: float) -> Costs:
    """What the paper prints for the rows of a table, times a factor for some of them."""
    found = {}
    for variant, value in EXPERIMENTS[name].variants.items():
        facts = UNPRINTED.get(variant, {}) | paper.published(EXPERIMENTS[name], variant)
        plain, factor = value.se is None, factors.get(variant, 1)
        params = factor * MILLION * facts.get("params", 25.6 if plain else 28.1)
        macs = factor * 1e9 * facts.get("gflops", 3.86 if plain else 3.87)
        backbone = value.backbone or "resnet50"
        network: dict[str, Any] = {"backbone": backbone, "se": value.se}
        network |= {"pixels": 224, "classes": 1000, "parts": {}}
        cost = NetworkCost(**network, params=round(params), macs=round(macs))
        found[backbone, value.se] = cost
    return found


def paper_benches(times: float = 1.0, ratios: Sequence[float] = ()) -> list[Bench]:
    """The times that the paper prints, on its own devices; those of SE `times` as long, or, on the
    GPU, in rounds of these ratios to the plain network's.
    """
    found = []
    for device, kind, group in (
        ("8 Titan X", "training_step", "training step"),
        ("cpu: the paper's", "inference", "inference, one image"),
    ):
        took = paper.paper_facts()["timings_ms"][kind]
        rounds = (times * took["SE"],) * 3
        if ratios and kind == "training_step":
            rounds = tuple(ratio * took["plain"] for ratio in ratios)
        rows = (
            Measured(group=group, name="plain", rounds=(took["plain"],) * 3),
            Measured(group=group, name="SE", rounds=rounds, over="plain"),
        )
        part = Part(unit="ms", more_is_better=False, settings="", rows=rows, provenance=PROVENANCE)
        found.append(Bench(device=device, cores=1, parts={"overhead": part}))
    return found


def test_a_time_that_may_lie_on_either_side_is_unresolved() -> None:
    found = verdicts("reduction", {}, benches=paper_benches(ratios=(1.02, 1.1, 1.18)))["cost.4"]
    assert found.outcome == "supported", "quartiles 1.06 and 1.14 lie inside"
    found = verdicts("reduction", {}, benches=paper_benches(ratios=(0.9, 1.1, 1.2)))["cost.4"]
    assert found.outcome == "unresolved" and "1.100" in found.ours
    found = verdicts("reduction", {}, benches=paper_benches()[1:])["cost.4"]
    assert found.reason.startswith("no GPU was timed yet")


def of_paper(claim: Claim) -> bool:
    """Whether the claim is about the cost of the paper's own network, which no record holds."""
    return any(getattr(check, "network", "") == "paper" for check in claim.checks)


SITUATIONS: dict[str, tuple[dict[str, Any], bool, str, str]] = {
    # of the records; whether there is other evidence; what comes out of errors, and its words
    "the paper's own numbers": ({}, True, "supported", ""),
    "too much noise": ({"share": 0.2}, True, "unresolved", "corrected p"),
    "one seed": ({"seeds": 1}, False, "not tested", "fewer than 2 seeds"),
    "no noise": ({"spread": 0}, False, "unresolved", "no spread"),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_noise_leaves_errors_open_and_nothing_else(situation: str, name: str) -> None:
    of_records, whole, of_errors, words = SITUATIONS[situation]
    found = verdicts(name, as_published(name, **of_records), **(beside(name) if whole else {}))
    for claim in EXPERIMENTS[name].claims:
        verdict, behind = found[claim.id], checks_behind(name, claim.id)
        exact = {check.kind for check in behind} <= {"ratio", "identical"} and not of_paper(claim)
        if behind[0].ledger == "error":
            assert verdict.outcome == of_errors, verdict
            assert claim.follows or words in verdict.ours + verdict.reason
        elif behind[0].kind == "none":
            assert (verdict.outcome, verdict.reason) == ("not tested", behind[0].statement)
        else:
            assert verdict.outcome == ("supported" if whole or exact else "not tested"), verdict
        if verdict.outcome == "supported":
            assert verdict.ours and not verdict.reason and not verdict.partly


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_empty_table_is_not_tested_and_says_why(name: str) -> None:
    for rows in ({}, {name: [] for name in EXPERIMENTS[name].variants}):
        found = verdicts(name, rows)
        for claim in EXPERIMENTS[name].claims:
            verdict = found[claim.id]
            why = verdict.ours if claim.follows else verdict.reason
            assert verdict.outcome == "not tested" and why
            assert all(f"{other}: not tested" in verdict.ours for other in claim.follows)


WHY = "a CIFAR ResNet has stages 2 to 4"
IN_PART = f"judged in part: SE_Stage_5: {WHY}"


NOT_YET = "SE_Stage_5 has no records yet"


@pytest.mark.parametrize(
    ("claim", "last", "errors", "outcome", "reason", "said", "unsaid"),
    [
        ("F6.5", "unhosted", {}, "not tested", f"SE_Stage_5: {WHY}", "", "error"),
        # a row that is only missing may still come
        ("F6.5", "missing", {}, "not tested", NOT_YET, "", "error"),
        # stage 4 is the last one of three
        ("T13.1", "unhosted", {"SE_Stage_4": 24.0}, "supported", IN_PART, "", "SE_Stage_4"),
        ("T13.1", "there", {"SE_Stage_4": 24.0}, "contradicted", "", "SE_Stage_4", "SE_Stage_5"),
        # the row itself is no part of the check that needs it
        ("T13.1", "missing", {}, "supported", "", "SE_Stage_4", "SE_Stage_5"),
        # the sum of three stages stands in for that of four where there are but three
        ("T13.3", "unhosted", {}, "supported", IN_PART, "+2 × plain network = +0.13", "SE_Stage_5"),
        ("T13.3", "unhosted", {"SE_All": 23.28}, "contradicted", IN_PART, "= +1.13", "SE_Stage_5"),
        (
            "T13.3",
            "there",
            {"SE_Stage_5": 21.3},
            "contradicted",
            "",
            "+3 × plain network",
            "+2 × plain network",
        ),
        ("T13.3", "missing", {}, "not tested", NOT_YET, "", "+2 × plain network"),
    ],
)
def test_a_network_without_a_place_for_a_row_is_judged_on_what_it_has(
    claim: str,
    last: str,
    errors: dict[str, float],
    outcome: str,
    reason: str,
    said: str,
    unsaid: str,
) -> None:
    rows = changed(as_published("stages"), errors, "top1")
    if last != "there":
        del rows["SE_Stage_5"]
    hosts = {"SE_Stage_5": WHY} if last == "unhosted" else {}
    found = verdicts("stages", rows, cannot_host=hosts)[claim]
    assert (found.outcome, found.reason) == (outcome, reason)
    assert said in found.ours and unsaid not in found.ours


def test_a_check_for_networks_without_a_row_is_made_there_alone() -> None:
    alone = table(f"{BETTER}, without: [v2]")
    rows = simulated(alone, {"v1": 20.0})
    assert judge(alone, rows, {"v2": "no place"})[0].outcome == "supported"
    (verdict,) = judge(alone, rows)
    assert verdict.outcome == "not tested"
    assert verdict.reason == "stated for a network that has no place for v2"


def test_a_claim_that_follows_from_others_holds_where_they_all_hold() -> None:
    name, rows = "integration", as_published("integration")
    noisy = as_published(name, share=0.2)["SE-POST"]
    (alike,), (worse,) = (claim_of(name, claim).checks for claim in ("T14.1", "T14.2"))
    for outcome, others in (
        ("supported", rows),
        ("contradicted", against(alike, rows, "plain")),
        ("contradicted", against(worse, rows, "plain")),
        ("unresolved", rows | {"SE-POST": noisy}),
        ("not tested", rows | {"SE-POST": []}),
    ):
        found = verdicts(name, others)
        assert found["T14.3"].outcome == outcome
        said = [f"{claim}: {found[claim].outcome}" for claim in ("T14.1", "T14.2")]
        assert found["T14.3"].ours == "; ".join(said)


def test_what_speaks_against_one_claim_speaks_against_all_that_follow_from_it() -> None:
    pairs = {"yes": "v1, plain", "no": "plain, v1", "open": "v2, plain", "untold": "v3, plain"}
    listed = []
    for name, pair in pairs.items():
        one, other = pair.split(", ")
        listed.append({"id": name, "checks": [f"kind: better, rows: [{one}], than: [{other}]"]})
    for follows, outcome in {
        ("yes",): "supported",
        ("yes", "open"): "unresolved",
        ("yes", "open", "untold"): "not tested",
        ("yes", "open", "untold", "no"): "contradicted",
    }.items():
        for order in (follows, follows[::-1]):
            experiment = claims({"id": "so", "follows": list(order)}, *listed)
            first = judge(experiment, simulated(experiment, {"v1": 20.0}) | {"v3": []})[0]
            assert (first.claim, first.outcome) == ("so", outcome)


def test_a_claim_that_follows_takes_no_part_in_the_correction() -> None:
    one = {"id": "one", "checks": [BETTER]}
    alone, followed = claims(one), claims(one, {"id": "so", "follows": ["one"]})
    for mean in (21.6, 21.75, 21.9):
        rows = simulated(alone, {"v1": mean})
        assert judge(alone, rows)[0] == judge(followed, rows)[0]


def test_costs_stated_for_the_papers_network_are_counted_there_without_training() -> None:
    """Whatever the recipe trains, and also where it trains nothing or cannot host the row."""
    for rows in ({}, as_published("reduction", share=0.2)):
        costs = costs_of("reduction")
        found = verdicts("reduction", rows, cannot_host={"2": "no"}, costs=costs)
        for claim in ("cost.1", "cost.2", "T10.3"):
            assert found[claim].outcome == "supported" and "in ResNet-50" in found[claim].ours
            assert found[claim].ledger == "arithmetic" and math.isnan(found[claim].margin)
    dear = costs_of("reduction", **{"16": 1.02})
    assert verdicts("reduction", {}, costs=dear)["cost.1"].outcome == "contradicted"
    uncounted = verdicts("reduction", as_published("reduction"))["cost.1"]
    assert uncounted.outcome == "not tested" and "was not counted yet" in uncounted.reason


def test_a_data_set_without_top_5_error_leaves_those_claims_alone() -> None:
    have = as_published("stages")
    rows = {name: changed_by(records, wrong_top5=None) for name, records in have.items()}
    with_top5, without = (verdicts("stages", one, **beside("stages")) for one in (have, rows))
    for claim in EXPERIMENTS["stages"].claims:
        found = without[claim.id]
        if any(getattr(check, "quantity", "") == "top5" for check in claim.checks):
            assert found.outcome == "not tested" and "no top-5" in found.reason
        else:
            assert found.outcome == with_top5[claim.id].outcome == "supported"
    assert sum("no top-5" in verdict.reason for verdict in without.values()) == 3


def test_a_recipe_that_reads_the_error_once_says_nothing_of_the_course_of_training() -> None:
    have = as_published("backbones")
    once = {name: [changed_by([r], epochs=r.epochs[1:])[0] for r in have[name]] for name in have}
    found = verdicts("backbones", once)
    assert found["F4.1"].outcome == "not tested" and "last epoch alone" in found["F4.1"].reason
    assert found["T2.1"].outcome == "supported"


def test_paired_rows_are_compared_each_with_its_own_and_with_no_other() -> None:
    means = {"v1": 21.0, "plain": 22.0, "v2": 29.0, "v3": 30.0}
    for paired, outcome in (("true", "supported"), ("false", "contradicted")):
        check = f"kind: better, paired: {paired}, rows: [v1, v2], than: [plain, v3]"
        rows = simulated(table(check), means)
        assert judge(table(check), rows)[0].outcome == outcome
    ratio = table("kind: ratio, quantity: params, rows: [v1, v2], than: [plain, v3], high: 1.2")
    rows = {name: changed_by(records, params=100) for name, records in rows.items()}
    assert judge(ratio, rows)[0].outcome == "supported"
    dearer = rows | {"v2": changed_by(rows["v2"], params=150)}
    assert judge(ratio, dearer)[0].outcome == "contradicted"


def failing(records: Sequence[Record], *seeds: int) -> list[Record]:
    return [r.model_copy(update={"diverged": 1} if r.run.seed in seeds else {}) for r in records]


def test_failed_runs_are_outcomes_and_compared_by_ranks() -> None:
    """The worst of all, whatever error they were left with: a row that fails is not better."""
    rows = simulated(ONE_CLAIM, {"v1": 20.0}, 9)
    (verdict,) = judge(ONE_CLAIM, rows | {"plain": failing(rows["plain"], 1, 4)})
    assert verdict.outcome == "supported" and "by ranks" in verdict.ours
    assert "plain 22" in verdict.ours and "(2 of 9 seeds failed)" in verdict.ours
    (verdict,) = judge(ONE_CLAIM, rows | {"v1": failing(rows["v1"], 0, 1, 2, 3)})
    assert verdict.outcome == "unresolved" and "(4 of 9 seeds failed)" in verdict.ours
    (verdict,) = judge(ONE_CLAIM, rows | {"v1": failing(rows["v1"], *range(9))})
    assert verdict.outcome == "contradicted"


def test_failed_runs_can_tell_rows_apart_and_never_that_they_are_alike() -> None:
    asked = table(
        "kind: differ, rows: [v1, v2, v3]",
        "kind: similar, rows: [v1, v2, v3]",
        WEIGHED,
        "kind: contrast, weights: {v1: 1, v2: -2, plain: 1}, side: below_zero",
        "kind: differ, rows: [v1, v2], than: [plain, v3]",
    )
    rows = simulated(asked, {"v1": 24.0}, 9)
    found = judge(asked, rows | {"v1": failing(rows["v1"], 5)}, margins=HALF_A_POINT)
    assert outcomes(found) == ["supported", "not tested", "contradicted", *["not tested"] * 2]
    assert found[1].reason == (
        "v1 has failed runs, and ranks cannot tell whether rows are alike within a margin"
    )
    assert all("v1 has failed runs, and ranks compare two rows" in v.reason for v in found[3:])


def test_so_few_seeds_that_failures_cannot_settle_a_claim_are_said() -> None:
    listed = table(BETTER, *(f"kind: better, rows: [v2], than: [v{k}]" for k in (3, 4)))
    rows = simulated(listed, {})
    found = judge(listed, rows | {"v1": failing(rows["v1"], 0, 1, 2, 3)})
    said = "so few seeds cannot show it by failures alone (p = 0.024)"  # 5 / C(10, 4), three times
    assert (found[0].outcome, found[0].reason) == ("unresolved", said)
    assert all(v.reason == "" for v in found[1:])
    lone = judge(ONE_CLAIM, rows | {"v1": failing(rows["v1"], *range(5))})[0]
    assert (lone.outcome, lone.reason) == ("contradicted", "")


def test_a_table_of_two_data_sets_is_not_judged() -> None:
    rows = as_published("squeeze")
    other = PROVENANCE.model_copy(update={"data": "e", "device": "gpu"})
    rows["plain"] = changed_by(rows["plain"], provenance=other)
    assert "test data or labels" in mixed(rows)
    assert "devices" in fairness(EXPERIMENTS["squeeze"], rows)[0]
    assert "data" in judge(EXPERIMENTS["squeeze"], rows)[0].reason


def test_equal_networks_are_named() -> None:
    rows = as_published("controls")
    assert fairness(EXPERIMENTS["controls"], rows) == (), "a constant gate is the plain network"
    rows["Random squeeze"] = [
        changed_by([r], run=replace(r.run, se=SESpec(squeeze="random")))[0] for r in rows["SE"]
    ]
    (one_network,) = fairness(EXPERIMENTS["controls"], rows)
    assert one_network.startswith("Random squeeze and SE are one network")


def gates(mean: float, std: float) -> Gates:
    return Gates(mean=mean, std=std, within=std / 2, low=0.0, high=0.0)


@pytest.mark.parametrize(
    ("gate", "mean", "std", "stuck"),
    [
        *(("sigmoid", 0.5, 0.005, True), ("sigmoid", 0.001, 0.004, True)),
        *(("sigmoid", 0.998, 0.003, True), ("sigmoid", 0.5, 0.05, False)),
        *(("sigmoid", 0.3, 0.001, False), ("tanh", 0.5, 0.001, False)),
        *(("tanh", -0.999, 0.001, True), ("relu", 1.0, 0.001, False)),
        *(("relu", 0.0, 0.0, True), ("softmax", 0.01, 0.01, False)),
        *(("softmax", 0.01, 0.0001, True), ("constant", 1.0, 0.0, False)),
    ],
)
def test_gates_that_say_nothing_are_stuck(gate: str, mean: float, std: float, stuck: bool) -> None:
    odd, run = gates(mean, std), Run(TRAIN, SESpec(gate=gate), 0)
    one = record(run, 22.0, gates={"SE_2_3": gates(0.4, 0.2), "SE_5_2": odd})
    assert bool(stuck_gates(one)) == stuck
    assert health(one) == "", "a note: the paper's own SE_5_2 stands near 1"
    assert health(record(run, 22.0, gates={"SE_5_2": odd})) == "", "no plan calls that a failure"


def test_always_answering_the_commonest_class_is_not_training() -> None:
    run, words = Run(TRAIN, None, 0), "no better than always answering the commonest class"
    for majority, count, guessed in (
        *((None, 450, True), (None, 435, True), (None, 425, False), (50, 425, False)),
        *((300, 200, True), (300, 177, True), (300, 170, False)),  # 323 right: the noise of 300
    ):
        few = {"tested": 500, "classes": 10, "majority": majority, "wrong_top1": count}
        said = health(record(run, 0, **few))
        assert said == (f"{words} ({count / 5:.1f}% error)" if guessed else ""), count
    assert words in health(record(run, 100.0))


def test_one_answer_for_every_image_is_not_training() -> None:
    run, said = Run(TRAIN, None, 0), "it gives every image the same answer (22.0% error)"
    assert health(record(run, 22.0, answered=1)) == said
    assert health(record(run, 22.0, answered=2)) == health(record(run, 22.0, answered=None)) == ""
    assert health(record(run, 100.0, answered=1)) == health(record(run, 100.0)), "said once"
    assert health(record(run, 22.0, answered=1, diverged=3)) == "diverged after epoch 3"


def claims(*listed: dict[str, Any], rows: int = 6) -> Experiment:
    """An experiment of the plain network and v1, v2, ...; checks are written as in its file."""
    variants = {f"v{i}": {"se": {"reduction": 2**i}} for i in range(1, rows)}
    told = []
    for i, claim in enumerate(listed):
        told.append({"id": str(i), "says": "s", "paper": "p"} | claim)
        if "checks" in claim:
            told[-1]["checks"] = [yaml.safe_load(f"{{{check}}}") for check in claim["checks"]]
    content = {"title": "t", "question": "q", "control": "plain", "claims": told}
    return parse(Experiment, content | {"variants": {"plain": {"se": None}} | variants})


def table(*checks: str) -> Experiment:
    return claims(*({"checks": [check]} for check in checks))


BETTER = "kind: better, rows: [v1], than: [plain]"
WEIGHED = "kind: contrast, weights: {v1: 1, plain: -1}, side: below_zero"
RATIO = "kind: ratio, quantity: params, rows: [v1], than: [plain], high: 2.0"
ALIKE = "kind: similar, rows: [v1, v2]"
IDENTICAL = "kind: identical, rows: [v1, v2]"
APART = "kind: differ, rows: [v1, v2, v3]"
ONE_CLAIM = table(BETTER)
MIXED_TABLE = table(
    *(f"kind: better, rows: [v{i}], than: [plain]" for i in range(1, 6)),
    "kind: better, rows: [v1], than: [v5]",
    "kind: better, rows: [v1, v2, v3], than: [plain]",
    "kind: contrast, weights: {v1: 1, v2: 1, v4: -1, plain: -1}, side: below_zero",
    "kind: differ, rows: [v3, v4, v5]",
    "kind: differ, rows: [v1, v3], than: [v4, plain]",
)
SIMILAR_TABLE = table(
    "kind: similar, rows: [v1, v2, v3]",
    "kind: no_worse, rows: [v4], than: [plain]",
    "kind: no_worse, rows: [v5], than: [plain]",
    "kind: contrast, weights: {v4: 0.5, v5: 0.5, plain: -1}, side: below_margin",
    "kind: contrast, weights: {v4: 0.5, v5: 0.5, v2: -1}, side: within_margin",
    APART,
)
HALF_A_POINT = dict.fromkeys(("top1", "top5", "throughout"), 0.5)
TEMPLATES = {
    name: [record(Run(TRAIN, value.se, seed), 22.0, 22.0) for seed in range(9)]
    for name, value in MIXED_TABLE.variants.items()
}


def simulated(
    experiment: Experiment,
    means: Mapping[str, float],
    seeds: int = 5,
    draw: np.random.Generator | None = None,
) -> dict[str, list[Record]]:
    """Rows about 22% or other means, with a standard deviation of 0.2 points."""
    draw = draw or np.random.default_rng(0)
    return {
        name: about(name, means.get(name, 22.0) + 0.2 * draw.standard_normal(seeds))
        for name in experiment.variants
    }


def about(name: str, errors: Sequence[float], quantity: str = "top1") -> list[Record]:
    return [
        one.model_copy(update=wrong(**{quantity: float(error)}))
        for one, error in zip(TEMPLATES[name], errors, strict=False)
    ]


Hit = Callable[[Sequence[Verdict]], bool]


def rate(
    experiment: Experiment,
    means: Sequence[float],
    seeds: int,
    tables: int,
    hit: Hit,
    margins: Mapping[str, float] | None = None,
) -> float:
    """How often tables with these means of v1, v2, ... are a hit."""
    draw, planted = np.random.default_rng(seeds), {f"v{i}": m for i, m in enumerate(means, 1)}
    tries = (
        judge(experiment, simulated(experiment, planted, seeds, draw), margins=margins)
        for _ in range(tables)
    )
    return sum(map(hit, tries)) / tables


def outcomes(found: Sequence[Verdict]) -> list[str]:
    return [verdict.outcome for verdict in found]


def errs(experiment: Experiment, differ: str) -> Hit:
    """Whether a verdict is neither open nor, on a difference, the one that is true."""
    kinds = [claim.checks[0].kind for claim in experiment.claims]
    right = {kind: {"unresolved"} for kind in kinds} | {"differ": {"unresolved", differ}}
    return lambda found: any(v.outcome not in right[k] for k, v in zip(kinds, found, strict=True))


def all_are(*expected: str) -> Hit:
    """Whether the first verdicts are these."""
    return lambda found: tuple(outcomes(found[: len(expected)])) == expected


LONE = {
    "kind: differ, rows: [v1, v2]": 0.02,
    # less Bonferroni's cost
    "kind: differ, rows: [v1, v2, v3, v4]": 0.01,
    "kind: differ, rows: [v1, v2, v3], than: [plain, v4, v5]": 0.01,
    WEIGHED: 0.02,
    "kind: contrast, weights: {v1: 1, v2: -1, v3: -1, plain: 1}, side: below_zero": 0.02,
    "kind: contrast, weights: {v1: 0.3, v2: 0.1, v3: -0.1, v4: -0.3}, side: below_zero": 0.02,
}
EQUAL, FIVE = errs(MIXED_TABLE, "contradicted"), ["contradicted"] * 5
APART_BY_MARGIN = table(APART), (22.5, 22.0, 22.0), 5, 400


@pytest.mark.parametrize(
    ("experiment", "means", "seeds", "tables", "hit", "least", "most"),
    [
        # a thousand tables without a difference
        (MIXED_TABLE, (), 3, 1000, EQUAL, 0, 0.05),
        (MIXED_TABLE, (), 5, 200, EQUAL, 0, 0.05),
        *(
            (one := table(c), (), 5, 600, errs(one, "contradicted"), p, 0.05)
            for c, p in LONE.items()
        ),
        # rows at the margin, alike or not; that some differ is true
        (
            SIMILAR_TABLE,
            (22.5, 22, 22.25, 22.5, 22.5),
            5,
            300,
            errs(SIMILAR_TABLE, "supported"),
            0,
            0.05,
        ),
        (*APART_BY_MARGIN, all_are("contradicted"), 0, 0.05),
        (*APART_BY_MARGIN, all_are("supported"), 0.6, 1),
        # large differences, and their opposite
        (MIXED_TABLE, (18, 19.5, 21, 17, 19), 5, 100, all_are(*["supported"] * 10), 0.95, 1),
        (MIXED_TABLE, (27, 25.5, 24, 24, 25.5), 5, 100, all_are(*["contradicted"] * 8), 0.95, 1),
        (SIMILAR_TABLE, (24, 22, 22, 24, 24), 5, 100, all_are(*FIVE, "supported"), 0.95, 1),
    ],
)
def test_verdicts_are_as_often_wrong_and_right_as_they_may(
    experiment: Experiment,
    means: Sequence[float],
    seeds: int,
    tables: int,
    hit: Hit,
    least: float,
    most: float,
) -> None:
    """Compatible with a true rate of at most `most`: four standard deviations."""
    margins = None if experiment is MIXED_TABLE else HALF_A_POINT
    share = rate(experiment, means, seeds, tables, hit, margins)
    assert least <= share <= most + 4 * math.sqrt(most * (1 - most) / tables)


def test_one_lone_claim_is_the_ordinary_two_sided_welch_test() -> None:
    draw, seen = np.random.default_rng(0), set()
    for mean in np.repeat([21.6, 21.8, 22.2, 22.4], 40):
        rows = simulated(ONE_CLAIM, {"v1": mean}, 5, draw)
        v1, plain = ([r.top1 for r in rows[name]] for name in ("v1", "plain"))
        theirs = scipy_stats.ttest_ind(v1, plain, equal_var=False)
        sure = "supported" if theirs.statistic < 0 else "contradicted"
        outcome = judge(ONE_CLAIM, rows)[0].outcome
        assert outcome == (sure if theirs.pvalue < 0.05 else "unresolved")
        assert judge(table(WEIGHED), rows)[0].outcome == outcome, "the weights 1 and -1"
        differ = judge(table("kind: differ, rows: [v1, plain]"), rows)[0]
        assert (differ.outcome == "supported") == (theirs.pvalue < 0.05)
        seen.add(outcome)
    assert len(seen) == 3


MANY_WEIGHTS = "kind: contrast, weights: {v1: 1, v2: 0.5, v3: -1, plain: -0.5}"
TWO_PAIRS = "kind: better, rows: [v2, v3], than: [plain, v4]"
FAMILY = claims(
    {"checks": [BETTER]},
    {"checks": [BETTER, TWO_PAIRS]},
    {"checks": [f"{TWO_PAIRS}, paired: true"]},
    {"checks": ["kind: no_worse, rows: [v2], than: [v3, v4]"]},
    {"checks": ["kind: similar, rows: [v3, v4, v5]"]},
    {"checks": ["kind: differ, rows: [v2, v3, v4]"]},
    {"checks": ["kind: differ, rows: [v1, v2, v3], than: [plain, v4, v5]"]},
    {"checks": [f"{MANY_WEIGHTS}, side: below_zero"]},
    {"checks": [f"{MANY_WEIGHTS}, side: below_margin"]},
    {"checks": [f"{MANY_WEIGHTS}, side: within_margin"]},
    # none of these is a test
    {"checks": [RATIO]},
    {"checks": ["kind: identical, rows: [v1, plain]"]},
    {"checks": [f"{BETTER}, quantity: top5"]},
    {"checks": [f"{BETTER}, without: [v1]"]},
    {"checks": ["kind: none, statement: no reason"]},
    {"follows": ["0", "3"]},
)


def below(groups: Sequence[Sequence[float]], weights: Sequence[float], bound: float) -> float:
    """One-sided p-value of a weighted sum of means below `bound`, by Welch and Satterthwaite as in
    textbooks; by SciPy's Welch test where it is of two rows.
    """
    if tuple(weights) == (1, -1):
        moved = np.asarray(groups[0]) - bound
        test = scipy_stats.ttest_ind(moved, groups[1], equal_var=False, alternative="less")
        return float(test.pvalue)
    parts = [
        (w**2 * np.var(x, ddof=1) / len(x), len(x) - 1)
        for w, x in zip(weights, groups, strict=True)
    ]
    total = sum(part for part, _ in parts)
    value = sum(w * np.mean(x) for w, x in zip(weights, groups, strict=True))
    df = total**2 / sum(part**2 / df for part, df in parts)
    return float(scipy_stats.t.cdf((value - bound) / math.sqrt(total), df))


def kind_of(check: Check) -> str:
    sides = {"below_zero": "better", "below_margin": "no_worse", "within_margin": "similar"}
    return sides[check.side] if check.kind == "contrast" else check.kind


def p_values(check: Check, errors: Mapping[str, list[float]], margin: float) -> tuple[float, float]:
    """For and against a check."""
    than = getattr(check, "than", ())
    pairs = zip(check.rows, than, strict=False) if check.kind != "contrast" else ()
    if check.kind == "contrast":
        asked = [(tuple(check.weights), tuple(check.weights.values()))]
    elif check.kind == "differ" and than:
        asked = [((*one, *other), (1, -1, -1, 1)) for one, other in combinations(pairs, 2)]
    else:
        every = product(check.rows, than) if than else combinations(check.rows, 2)
        asked = [(pair, (1, -1)) for pair in (pairs if getattr(check, "paired", 0) else every)]
    low, zero, high = (
        [below([errors[name] for name in names], weights, bound) for names, weights in asked]
        for bound in (-margin, 0.0, margin)
    )
    inside = max(max(p, 1 - q) for p, q in zip(high, low, strict=True))
    kind, number = kind_of(check), len(asked)
    if kind == "similar":
        beyond = [2 * min(1 - p, q) for p, q in zip(high, low, strict=True)]
        return inside, min(1, number * min(1, *beyond))
    if kind == "differ":
        return min(1, number * min(2 * min(p, 1 - p) for p in zero)), inside
    found = high if kind == "no_worse" else zero
    return max(found), min(1, number * min(1 - p for p in found))


def stepped_down(pairs: list[tuple[float, float]], kinds: list[str]) -> list[list[float]]:
    """Holm's correction in which a step counts what can still be true: both sides of "better"
    where the rows are equal, one side of any other check, and one side where one is rejected.
    """
    sides = sorted((p, k, side) for k, both in enumerate(pairs) for side, p in enumerate(both))
    adjusted, left, largest = [[0.0, 0.0] for _ in pairs], [[0, 1] for _ in pairs], 0.0
    for p, k, side in sides:
        counted = sum(
            len(one) if kind == "better" else min(1, len(one))
            for one, kind in zip(left, kinds, strict=True)
        )
        largest = max(largest, min(1.0, counted * p))
        adjusted[k][side] = largest
        left[k].remove(side)
    return adjusted


def test_the_checks_of_a_page_are_one_family() -> None:
    draw, seen = np.random.default_rng(0), set()
    checks = list(dict.fromkeys(claim.checks[-1] for claim in FAMILY.claims[:10]))
    assert len(checks) == 10 and FAMILY.claims[1].checks[0] == checks[0], "one test of two claims"
    for apart_by in np.repeat([0.05, 0.3, 0.8], 30):
        means = {f"v{i}": 22 + apart_by * draw.standard_normal() for i in range(1, 6)}
        rows = simulated(FAMILY, means, 5, draw)
        rows = {name: changed_by(have, wrong_top5=None) for name, have in rows.items()}
        errors = {name: [r.top1 for r in have] for name, have in rows.items()}
        pairs = [p_values(check, errors, 0.5) for check in checks]
        corrected = stepped_down(pairs, [kind_of(check) for check in checks])
        found = judge(FAMILY, rows, margins=HALF_A_POINT)
        for i, (p_for, p_against) in enumerate(corrected):
            outcome = "supported" if p_for < 0.05 else "unresolved"
            if p_for >= 0.05 > p_against:
                outcome = "contradicted"
            sides = [(p_for, pairs[i][0], ""), (p_against, pairs[i][1], " against it")]
            p, _, side = sides[0] if p_for < 0.05 else min(sides)
            shown = "< 0.001" if p < 0.001 else f"= {p:.3f}"
            assert f"corrected p{side} {shown}" in found[i].ours.split("; ")[-1]
            if len(FAMILY.claims[i].checks) == 1:
                assert found[i].outcome == outcome
                seen.add((getattr(checks[i], "side", checks[i].kind), outcome))
        assert outcomes(found[10:15]) == ["supported", "contradicted", *["not tested"] * 3]
    assert len(seen) == 7 * 3, "every kind with every verdict"


@pytest.mark.parametrize(
    ("kind", "v2", "v3", "outcome", "decider"),
    [
        ("differ", 22.1, 26.0, "supported", "v1 − v3 = -4"),
        ("differ", 22.01, 22.2, "contradicted", "v1 − v3 = -0.2"),
        ("similar", 22.01, 22.2, "supported", "v1 − v3 = -0.2"),
        ("similar", 22.1, 26.0, "contradicted", "v1 − v3 = -4"),
    ],
)
def test_the_comparison_that_decides_is_named(
    kind: str, v2: float, v3: float, outcome: str, decider: str
) -> None:
    """All rows scatter alike, by 0.16 points; with less, the 0.2 would be a clear difference."""
    noise, means = np.array([-0.2, -0.1, 0.0, 0.1, 0.2]), {"v2": v2, "v3": v3}
    rows = {name: about(name, means.get(name, 22.0) + noise) for name in TEMPLATES}
    asked = table(f"kind: {kind}, rows: [v1, v2, v3]")
    (verdict,) = judge(asked, rows, margins=HALF_A_POINT | {"top1": 0.6})
    assert verdict.outcome == outcome and f"deciding: {decider}" in verdict.ours


def test_a_difference_that_is_sure_but_within_the_margin_shows_the_p_value_that_settled_it() -> (
    None
):
    noise = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    rows = {f"v{i}": about(f"v{i}", 21.9 + i / 10 + noise) for i in (1, 2, 3)}
    asked = table("kind: differ, rows: [v1, v2, v3]")
    (verdict,) = judge(asked, rows, margins=HALF_A_POINT | {"top1": 0.6})
    assert verdict.outcome == "supported"
    assert "v1 − v3 = -0.20 points [-0.22, -0.18], corrected p < 0.001" in verdict.ours


def test_a_planted_difference_is_found_as_often_as_its_power_says() -> None:
    assert seeds_needed(0.3, 0.2) == 9
    trials, found = 600, []
    rate(ONE_CLAIM, [21.7], 9, trials, lambda v: bool(found.append(v[0].outcome)))
    stated = power(0.3, 0.2 * math.sqrt(2 / 9), 16)
    noise = 4 * math.sqrt(stated * (1 - stated) / trials)
    assert abs(found.count("supported") / trials - stated) <= noise
    assert found.count("contradicted") == 0


@pytest.mark.parametrize(
    ("seeds", "wanted"), [(9, [*["supported"] * 5, "contradicted"]), (2, ["unresolved"] * 6)]
)
def test_alike_is_supported_with_enough_seeds_and_unresolved_with_two(
    seeds: int, wanted: list[str]
) -> None:
    draw, hits = np.random.default_rng(seeds), np.zeros(6)
    for _ in range(100):
        rows = simulated(SIMILAR_TABLE, {}, seeds, draw)
        hits += np.array(outcomes(judge(SIMILAR_TABLE, rows, margins=HALF_A_POINT))) == wanted
    assert hits.min() > 90, hits


def test_too_few_seeds_leave_a_real_difference_unresolved_and_give_no_advice() -> None:
    draw = np.random.default_rng(0)
    found = [judge(ONE_CLAIM, simulated(ONE_CLAIM, {"v1": 21.7}, 2, draw))[0] for _ in range(200)]
    unresolved = [verdict for verdict in found if verdict.outcome == "unresolved"]
    assert len(unresolved) > 170
    assert not any("might do" in v.ours + v.reason or v.reason for v in unresolved)


def apart(points: float, plain: float, quantity: str = "top1") -> dict[str, list[Record]]:
    """v1 and v2 so many points apart, and the plain network."""
    means = {"plain": plain, "v1": plain - 1, "v2": plain - 1 - points}
    noise = np.random.default_rng(0).normal(0, 0.001, (len(means), 5))
    return {
        name: about(name, mean + shifts, quantity)
        for (name, mean), shifts in zip(means.items(), noise, strict=True)
    }


@pytest.mark.parametrize(
    ("quantity", "papers", "margin"), [("top1", 23.30, 0.34), ("top5", 6.55, 0.52 / 3)]
)
def test_without_a_plan_the_margin_is_a_third_of_the_papers_relative_gain_of_the_plain_rows(
    quantity: str, papers: float, margin: float
) -> None:
    experiment, given = table(f"{ALIKE}, quantity: {quantity}"), {"top1": 0.1, "top5": 0.1}
    for plain, points, margins in (
        *((papers, margin, None), (papers / 2, margin / 2, None), (papers, 0.1, given)),
    ):
        for share, outcome in ((0.95, "supported"), (1.05, "contradicted")):
            rows = apart(share * points, plain, quantity)
            assert judge(experiment, rows, margins=margins)[0].outcome == outcome


def test_all_through_training_the_margin_is_that_of_the_top_1_error() -> None:
    experiment, rows = table(f"{ALIKE}, quantity: throughout"), apart(0.3, 50.0, "throughout")
    for at_its_end, outcome in ((23.30, "supported"), (15.0, "contradicted")):
        plain = changed_by(rows["plain"], **wrong(top1=at_its_end))
        assert judge(experiment, rows | {"plain": plain})[0].outcome == outcome


def test_a_run_that_failed_does_not_widen_the_margin() -> None:
    rows = apart(0.4, 23.30)
    rows["plain"][4] = rows["plain"][4].model_copy(update=wrong(top1=99.9))
    assert judge(table(ALIKE), rows)[0].outcome == "contradicted", "0.34 points, not 0.56"


def test_without_a_plain_network_nothing_is_called_alike_and_the_rest_is_judged() -> None:
    asked = table(
        "kind: better, rows: [v2], than: [v1]",
        "kind: differ, rows: [v1, v2]",
        "kind: contrast, weights: {v2: 1, v1: -1}, side: below_zero",
        ALIKE,
        "kind: no_worse, rows: [v2], than: [v1]",
        "kind: contrast, weights: {v2: 1, v1: -1}, side: below_margin",
        "kind: contrast, weights: {v2: 1, v1: -1}, side: within_margin",
    )
    rows = apart(1.0, 23.30)
    for plain in ([], changed_by(rows["plain"], diverged=3)):
        found = judge(asked, rows | {"plain": plain})
        assert outcomes(found) == [*["supported"] * 3, *["not tested"] * 4]
        assert all(v.reason.startswith("no margin is known: ") for v in found[3:])
    found = verdicts("squeeze", as_published("squeeze", share=0.2) | {"plain": []})
    assert (found["T11.1b"].outcome, found["T11.2"].outcome) == ("unresolved", "not tested")


def test_the_margin_of_a_recipe_with_an_analysis_plan_is_the_plans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Maximum and average are 0.29 points apart in the paper."""
    seeds = [0, 1, 2, 3, 4]
    analysis = {"seeds": seeds, "reference_seeds": seeds, "plain_top1": 23.30, "plain_top5": 6.55}
    analysis |= {"looks": [{"seeds": 5, "reference_seeds": 5, "alpha": 0.05}]}
    analysis |= {"family": "page", "spread": "own", "block": "none", "failures": "as found"}
    monkeypatch.setattr(Record, "right", lambda self: np.zeros(2, bool))
    asked = plan.read_plan("imagenet", ["squeeze"], seeds=5)
    rows = as_published("squeeze")
    rows["Std"] = rows["Avg"]  # not in the paper; a look wants every row
    records = {
        run.id: made.model_copy(update={"id": run.id, "run": run})
        for one in asked.rows()
        for run, made in zip(one.runs, rows.get(one.variant, ()), strict=False)
    }
    for plain, outcome in {None: "supported", 23.30: "supported", 15.0: "contradicted"}.items():
        analysed = None if plain is None else parse(AnalysisPlan, analysis | {"plain_top1": plain})
        made = replace(asked, recipe=asked.recipe.model_copy(update={"plan": analysed}))
        found = {one.claim: one.outcome for one in tables_of(made, records)["squeeze"].verdicts}
        assert (found["T11.2"], found["T11.2/top-5"]) == (outcome, "supported")


def test_rows_are_identical_where_every_shared_seed_is_equal_bit_for_bit() -> None:
    rows = simulated(table(IDENTICAL), {})
    copies = [one.model_copy(update=wrong(top1=one.top1)) for one in rows["v1"]]
    odd = Epoch(lr=0.1, train_loss=2.0, train_top1=50.0)

    def is_one(others: Sequence[Record], outcome: str, said: str) -> None:
        (found,) = judge(table(IDENTICAL), rows | {"v2": others})
        assert found.outcome == outcome and (found.ours or found.reason).startswith(said)

    is_one(rows["v2"], "contradicted", "0 of 5 pairs of runs")
    is_one(copies, "supported", "5 of 5 pairs of runs")
    for field, value in (*(("correct", "0"), ("wrong_top5", 1), ("params", 1)), ("epochs", (odd,))):
        other = changed_by(copies[4:], **{field: value})
        is_one([*copies[:4], *other], "contradicted", "4 of 5 pairs")
    # a multiplication by 1 is counted and changes nothing
    is_one(changed_by(copies, macs=copies[0].macs + 1), "supported", "5 of 5 pairs")
    is_one(copies[:2], "supported", "2 of 2 pairs")  # in the seeds that they share
    later = [changed_by([r], run=replace(r.run, seed=10 + r.run.seed))[0] for r in copies]
    is_one(later, "not tested", "v1, v2 share no seed yet")
    three = table("kind: identical, rows: [v1, v2, v3]")
    same, other = ({"v2": copies, "v3": one} for one in (copies, rows["v3"]))
    assert judge(three, rows | same)[0].ours.startswith("10 of 10")
    assert judge(three, rows | other)[0].outcome == "contradicted"


REFUSED = f"""
kind: better, rows: [v1]                                   | key 'than' is missing
kind: better, rows: [v1], than: [v1]                       | names a row twice
kind: better, rows: [], than: [v1]                         | at least 1 item
{BETTER}, needs: [v9]                                      | 'v9' is no variant
{BETTER}, without: [v9]                                    | 'v9' is no variant
{BETTER}, side: below_zero                                 | unknown key 'side'
{BETTER}, weights: {{v3: 1, v4: -1}}                       | unknown key 'weights'
{BETTER}, quantity: params                | 'top1', 'top5' or 'throughout', found 'params'
kind: better, rows: [v1], than: [v9]                       | is no variant
kind: better, paired: true, rows: [v1, v2], than: [v3]     | as many
kind: similar, rows: [v1]                                  | at least 2 items
kind: identical, rows: [v1]                                | at least 2 items
kind: differ, rows: [v1]                                   | at least 2 items
kind: differ, rows: [v1], than: [v2]                       | at least 2 items
kind: differ, rows: [v1, v2], than: [v3]                   | as many
kind: differ, rows: [v1, v2], than: [v3, v1]               | names a row twice
{ALIKE}, than: [v3]                                        | unknown key 'than'
{IDENTICAL}, than: [v3]                                    | unknown key 'than'
{IDENTICAL}, quantity: top5                                | unknown key 'quantity'
{ALIKE}, within: 0.1                                       | unknown key .*within
kind: contrast, weights: {{v1: 1, plain: -1}}              | key 'side' is missing
kind: contrast, side: below_zero                           | key 'weights' is missing
kind: contrast, weights: {{v1: 1, v2: -1}}, side: above_zero  | below_zero
{WEIGHED}, rows: [v2]                                      | unknown key 'rows'
{WEIGHED}, paired: true                                    | unknown key 'paired'
{WEIGHED}, quantity: params               | 'top1', 'top5' or 'throughout', found 'params'
kind: contrast, side: below_zero, weights: {{v1: 1, v2: -0.9}}      | add up to 0
kind: contrast, side: below_zero, weights: {{v1: 1}}                | add up to 0
kind: contrast, side: below_zero, weights: {{v1: 1, v2: -1, v3: 0}} | a weight of 0
kind: contrast, side: below_zero, weights: {{v1: '1', v2: -1}}      | weights.*number
kind: contrast, side: below_zero, weights: [[v1, 1], [v2, -1]]      | a valid dictionary
kind: contrast, side: below_zero, weights: {{v1: 1, v9: -1}}        | 'v9' is no variant
kind: ratio, rows: [v1], than: [v2], high: 1.0             | key 'quantity' is missing
kind: ratio, rows: [v1], than: [v2], quantity: macs        | needs low or high
kind: ratio, rows: [v1, v3], than: [v2], quantity: macs, high: 1  | as many
kind: gates_rise, rows: [early, late]                      | key 'quantity' is missing
kind: gates_rise, rows: [early, late], quantity: mean, needs: [v1]      | unknown key 'needs'
kind: gates_rise, rows: [early, late], quantity: mean, network: paper   | unknown key 'network'
kind: gates_within, rows: [early], quantity: mean          | needs low or high
kind: time, quantity: inference, device: cpu               | needs low or high
kind: none, statement: none, without: [v1]                 | unknown key 'without'
rows: [v1], than: [plain]                                  | key 'kind' is missing
kind: 3                                                    | valid string
kind: 'json:dumps'                                         | is no class of checks
kind: bettr, rows: [v1], than: [plain]                     | did you mean 'better'
kind: worse, rows: [v1, v2], than: [plain]                 | unknown claim kind 'worse'
kind: ordered, rows: [v1, v2], than: [plain]               | unknown claim kind 'ordered'
kind: not_monotone, rows: [v1, v2], than: [plain]          | unknown claim kind 'not_monotone'
kind: gates_fall, rows: [v1, v2], than: [plain]            | unknown claim kind 'gates_fall'
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_a_check_that_means_nothing_is_refused(line: str) -> None:
    check, _, message = line.partition(" | ")
    with pytest.raises(BadInput, match=message.strip()):
        table(check)


RISE = "kind: gates_rise, rows: [early, late], quantity: mean"
TIME = "kind: time, quantity: inference, device: cpu, high: 1"
NONE = "kind: none, statement: the rest cannot be tested"
ONE: dict[str, Any] = {"checks": [BETTER]}
OF_THEIR_OWN = "errors and exact figures are claims of their own"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        *(([one], "has checks, or follows") for one in ({}, {"checks": []})),
        ([ONE, ONE | {"follows": ["0"]}], "has checks, or follows"),
        *(([{"checks": [BETTER, one]}], OF_THEIR_OWN) for one in (RATIO, IDENTICAL, RISE, TIME)),
        ([{"checks": [RATIO, WEIGHED]}], OF_THEIR_OWN),
        *(
            ([{"checks": checks, "top5": "p"}], "`top5` repeats checks on the top-1 error")
            for checks in (
                *([f"{BETTER}, quantity: top5"], [f"{BETTER}, quantity: throughout"]),
                *([BETTER, f"{BETTER}, quantity: top5"], [RATIO], [NONE]),
            )
        ),
        ([ONE, {"follows": ["0"], "top5": "p"}], "`top5` repeats"),
        ([ONE, {"follows": ["0", "2"]}], "follows from '2', which is no claim with checks"),
        ([{"follows": ["0"]}], "follows from '0', which is no claim with checks"),
        ([ONE, {"follows": ["0"]}, {"follows": ["1"]}], "follows from '1', which is no claim with"),
        ([ONE | {"id": "a"}, {"id": "a", "checks": [RATIO]}], "claim a is there twice"),
        (
            [ONE | {"id": "a", "top5": "p"}, {"id": "a/top-5", "checks": [RATIO]}],
            "a/top-5 is there twice",
        ),
    ],
)
def test_a_claim_that_means_nothing_is_refused(told: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        claims(*told)


def test_what_is_nearly_refused_is_taken() -> None:
    told = claims(
        {"checks": [BETTER, NONE]},
        {"checks": [RATIO, IDENTICAL]},
        {"id": "a", "checks": [BETTER, WEIGHED], "top5": "p"},
        {"follows": ["a/top-5", "a"]},
        {"checks": [f"{MANY_WEIGHTS}, side: below_zero, needs: [v4]"]},
    )
    assert [claim.id for claim in told.claims] == ["0", "1", "a", "a/top-5", "3", "4"]


def test_an_experiment_has_no_margin_of_its_own_and_a_row_is_weighed_once(tmp_path: Path) -> None:
    text = """
title: t
question: q
control: plain
variants: {plain: {se: null}, SE: {se: {}}}
claims:
  - id: a
    says: s
    paper: p
    checks: [{kind: contrast, weights: {SE: 1, plain: -1}, side: below_zero}]
"""
    path = tmp_path / "own.yaml"
    path.write_text(text)
    weights = plan.read_experiment("own", tmp_path).claims[0].checks[0].weights
    assert weights == {"SE": 1, "plain": -1}
    for more, words in (
        (f"{text}margin: 0.5\n", "unknown key 'margin'"),
        (text.replace("{SE: 1, plain: -1}", "{SE: 1, plain: -1, SE: 1}"), "'SE' is written twice"),
    ):
        path.write_text(more)
        with pytest.raises(BadInput, match=words):
            plan.read_experiment("own", tmp_path)


def test_a_block_of_planted_gates_is_described_as_planted() -> None:
    draw, names = np.random.default_rng(0), {3: "pug", 7: "cliff"}
    pattern, labels = draw.uniform(0.3, 0.6, 400), np.repeat([3, 7, 9], 200)
    shift = np.where(labels == 3, -0.1, 0.1)[:, None]
    seen = pattern + shift + 0.05 * draw.standard_normal((600, 400))
    block = describe("SE_4_6", seen, labels, names, seen.mean(0))
    assert block.class_means["pug"] == pytest.approx(pattern.mean() - 0.1, abs=0.01)
    assert block.between_class_std == pytest.approx(0.1, abs=0.005)
    assert block.within_class_std == pytest.approx(0.05, abs=0.002)
    assert block.correlation == pytest.approx(1, abs=0.01) and block.centred_share < 0.1
    assert (block.share_high, block.share_low) == (0.0, 0.0)
    assert parse(ClassGates, block.model_dump(mode="json")) == block
    flat = describe("SE_5_2", np.ones((600, 4)), labels, names, np.ones(4))
    assert flat.correlation is None and flat.share_high == 1.0 and flat.centred_share == 0.0
    with pytest.raises(ValueError, match="each with an image"):
        describe("SE_2_3", np.ones((600, 4)), labels, {3: "pug", 8: "goldfish"}, np.ones(4))


ROLE = "role_of_excitation"


def test_blocks_are_found_by_their_part_in_any_network() -> None:
    network = paper_network()
    parts = ("early", "middle", "late", "next_to_last", "last", "SE_3_4")
    names = [block.name for part in parts if (block := find(network, part))]
    assert names == ["SE_2_3", "SE_4_6", "SE_5_1", "SE_5_2", "SE_5_3", "SE_3_4"]
    one_a_stage = [network[0], network[2], network[3]]
    assert find(one_a_stage, "next_to_last") is None and find(one_a_stage, "SE_9_9") is None
    assert find(network[:1], "early") is None
    found = verdicts(ROLE, {}, networks=[one_a_stage] * 2)
    assert found["F6.3"].outcome == "not tested" and "next to last" in found["F6.3"].reason
    assert found["F6.2"].outcome == "supported"


def jittered(networks: int, spread: float, **means: float) -> list[list[ClassGates]]:
    """The paper's network as often, its spread between classes so far apart from seed to seed."""
    draw, field = np.random.default_rng(0), "centred_between_class_std"

    def moved(block: ClassGates) -> ClassGates:
        mean = means.get(block.name, block.centred_between_class_std)
        return block.model_copy(update={field: mean + spread * draw.standard_normal()})

    return [[moved(block) for block in paper_network()] for _ in range(networks)]


def test_gates_are_judged_by_students_interval_over_the_networks_of_all_seeds() -> None:
    seen, (check,) = set(), claim_of(ROLE, "F6.2b").checks
    for spread in (0.0, 0.02, 0.1):
        networks = jittered(4, spread)
        found = verdicts(ROLE, {}, networks=networks)["F6.2b"]
        values = [
            [getattr(find(one, name), check.quantity) for one in networks] for name in check.rows
        ]
        low = min(
            np.mean(d) - scipy_stats.t.ppf(0.975, 3) * scipy_stats.sem(d)
            for d in np.diff(values, axis=0)
        )
        assert found.outcome == ("supported" if low > 0 else "unresolved")
        assert "[4 networks]" in found.ours and found.ledger == "observation"
        seen.add(found.outcome)
    assert len(seen) == 2


def test_gates_that_do_not_agree_or_of_one_network_leave_claims_unresolved() -> None:
    found = verdicts(ROLE, {}, networks=[paper_network()])
    for claim in EXPERIMENTS[ROLE].claims:
        if claim.checks and claim.checks[0].kind.startswith("gates"):
            assert found[claim.id].outcome == "unresolved" and "[1 network]" in found[claim.id].ours
    (check,) = claim_of(ROLE, "F6.3").checks
    networks = [paper_network(), network_against(check), paper_network()]
    found = verdicts(ROLE, {}, networks=networks)
    assert found["F6.3"].outcome == "unresolved" and "3 networks" in found["F6.3"].ours
    assert found["F6.2"].outcome == found["F7.2"].outcome == "supported", "they agree in the rest"
    # they neither rise nor fall
    found = verdicts(ROLE, {}, networks=jittered(3, 0.0, SE_4_6=0.2))
    assert found["F6.2b"].outcome == "unresolved" and found["F6.2"].outcome == "supported"
    assert "0.018 [0.018, 0.018] (SE_2_3), 0.200 [0.200, 0.200] (SE_4_6)" in found["F6.2b"].ours


def test_measures_that_are_not_there_leave_a_claim_on_gates_unresolved() -> None:
    """A class curve that is constant over channels correlates with nothing."""
    networks = [[replace_correlation(block) for block in paper_network()], paper_network()]
    found = verdicts(ROLE, {}, networks=networks)
    assert found["F6.4"].outcome == "unresolved"


def replace_correlation(block: Any) -> Any:
    return block.model_copy(update={"correlation": None})


def test_two_rows_that_are_one_network_under_a_recipe_differ_by_nothing() -> None:
    """As where a row of `schedule` asks for as many epochs as the recipe has."""
    name = "role_of_squeeze"
    rows = as_published(name)
    rows["NoSqueeze"] = rows["SE"]
    found = verdicts(name, rows)["T16.1"]
    assert found.outcome == "unresolved" and "SE − NoSqueeze = +0.00 points" in found.ours


def test_measures_of_gates_by_class_of_unequal_channels() -> None:
    gates = np.array([[0.05, 0.95, 0.5], [0.15, 0.85, 0.1], [0.3, 0.7, 0.2], [0.5, 0.3, 0.4]])
    labels = np.array([0, 0, 1, 1])
    one = describe("SE_2_1", gates, labels, {0: "a", 1: "b"}, np.array([0.05, 0.95, 0.5]))
    a, b = gates[:2].mean(0), gates[2:].mean(0)
    assert one.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert one.between_class_std == pytest.approx(np.mean(np.abs(a - b) / 2))
    centred = (a - a.mean()) - (b - b.mean())
    assert one.centred_between_class_std == pytest.approx(np.mean(np.abs(centred) / 2))
    inner = [np.abs(g[0] - g[1]).mean() / 2 for g in (gates[:2], gates[2:])]
    assert one.within_class_std == pytest.approx(np.mean(inner))
    assert (one.share_high, one.share_low) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_rows_with_failures_are_two_sided_where_a_claim_says_different() -> None:
    asked = table("kind: differ, rows: [v1, plain]")
    rows = simulated(asked, {"v1": 24.0}, 4)
    rows["v1"] = failing(rows["v1"][:3], 0)  # 3 worst of 7: 1 / 35 one-sided
    (found,) = judge(asked, rows)
    assert found.outcome == "unresolved" and "corrected p = 0.057" in found.ours


def test_chance_is_counted_to_the_image() -> None:
    first = next(k for k in range(501) if scipy_stats.binom.sf(k - 1, 500, 0.1) <= 0.01)
    for right, failed in ((first, False), (first - 1, True)):
        few = {"tested": 500, "classes": 10, "majority": 50, "wrong_top1": 500 - right}
        assert bool(health(record(Run(TRAIN, None, 0), 0, **few))) == failed


def test_the_printed_interval_of_gates_is_students() -> None:
    networks = jittered(4, 0.02)
    (check,) = claim_of(ROLE, "F6.2b").checks
    values = [getattr(find(one, check.rows[0]), check.quantity) for one in networks]
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert low < 0 < high, "but a spread is not"
    assert f"[0.000, {high:.3f}]" in verdicts(ROLE, {}, networks=networks)["F6.2b"].ours


def test_the_papers_own_gates_support_no_claim_and_its_opposite_in_shorter_networks() -> None:
    """Of a last stage of two blocks or one no block has two of the paper's places."""
    paper = dict(
        zip(("early", "second", "middle", "late", "wide", "last"), paper_network(), strict=True)
    )
    for names in (
        {"early": "SE_2_2", "middle": "SE_3_2", "late": "SE_4_1", "last": "SE_4_2"},
        {"early": "SE_2_1", "middle": "SE_3_1", "late": "SE_4_1"},
    ):
        network = [paper[at].model_copy(update={"name": name}) for at, name in names.items()]
        found = verdicts(ROLE, {}, networks=[network] * 3)
        outcomes = {claim: verdict.outcome for claim, verdict in found.items()}
        assert "contradicted" not in outcomes.values(), outcomes
        assert outcomes["F6.2"] == "supported" and outcomes["F6.3"] == "not tested"
        assert outcomes["F6.4"] == ("supported" if "last" in names else "not tested")


def test_gates_are_provisional_until_all_planned_networks_are_there() -> None:
    networks = jittered(4, 0.001)
    early, all_there = (
        verdicts(ROLE, {}, networks=networks, networks_planned=n)["F6.3"] for n in (5, 4)
    )
    assert early.outcome == all_there.outcome == "supported"
    assert (early.marks, all_there.marks) == ("provisional", "")
    assert early.reason == "provisional: 4 of 5 networks are there"


def test_devices_that_disagree_leave_a_time_open() -> None:
    slow = paper_benches(times=2.0)[0].model_copy(update={"device": "another GPU"})
    found = verdicts("reduction", {}, benches=[*paper_benches(), slow])["cost.4"]
    assert found.outcome == "unresolved"
