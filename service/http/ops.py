"""The operations port: probes, metrics, the live view, and control for authorised callers."""

import asyncio
import hmac
import uuid
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.adapters.fleet import FleetChange
from service.errors import (
    Forbidden,
    NotFound,
    NotReady,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
)
from service.http.auth import AllowedHosts, from_loopback
from service.http.body import ClientGone, next_part, replay
from service.http.exchange import error_response
from service.http.lifecycle import HeadAsGet
from service.plugins.console.live_console import live_console
from service.plugins.console.live_feed import LiveFeed
from service.plugins.rollouts.desk import ReleaseDesk
from service.plugins.rollouts.order import ReleaseOrder
from service.plugins.sbom.bill import service_bill
from service.plugins.sbom.response import BillResponse
from service.runtime.status import Phase, Status
from service.settings.telemetry import SloSettings
from service.settings.tree import HttpSettings
from service.telemetry.exposition import expose
from service.telemetry.history import History
from service.telemetry.lifecycle import package_version

_BODY_BYTES = 16 * 1024
_BODY_SECONDS = 10.0
"""Largest body and its time: FastAPI reads it whole before it asks who sends it."""


def create_ops_app(
    status: Status,
    registry: CollectorRegistry,
    http: HttpSettings,
    slo: SloSettings | None = None,
) -> FastAPI:
    """The app of the operations port; it answers while the engine starts.

    Its `state.end_streams` ends answers that would go on. Requests from pages of other sites, and
    large or slow bodies, are refused. `POST` on `/drain`, `/adapters/reload` and `/releases` wants
    `http.control_token`; where none is configured, a caller on this machine.
    """
    app = FastAPI(title="llm-service operations", docs_url=None, redoc_url=None)
    app.add_middleware(_Refusals, hosts=AllowedHosts(http.allowed_hosts))
    app.add_middleware(HeadAsGet)
    _add_probes(app, status)
    _add_console(app, LiveFeed(History(registry), status, slo or SloSettings()), http)
    may_control = [Depends(_Control(http))]

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Every series, in a format that the scraper accepts."""
        body, content_type = expose(registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @app.get("/bom")
    def bom() -> BillResponse:
        """The CycloneDX bill of materials of the service: models and Python packages."""
        if status.materials is None:
            raise NotReady(f"The service is {status.phase.value}.", retry_after=5)
        return BillResponse(service_bill(package_version(), status.materials()))

    @app.post("/adapters/reload", dependencies=may_control)
    async def reload() -> FleetChange:
        """Read the configuration again; load and prove what is new, swap, drain what is old."""
        if status.reload is None:
            raise NotReady(f"The service is {status.phase.value}.", retry_after=5)
        return await status.reload()

    @app.post("/drain", status_code=202, dependencies=may_control)
    def drain() -> PlainTextResponse:
        """Become not ready, finish accepted requests, and exit; answers at once."""
        if status.drain is None:
            return PlainTextResponse(str(status), 503)
        status.drain(True)
        return PlainTextResponse("draining", 202)

    _add_releases(app, status, may_control)
    return app


def _add_console(app: FastAPI, feed: LiveFeed, http: HttpSettings) -> None:
    app.state.end_streams = feed.end
    if http.console:
        app.include_router(live_console(feed))


def _add_probes(app: FastAPI, status: Status) -> None:
    @app.get("/livez")
    def livez() -> PlainTextResponse:
        """200 while the process is alive and a restart would not help."""
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


def _add_releases(app: FastAPI, status: Status, may_control: list[Any]) -> None:
    @app.get("/releases")
    def releases() -> dict[str, Any]:
        """Planned releases: their states, tests and last changes."""
        return _releases(status).summary()

    @app.post("/releases/{name:path}", dependencies=may_control)
    def release(name: str, order: ReleaseOrder) -> dict[str, Any]:
        """Roll a release back, promote it to full, or try it another time; its state afterwards."""
        return _releases(status).act(name, order.action, order.by)


class _Refusals:
    """Pure ASGI: answers errors; refuses large bodies, and what pages of other sites cause."""

    def __init__(self, app: ASGIApp, hosts: AllowedHosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                self._hosts.check(Headers(scope=scope))
                receive = await _with_body(receive)
            await self._app(scope, receive, send)
        except ServiceError as error:
            answer = error_response(error, scope["path"], uuid.uuid4().hex)
            await answer(scope, receive, send)


async def _with_body(receive: Receive) -> Receive:
    """Receives a body that was read, then what follows; PayloadTooLarge, RequestTimeout."""
    body, more = b"", True
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while more:
                part, more = await next_part(receive)
                body += part
                if len(body) > _BODY_BYTES:
                    raise PayloadTooLarge(f"body: at most {_BODY_BYTES} bytes, got more")
    except TimeoutError:
        raise RequestTimeout(f"body: not received within {_BODY_SECONDS:g} s") from None
    except ClientGone:
        return receive  # it tells the app again; a route without a body, such as /drain, still runs
    return replay(body, receive)


class _Control:
    """Admits callers that have the token, or callers on this machine if none is configured."""

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
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip(" ").encode(), self._token)
        if scheme.lower() != "bearer" or not right:
            raise Forbidden(
                "Authorization: must be `Bearer` and the control token", code="control_refused"
            )


def _releases(status: Status) -> ReleaseDesk:
    if status.releases is None:
        raise NotFound("no releases: the service is not ready, or releases.path is not set")
    return status.releases


def _probe(status: Status, passed: bool) -> PlainTextResponse:
    return PlainTextResponse(str(status), 200 if passed else 503)
