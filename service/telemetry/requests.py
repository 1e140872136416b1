"""Telemetry of a request, at its arrival and at its end."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.context import Ending, RequestContext
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.request_log import RequestLog
from service.usage.ledger import Ledger

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing


class RequestTelemetry:
    """Counts each request, writes its line, ends its trace; without `tracing` nothing is traced."""

    @classmethod
    def of(
        cls, settings: Settings, metrics: Metrics, usage: Ledger | None = None
    ) -> "RequestTelemetry":
        """Telemetry by these settings; lines go to the standard error, usage to a ledger."""
        log = RequestLog(settings.log, sys.stderr)
        if settings.tracing.endpoint is None:
            return cls(metrics, log, None, usage)
        # Import OpenTelemetry and gRPC only if tracing is on.
        from service.telemetry.tracing import Tracing

        tracing = Tracing(settings.tracing, settings.tracing.endpoint)
        return cls(metrics, log, tracing, usage)

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        tracing: "Tracing | None",
        usage: Ledger | None = None,
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._tracing = tracing
        self._usage = usage

    def arrived(self, context: RequestContext, method: str, headers: Mapping[str, str]) -> None:
        """Record a request's arrival; the names of its headers are in lower case."""
        if self._tracing is not None:
            context.trace = self._tracing.begin(method, headers)

    def answered(self, context: RequestContext, ending: Ending) -> None:
        """A request ended."""
        missed = self._metrics.answered(context, ending)
        self._log.answered(context, ending)
        if self._usage is not None:
            self._usage.answered(context, ending, missed)
        if context.trace is not None:
            context.trace.ended(context, ending)

    def close(self) -> None:
        """Send the remaining traces; blocks meanwhile."""
        if self._tracing is not None:
            self._tracing.close()
