"""Telemetry of a request, at its arrival and at its end, and its line in the log."""

import atexit
import json
import logging
import logging.config
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog
from pydantic_core import to_json
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from service.common.counting import PerSecond
from service.context import Ending, RequestContext, current_context
from service.errors import ServiceError
from service.settings.telemetry import LogSettings
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.tenants.tenant import SERVICE, Tier

_QUIET_ROUTES = ("/health", "/ping")
"""Paths that balancers request every second; logged at the level `debug`."""


class RequestLog:
    """Writes a line for each ended request: its tenant, route, model, usage, times and outcome.

    The line holds no text of a prompt, an answer, a message or a key. Times are in milliseconds;
    steps that a request did not reach are omitted. Of a tenant's refusals only the first ones of
    each second have a line; `left_out` counts those since its last line that have none. Bypasses
    the standard library's loggers, and structlog's, which would cost a request more than all its
    counters.
    """

    def __init__(self, settings: LogSettings, stream: TextIO) -> None:
        self._level = logging.getLevelNamesMapping()[settings.level.upper()]
        self._lines = structlog.WriteLogger(stream)
        self._processors: Sequence[Processor] = (
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            rendering(renderer(settings)),
        )
        self._refusals = PerSecond(settings.refusals_per_s)
        self._left_out: Counter[str] = Counter()

    def answered(self, context: RequestContext, ending: Ending) -> None:
        """A request ended."""
        tenant, quiet = context.tenant.name, context.route in _QUIET_ROUTES
        if ending.outcome == "refused" and not quiet and not self._refusals.allows(tenant):
            self._left_out[tenant] += 1
            return
        if quiet:
            level = logging.DEBUG
        else:
            level = logging.ERROR if ending.outcome == "error" else logging.INFO
        if level < self._level:
            return
        facts = {
            "request_id": context.request_id,
            "trace_id": context.trace.trace_id if context.trace else None,
            "tenant": tenant,
            "route": context.route,
            "model": context.model,
            "service_tier": None if context.tier is Tier.DEFAULT else str(context.tier),
            "adapter_digest": context.adapter.digest if context.adapter else None,
            "outcome": ending.outcome,
            "status": ending.status,
            "code": ending.error.code if ending.error else None,
            "prompt_tokens": context.tokens.prompt or None,
            "cached_tokens": context.tokens.cached or None,
            "completion_tokens": context.tokens.completion or None,
            "queue_ms": _ms(context.times.queue) if context.tokens.prompt else None,
            "ttft_ms": _ms(context.times.first_token),
            "tpot_ms": _ms(context.token_seconds()),
            "total_ms": _ms(context.elapsed()),
            "left_out": None if quiet else self._left_out.pop(tenant, None),
        }
        self._write(level, {key: value for key, value in facts.items() if value is not None})

    def _write(self, level: int, facts: dict[str, Any]) -> None:
        line: Any = {"logger": "service.request", **facts, "event": "request"}
        for process in self._processors:
            line = process(None, logging.getLevelName(level).lower(), line)
        self._lines.msg(line)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing


class RequestTelemetry:
    """Counts each request, writes its line, ends its trace; without `tracing` nothing is traced."""

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> "RequestTelemetry":
        """Telemetry by these settings; lines go to the standard error."""
        log = RequestLog(settings.log, sys.stderr)
        if settings.tracing.endpoint is None:
            return cls(metrics, log, None)
        # Import OpenTelemetry and gRPC only if tracing is on.
        from service.telemetry.tracing import Tracing

        tracing = Tracing(settings.tracing, settings.tracing.endpoint)
        return cls(metrics, log, tracing)

    def __init__(self, metrics: Metrics, log: RequestLog, tracing: "Tracing | None") -> None:
        self._metrics = metrics
        self._log = log
        self._tracing = tracing

    def arrived(self, context: RequestContext, method: str, headers: Mapping[str, str]) -> None:
        """Record a request's arrival; the names of its headers are in lower case."""
        if self._tracing is not None:
            context.trace = self._tracing.begin(method, headers)

    def answered(self, context: RequestContext, ending: Ending) -> Ending:
        """Record a request's end; returns it with the objectives that the request missed."""
        missed = self._metrics.answered(context, ending)
        self._log.answered(context, ending)
        if context.trace is not None:
            context.trace.ended(context, ending)
        return ending if missed is None else replace(ending, missed=missed)

    def close(self) -> None:
        """Send the remaining traces; blocks meanwhile."""
        if self._tracing is not None:
            self._tracing.close()


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

    vLLM configures its loggers itself, in each of its processes, from a file that a variable names;
    a variable that is set already wins.
    """
    config = _config(settings)
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    if _VLLM_CONFIG not in os.environ:
        os.environ[_VLLM_CONFIG] = _written(config)


def renderer(settings: LogSettings) -> Renderer:
    """The format that the settings give for this standard error."""
    if settings.format == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return settings.format


def rendering(form: Renderer) -> Processor:
    """Processor that turns an event into its line."""
    if form == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(serializer=_json)


def line_formatter(form: Renderer) -> logging.Formatter:
    """The formatter of all records of the standard library's loggers."""
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_process,
            _add_request,
            _add_exception,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, rendering(form)],
    )


class Failures(logging.Filter):
    """Drops vLLM's records of callers' errors, refusals and deadlines.

    vLLM logs every error that ends a request; the request's own line has these errors.
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
    parts = []
    for link in _chain(error):
        parts.append(_frames(link.__traceback__) + _told(link, withhold))
    return "\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception after all its causes; each once, since causes can form a circle."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    yield from reversed(seen)


def _frames(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace))


def _told(error: BaseException, withhold: bool) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, BaseExceptionGroup):
        inner = (format_exception(each, withhold=withhold) for each in error.exceptions)
        return "\n".join([f"{kind} of {len(error.exceptions)}:", *inner])
    message = str(error)
    if not message:
        return kind
    return f"{kind}: {f'({len(message)} characters withheld)' if withhold else message}"
