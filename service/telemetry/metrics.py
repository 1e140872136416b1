"""The service's own Prometheus series, beside vLLM's `vllm:*` in the same registry."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from service.context import Ending, RequestContext
from service.settings.telemetry import MetricsSettings, SloSettings
from service.telemetry.classification import ClassificationMetrics
from service.telemetry.drift import DriftMetrics
from service.telemetry.engine import EngineMetrics, EngineProgress
from service.telemetry.gate import GateMetrics, GateSeries
from service.telemetry.generation import GenerationMetrics
from service.telemetry.guards import GuardMetrics
from service.telemetry.lifecycle import LifecycleMetrics
from service.telemetry.loop_lag import LoopLag
from service.telemetry.requests import AVAILABILITY, Objectives
from service.telemetry.series import (
    KEY,
    LATENCY,
    TOKEN_LATENCY,
    BoundedNames,
    RequestLabels,
    SeriesFactory,
)

_REFUSED_STATUS = (429, 503)
_MAX_FIELDS = 64


class EngineSeries:
    """Shows one engine and its gate; implements `gate.GateObserver`."""

    def __init__(self, gate: GateSeries, progress: EngineProgress) -> None:
        self._gate = gate
        self._progress = progress
        self.queue_changed = gate.queue_changed
        self.preempted = gate.preempted
        self.follow = progress.follow

    def gate_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Follow the gate's occupation."""
        self._gate.gate_changed(in_flight, background, limit)
        self._progress.gate_changed(in_flight)


class Metrics:
    """Observes the engines' streams and the HTTP requests.

    Label values are bounded: `model` is the served name of a model, an adapter or an encoder, or
    `none` where none was asked for; `engine` is that of an engine's model; `route` is a route's
    template, `unmatched`, or `internal` for the service's own requests; `tenant` is one of a
    limited number, or `other`; `service_tier` is default or flex; `outcome` is ok, invalid,
    refused, deadline, cancelled or error; `field` is one of a limited number of names, or `other`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        bounds: MetricsSettings | None = None,
        slo: SloSettings | None = None,
    ) -> None:
        make = SeriesFactory(registry)
        bounds = bounds or MetricsSettings()
        self._labels = RequestLabels(bounds.max_tenants, bounds.max_combinations)
        self._objectives = Objectives(slo or SloSettings())
        self.classification = ClassificationMetrics(registry)
        self.drift = DriftMetrics(registry)
        self.guards = GuardMetrics(registry)
        self.generation = GenerationMetrics(registry)
        self.gate = GateMetrics(registry, self._labels)
        self.engine = EngineMetrics(registry)
        self._engines: dict[str, EngineSeries] = {}
        self.lifecycle = LifecycleMetrics(registry)
        self.loop_lag = LoopLag(registry)
        text = "Requests by outcome."
        self._requests = make.counter("requests_total", text, *KEY, "outcome")
        text = "Tokens by kind: prompt (cached ones included), cached, completion."
        self._tokens = make.counter("tokens_total", text, *KEY, "kind")
        text = "Requests whose own deadline passed before their answer was complete."
        self._late = make.counter("deadline_misses_total", text, *KEY)
        text = "Requests to which objectives apply."
        self._promised = make.counter("slo_requests_total", text, *KEY)
        text = "Requests that met all their objectives."
        self._good = make.counter("goodput_total", text, *KEY)
        text = "Texts that were cut to an encoder's context, because their request asked for it."
        self._cut = make.counter("truncated_inputs_total", text, "model")
        self._fields = BoundedNames(_MAX_FIELDS)
        text = "Unknown fields of OpenAI bodies that requests were answered without."
        self._ignored = make.counter("ignored_fields_total", text, "field")
        text = "Objectives missed: availability, ttft, tpot, e2e; a request may miss several."
        self._missed = make.counter("slo_misses_total", text, *KEY, "objective")
        text = "Time from a request's arrival to the end of its answer."
        self._duration = make.seconds("request_duration", text, LATENCY, *KEY)
        text = "Time from a request's arrival to its first token, waiting included."
        self._first = make.seconds("time_to_first_token", text, LATENCY, *KEY)
        text = "Time per output token after the first, of a whole request."
        self._per_token = make.seconds("time_per_output_token", text, TOKEN_LATENCY, *KEY)
        text = "Time between two tokens of a stream; a chunk of k tokens counts k times."
        self._between = make.tally("inter_token_latency", text, TOKEN_LATENCY, *KEY)
        text = "Time that an engine request waited for its permit."
        self._waited = make.tally("queue_time", text, (0.001, *LATENCY), *KEY)

    def of_engine(self, name: str) -> EngineSeries:
        """The series of the engine that serves the model of this name."""
        if name not in self._engines:
            self._engines[name] = EngineSeries(self.gate.of(name), self.engine.of(name))
        return self._engines[name]

    def text_cut(self, model: str) -> None:
        """Count a text that was longer than an encoder's context and cut."""
        self._cut[model,].inc()

    def queued_for(self, context: RequestContext, seconds: float) -> None:
        """Record that an engine request got its permit."""
        self._waited[self._labels.of(context)].add(seconds)

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Record the time from a request to its first item."""
        self._first[self._labels.of(context)].observe(seconds, _exemplar(context))

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        """A function that takes the time between two tokens, and how many tokens took it."""
        return self._between[self._labels.of(context)].add

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None:
        """Count the tokens of an engine stream that ended."""
        key = self._labels.of(context)
        self._tokens[*key, "prompt"].inc(prompt)
        self._tokens[*key, "cached"].inc(cached)
        self._tokens[*key, "completion"].inc(completion)

    def answered(self, context: RequestContext, ending: Ending) -> list[str] | None:
        """Count an ended request; returns the objectives that it missed, None if it has none."""
        key = self._labels.of(context)
        exemplar = _exemplar(context)
        self._requests[*key, ending.outcome].inc(1, exemplar)
        self._duration[key].observe(context.elapsed(), exemplar)
        if (seconds := context.token_seconds()) is not None:
            self._per_token[key].observe(seconds, exemplar)
        if ending.error is not None and ending.error.status in _REFUSED_STATUS:
            self.gate.refused(ending.error.code, context.tenant.name)
        for field in context.ignored_fields:
            self._ignored[(self._fields(field),)].inc()
        if ending.outcome == "deadline":
            self._late[key].inc(1, exemplar)
        missed = self._objectives.missed(context, key.model, ending)
        if missed is None:
            return None
        # Create both series at the first request: a share needs both its parts.
        self._promised[key].inc()
        self._good[key].inc(not missed)
        self._missed[*key, AVAILABILITY].inc(0)
        for objective in missed:
            self._missed[*key, objective].inc(1, exemplar)
        return missed


def _exemplar(context: RequestContext) -> dict[str, str] | None:
    """Exemplar that leads from a sample to its trace, in OpenMetrics."""
    return {"trace_id": context.trace.trace_id} if context.trace else None
