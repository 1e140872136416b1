"""A gate's occupation, as reported to its observer."""


class Occupation:
    """Implements `gate.GateObserver`; holds the last and the largest reported values."""

    def __init__(self) -> None:
        self.in_flight = self.queued = 0
        self.most_in_flight = self.most_queued = 0

    def gate_changed(self, in_flight: int, limit: int) -> None:
        self.in_flight = in_flight
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def queue_changed(self, tenant: str, change: int) -> None:
        self.queued += change
        self.most_queued = max(self.most_queued, self.queued)
