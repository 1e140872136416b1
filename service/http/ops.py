"""The admin port: probes, metrics, the live view, and control for authorised callers."""

import hmac
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.adapters.desired import AdapterReport, AdapterState, DesiredAdapters
from service.adapters.fleet import FleetChange
from service.common.error_messages import problems
from service.errors import Forbidden, InvalidRequest, NotFound, NotReady, ServiceError
from service.http.auth import AllowedHosts, bearer_key, from_loopback
from service.http.bodies import RequestBody
from service.http.exchange import error_response
from service.http.json_routes import BodyReader, ClientGone, replay
from service.http.lifecycle import HeadAsGet
from service.runtime.parts import Plugin
from service.runtime.status import Phase, Status
from service.settings.adapters import ListedAdapter
from service.settings.tree import HttpSettings
from service.telemetry.series import expose

_BODY_BYTES = 16 * 1024
_ALL_BODY_BYTES = 64 * _BODY_BYTES
_BODY_MS = 10_000
"""Limits of a body and its arrival: FastAPI reads a body whole before it authenticates."""


def create_ops_app(
    status: Status,
    registry: CollectorRegistry,
    http: HttpSettings,
    plugins: Iterable[Plugin] = (),
) -> FastAPI:
    """The app of the admin port; it answers while the engine starts.

    Requests from pages of other sites, and large or slow bodies, are refused. `POST` wants
    `http.control_token`; where none is configured, a caller on this machine.
    """
    app = FastAPI(title="llm-service operations", docs_url=None, redoc_url=None)
    app.add_middleware(_Refusals, hosts=AllowedHosts(http.allowed_hosts))
    app.add_middleware(HeadAsGet)
    _add_probes(app, status)
    may_control = [Depends(_Control(http))]

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Every series, in a format that the scraper accepts."""
        body, content_type = expose(registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @app.post("/adapters/reload", dependencies=may_control)
    async def reload() -> FleetChange:
        """Read the configuration again; load and prove what is new, swap, drain what is old."""
        if status.reload is None:
            raise NotReady(f"The service is {status.phase.value}.", retry_after=5)
        return await status.on_loop(status.reload())

    _add_adapters(app, status, may_control)

    @app.post("/drain", status_code=202, dependencies=may_control)
    def drain() -> PlainTextResponse:
        """Become not ready, finish accepted requests, and exit; answers at once."""
        if status.drain is None:
            return PlainTextResponse(str(status), 503)
        status.drain(True)
        return PlainTextResponse("draining", 202)

    app.state.end_streams = lambda: None  # of answers that would go on when the server stops
    for plugin in plugins:
        plugin.add_admin_routes(app, may_control)
    return app


class AdapterEntry(RequestBody):
    """An entry of the list of `adapters_path`, without its name."""

    source: str
    digest: str | None = None
    show_examples: bool | None = None


def _add_adapters(app: FastAPI, status: Status, may_control: Sequence[Any]) -> None:
    """Routes to the adapters that should be served."""

    @app.get("/adapters")
    async def report() -> AdapterReport:
        """Every adapter that should be served here, and how far this replica is with it."""

        async def made() -> AdapterReport:
            return _adapters(status).report()

        return await status.on_loop(made())

    @app.put("/adapters/{name:path}", status_code=202, dependencies=may_control)
    async def put(name: str, entry: AdapterEntry) -> AdapterState:
        """Add an adapter to the list of `adapters_path`, or replace its entry."""
        try:
            adapter = ListedAdapter(name=name, **entry.model_dump(exclude_none=True))
        except ValidationError as error:
            found = problems(error.errors(include_url=False), ListedAdapter)
            raise InvalidRequest("; ".join(map(str, found))) from None
        return await status.on_loop(_adapters(status).put(adapter))

    @app.delete("/adapters/{name:path}", status_code=202, dependencies=may_control)
    async def remove(name: str) -> AdapterReport:
        """Take an adapter out of the list of `adapters_path`, and retire it."""

        async def removed() -> AdapterReport:
            adapters = _adapters(status)
            await adapters.remove(name)
            return adapters.report()

        return await status.on_loop(removed())


def _adapters(status: Status) -> DesiredAdapters:
    if status.adapters is None and status.phase is Phase.READY:
        raise NotFound("This service has no language model, and so no adapters.")
    if status.adapters is None:
        raise NotReady(f"The service is {status.phase.value}.", retry_after=5)
    return status.adapters


def _add_probes(app: FastAPI, status: Status) -> None:
    @app.get("/livez")
    def livez() -> PlainTextResponse:
        """200 while the process works; anything else means that only a restart helps."""
        return PlainTextResponse("ok" if status.live else str(status), 200 if status.live else 503)

    @app.get("/startupz")
    def startupz() -> PlainTextResponse:
        """200 once the service has started."""
        return _probe(status, status.phase is not Phase.STARTING)

    @app.get("/readyz")
    def readyz(verbose: str | None = None) -> PlainTextResponse:
        """200 while the service takes requests; with `?verbose` also how it reaches vLLM."""
        answer = _probe(status, status.ready)
        if verbose is None:
            return answer
        return PlainTextResponse("\n".join([str(status), *status.details]), answer.status_code)


class _Refusals:
    """Pure ASGI: answers errors; refuses large bodies, and requests from pages of other sites."""

    def __init__(self, app: ASGIApp, hosts: AllowedHosts) -> None:
        self._app = app
        self._hosts = hosts
        self._bodies = BodyReader(_BODY_BYTES, _BODY_MS, _ALL_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                headers = Headers(scope=scope)
                self._hosts.check(headers, scope["method"])
                # Where the client has gone, a route without a body, such as /drain, still runs.
                with suppress(ClientGone):
                    receive = replay(await self._bodies.read(headers, receive, ""), receive)
            await self._app(scope, receive, send)
        except ServiceError as error:
            answer = error_response(error, scope["path"], uuid.uuid4().hex)
            await answer(scope, receive, send)


class _Control:
    """Admits callers with the token; if no token is configured, callers on this machine."""

    def __init__(self, http: HttpSettings) -> None:
        token = http.control_token
        self._token = None if token is None else token.get_secret_value().encode()

    def __call__(self, request: Request) -> None:
        if self._token is None:
            if not from_loopback(request.scope):
                raise Forbidden(
                    "Callers on other machines need http.control_token, and none is configured.",
                    code="control_refused",
                )
            return
        given = bearer_key(request.headers.get("authorization", ""))
        if not hmac.compare_digest(given.encode(), self._token):
            raise Forbidden(
                "Authorization: must be `Bearer` and the control token", code="control_refused"
            )


def _probe(status: Status, passed: bool) -> PlainTextResponse:
    return PlainTextResponse(str(status), 200 if passed else 503)
