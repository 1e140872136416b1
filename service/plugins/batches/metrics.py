"""Series of batches."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from service.plugins.batches.store import UNFINISHED, Status
from service.telemetry.series import SeriesFactory

_COMPLETED, _FAILED = "completed", "failed"


class BatchMetrics:
    """Counts batches and their lines, and shows those that have not ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Batches that have not ended, by status; replicas that share them show the same."
        self._unfinished = make.gauge("batches_unfinished", text, "status")
        text = "Batches that ended here, by status."
        self._ended = make.counter("batches_ended_total", text, "status")
        text = "Lines of batches: answered, answered with an error, or given up with their batch."
        self._lines = make.counter("batch_lines_total", text, "outcome")
        text = (
            "Age of the oldest batch that has not ended, and so of its lines; 0 if there is none."
        )
        self._oldest = make.gauge("batch_oldest_unfinished_seconds", text)
        text = "Longest time since a line of a tenant's oldest batch was answered; 0 without one."
        self._idle = make.gauge("batch_idle_seconds", text)
        # Create the series at the start: Prometheus sees no increase in a series' first sample.
        for outcome in (_COMPLETED, _FAILED, Status.EXPIRED, Status.CANCELLED):
            self._lines[outcome,].inc(0)

    def lines_answered(self, completed: int, failed: int) -> None:
        """Count lines that were answered, and those answered with an error."""
        self._lines[_COMPLETED,].inc(completed)
        self._lines[_FAILED,].inc(failed)

    def lines_unanswered(self, status: Status, lines: int) -> None:
        """Count lines of a batch that ended with this status before they were answered."""
        self._lines[status,].inc(lines)

    def batch_ended(self, status: Status) -> None:
        """Count a batch that ended."""
        self._ended[status,].inc()

    def unfinished(
        self, by_status: Mapping[Status, int], oldest_seconds: int, idle_seconds: int
    ) -> None:
        """Show the number and ages of unfinished batches, and the longest pause between answers."""
        for status in UNFINISHED:
            self._unfinished.labels(status).set(by_status.get(status, 0))
        self._oldest.set(oldest_seconds)
        self._idle.set(idle_seconds)
