"""Prometheus series of the process: its build, its drain, its tenants' keys, its event loop."""

import asyncio
import time
from collections.abc import Mapping, Set
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry

from service.engine.contract import ModelInfo
from service.engine.pooling import EncoderInfo
from service.telemetry.series import Buckets, SeriesFactory

_PACKAGE = "llm-service"


class LifecycleMetrics:
    """Shows the drain and the build."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = (
            "The service's version, and its base model's name and digest, if it has one; always 1."
        )
        self._build = make.gauge("build_info", text, "version", "model", "digest")
        text = (
            "vLLM's version, and the client by which the service reaches it: `fast`, or `stock`, "
            "vLLM's public one; always 1."
        )
        self._client = make.gauge("engine_client_info", text, "vllm", "client")
        text = "Task and digest of an encoder; always 1."
        self._encoder = make.gauge("encoder_info", text, "model", "task", "digest")
        text = "1 while the service drains."
        self._draining = make.gauge("draining", text)
        text = "Seconds that the drain has taken so far, or took; 0 before it."
        make.gauge("drain_seconds", text).set_function(self.drain_seconds)
        text = "Seconds after which the drain ends the remaining requests."
        self._budget = make.gauge("drain_budget_seconds", text)
        self._began: float | None = None
        self._took: float | None = None

    def show_build(self, model: ModelInfo | None) -> None:
        """Show the version, and the base model that is served; None for encoders alone."""
        name, digest = ("", "") if model is None else (model.name, model.digest)
        self._build.labels(package_version(), name, digest).set(1)
        if model is not None and model.client:
            self._client.labels(model.vllm, model.client).set(1)

    def show_encoder(self, info: EncoderInfo) -> None:
        """Show an encoder that is served."""
        self._encoder.labels(info.name, info.task, info.digest).set(1)

    def drain_started(self, budget: float) -> None:
        """Note that the drain begins and may take so many seconds."""
        self._budget.set(budget)
        self._began = self._began or time.monotonic()
        self._draining.set(1)

    def drain_ended(self) -> None:
        """Note that no request is left, because the last has ended or was ended."""
        self._took = self.drain_seconds()
        self._draining.set(0)

    def drain_seconds(self) -> float:
        """Seconds from the drain's start to its end, or to now."""
        if self._took is not None:
            return self._took
        return 0.0 if self._began is None else time.monotonic() - self._began


class TenantMetrics:
    """Exports keys, weights and quota failures; implements `tenants.TenancyObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Reads of changed keys files: accepted, or refused while the previous keys stay."
        self._key_reads = make.counter("key_reloads_total", text, "outcome")
        text = "Time since which changed keys are refused and older ones serve; 0 if none are."
        self._stale_since = make.gauge("keys_stale_since_timestamp_seconds", text)
        self._stale = False
        text = "The tenant's share of the engine relative to others', by the keys files."
        self._weight = make.gauge("tenant_weight", text, "tenant")
        self._weighed: Set[str] = frozenset()
        text = "Failures of the quota store: timeout or error."
        self._store_errors = make.counter("quota_store_errors_total", text, "reason")
        # Create the series at the start: Prometheus sees no increase in a series' first sample.
        for outcome in ("accepted", "refused"):
            self._key_reads[outcome,].inc(0)
        for reason in ("timeout", "error"):
            self._store_errors[reason,].inc(0)

    def weights_read(self, weights: Mapping[str, float]) -> None:
        """Export these weights in place of the earlier ones."""
        for name, weight in weights.items():
            self._weight.labels(name).set(weight)
        for name in self._weighed - weights.keys():
            self._weight.remove(name)
        self._weighed = weights.keys()

    def keys_read(self, accepted: bool) -> None:
        """Count a changed keys file that was accepted or refused."""
        self._key_reads["accepted" if accepted else "refused",].inc()
        if accepted == self._stale:
            self._stale = not accepted
            self._stale_since.set(0 if accepted else time.time())

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the quota store."""
        self._store_errors[reason,].inc()


def package_version() -> str:
    """The installed service's version, `unknown` where it runs without being installed."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return "unknown"


_LOOK_SECONDS = 0.05
_LAG: Buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LoopLag:
    """Measures the event loop's lag, and how much of it this process may have caused itself.

    Histograms count every stall between two scrapes by its length, for any number of scrapers;
    gauges of the maximum would not. The lag is measured twenty times a second, in a callback of
    about ten microseconds. The process itself caused at most as much lag as the CPU time of all its
    threads since the last measurement: if it gets no CPU, it lags but uses no CPU time.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        series = SeriesFactory(registry)
        text = "Delay of the event loop's callbacks, in which no request is answered."
        self._lag = series.tally("event_loop_lag", text, _LAG)[()]
        text = "Part of the delay that the process's own work can have caused, at most."
        self._own = series.tally("event_loop_own_lag", text, _LAG)[()]
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        self._wait(loop, time.process_time())
        try:
            await loop.create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop, computed: float) -> None:
        due = time.monotonic() + _LOOK_SECONDS
        self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop, due, computed)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float, before: float) -> None:
        lag, computed = max(0.0, time.monotonic() - due), time.process_time()
        self._lag.add(lag)
        self._own.add(min(lag, computed - before))
        self._wait(loop, computed)
