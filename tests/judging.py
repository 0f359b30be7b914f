"""One table before the judge, without an analysis plan."""

from collections.abc import Mapping, Sequence

from senet_ablate.analysis.evidence import Evidence, Rows
from senet_ablate.analysis.stats import ALPHA
from senet_ablate.analysis.verdicts import Case, Look, Verdict, observed_margins
from senet_ablate.analysis.verdicts import judge as judge_page
from senet_ablate.records.bench import Bench
from senet_ablate.records.class_gates import ClassGates
from senet_ablate.records.cost import Costs
from senet_ablate.spec.spec import Experiment


def judge(
    experiment: Experiment,
    rows: Rows,
    cannot_host: Mapping[str, str] | None = None,
    networks: Sequence[Sequence[ClassGates]] = (),
    benches: Sequence[Bench] = (),
    margins: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    costs: Costs | None = None,
    shared: bool = False,
) -> tuple[Verdict, ...]:
    """The verdicts on a page of this experiment alone."""
    evidence = Evidence(
        rows=rows,
        variants=experiment.variants,
        margins=margins or observed_margins(rows.get(experiment.control, ())),
        cannot_host=cannot_host or {},
        networks=networks,
        benches=benches,
        costs=costs or {},
    )
    case = Case(experiment, evidence, (rows,))
    return judge_page({"table": case}, [Look(alpha)], shared, shared)["table"]
