"""Parts of a service that exist before its engine starts."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.adapters.metrics import AdapterMetrics
from service.runtime.drain import OpenRequests
from service.runtime.parts import Host, Plugins
from service.runtime.running import EngineStart, Running, running
from service.runtime.status import Status
from service.settings.tree import Settings
from service.sources import redirects
from service.telemetry.metrics import Metrics, TenantMetrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy


@dataclass(frozen=True, slots=True)
class Foundation:
    """The metrics, the tenants and the plugins.

    `of` raises ConfigurationError for keys, an address or a folder that cannot be used.
    """

    metrics: Metrics
    adapter_metrics: AdapterMetrics
    telemetry: RequestTelemetry
    tenancy: Tenancy
    requests: OpenRequests
    plugins: Plugins

    @classmethod
    def of(cls, settings: Settings, status: Status, registry: CollectorRegistry) -> "Foundation":
        """Make the parts, with their series in `registry`."""
        redirects.allow(settings.sources.redirect_hosts)
        metrics = Metrics(registry, settings.metrics, settings.slo)
        tenancy = Tenancy(settings, TenantMetrics(registry))
        return cls(
            metrics=metrics,
            adapter_metrics=AdapterMetrics(registry),
            telemetry=RequestTelemetry.of(settings, metrics),
            tenancy=tenancy,
            requests=OpenRequests(),
            plugins=Plugins.of(Host(settings, registry, metrics, tenancy, status)),
        )

    def running(
        self, settings: Settings, start_engine: EngineStart
    ) -> AbstractAsyncContextManager[Running | None]:
        """Run the language model's engine with its adapters; None without a language model."""
        if settings.model is None:
            return nullcontext()
        versions = self.plugins.versions()
        return running(settings, start_engine, self.metrics, self.adapter_metrics, versions)

    def close(self) -> None:
        """Send what remains of traces, and have plugins keep what they do; blocks meanwhile."""
        self.telemetry.close()
        self.plugins.close()
