"""OpenTelemetry traces, by the conventions for HTTP servers and for generative AI.

A request is a span of kind SERVER that carries the `gen_ai.*` attributes. Each of its engine
streams is a child span, with children for wait, prefill and decode; vLLM's own `llm_request` is a
child of the stream's span. No span holds a prompt, an answer or a message.
"""

import threading
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.settings.telemetry import TracingSettings
from service.telemetry.lifecycle import package_version

_PROVIDER = "vllm"
_MAX_STREAMS = 32
"""Streams of one request that get spans; a whole batch would fill the exporter's queue."""
_CLOSE_SECONDS = 3.0

_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Sends traces to an OTLP receiver over gRPC, in a thread of its own, in batches.

    If the receiver is slow or absent, spans are lost but requests are not affected.
    """

    def __init__(self, settings: TracingSettings, endpoint: str) -> None:
        names = {"service.name": settings.service_name, "service.version": package_version()}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
            resource=Resource.create(names),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(__name__)

    def begin(self, method: str, headers: Mapping[str, str]) -> "RequestSpan | None":
        """The span of a request that arrives now; None if it is not sampled."""
        span = self._tracer.start_span(method, _W3C.extract(headers), SpanKind.SERVER)
        return RequestSpan(self._tracer, span, method) if span.is_recording() else None

    def close(self) -> None:
        """Send the remaining spans, vLLM's in this process too, for at most some seconds.

        The SDK alone would try for half a minute if the receiver is absent.
        """
        providers = [self._provider, get_tracer_provider()]
        closing = [
            threading.Thread(target=provider.shutdown, daemon=True)
            for provider in providers
            if isinstance(provider, TracerProvider)
        ]
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, until - time.monotonic()))


class RequestSpan:
    """Implements `context.RequestTrace`."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self._streams = 0
        self._below = set_span_in_context(span, Context())
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self.headers: Mapping[str, str] = _headers(self._below)
        self.response_header = self.headers["traceparent"]

    def stream(self) -> "StreamSpan | None":
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            return None
        return StreamSpan(self, self._tracer, self._below)

    def ended(self, context: RequestContext, ending: Ending) -> None:
        span = self._span
        span.update_name(f"{self._method} {context.route}")
        operation = OPERATIONS.get(context.route)
        facts: dict[str, str | int | float | None] = {
            "http.request.method": self._method,
            "http.route": context.route,
            "http.response.status_code": ending.status,
            "inference.request.id": context.request_id,
            "inference.tenant": context.tenant.name,
            "inference.outcome": ending.outcome,
            "inference.streams": self._streams,
            "error.type": ending.error.code if ending.error else None,
        }
        if operation is not None:
            facts |= {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": _PROVIDER,
                "gen_ai.request.model": context.model,
                "gen_ai.response.model": context.model,
                "gen_ai.response.id": context.request_id,
                "gen_ai.usage.input_tokens": context.tokens.prompt,
                "gen_ai.usage.cache_read.input_tokens": context.tokens.cached,
                "gen_ai.usage.output_tokens": context.tokens.completion,
                "gen_ai.response.time_to_first_chunk": context.times.first_token,
                "inference.adapter.digest": context.adapter.digest if context.adapter else None,
            }
        span.set_attributes({key: value for key, value in facts.items() if value is not None})
        if ending.outcome == "error" or (ending.status or 0) >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class StreamSpan:
    """Implements `context.StreamTrace`: one engine stream, in three parts."""

    def __init__(self, request: RequestSpan, tracer: Tracer, parent: Context) -> None:
        self._request = request
        self._tracer = tracer
        self._asked = time.time_ns()
        self._granted: int | None = None
        self._first: int | None = None
        self._span = tracer.start_span("inference.stream", parent, start_time=self._asked)
        self._below = set_span_in_context(self._span, Context())

    def granted(self) -> None:
        self._granted = time.time_ns()
        self._request.headers = _headers(self._below)

    def first_item(self) -> None:
        self._first = self._first or time.time_ns()

    def used(self, prompt: int, cached: int, completion: int) -> None:
        self._span.set_attribute("gen_ai.usage.input_tokens", prompt)
        self._span.set_attribute("gen_ai.usage.cache_read.input_tokens", cached)
        self._span.set_attribute("gen_ai.usage.output_tokens", completion)

    def ended(self) -> None:
        now = time.time_ns()
        self._part("inference.queue", self._asked, self._granted or now)
        if self._granted:
            self._part("inference.prefill", self._granted, self._first or now)
        if self._first:
            self._part("inference.decode", self._first, now)
        self._span.end(now)

    def _part(self, name: str, start: int, end: int) -> None:
        self._tracer.start_span(name, self._below, start_time=start).end(end)


def _headers(context: Context) -> dict[str, str]:
    headers: dict[str, str] = {}
    _W3C.inject(headers, context)
    return headers
