"""The operations port: probes, metrics and reloads, never in the public Service."""

import uuid

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.adapters.fleet import Change
from service.errors import NotReady, ServiceError
from service.runtime import Phase, Status


def create_ops_app(status: Status, registry: CollectorRegistry) -> FastAPI:
    """The app of the operations port; it answers while the engine starts."""
    app = FastAPI(title="llm-service operations", docs_url=None, redoc_url=None)

    @app.get("/livez")
    def livez() -> PlainTextResponse:
        """200 while the process is alive and a restart would not help."""
        return PlainTextResponse("ok" if status.live else str(status), 200 if status.live else 503)

    @app.get("/startupz")
    def startupz() -> PlainTextResponse:
        """200 once the service has started."""
        return _probe(status, status.phase is not Phase.STARTING)

    @app.get("/readyz")
    def readyz() -> PlainTextResponse:
        """200 while the service takes requests."""
        return _probe(status, status.ready)

    @app.post("/adapters/reload", response_model=Change)
    async def reload() -> Change | Response:
        """Read the configuration again; load and prove what is new, swap, drain what is old."""
        try:
            if status.reload is None:
                raise NotReady(f"The service is {status.phase.value}.", retry_after=5)
            return await status.reload()
        except ServiceError as error:
            return _refusal(error)

    @app.post("/drain", status_code=202)
    def drain() -> PlainTextResponse:
        """Leave rotation, finish what was accepted, and exit; answers at once."""
        if status.drain is None:
            return PlainTextResponse(str(status), 503)
        status.drain(True)
        return PlainTextResponse("draining", 202)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Every series, in the format that the scraper accepts."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return app


def _refusal(error: ServiceError) -> Response:
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:.0f}"}
    return JSONResponse(error.body(uuid.uuid4().hex), error.status, headers)


def _probe(status: Status, passed: bool) -> PlainTextResponse:
    return PlainTextResponse(str(status), 200 if passed else 503)
