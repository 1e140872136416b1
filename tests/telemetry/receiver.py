"""An OTLP receiver in this process: a real gRPC server that keeps the spans it is sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


@dataclass(frozen=True)
class ReceivedSpan:
    """One span; ids are hexadecimal, times nanoseconds, `parent_id` empty for a root."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    kind: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Receiver(services.TraceServiceServicer):
    """Spans that arrived so far, in their order."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.raw: list[bytes] = []
        self.spans: list[ReceivedSpan] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.raw.append(request.SerializeToString())
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_span(span, resource) for span in scope.spans]
        return messages.ExportTraceServiceResponse()

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def below(self, parent: ReceivedSpan) -> dict[str, ReceivedSpan]:
        """The children of a span by name; of several of one name the last."""
        return {span.name: span for span in self.spans if span.parent_id == parent.span_id}


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """A receiver on a free port of the loopback."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    receiver.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(grace=1).wait()


def _span(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        kind=span.kind,
        failed=span.status.code == 2,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
