"""One table before the judge, without an analysis plan."""

from collections.abc import Mapping
from typing import Any

from senet_ablate.analysis.evidence import Evidence, Rows
from senet_ablate.analysis.verdicts import Verdict, observed_margins
from senet_ablate.analysis.verdicts import judge as judge_page
from senet_ablate.spec.spec import Experiment


def judge(
    experiment: Experiment,
    rows: Rows,
    cannot_host: Mapping[str, str] | None = None,
    margins: Mapping[str, float] | None = None,
    **beside: Any,
) -> tuple[Verdict, ...]:
    """The verdicts on a page of this experiment alone; beside: evidence that is in no record."""
    evidence = Evidence(
        experiment,
        rows,
        {v: rows[v][0].run.row_id if rows.get(v) else v for v in experiment.variants},
        looks=[rows],
        margins=margins or observed_margins(rows.get(experiment.control, ())),
        cannot_host=cannot_host or {},
        **beside,
    )
    return judge_page({"table": evidence})["table"]
