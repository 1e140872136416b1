"""Prometheus series of the adapters. Label values are the configured names: bounded."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.fleet.registry import Entry
from service.fleet.version import ServedVersion


class AdapterMetrics:
    """Implements `fleet.AdapterObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"inference_adapter_{name}", text, ["adapter", *labels], registry=registry)

        self._state = gauge("state", "1 for the state an adapter is in.", "state")
        self._info = gauge("info", "The version and digest that is served.", "version", "digest")
        self._accuracy = gauge("proof_accuracy", "Share of its golden examples answered rightly.")
        self._proof = gauge("proof_seconds", "Time that its proof took.")
        self._distance = gauge(
            "fingerprint_distance", "Distance of its fingerprint from the packed one, in nats."
        )
        self._effect = gauge(
            "fingerprint_effect", "Effect of its weights in units of the packed one: 1 if whole."
        )
        self._load = gauge("load_seconds", "Time that fetching, verifying and loading took.")
        self._resident = gauge("resident", "1 while the engine holds its weights in memory.")

        def counter(name: str, text: str, label: str) -> Counter:
            return Counter(f"inference_adapter_{name}_total", text, [label], registry=registry)

        self._hits = counter("hits", "Requests that found its weights in memory.", "adapter")
        self._misses = counter("misses", "Times that a request waited for its weights.", "adapter")
        text = "Time that reading its weights for requests took."
        self._miss_seconds = counter("miss_seconds", text, "adapter")
        self._reloads = counter("reloads", "Reloads by outcome (ok, failed).", "outcome")
        # From the start on: to Prometheus the first of a series that was not there is no increase.
        for outcome in ("ok", "failed"):
            self._reloads.labels(outcome)

    def adapters_changed(self, entries: Mapping[str, Entry]) -> None:
        """Show these adapters and no others."""
        proofs = (self._accuracy, self._proof, self._distance, self._effect)
        for gauge in (self._state, self._info, *proofs, self._load, self._resident):
            gauge.clear()
        for name, entry in entries.items():
            found = entry.state if isinstance(entry, ServedVersion) else "quarantined"
            for state in ("serving", "unproven", "quarantined"):
                self._state.labels(name, state).set(state == found)
            if isinstance(entry, ServedVersion):
                self._show(name, entry)

    def adapters_resident(self, names: Mapping[str, bool]) -> None:
        """Follow which adapters' weights the engine holds."""
        for name, resident in names.items():
            self._resident.labels(name).set(resident)

    def adapter_used(self, name: str, hits: int, misses: int, miss_seconds: float) -> None:
        """So many more requests found its weights in memory, or waited for them."""
        self._hits.labels(name).inc(hits)
        self._misses.labels(name).inc(misses)
        self._miss_seconds.labels(name).inc(miss_seconds)

    def adapters_reloaded(self, outcome: str) -> None:
        """A reload ended."""
        self._reloads.labels(outcome).inc()

    def _show(self, name: str, version: ServedVersion) -> None:
        self._info.labels(name, version.manifest.version, version.adapter.digest).set(1)
        self._load.labels(name).set(version.load_seconds)
        if proof := version.proof:
            self._accuracy.labels(name).set(proof.result.accuracy)
            self._proof.labels(name).set(proof.seconds)
            if proof.fingerprint:
                self._distance.labels(name).set(proof.fingerprint.distance)
                self._effect.labels(name).set(proof.fingerprint.effect)
