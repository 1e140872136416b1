"""The service's own Prometheus series, beside vLLM's `vllm:*` in the same registry."""

import time
from collections.abc import Callable, Mapping, Sequence, Set

from prometheus_client import CollectorRegistry, Gauge

from service.context import Ending, RequestContext
from service.settings.telemetry import MetricsSettings, SloSettings
from service.telemetry.drift import DriftMetrics
from service.telemetry.lifecycle import LifecycleMetrics, LoopLag
from service.telemetry.objectives import AVAILABILITY, Objectives
from service.telemetry.series import (
    KEY,
    LATENCY,
    OTHER,
    TOKEN_LATENCY,
    BoundedNames,
    RequestLabels,
    SeriesFactory,
)
from service.tenants.tenant import Tier

OTHER_LABEL = "other"

_SCORE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_READS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class ClassificationMetrics:
    """Counts the labels given to inputs; `label` is an adapter's own, or `OTHER_LABEL`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Labels given to inputs: an adapter's by name, a request's own as `other`."
        self._classifications = make.counter("classifications_total", text, "model", "label")
        text = "Inputs that were given no label."
        self._abstentions = make.counter("classification_abstentions_total", text, "model")
        text = "Probability of an input's best label, also if the answer abstained."
        self._score = make.histogram("classification_score", text, _SCORE, "model")
        text = "Engine reads that an input took."
        self._reads = make.histogram("classification_reads", text, _READS, "model")

    def classified(
        self, context: RequestContext, labels: Sequence[str], score: float, reads: int
    ) -> None:
        """Count an input with these labels, none when the answer abstained."""
        model = context.unversioned_model
        for label in labels:
            self._classifications[model, label].inc()
        # From the first input on, so that a model that never abstains has a share too.
        self._abstentions[model,].inc(not labels)
        self._score[model,].observe(score)
        self._reads[model,].observe(reads)


_MAX_REASONS = 32


class GateMetrics:
    """Shows running, waiting and refused requests, by engine."""

    def __init__(self, registry: CollectorRegistry, labels: RequestLabels) -> None:
        make = SeriesFactory(registry)
        self._labels = labels
        self._reasons = BoundedNames(_MAX_REASONS)
        text = "Sequences that hold a permit for the engine."
        self.in_flight = make.gauge("requests_in_flight", text, "engine")
        text = "Sequences of flex requests that hold a permit."
        self.background = make.gauge("flex_requests_in_flight", text, "engine")
        text = "Interactive requests that wait for a permit."
        self.queued = make.gauge("requests_queued", text, "engine", "tenant")
        text = "Flex requests that wait for a permit."
        self.flex_queued = make.gauge("flex_requests_queued", text, "engine", "tenant")
        text = "Flex requests that gave way to interactive ones while they ran, and began again."
        self.preemptions = make.counter("preemptions_total", text, "engine")
        text = "Sequences that the gate lets into the engine at once."
        self.limit = make.gauge("gate_limit", text, "engine")
        text = "Requests that were refused, by the error's code."
        self._refusals = make.counter("refusals_total", text, "reason", "tenant")

    def refused(self, reason: str, tenant: str) -> None:
        """Count a refused request; the reasons are the errors' codes."""
        self._refusals[self._reasons(reason), self._labels.tenant(tenant)].inc()

    def of(self, engine: str) -> "GateSeries":
        """The series of one engine's gate."""
        return GateSeries(self, engine, self._labels)


class GateSeries:
    """Shows one engine's gate; implements `gate.GateObserver`."""

    def __init__(self, metrics: GateMetrics, engine: str, labels: RequestLabels) -> None:
        self._engine = engine
        self._labels = labels
        self._in_flight = self._background = self._limit = 0
        # Read when the series are: they change several times with each request.
        metrics.in_flight.labels(engine).set_function(lambda: self._in_flight)
        metrics.background.labels(engine).set_function(lambda: self._background)
        metrics.limit.labels(engine).set_function(lambda: self._limit)
        self._queued = {Tier.DEFAULT: metrics.queued, Tier.FLEX: metrics.flex_queued}
        # An autoscaler treats a missing sample as unknown, so set 0 before any request waits.
        for queued in self._queued.values():
            queued.labels(engine, OTHER).set(0)
        self._preemptions = metrics.preemptions[engine,]

    def gate_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Set how many sequences hold a permit, how many of these are flex, and how many may."""
        self._in_flight, self._background, self._limit = in_flight, background, limit

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        """Count so many more (or fewer) waiting requests of the tenant."""
        self._queued[tier].labels(self._engine, self._labels.tenant(tenant)).inc(change)

    def preempted(self) -> None:
        """Count a flex request that gave way."""
        self._preemptions.inc()


class EngineMetrics:
    """Series of the engines' progress."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Seconds since the engine's last step, while something runs in it; else 0."
        self._age = make.gauge("engine_progress_age_seconds", text, "engine")
        text = "1 while the watchdog finds the engine stalled."
        self._stalled = make.gauge("engine_stalled", text, "engine")

    def of(self, engine: str) -> "EngineProgress":
        """The series of one engine."""
        return EngineProgress(self._age.labels(engine), self._stalled.labels(engine))


class EngineProgress:
    """Exports an engine's progress, computed at each scrape, so that a hanging event loop shows."""

    def __init__(self, age: Gauge, stalled: Gauge) -> None:
        self._age = age
        self._stalled = stalled
        self._running = 0
        self._busy_since = 0.0

    def gate_changed(self, in_flight: int) -> None:
        """Set the number of sequences in the engine."""
        if in_flight and not self._running:
            self._busy_since = time.monotonic()
        self._running = in_flight

    def follow(self, last_step: Callable[[], float], stalled: Callable[[], bool]) -> None:
        """Export this engine from now on; `last_step` is in seconds of `time.monotonic`."""

        def age() -> float:
            if not self._running:
                return 0.0
            return max(0.0, time.monotonic() - max(last_step(), self._busy_since))

        self._age.set_function(age)
        self._stalled.set_function(lambda: float(stalled()))


class TenantMetrics:
    """Exports keys, weights and quota failures; implements `tenants.TenancyObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Reads of changed keys files: accepted, or refused while the previous keys stay."
        self._key_reads = make.counter("key_reloads_total", text, "outcome")
        text = "Time since which changed keys are refused and older ones serve; 0 if none are."
        self._stale_since = make.gauge("keys_stale_since_timestamp_seconds", text)
        self._stale = False
        text = "The tenant's share of the engine relative to others', by the keys files."
        self._weight = make.gauge("tenant_weight", text, "tenant")
        self._weighed: Set[str] = frozenset()
        text = "Failures of the quota store: timeout or error."
        self._store_errors = make.counter("quota_store_errors_total", text, "reason")
        # Create the series at the start: Prometheus sees no increase in a series' first sample.
        for outcome in ("accepted", "refused"):
            self._key_reads[outcome,].inc(0)
        for reason in ("timeout", "error"):
            self._store_errors[reason,].inc(0)

    def weights_read(self, weights: Mapping[str, float]) -> None:
        """Export these weights in place of the earlier ones."""
        for name, weight in weights.items():
            self._weight.labels(name).set(weight)
        for name in self._weighed - weights.keys():
            self._weight.remove(name)
        self._weighed = weights.keys()

    def keys_read(self, accepted: bool) -> None:
        """Count a changed keys file that was accepted or refused."""
        self._key_reads["accepted" if accepted else "refused",].inc()
        if accepted == self._stale:
            self._stale = not accepted
            self._stale_since.set(0 if accepted else time.time())

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the quota store."""
        self._store_errors[reason,].inc()


_PROBABILITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class GenerationMetrics:
    """Counts the answers of adapters that have a confidence map."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Generated answers that were withheld because of `min_confidence`."
        self._abstentions = make.counter("generation_abstentions_total", text, "model")
        text = "Calibrated probability that a generated answer is right, also of withheld ones."
        self._p_correct = make.histogram("generation_score", text, _PROBABILITY, "model")

    def judged(self, context: RequestContext, p_correct: float | None, *, withheld: bool) -> None:
        """Count an answer and its probability of being right, if it has one."""
        model = context.unversioned_model
        # From the first answer on, so that a model that never abstains has a share too.
        self._abstentions[model,].inc(withheld)
        if p_correct is not None:
            self._p_correct[model,].observe(p_correct)


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
        """Update the gate's load."""
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
        """A function to call for each further step, with its time and its number of tokens."""
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
