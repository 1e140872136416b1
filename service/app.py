"""The public app, put together: routes, middleware, metrics and lifespan."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.http.auth import OPEN_PATHS, AllowedHosts, Authenticator, InternalClient
from service.http.cors import Cors
from service.http.json_routes import DirectRoutes, register_error_handlers
from service.http.lifecycle import HeadAsGet, RequestLifecycle
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
from service.runtime.parts import Plugins, plugin_types
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
    foundation = Foundation.of(settings, status, registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        start_model, start_one = _starts(settings, start_engine, start_encoder)
        async with ready(
            settings,
            status,
            foundation,
            call=InternalClient(app),
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
    _add_routes(app, settings, foundation.plugins)
    app.state.plugins = foundation.plugins
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
    tenancy, plugins = foundation.tenancy, foundation.plugins
    open_paths = OPEN_PATHS | plugins.open_paths
    app.add_middleware(DirectRoutes, of=app)
    app.add_middleware(
        RequestLifecycle,
        http=settings.http,
        gate=settings.gate,
        telemetry=foundation.telemetry,
        requests=foundation.requests,
        authenticator=Authenticator(tenancy.keyring, tenancy.quotas, _hosts(settings), open_paths),
        plugins=plugins,
    )
    app.add_middleware(HeadAsGet)
    if settings.http.cors_origins:
        app.add_middleware(Cors, settings.http.cors_origins)


def _add_routes(app: FastAPI, settings: Settings, plugins: Plugins) -> None:
    for module in (embeddings, pairs):
        app.include_router(module.router, include_in_schema=bool(settings.encoders))
    always = (classify, tokenize, adapters, health, version, models)
    routers = [module.router for module in always]
    generating = (generate, detokenize, openai, responses, messages)
    of_model = [module.router for module in generating]
    routers += [absent.without_model(of_model)] if settings.model is None else of_model
    for kind in plugin_types().values():
        if plugins.has(kind):
            routers += kind.routers
        elif kind.switch:
            routers.append(absent.switched_off(kind.routers, kind.switch))
    for router in routers:
        app.include_router(router)


def _hosts(settings: Settings) -> AllowedHosts | None:
    """Refusal of pages of other sites, where being on this machine is all that counts."""
    if settings.tenants.keys is not None or settings.tenants.allow_anonymous:
        return None
    return AllowedHosts(settings.http.allowed_hosts, settings.http.cors_origins)
