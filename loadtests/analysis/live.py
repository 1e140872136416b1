"""Numbers of a run in progress, cheap enough to compute every two seconds."""

from collections.abc import Sequence

import numpy as np

from loadtests.analysis.latency import samples
from loadtests.analysis.objectives import Objectives
from loadtests.protocol.record import Record

# In a long run only the latest requests are used.
LATEST = 2000

# The columns: a row's key and its title. Latencies in milliseconds.
COLUMNS = {
    "group": "Group",
    "answered": "# Answered",
    "failed": "# Failed",
    "ttft": "TTFT from due, p50 (ms)",
    "late": "TTFT from due, p90 (ms)",
    "itl": "ITL p50 (ms)",
    "classify": "Classify from due, p50 (ms)",
    "embed": "Embed from due, p50 (ms)",
    "goodput": "Within SLO (%)",
}


def live_rows(records: Sequence[Record], objectives: Objectives | None) -> list[dict[str, object]]:
    """A row for everything, then for each stage, tenant and model, over the latest requests."""
    latest = records[-LATEST:]
    rows = [_row("all", latest, objectives)]
    for kind in ("stage", "tenant", "model"):
        names = sorted({getattr(record, kind) for record in latest})
        for name in names if len(names) > 1 or kind == "stage" else ():
            group = [record for record in latest if getattr(record, kind) == name]
            rows.append(_row(f"{kind} {name}", group, objectives))
    return rows


def _row(name: str, records: Sequence[Record], objectives: Objectives | None) -> dict[str, object]:
    found = samples(records)
    offered = [record for record in records if record.outcome != "cancelled"]
    met = sum(map(objectives.met, offered)) if objectives is not None else None
    return {
        "group": name,
        "answered": sum(record.ok for record in records),
        "failed": sum(not record.ok for record in offered),
        "ttft": _milliseconds(found["ttft_due"][0], 50),
        "late": _milliseconds(found["ttft_due"][0], 90),
        "itl": _milliseconds(found["itl"][0], 50),
        "classify": _milliseconds(found["classify_due"][0], 50),
        "embed": _milliseconds(found["embed_due"][0], 50),
        "goodput": "" if met is None or not offered else round(100 * met / len(offered), 1),
    }


def _milliseconds(values: Sequence[float], percent: float) -> float | str:
    return round(float(np.percentile(values, percent)) * 1000, 1) if values else ""
