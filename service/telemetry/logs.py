"""The log format of this process and of vLLM's processes; no text of callers is logged."""

import atexit
import json
import logging
import logging.config
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic_core import to_json
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from service.context import RequestContext, current_context
from service.errors import ServiceError
from service.settings.telemetry import LogSettings
from service.tenants.tenant import SERVICE

Renderer = Literal["json", "console"]

_VLLM_CONFIG = "VLLM_LOGGING_CONFIG_PATH"
_MAIN_PROCESS = "MainProcess"

_QUIET = (
    "aiobotocore",
    "asyncio",
    "azure",
    "botocore",
    "filelock",
    "fsspec",
    "grpc",
    "httpcore",
    "httpx",
    "httpx2",
    "huggingface_hub",
    "opentelemetry",
    "s3fs",
    "urllib3",
)
"""Libraries that log addresses and headers at levels below warning: signed addresses, keys."""

_OF_REQUESTS = {
    "vllm.entrypoints": "INFO",
    "vllm.entrypoints.chat_utils": "ERROR",  # up to 0.31; renderers.chat_utils since then
    "vllm.parser": "ERROR",
    "vllm.reasoning": "ERROR",
    "vllm.renderers.chat_utils": "ERROR",
    "vllm.tool_parsers": "ERROR",
}
"""The lowest safe level of each logger: below it, it logs callers' texts, answers, tool names."""


def configure_logging(settings: LogSettings) -> None:
    """Give every logger of this process, and of vLLM's processes, one format on stderr.

    vLLM configures its loggers in each of its processes from a file that an environment variable
    names; if the variable is set already, it is kept.
    """
    config = _config(settings)
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    if _VLLM_CONFIG not in os.environ:
        os.environ[_VLLM_CONFIG] = _written(config)


def renderer(settings: LogSettings) -> Renderer:
    """The renderer for the format in the settings and for the kind of stderr."""
    if settings.format == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return settings.format


def line_formatter(form: Renderer) -> logging.Formatter:
    """The formatter of all records of the standard library's loggers."""
    render: Processor = structlog.processors.JSONRenderer(serializer=_json)
    if form == "console":
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_process,
            _add_request,
            _add_exception,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, render],
    )


class Failures(logging.Filter):
    """Drops vLLM's log records of callers' errors, refusals and deadlines.

    vLLM logs every error that ends a request, but the service's line for the request has the error
    already.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        told = isinstance(error, ServiceError) and error.outcome != "error"
        return not (told and record.name.startswith("vllm."))


def _config(settings: LogSettings) -> dict[str, Any]:
    level = settings.level.upper()
    formatter = {"()": f"{__name__}.{line_formatter.__name__}", "form": renderer(settings)}
    handler = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stderr",
        "formatter": "line",
        "filters": ["failures"],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"failures": {"()": f"{__name__}.{Failures.__name__}"}},
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # vLLM's own handler would log every line twice.
            "vllm": {"handlers": [], "level": "NOTSET", "propagate": True},
            **{name: {"level": "WARNING"} for name in _QUIET},
            **{name: {"level": _higher(level, least)} for name, least in _OF_REQUESTS.items()},
        },
    }


def _higher(one: str, other: str) -> str:
    return max(one, other, key=logging.getLevelNamesMapping().__getitem__)


def _written(config: dict[str, Any]) -> str:
    """The path of a file with the configuration; it is removed when this process exits."""
    with tempfile.NamedTemporaryFile("w", prefix="logging-", suffix=".json", delete=False) as file:
        json.dump(config, file)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name


def _json(event: EventDict, **_: Any) -> str:
    return to_json(event, fallback=repr).decode()


def _add_process(logger: Any, method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    name = getattr(record, "vllm_process_name", record.processName)
    if name != _MAIN_PROCESS:
        event["process"] = name
    return event


def _add_request(logger: Any, method: str, event: EventDict) -> EventDict:
    if context := _context():
        event["request_id"] = context.request_id
        if context.trace:
            event["trace_id"] = context.trace.trace_id
    return event


def _add_exception(logger: Any, method: str, event: EventDict) -> EventDict:
    error = (event.pop("exc_info", None) or (None, None))[1]
    if error is not None:
        context = _context()
        withhold = context is not None and context.tenant is not SERVICE
        event["exception"] = format_exception(error, withhold=withhold)
    return event


def _context() -> RequestContext | None:
    with suppress(LookupError):
        return current_context()
    return None


def format_exception(error: BaseException, *, withhold: bool) -> str:
    """The traceback of an exception and of its causes, the first cause first.

    With `withhold` only a message's type and length are shown, because a library's message may
    quote a prompt while a request is served.
    """
    return "\n".join(
        "".join(traceback.format_tb(link.__traceback__)) + _describe(link, withhold)
        for link in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception after all its causes; each once, since causes can form a circle."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    yield from reversed(seen)


def _describe(error: BaseException, withhold: bool) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, BaseExceptionGroup):
        inner = (format_exception(each, withhold=withhold) for each in error.exceptions)
        return "\n".join([f"{kind} of {len(error.exceptions)}:", *inner])
    message = str(error)
    if not message:
        return kind
    return f"{kind}: {f'({len(message)} characters withheld)' if withhold else message}"
