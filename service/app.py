"""The public app, put together: routes, middleware, metrics and lifespan."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from service.http.auth import AllowedHosts, Entrance, OwnCall
from service.http.cors import Cors
from service.http.json_routes import DirectRoutes, register_error_handlers
from service.http.lifecycle import HeadAsGet, RequestScope
from service.plugins.batches import batch_routes as batches
from service.plugins.batches import file_routes as files
from service.plugins.batches.batches import Batches
from service.plugins.batches.upload import UploadReader
from service.plugins.console import routes as console
from service.plugins.feedback import routes as feedback
from service.plugins.guards import routes as moderations
from service.plugins.tei import routes as tei
from service.plugins.usage import routes as usage
from service.routes import (
    absent,
    adapters,
    classify,
    detokenize,
    embeddings,
    generate,
    health,
    messages,
    models,
    openai,
    pairs,
    responses,
    tokenize,
    version,
)
from service.routes.description import describe
from service.routes.docs import docs
from service.runtime.encoders import EncoderStart
from service.runtime.foundation import Foundation
from service.runtime.ready import ready
from service.runtime.running import EngineStart
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.lifecycle import package_version


def create_app(
    settings: Settings,
    status: Status,
    registry: CollectorRegistry,
    start_engine: EngineStart | None = None,
    start_encoder: EncoderStart | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> FastAPI:
    """The public app, which runs the service as its lifespan.

    Raises ConfigurationError for keys or an address that cannot be served. Without `start_engine`
    the engine is vLLM, and so are encoders without `start_encoder`.
    `read_settings` reads the settings for a reload.
    """
    foundation = Foundation.of(settings, registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        start_model, start_one = _starts(settings, start_engine, start_encoder)
        async with ready(
            settings,
            status,
            foundation,
            call=OwnCall(app),
            start_engine=start_model,
            start_encoder=start_one,
            read_settings=read_settings or (lambda: settings),
        ) as app.state.runtime:
            yield

    app = FastAPI(
        title="llm-service",
        version=package_version(),
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    _add_middleware(app, settings, foundation)
    register_error_handlers(app)
    _add_routes(app, settings)
    describe(app, settings, with_keys=foundation.tenancy.keyring is not None)
    app.include_router(docs(app))
    return app


def _starts(
    settings: Settings, model: EngineStart | None, encoder: EncoderStart | None
) -> tuple[EngineStart, EncoderStart]:
    """The starts of engines that are given, and vLLM's where none is."""
    if model is not None and encoder is not None:
        return model, encoder
    from service.vllm.engines import VllmEngines

    engines = VllmEngines(settings)
    return model or engines.start_model, encoder or engines.start_encoder


def _add_middleware(app: FastAPI, settings: Settings, foundation: Foundation) -> None:
    """Add what runs before the routes, the innermost first."""
    tenancy = foundation.tenancy
    app.add_middleware(DirectRoutes, of=app)
    app.add_middleware(
        RequestScope,
        http=settings.http,
        gate=settings.gate,
        telemetry=foundation.telemetry,
        requests=foundation.requests,
        ids=foundation.feedback.ids,
        entrance=Entrance(tenancy.keyring, tenancy.quotas, _hosts(settings)),
        uploads=_uploads(settings, foundation.batches),
    )
    app.add_middleware(HeadAsGet)
    if settings.http.cors_origins:
        app.add_middleware(Cors, settings.http.cors_origins)


def _add_routes(app: FastAPI, settings: Settings) -> None:
    for module in (embeddings, pairs):
        app.include_router(module.router, include_in_schema=bool(settings.encoders))
    modules = (classify, tokenize, adapters, health, version, models)
    routers = [module.router for module in modules]
    modules = (generate, detokenize, feedback, openai, responses, messages)
    of_model = [module.router for module in modules]
    routers += [absent.without_model(of_model)] if settings.model is None else of_model
    for routers_of, setting, is_set in _optional(settings):
        routers += routers_of if is_set else [absent.switched_off(routers_of, setting)]
    for router in routers:
        app.include_router(router)


def _optional(settings: Settings) -> list[tuple[list[APIRouter], str, bool]]:
    """Routes that a setting turns on, with its name, and whether it does."""
    return [
        ([tei.router], "tei", bool(settings.tei.names)),
        ([moderations.router], "guards.named", bool(settings.guards.named)),
        ([usage.router], "usage.path or usage.storage", settings.usage.kept),
        (
            [files.router, batches.router, batches.bodiless],
            "batches.path",
            settings.batches.path is not None,
        ),
        ([console.router], "http.console", settings.http.console),
    ]


def _uploads(settings: Settings, batches: Batches | None) -> UploadReader | None:
    return None if batches is None else UploadReader(batches, settings.http.body_timeout_ms)


def _hosts(settings: Settings) -> AllowedHosts | None:
    """Refusal of pages of other sites, where being on this machine is all that counts."""
    if settings.tenants.keys is not None or settings.tenants.allow_anonymous:
        return None
    return AllowedHosts(settings.http.allowed_hosts, settings.http.cors_origins)
