"""Prometheus series of feedback. Label values are adapters and versions that were served."""

from prometheus_client import CollectorRegistry

from service.plugins.rollouts.feedback_ledger import Version
from service.plugins.rollouts.tally import Tally
from service.telemetry.series import Children, SeriesFactory


class FeedbackMetrics:
    """Counts ratings by version, and shows the running figures and levels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make, labels = SeriesFactory(registry), ("adapter", "version")
        text = "Ratings of answers since the start."
        self._rated = make.counter("feedback_total", text, *labels)
        text = "Sum of ratings: 1 for a right answer, 0 for a wrong one."
        self._right = make.counter("feedback_right_total", text, *labels)
        text = "Expected calibration error of rated answers with a stated probability."
        self._error = make.gauge("feedback_calibration_error", text, *labels)
        text = "Share of rated answers whose label set held the true label."
        self._coverage = make.gauge("feedback_coverage_ratio", text, *labels)
        text = "Share of texts whose label set may miss the true label, as feedback moved it."
        self._level = Children(make.gauge("conformal_level", text, *labels))

    def answered(self, version: Version, level: float) -> None:
        """Show the conformal level that an answer used."""
        self._level[version].set(level)

    def rated(self, version: Version, score: float | None, tally: Tally) -> None:
        """Count a rating, None for one that is none of the label given, and show the figures."""
        if score is not None:
            self._rated[version].inc()
            self._right[version].inc(score)
        if (error := tally.calibration_error) is not None:
            self._error.labels(*version).set(error)
        if (coverage := tally.coverage) is not None:
            self._coverage.labels(*version).set(coverage)
