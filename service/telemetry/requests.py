"""Telemetry of a request, at its arrival and at its end, and its line in the log."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.typing import Processor

from service.common.per_second import PerSecond
from service.context import Ending, RequestContext
from service.settings.telemetry import LogSettings
from service.settings.tree import Settings
from service.telemetry.logs import renderer, rendering
from service.telemetry.metrics import Metrics
from service.tenants.tenant import Tier

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

    def answered(self, context: RequestContext, ending: Ending) -> None:
        """A request ended."""
        self._metrics.answered(context, ending)
        self._log.answered(context, ending)
        if context.trace is not None:
            context.trace.ended(context, ending)

    def close(self) -> None:
        """Send the remaining traces; blocks meanwhile."""
        if self._tracing is not None:
            self._tracing.close()
