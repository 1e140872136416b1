"""Numbers of all requests, and by stage, workload, adapter and tenant."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.fairness import Fairness, fairness
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.series import curves
from loadtests.analysis.summary import Summary, against_peak, grouped, measured, summarize
from loadtests.analysis.throughput import Windows
from loadtests.load.choice import Tenant
from loadtests.protocol.record import Record


class Breakdown(BaseModel):
    """The summaries of one run, or of one server over all rounds of a comparison."""

    model_config = ConfigDict(extra="forbid")

    overall: Summary
    stages: list[Summary]
    workloads: list[Summary]
    adapters: list[Summary]
    tenants: list[Summary]
    fairness: Fairness
    curves: dict[str, list[float]]


def break_down(
    name: str,
    records: Sequence[Record],
    windows: Windows,
    objectives: Objectives | None,
    tenants: Sequence[Tenant],
    missing: Mapping[str, int],
) -> Breakdown:
    """Summarize the requests of a run; those of the warm-up count only towards the throughput.

    `missing` is the number of planned requests of each stage that left no record.
    """
    parts = []
    for stage, window in windows.stages.items():
        rows = [record for record in records if record.stage == stage]
        lost = missing.get(stage, 0)
        if rows or lost:
            parts.append(summarize(stage, rows, records, window, objectives, lost))
    own, whole = measured(records), windows.whole
    return Breakdown(
        overall=summarize(name, own, records, whole, objectives, sum(missing.values())),
        stages=against_peak(parts),
        workloads=grouped(records, lambda r: r.workload, whole, objectives),
        adapters=grouped(records, lambda r: r.model, whole, objectives),
        tenants=grouped(records, lambda r: r.tenant, whole, objectives),
        fairness=fairness(own, tenants),
        curves=curves(own),
    )
