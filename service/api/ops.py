"""The operations port: probes and metrics, never in the public Service."""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.runtime import Phase, Status


def create_ops_app(status: Status, registry: CollectorRegistry) -> FastAPI:
    """The app of the operations port; it answers while the engine starts."""
    app = FastAPI(title="llm-service operations", docs_url=None, redoc_url=None)

    @app.get("/livez")
    def livez() -> PlainTextResponse:
        """200 while the process is alive."""
        return PlainTextResponse("ok")

    @app.get("/startupz")
    def startupz() -> PlainTextResponse:
        """200 once the service has started."""
        return _probe(status, status.phase is not Phase.STARTING)

    @app.get("/readyz")
    def readyz() -> PlainTextResponse:
        """200 while the service takes requests."""
        return _probe(status, status.phase is Phase.READY)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Every series, in the format that the scraper accepts."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return app


def _probe(status: Status, passed: bool) -> PlainTextResponse:
    return PlainTextResponse(status.phase.value, 200 if passed else 503)
