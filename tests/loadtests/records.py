"""Records made by hand."""

from typing import Any

from loadtests.analysis.run import Run, Sample, Target
from loadtests.load.scenario import Scenario
from loadtests.protocol.record import Record
from tests.loadtests.scenarios import scenario


def record(index: int = 0, **fields: Any) -> Record:
    """A successful request of three tokens at 0.1, 0.12 and 0.14 s, ended at 0.15 s."""
    row: dict[str, Any] = {
        "index": index,
        "turn": 0,
        "stage": "x1",
        "workload": "chat",
        "tenant": "default",
        "model": "base",
        "task": "generate",
        "worker": 0,
        "due": index * 0.5,
        "sent": index * 0.5 + 0.001,
        "outcome": "ok",
        "e2e": 0.15,
        "status": 200,
        "chunks": [0.1, 0.12, 0.14],
        "first_event": 0.1,
        "prompt_tokens": 10,
        "completion_tokens": 3,
    }
    return Record.from_row(row | fields)


def run(records: list[Record], *, of: Scenario | None = None, **fields: Any) -> Run:
    """A run in which all went as planned, and whose client was idle half of its time."""
    area = sum(r.e2e or 0.0 for r in records)
    offered = {"x1": len(records)} if records else {}
    defaults: dict[str, Any] = {
        "scenario": of or scenario(),
        "target": Target("http://server", "native", "base"),
        "offered": offered,
        "records": records,
        "samples": [Sample(0, 10.0, 10.0, 0.5, area / 10)],
    }
    return Run(**(defaults | fields))
