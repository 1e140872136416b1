"""The public app, put together: routes, middleware, metrics and lifespan."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from service.api.caller import AllowedHosts
from service.api.cors import Cors
from service.api.entrance import Entrance
from service.api.errors import ERROR_RESPONSES, register_error_handlers
from service.api.head import HeadAsGet
from service.api.key_scheme import declare_keys
from service.api.own_call import OwnCall
from service.api.routes import (
    adapters,
    batches,
    classify,
    files,
    generate,
    health,
    tokenize,
    usage,
    version,
)
from service.api.scope import RequestScope
from service.api.upload import UploadReader
from service.batches.batches import Batches
from service.fleet.metrics import AdapterMetrics
from service.runtime.open_requests import OpenRequests
from service.runtime.ready import ready
from service.runtime.running import EngineStart
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.batches import BatchMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.telemetry.tenants import TenantMetrics
from service.tenants.tenancy import Tenancy
from service.usage.ledger import Ledger


def create_app(
    settings: Settings,
    status: Status,
    registry: CollectorRegistry,
    start_engine: EngineStart | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> FastAPI:
    """The public app, which runs the service as its lifespan.

    Raises ConfigurationError for keys or an address that cannot be served. Without `start_engine`
    the engine is vLLM, with OpenAI's routes. `read_settings` reads the settings for a reload.
    """
    metrics = Metrics(registry, settings.metrics, settings.slo)
    adapter_metrics = AdapterMetrics(registry)
    usage = _usage(settings)
    telemetry = RequestTelemetry.of(settings, metrics, usage)
    tenancy = Tenancy(settings, TenantMetrics(registry))
    requests = OpenRequests()
    batches = _batches(settings, tenancy, registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with ready(
            settings,
            status,
            tenancy=tenancy,
            requests=requests,
            metrics=metrics,
            adapter_metrics=adapter_metrics,
            telemetry=telemetry,
            batches=batches,
            usage=usage,
            call=OwnCall(app),
            start_engine=start_engine or _vllm(),
            read_settings=read_settings or (lambda: settings),
        ) as app.state.runtime:
            yield

    app: FastAPI = FastAPIOffline(
        title="llm-service", lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    _add_middleware(app, settings, telemetry, requests, tenancy, batches)
    register_error_handlers(app)
    _add_routes(app, settings, with_openai=start_engine is None)
    if tenancy.keyring is not None:
        declare_keys(app)
    return app


def _vllm() -> EngineStart:
    from service.vllm_engine.start import start_vllm

    return start_vllm


def _add_middleware(
    app: FastAPI,
    settings: Settings,
    telemetry: RequestTelemetry,
    requests: OpenRequests,
    tenancy: Tenancy,
    batches: Batches | None,
) -> None:
    """Add what runs before the routes, the innermost first."""
    app.add_middleware(
        RequestScope,
        http=settings.http,
        gate=settings.gate,
        telemetry=telemetry,
        requests=requests,
        entrance=Entrance(tenancy.keyring, tenancy.quotas, _hosts(settings)),
        uploads=_uploads(settings, batches),
    )
    app.add_middleware(HeadAsGet)
    if settings.http.cors_origins:
        app.add_middleware(Cors, settings.http.cors_origins)


def _add_routes(app: FastAPI, settings: Settings, *, with_openai: bool) -> None:
    modules = (generate, classify, tokenize, adapters, health, version)
    routers = [module.router for module in modules]
    if with_openai:
        from service.api.routes import messages, openai, responses

        routers += [module.router for module in (openai, responses, messages)]
    if settings.usage.path is not None:
        routers.append(usage.router)
    if settings.batches.path is not None:
        routers += [files.router, batches.router, batches.bodiless]
    for router in routers:
        app.include_router(router, responses=ERROR_RESPONSES)


def _batches(settings: Settings, tenancy: Tenancy, registry: CollectorRegistry) -> Batches | None:
    """Files and batches, if there is a folder for them."""
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
    """Counts of usage, if there is a folder for them."""
    if settings.usage.path is None:
        return None
    return Ledger(settings.usage.path, settings.usage.keep_days)


def _uploads(settings: Settings, batches: Batches | None) -> UploadReader | None:
    return None if batches is None else UploadReader(batches, settings.http.body_timeout_ms)


def _hosts(settings: Settings) -> AllowedHosts | None:
    """Refusal of pages of other sites, where being on this machine is all that counts."""
    if settings.tenants.keys is not None or settings.tenants.allow_anonymous:
        return None
    return AllowedHosts(settings.http.allowed_hosts, settings.http.cors_origins)
