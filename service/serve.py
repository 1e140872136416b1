"""The process: it takes the settings, serves two ports and ends with an exit code."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import REGISTRY

from service.app import create_app
from service.errors import ConfigurationError, Interrupted
from service.http.ops import create_ops_app
from service.http.server import serve
from service.runtime.parts import Runtime
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.logs import renderer

_log = logging.getLogger(__name__)

_OF_MODEL = ("/v1/generate", {"prompt": "The sea is", "max_tokens": 16})
_OF_ENCODERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "embed": ("/v1/embeddings", {"input": "The sea is blue."}),
    "score": ("/v1/rerank", {"query": "The sea", "documents": ["A lemon", "A wave"]}),
    "classify": ("/v1/classify", {"input": "The sea is blue."}),
}
"""Requests to try first, by the encoder's task."""


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
        on_started=lambda: _tell_what_to_try(settings, public.state.runtime),
        on_hangup=partial(_hangup, status),
    )
    if isinstance(status.failure, Interrupted):
        _log.info("%s", status.failure)
        sys.exit(128 + status.failure.number)
    if isinstance(status.failure, ConfigurationError):
        raise status.failure
    if status.failure or not started:
        sys.exit(3)


def _tell_what_to_try(settings: Settings, runtime: Runtime) -> None:
    """Log, for a person at a terminal, a first request, and last the addresses."""
    http = settings.http
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host
    url = f"http://[{host}]:{http.port}" if ":" in host else f"http://{host}:{http.port}"
    pages = f"{url}/docs describes the API"
    if http.console and "/console" in runtime.plugins.open_paths:
        pages += f", {url}/console tries it in a browser"
    if renderer(settings.log) == "console":
        key = " -H 'Authorization: Bearer YOUR_KEY'" if settings.tenants.keys else ""
        path, body = _first_request(runtime)
        _log.info(
            "try: curl %s%s%s -H 'Content-Type: application/json' -d '%s'", url, path, key, body
        )
    _log.info("listening on %s; %s; Ctrl-C stops", url, pages)


def _first_request(runtime: Runtime) -> tuple[str, str]:
    """The path and the body of a request to the language model, else to the first encoder."""
    if runtime.language_model is None:
        info = runtime.encoders[0].info
        name, (path, body) = info.name, _OF_ENCODERS[info.task]
    else:
        name, (path, body) = runtime.language_model.engine.model.name, _OF_MODEL
    return path, json.dumps({"model": name, **body})


def _to_be_logged(status: Status, record: logging.LogRecord) -> bool:
    """False for uvicorn's stack of an error that the command line explains in one message."""
    return record.levelno < logging.ERROR or not isinstance(status.failure, ConfigurationError)


def _hangup(status: Status) -> None:
    if status.reload is None:
        _log.warning("SIGHUP ignored: the service is %s", status.phase.value)
        return
    # The reload logs its own outcome.
    status.reload.start()
