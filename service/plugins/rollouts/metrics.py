"""Prometheus series of releases. Their labels are configured names and fixed words."""

from prometheus_client import CollectorRegistry

from service.plugins.rollouts.comparison import Arm
from service.plugins.rollouts.log import Event
from service.telemetry.series import SeriesFactory

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

    def judged(self, name: str, arm: Arm) -> None:
        """Count a request."""
        self._judged[name, arm].inc()

    def shadowed(self, name: str, *, compared: bool) -> None:
        """Count a request that both versions answered, or that was dropped."""
        self._shadow[name, "compared" if compared else "dropped"].inc()

    def changed(self, name: str, event: Event) -> None:
        """Count a change."""
        self._changes[name, event].inc()
