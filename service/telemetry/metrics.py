"""The service's own Prometheus series, beside vLLM's `vllm:*` in the same registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.context import RequestContext
from service.telemetry.classification import ClassificationMetrics

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300)
_TOKEN_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)


class Metrics:
    """Observes the gate, its streams and the HTTP requests.

    Label values are bounded: `model` is a served name, or `none` where no served model was asked
    for; `route` is a route's template, or `unmatched`; `outcome` is ok, invalid, refused,
    deadline, cancelled or error.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.classification = ClassificationMetrics(registry)
        # Looking a label up costs as much as observing it, and this is done for every token.
        self._latencies: dict[str, Histogram] = {}
        self.requests = Counter(
            "inference_requests_total",
            "Requests by route, model and outcome.",
            ["route", "model", "outcome"],
            registry=registry,
        )
        self.duration = Histogram(
            "inference_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["route", "model"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.first_token_time = Histogram(
            "inference_time_to_first_token_seconds",
            "Time from a request's arrival to its first token, waiting included.",
            ["model"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.inter_token_latency = Histogram(
            "inference_inter_token_latency_seconds",
            "Time between two tokens of a sequence stream; a chunk of k tokens counts k times.",
            ["model"],
            buckets=_TOKEN_LATENCY,
            registry=registry,
        )
        self.queue_time = Histogram(
            "inference_queue_time_seconds",
            "Time an engine request waited for its permit.",
            ["model"],
            buckets=(0.001, *_LATENCY),
            registry=registry,
        )
        self.in_flight = Gauge(
            "inference_requests_in_flight",
            "Sequences that hold a permit for the engine.",
            registry=registry,
        )
        self.queued = Gauge(
            "inference_requests_queued", "Requests that wait for a permit.", registry=registry
        )
        self.tokens = Counter(
            "inference_tokens_total",
            "Tokens by kind: prompt (cached ones included), cached, completion.",
            ["model", "kind"],
            registry=registry,
        )

    def gate_changed(self, in_flight: int, queued: int) -> None:
        """Follow the gate's occupation."""
        self.in_flight.set(in_flight)
        self.queued.set(queued)

    def queued_for(self, context: RequestContext, seconds: float) -> None:
        """An engine request got its permit."""
        self.queue_time.labels(context.model).observe(seconds)

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """An engine stream brought its first item; the request counts its first one only."""
        if context.first_token_seconds is None:
            context.first_token_seconds = seconds
            self.first_token_time.labels(context.model).observe(seconds)

    def tokens_after(self, context: RequestContext, seconds: float, tokens: int) -> None:
        """`tokens` came `seconds` after the ones before."""
        latency = self._latencies.get(context.model)
        if latency is None:
            latency = self.inter_token_latency.labels(context.model)
            self._latencies[context.model] = latency
        for _ in range(tokens):
            latency.observe(seconds / tokens)

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None:
        """An engine stream ended, having used these tokens."""
        context.prompt_tokens += prompt
        context.cached_tokens += cached
        context.completion_tokens += completion
        for kind, count in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            self.tokens.labels(context.model, kind).inc(count)

    def answered(self, context: RequestContext, route: str, outcome: str) -> None:
        """A request ended."""
        self.requests.labels(route, context.model, outcome).inc()
        self.duration.labels(route, context.model).observe(context.elapsed())
