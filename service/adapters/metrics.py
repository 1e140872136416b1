"""Prometheus series of the adapters. Label values are the configured names: bounded."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from service.adapters.registry import Entry, ServedVersion
from service.engine.contract import AdapterUsage
from service.generation.served_model import ServedModel
from service.telemetry.series import SeriesFactory


class AdapterMetrics:
    """Shows the served adapters, their use and the outcomes of reloads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        self._state = make.gauge(
            "adapter_state", "1 for the adapter's present state, else 0.", "adapter", "state"
        )
        self._info = make.gauge(
            "adapter_info", "Version and digest served.", "adapter", "version", "digest"
        )
        self._accuracy = make.gauge(
            "adapter_proof_accuracy", "Share of golden examples answered correctly.", "adapter"
        )
        self._proof = make.gauge("adapter_proof_seconds", "Time that the proof took.", "adapter")
        self._distance = make.gauge(
            "adapter_fingerprint_distance",
            "Distance of the adapter's fingerprint from the packed one, in nats.",
            "adapter",
        )
        self._effect = make.gauge(
            "adapter_fingerprint_effect",
            "Part of the packed effect that the loaded weights have: 1 if complete.",
            "adapter",
        )
        self._load = make.gauge(
            "adapter_load_seconds", "Time that fetching, verifying and loading took.", "adapter"
        )
        self._resident = make.gauge(
            "adapter_resident", "1 while the engine holds the weights in memory.", "adapter"
        )

        self._hits = make.counter(
            "adapter_hits_total", "Requests that found the adapter's weights in memory.", "adapter"
        )
        self._misses = make.counter(
            "adapter_misses_total", "Reads of evicted weights that a request waited for.", "adapter"
        )
        text = "Time spent reading the adapter's weights for requests."
        self._miss_seconds = make.counter("adapter_miss_seconds_total", text, "adapter")
        self._reloads = make.counter(
            "adapter_reloads_total", "Reloads by outcome (ok, failed).", "outcome"
        )
        self._add_list(make)
        self._seen: dict[int, AdapterUsage] = {}
        # Create the series at the start: Prometheus sees no increase in a series' first sample.
        for outcome in ("ok", "failed"):
            self._reloads[outcome,].inc(0)

    def _add_list(self, make: SeriesFactory) -> None:
        self._accepted = make.gauge(
            "adapter_list_accepted", "0 while the present list of `adapters_path` is refused."
        )
        self._behind = make.gauge(
            "adapters_behind", "Adapters of the list that are not served as it wants them."
        )
        self._accepted.set(1)

    def adapters_changed(self, entries: Mapping[str, Entry]) -> None:
        """Show exactly these adapters."""
        proofs = (self._accuracy, self._proof, self._distance, self._effect)
        for gauge in (self._state, self._info, *proofs, self._load, self._resident):
            gauge.clear()
        for name, entry in entries.items():
            found = entry.state if isinstance(entry, ServedVersion) else "quarantined"
            for state in ("serving", "unproven", "quarantined"):
                self._state.labels(name, state).set(state == found)
            if isinstance(entry, ServedVersion):
                self._show(name, entry)

    def adapters_reloaded(self, outcome: str) -> None:
        """Count a reload that ended."""
        self._reloads[outcome,].inc()

    def list_read(self, accepted: bool) -> None:
        """Show whether the present list is the one that is followed."""
        self._accepted.set(accepted)

    def adapters_behind(self, count: int) -> None:
        """Show how many adapters of the list are not served as it wants them."""
        self._behind.set(count)

    def _show(self, name: str, version: ServedVersion) -> None:
        self._info.labels(name, version.manifest.version, version.adapter.digest).set(1)
        self._load.labels(name).set(version.load_seconds)
        if proof := version.proof:
            self._accuracy.labels(name).set(proof.result.accuracy)
            self._proof.labels(name).set(proof.seconds)
            if proof.fingerprint:
                self._distance.labels(name).set(proof.fingerprint.distance)
                self._effect.labels(name).set(proof.fingerprint.effect)

    async def observe_use(self, engine: ServedModel, served: Mapping[str, ServedVersion]) -> None:
        """Show which adapters are in the engine's memory, and count their hits and misses since.

        A miss is a request for which the weights of an evicted adapter were read again; all others
        are hits, also those that waited for the same read. Counts of a version stop when it is
        unloaded. Raises EngineDead.
        """
        resident, usage = await engine.resident_adapters(), await engine.adapter_usage()
        seen = dict[int, AdapterUsage]()
        for name, version in served.items():
            key = version.adapter.engine_id
            self._resident.labels(name).set(key in resident)
            if key in usage:
                before = self._seen.get(key, AdapterUsage(0, 0, 0.0))
                seen[key] = self._count_use(name, before, usage[key])
        self._seen = seen

    def _count_use(self, name: str, before: AdapterUsage, now: AdapterUsage) -> AdapterUsage:
        """Count what one adapter was used since `before`; returns the totals counted so far."""
        misses = now.reads - before.reads
        # A read is seen before the request that waited for it, which must not count as a hit.
        hits = max(0, now.requests - before.requests - misses)
        self._hits[name,].inc(hits)
        self._misses[name,].inc(misses)
        self._miss_seconds[name,].inc(now.read_seconds - before.read_seconds)
        return AdapterUsage(before.requests + hits + misses, now.reads, now.read_seconds)
