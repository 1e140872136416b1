"""Scenarios in a row, each with a seed of its own."""

from collections import Counter

from tests.admission.simulation.workload import Scenario
from tests.admission.simulation.world import Outcome, World

SCENARIO_REQUESTS = 2_000
"""Requests of one scenario: enough to saturate it, few enough to replay in a second."""


class Totals:
    """Totals of a run so far."""

    def __init__(self) -> None:
        self.scenarios = 0
        self.events = 0
        self.ended: Counter[str] = Counter()
        self.closest = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a scenario's outcome."""
        self.scenarios += 1
        self.events += outcome.events
        self.ended.update(outcome.ended)
        self.closest = max(self.closest, outcome.closest)

    @property
    def requests(self) -> int:
        """Requests that have ended, with any outcome."""
        return self.ended.total()

    def __str__(self) -> str:
        ended = ", ".join(f"{how} {count}" for how, count in sorted(self.ended.items()))
        return (
            f"{self.requests} requests in {self.scenarios} scenarios, {self.events} events;"
            f" {ended}; largest lead {self.closest:.2f} of its bound"
        )


def play(seed: str, number: int, count: int = SCENARIO_REQUESTS) -> Outcome:
    """Play one scenario of a seed; raises Violation."""
    return World(Scenario.draw(f"{seed}/{number}"), count).play()
