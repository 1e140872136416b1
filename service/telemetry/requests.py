"""Telemetry of a request, at its arrival and at its end."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.context import Ending, RequestContext
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.request_log import RequestLog

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing


class RequestTelemetry:
    """Counts each request, writes its line and ends its trace; `tracing` None traces nothing."""

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> "RequestTelemetry":
        """Telemetry by these settings; lines go to the standard error."""
        log = RequestLog(settings.log, sys.stderr)
        if settings.tracing.endpoint is None:
            return cls(metrics, log, None)
        # Import OpenTelemetry and gRPC only if tracing is on.
        from service.telemetry.tracing import Tracing

        return cls(metrics, log, Tracing(settings.tracing, settings.tracing.endpoint))

    def __init__(self, metrics: Metrics, log: RequestLog, tracing: "Tracing | None") -> None:
        self._metrics = metrics
        self._log = log
        self._tracing = tracing

    def arrived(self, context: RequestContext, method: str, headers: Mapping[str, str]) -> None:
        """Record a request's arrival; the names of its headers are in lower case."""
        if self._tracing is not None:
            context.trace = self._tracing.begin(context, method, headers)

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
