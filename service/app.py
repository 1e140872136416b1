"""The service put together: its public app, and the process that serves both ports."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from prometheus_client import REGISTRY, CollectorRegistry

from service.common.error_messages import quote_name
from service.common.hosts import is_loopback_only
from service.errors import ConfigurationError, Interrupted, NotFound
from service.http.auth import AllowedHosts, Authenticator, Cors, InternalClient
from service.http.json_routes import DirectRoutes, TheContext, TheRuntime, register_error_handlers
from service.http.lifecycle import HeadAsGet, RequestLifecycle
from service.http.ops import create_ops_app
from service.http.server import serve
from service.routes import (
    classify,
    encoders,
    generate,
    home,
    models,
    openai,
    tokenize,
)
from service.routes.documentation import OPEN_PATHS, describe, docs
from service.runtime.parts import Plugins, plugin_types
from service.runtime.ready import Foundation, ready
from service.runtime.running import EncoderStart, EngineStart
from service.runtime.status import Status
from service.settings.tree import HttpSettings, Settings
from service.telemetry.lifecycle import package_version

_log = logging.getLogger(__name__)


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
    app.state.behind_router = settings.http.behind_router
    describe(app, settings, with_keys=foundation.tenancy.keyring is not None)
    app.include_router(docs(app))
    return app


def _starts(
    settings: Settings, model: EngineStart | None, encoder: EncoderStart | None
) -> tuple[EngineStart, EncoderStart]:
    """The given functions that start engines, or vLLM's in the place of None."""
    if model is not None and encoder is not None:
        return model, encoder
    from service.vllm.start import VllmEngines

    engines = VllmEngines(settings)
    if model is not None:
        engines.launched.set()
    return model or engines.start_model, encoder or engines.start_encoder


def _add_middleware(app: FastAPI, settings: Settings, foundation: Foundation) -> None:
    """Add what runs before the routes, the innermost first."""
    tenancy, open_paths = foundation.tenancy, OPEN_PATHS | foundation.plugins.open_paths
    app.add_middleware(DirectRoutes, of=app)
    app.add_middleware(
        RequestLifecycle,
        settings=settings,
        foundation=foundation,
        authenticator=Authenticator(tenancy.keyring, tenancy.quotas, _hosts(settings), open_paths),
    )
    app.add_middleware(HeadAsGet)
    origins, local_pages = _pages(settings.http)
    if origins or local_pages:
        app.add_middleware(Cors, origins, local_pages=local_pages)


def _add_routes(app: FastAPI, settings: Settings, plugins: Plugins) -> None:
    app.include_router(encoders.router, include_in_schema=bool(settings.encoders))
    routers = [home.router, classify.router, tokenize.router, models.router]
    of_model = [generate.router, tokenize.decoding, openai.router]
    routers += [_in_place_of(of_model, _no_model)] if settings.model is None else of_model
    for kind in plugin_types().values():
        if kind.needs_model and settings.model is None:
            routers.append(_in_place_of(kind.routers, _no_model))
        elif plugins.has(kind):
            routers += kind.routers
        elif kind.switch:
            routers.append(_switched_off(kind.routers, kind.switch))
    for router in routers:
        app.include_router(router)


def _hosts(settings: Settings) -> AllowedHosts | None:
    """The check of hosts and origins where callers on this machine need no key; else None."""
    if settings.tenants.keys is not None or settings.tenants.allow_anonymous:
        return None
    origins, local_pages = _pages(settings.http)
    return AllowedHosts(settings.http.allowed_hosts, origins, local_pages=local_pages)


def _pages(http: HttpSettings) -> tuple[tuple[str, ...], bool]:
    """The origins whose pages may call, and whether pages of this machine may, too."""
    if http.cors_origins is None:
        return (), is_loopback_only(http.host)
    return http.cors_origins, False


def run(settings: Settings, read_settings: Callable[[], Settings]) -> None:
    """Serve until asked to stop; raises ConfigurationError if the settings allow no start.

    Exits with 3 if the start failed otherwise or the engine ended while it served, and with 128
    plus the signal's number if a signal ended the start. `read_settings` reads the configuration
    again, for SIGHUP and `POST /adapters/reload`.
    """
    status = Status()
    public = create_app(settings, status, REGISTRY, read_settings=read_settings)
    ops = create_ops_app(status, REGISTRY, settings.http, public.state.plugins)
    logging.getLogger("uvicorn.error").addFilter(partial(_to_be_logged, status))
    started = serve(
        public,
        ops,
        status,
        settings.http,
        on_started=partial(_log_addresses, settings, public.state.plugins),
        on_hangup=partial(_hangup, status),
    )
    if isinstance(status.failure, Interrupted):
        _log.info("%s", status.failure)
        sys.exit(128 + status.failure.number)
    if isinstance(status.failure, ConfigurationError):
        raise status.failure
    if status.failure or not started:
        sys.exit(3)


def _log_addresses(settings: Settings, plugins: Plugins) -> None:
    http = settings.http
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host
    url = f"http://[{host}]:{http.port}" if ":" in host else f"http://{host}:{http.port}"
    pages = f"{url}/docs describes the API"
    if "/console" in plugins.open_paths:
        pages += f", {url}/console tries it in a browser"
    _log.info("listening on %s; %s; Ctrl-C stops", url, pages)


def _to_be_logged(status: Status, record: logging.LogRecord) -> bool:
    """False for uvicorn's stack of an error that the command line explains in one message."""
    return record.levelno < logging.ERROR or not isinstance(status.failure, ConfigurationError)


def _hangup(status: Status) -> None:
    if status.reload is None:
        _log.warning("SIGHUP ignored: the service is %s", status.phase.value)
        return
    assert status.loop is not None
    # The reload logs its own outcome.
    asyncio.run_coroutine_threadsafe(status.reload(), status.loop)


def _switched_off(routers: Iterable[APIRouter], setting: str) -> APIRouter:
    """Routes that answer 404 at the paths of these routers, naming the setting to turn them on."""

    async def refuse(request: Request) -> NoReturn:
        path = quote_name(request.scope["path"])
        raise NotFound(f"'{path}' is off in this service; the setting {setting} turns it on")

    return _in_place_of(routers, refuse)


def _in_place_of(
    routers: Iterable[APIRouter], refuse: Callable[..., Coroutine[Any, Any, NoReturn]]
) -> APIRouter:
    """Routes that answer 404 at the paths of these routers."""
    router = APIRouter(include_in_schema=False)
    for each in routers:
        for route in each.routes:
            if isinstance(route, APIRoute):
                methods = list(route.methods)
                router.add_api_route(route.path, refuse, methods=methods, response_model=None)
    return router


async def _no_model(runtime: TheRuntime, context: TheContext) -> NoReturn:
    raise runtime.models.no_language_model(context.tenant)
