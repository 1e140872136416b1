"""Requests as a whole and by stage, workload, adapter and tenant."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.fairness import Fairness, fairness
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.series import curves
from loadtests.analysis.summary import Summary, against_peak, grouped, summarize
from loadtests.load.choice import Tenant
from loadtests.protocol.record import Record


class Breakdown(BaseModel):
    """The numbers of one side: of a run, or of one server over the rounds of a comparison."""

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
    seconds: float,
    stages: Mapping[str, float],
    objectives: Objectives | None,
    tenants: Sequence[Tenant],
    missing: Mapping[str, int],
) -> Breakdown:
    """Measured records of `seconds`; `stages` are their lengths by name, in order.

    `missing` are the requests of each stage that were planned and left no record.
    """
    parts = []
    for stage, length in stages.items():
        rows = [record for record in records if record.stage == stage]
        if rows or missing.get(stage):
            parts.append(summarize(stage, rows, length, objectives, missing.get(stage, 0)))
    return Breakdown(
        overall=summarize(name, records, seconds, objectives, sum(missing.values())),
        stages=against_peak(parts),
        workloads=grouped(records, lambda r: r.workload, seconds, objectives),
        adapters=grouped(records, lambda r: r.model, seconds, objectives),
        tenants=grouped(records, lambda r: r.tenant, seconds, objectives),
        fairness=fairness(records, tenants),
        curves=curves(records),
    )
