"""Parts of a service that exist before its engine starts."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.adapters.metrics import AdapterMetrics
from service.plugins.batches.batches import Batches
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.feedback.feedback import Feedback
from service.plugins.rollouts.releases import Releases
from service.plugins.usage.ledger import Ledger
from service.plugins.usage.stores import usage_store
from service.runtime.parts import OpenRequests
from service.runtime.running import EngineStart, Running, running
from service.settings.tree import Settings
from service.sources import redirects
from service.telemetry.metrics import Metrics, TenantMetrics
from service.telemetry.objectives import Objectives
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy


@dataclass(frozen=True, slots=True)
class Foundation:
    """The metrics, the tenants and the stores.

    `batches`, `usage` and `releases` are None where no path is set for them. `of` raises
    ConfigurationError for keys, an address or a folder that cannot be used.
    """

    metrics: Metrics
    adapter_metrics: AdapterMetrics
    telemetry: RequestTelemetry
    tenancy: Tenancy
    requests: OpenRequests
    batches: Batches | None
    usage: Ledger | None
    releases: Releases | None
    feedback: Feedback

    @classmethod
    def of(cls, settings: Settings, registry: CollectorRegistry) -> "Foundation":
        """Make the parts, with their series in `registry`."""
        redirects.allow(settings.sources.redirect_hosts)
        metrics = Metrics(registry, settings.metrics, settings.slo)
        adapter_metrics = AdapterMetrics(registry)
        usage = _usage(settings)
        tenancy = Tenancy(settings, TenantMetrics(registry))
        missed = Objectives(settings.slo).missed
        releases = Releases.of(settings.releases, missed, registry)
        return cls(
            metrics=metrics,
            adapter_metrics=adapter_metrics,
            telemetry=RequestTelemetry.of(settings, metrics, usage),
            tenancy=tenancy,
            requests=OpenRequests(),
            batches=_batches(settings, tenancy, registry),
            usage=usage,
            releases=releases,
            feedback=Feedback.of(settings.feedback, settings.releases.path, releases, registry),
        )

    def running(
        self, settings: Settings, start_engine: EngineStart
    ) -> AbstractAsyncContextManager[Running | None]:
        """Run the language model's engine with its adapters; None without a language model."""
        if settings.model is None:
            return nullcontext()
        return running(settings, start_engine, self.metrics, self.adapter_metrics, self.releases)

    def close(self) -> None:
        """Send what remains of traces, and keep feedback and releases; blocks meanwhile."""
        self.telemetry.close()
        self.feedback.close()
        if self.releases is not None:
            self.releases.close()


def _batches(settings: Settings, tenancy: Tenancy, registry: CollectorRegistry) -> Batches | None:
    if settings.batches.path is None:
        return None
    return Batches(
        settings.batches.path,
        settings.batches,
        BatchMetrics(registry),
        tenancy.tenant_named,
        settings.http.max_body_bytes,
    )


def _usage(settings: Settings) -> Ledger | None:
    store = usage_store(settings.usage.path, settings.usage.storage)
    return None if store is None else Ledger(store, settings.usage.keep_days)
