"""Small scenarios for the tests."""

from typing import Any

from loadtests.load.scenario import Scenario

CHAT: dict[str, Any] = {
    "kind": "chat",
    "input": {"kind": "fixed", "tokens": 10},
    "output": {"kind": "fixed", "tokens": 8},
}


def scenario(**fields: Any) -> Scenario:
    tree: dict[str, Any] = {
        "name": "test",
        "seed": 3,
        "load": {"kind": "open", "arrivals": {"process": "poisson", "rate": 20}, "step_s": 10},
        "workloads": [CHAT],
    }
    return Scenario.model_validate(tree | fields)
