"""Results of the version before: what they say of throughput is counted anew."""

from collections.abc import Sequence
from typing import Any

from loadtests.analysis.breakdown import break_down
from loadtests.analysis.compat import compat
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.result import SCHEMA_VERSION, Result
from loadtests.analysis.summary import measured
from loadtests.analysis.throughput import windows
from loadtests.load.choice import Tenant
from loadtests.protocol.record import Record

_BEFORE = 2


def recounted(tree: dict[str, Any], records: Sequence[Record]) -> Result:
    """A stored result of the version before, with the numbers of its requests.

    Raises ValueError for one of any other version.
    """
    version = tree.get("schema_version")
    if version != _BEFORE:
        raise ValueError(f"schema_version must be {_BEFORE} or {SCHEMA_VERSION}, got {version}")
    stages = {stage["name"]: stage for stage in tree["stages"]}
    objectives = Objectives.model_validate(tree["objectives"]) if tree["objectives"] else None
    parts = break_down(
        "all",
        records,
        windows(
            tree["stage_starts"],
            tree["overall"]["seconds"],
            {name: stage["seconds"] for name, stage in stages.items()},
        ),
        objectives,
        [Tenant.model_validate(tenant) for tenant in tree["scenario"]["tenants"]],
        {name: _missing(stage) for name, stage in stages.items()},
    )
    anew = {"schema_version": SCHEMA_VERSION, "compat": compat(measured(records)), **dict(parts)}
    return Result.model_validate(tree | anew)


def _missing(stage: dict[str, Any]) -> int:
    """The requests of a stage that left no record, by what it says itself."""
    outcomes = stage["outcomes"]
    return int(stage["offered"] + outcomes.get("cancelled", 0) - sum(outcomes.values()))
