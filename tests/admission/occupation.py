"""The occupation of an engine, as reported to its observer."""

from collections import Counter

from service.tenants.tenant import Tier


class Occupation:
    """Implements `controller.AdmissionObserver`; holds the last and the largest reported values."""

    def __init__(self) -> None:
        self.in_flight = self.queued = 0
        self.most_in_flight = self.most_queued = 0
        self.background = self.preemptions = self.limit = 0
        self.waits = Counter[tuple[str, Tier]]()

    def load_changed(self, in_flight: int, background: int, limit: int) -> None:
        self.in_flight, self.background, self.limit = in_flight, background, limit
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def preempted(self) -> None:
        self.preemptions += 1

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        self.queued += change
        self.waits[tenant, tier] += change
        self.most_queued = max(self.most_queued, self.queued)
