"""Prometheus series of releases and feedback. Their labels are configured names and fixed words."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from service.plugins.rollouts.comparison import Arm
from service.plugins.rollouts.feedback_ledger import Tally, Version
from service.plugins.rollouts.log import Event
from service.telemetry.series import Children, SeriesFactory

DISPUTED = "disputed"
STATES = ("shadow", "canary", "full", "rolled_back", "refused", DISPUTED)
"""States of a plan; `refused` while its version could not be loaded or proven.

`disputed` in place of `shadow` or `canary` while some tenants' requests show harm, and others' do
not.
"""


class ReleaseMetrics:
    """Shows the plans' states, and counts judged requests and changes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        self._planned: dict[str, tuple[str, float]] = {}
        self._judging: dict[str, bool] = {}
        self._state = make.gauge(
            "release_state",
            "1 for the present state of a planned release, else 0.",
            "adapter",
            "state",
        )
        text = "Share of the callers or requests that the next version answers."
        self._share = make.gauge("release_share", text, "adapter")
        text = "Requests that were judged, by the version that answered: `old` or `new`."
        self._judged = make.counter("release_requests_total", text, "adapter", "arm")
        text = "Requests of a release's shadow: `compared`, or `dropped` because others ran."
        self._shadow = make.counter("release_shadow_total", text, "adapter", "result")
        text = "Changes of the version behind a name, as logged."
        self._changes = make.counter("release_changes_total", text, "adapter", "event")
        text = "1 for a release that this replica judges, 0 for one that another judges."
        self._judges = make.gauge("release_judge", text, "adapter")
        text = "1 while the store of releases can be read and written, else 0."
        self._store = make.gauge("release_store_up", text)
        self._store.set(1)

    def planned(self, states: dict[str, tuple[str, float]]) -> None:
        """Show exactly these plans, each with its state and share."""
        if states == self._planned:
            return
        self._planned = dict(states)
        self._state.clear()
        self._share.clear()
        for name, (found, share) in states.items():
            for state in STATES:
                self._state.labels(name, state).set(state == found)
            self._share.labels(name).set(share)

    def judges(self, stages: Mapping[str, bool]) -> None:
        """Show which of the running stages this replica judges."""
        if stages != self._judging:
            self._judging = dict(stages)
            self._judges.clear()
            for name, judges in stages.items():
                self._judges.labels(name).set(judges)

    def store_up(self, *, up: bool) -> None:
        """Show whether the store can be read and written."""
        self._store.set(up)

    def judged(self, name: str, arm: Arm) -> None:
        """Count a request."""
        self._judged[name, arm].inc()

    def shadowed(self, name: str, *, compared: bool) -> None:
        """Count a request that both versions answered, or that was dropped."""
        self._shadow[name, "compared" if compared else "dropped"].inc()

    def changed(self, name: str, event: Event) -> None:
        """Count a change."""
        self._changes[name, event].inc()


class FeedbackMetrics:
    """Prometheus series of ratings, calibration, coverage and conformal level by version."""

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
        """Set the version's conformal level to the one that an answer used."""
        self._level[version].set(level)

    def rated(self, version: Version, score: float | None, tally: Tally) -> None:
        """Count a rating, unless its score is None, and update calibration error and coverage."""
        if score is not None:
            self._rated[version].inc()
            self._right[version].inc(score)
        if (error := tally.calibration_error) is not None:
            self._error.labels(*version).set(error)
        if (coverage := tally.coverage) is not None:
            self._coverage.labels(*version).set(coverage)
