"""Telemetry of requests: series, objectives, lines in the log, and traces."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import structlog
from prometheus_client import CollectorRegistry
from pydantic_core import to_json

from service.common.counting import PerSecond
from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.settings.telemetry import LogSettings, MetricsSettings, SloSettings
from service.settings.tree import Settings
from service.telemetry.drift import DriftMetrics
from service.telemetry.lifecycle import LifecycleMetrics, LoopLag
from service.telemetry.logs import renderer
from service.telemetry.series import (
    KEY,
    LATENCY,
    TOKEN_LATENCY,
    BoundedNames,
    EngineGauges,
    EngineSeries,
    RequestLabels,
    SeriesFactory,
)
from service.tenants.tenant import Tier

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing

OTHER_LABEL = "other"

_PROBABILITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_READS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
_REFUSED_STATUS = (429, 503)
_MAX_FIELDS = 64
_MAX_REASONS = 32
_KV_USAGE, _WAITING = "vllm:kv_cache_usage_perc", "vllm:num_requests_waiting"


@dataclass(frozen=True, slots=True)
class Load:
    """How full the replica is.

    `utilization` is that of the fullest engine: slots in use or waited for, as a part of those that
    may be in use. `waiting` counts the requests that wait for admission or in vLLM.
    """

    utilization: float
    waiting: int
    kv_cache_usage: float


class Metrics:
    """Observes the engines' streams and the HTTP requests.

    Label values are bounded: `model` is the served name of a model, an adapter or an encoder, or
    `none` if the request names none; `engine` is the served name of an engine's model; `route` is a
    route's template, `unmatched`, or `internal` for the service's own requests; `tenant` is one of
    a limited number, or `other`; `service_tier` is default or flex; `outcome` is ok, invalid,
    refused, deadline, cancelled or error; `field` and `reason` are one of a limited number of
    names, or `other`; the `label` of a classification is an adapter's own, or `OTHER_LABEL`.
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
        self._slo = slo or SloSettings()
        self.drift = DriftMetrics(registry)
        self.lifecycle = LifecycleMetrics(registry)
        self.loop_lag = LoopLag(registry)
        self._vllms_gauges = registry.restricted_registry((_KV_USAGE, _WAITING))
        self._gauges = EngineGauges(make, self._labels)
        self._engines: dict[str, EngineSeries] = {}
        self._add_series_of_answers(make)
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
        text = "Objectives missed: availability, ttft, tpot, e2e; a request may miss several."
        self._missed = make.counter("slo_misses_total", text, *KEY, "objective")
        self._fields = BoundedNames(_MAX_FIELDS)
        text = "Unknown fields of OpenAI bodies that requests were answered without."
        self._ignored = make.counter("ignored_fields_total", text, "field")
        self._reasons = BoundedNames(_MAX_REASONS)
        text = "Requests that were refused, by the error's code."
        self._refusals = make.counter("refusals_total", text, "reason", "tenant")
        text = "Time from a request's arrival to the end of its answer."
        self._duration = make.histogram("request_duration_seconds", text, LATENCY, *KEY)
        text = "Time from a request's arrival to its first token, waiting included."
        self._first = make.histogram("time_to_first_token_seconds", text, LATENCY, *KEY)
        text = "Time per output token after the first, of a whole request."
        self._per_token = make.histogram("time_per_output_token_seconds", text, TOKEN_LATENCY, *KEY)
        text = "Time between two tokens of a stream; a chunk of k tokens counts k times."
        self._between = make.tally("inter_token_latency", text, TOKEN_LATENCY, *KEY)
        text = "Time that an engine request waited for its slots."
        self._waited = make.tally("queue_time", text, (0.001, *LATENCY), *KEY)

    def _add_series_of_answers(self, make: SeriesFactory) -> None:
        text = "Labels given to inputs: an adapter's by name, a request's own as `other`."
        self._classifications = make.counter("classifications_total", text, "model", "label")
        text = "Inputs that were given no label."
        self._unlabelled = make.counter("classification_abstentions_total", text, "model")
        text = "Probability of an input's best label, also if the answer abstained."
        self._score = make.histogram("classification_score", text, _PROBABILITY, "model")
        text = "Engine reads that an input took."
        self._reads = make.histogram("classification_reads", text, _READS, "model")
        text = "Generated answers that were withheld because of `min_confidence`."
        self._withheld = make.counter("generation_abstentions_total", text, "model")
        text = "Calibrated probability that a generated answer is right, also of withheld ones."
        self._p_correct = make.histogram("generation_score", text, _PROBABILITY, "model")
        text = "Texts that were cut to an encoder's context, because their request asked for it."
        self._cut = make.counter("truncated_inputs_total", text, "model")

    def of_engine(self, name: str) -> EngineSeries:
        """The series of the engine that serves the model of this name."""
        if name not in self._engines:
            self._engines[name] = EngineSeries(self._gauges, name)
        return self._engines[name]

    def load(self) -> Load:
        """The load of all engines together."""
        engines = self._engines.values()
        vllms = dict.fromkeys((_KV_USAGE, _WAITING), 0.0)
        for family in self._vllms_gauges.collect():
            for sample in family.samples:
                vllms[sample.name] += sample.value
        return Load(
            max((each.utilization for each in engines), default=0.0),
            sum(each.waiting for each in engines) + int(vllms[_WAITING]),
            vllms[_KV_USAGE],
        )

    def count_classification(
        self, context: RequestContext, labels: Sequence[str], score: float, reads: int
    ) -> None:
        """Count an input with these labels, none when the answer abstained."""
        model = context.unversioned_model
        for label in labels:
            self._classifications[model, label].inc()
        # From the first input on, so that a model that never abstains has a share too.
        self._unlabelled[model,].inc(not labels)
        self._score[model,].observe(score)
        self._reads[model,].observe(reads)

    def count_generation(
        self, context: RequestContext, p_correct: float | None, *, withheld: bool
    ) -> None:
        """Count an answer of an adapter with a confidence map; `p_correct` is None if unknown."""
        model = context.unversioned_model
        self._withheld[model,].inc(withheld)  # from the first answer on, as above
        if p_correct is not None:
            self._p_correct[model,].observe(p_correct)

    def count_refusal(self, reason: str, tenant: str) -> None:
        """Count a refused request; the reasons are the errors' codes."""
        self._refusals[self._reasons(reason), self._labels.tenant(tenant)].inc()

    def text_cut(self, model: str) -> None:
        """Count a text that was longer than an encoder's context and cut."""
        self._cut[model,].inc()

    def queued_for(self, context: RequestContext, seconds: float) -> None:
        """Record that an engine request got its slots."""
        self._waited[self._labels.of(context)].add(seconds)

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Record the time from a request's arrival to its first output."""
        self._first[self._labels.of(context)].observe(seconds, _exemplar(context))

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        """Return a callback for later steps, which takes a step's time and number of tokens."""
        return self._between[self._labels.of(context)].add

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None:
        """Count the tokens of an engine stream that ended."""
        key = self._labels.of(context)
        self._tokens[*key, "prompt"].inc(prompt)
        self._tokens[*key, "cached"].inc(cached)
        self._tokens[*key, "completion"].inc(completion)

    def count_request(self, context: RequestContext, ending: Ending) -> list[str] | None:
        """Count an ended request; returns the objectives that it missed, None if it has none."""
        key = self._labels.of(context)
        exemplar = _exemplar(context)
        self._requests[*key, ending.outcome].inc(1, exemplar)
        self._duration[key].observe(context.elapsed(), exemplar)
        if (seconds := context.token_seconds()) is not None:
            self._per_token[key].observe(seconds, exemplar)
        if ending.error is not None and ending.error.status in _REFUSED_STATUS:
            self.count_refusal(ending.error.code, context.tenant.name)
        for field in context.ignored_fields:
            self._ignored[(self._fields(field),)].inc()
        if ending.outcome == "deadline":
            self._late[key].inc(1, exemplar)
        missed = missed_objectives(self._slo, context, key.model, ending)
        if missed is None:
            return None
        # Create both series at the first request: a share needs both its parts.
        self._promised[key].inc()
        self._good[key].inc(not missed)
        self._missed[*key, _AVAILABILITY].inc(0)
        for objective in missed:
            self._missed[*key, objective].inc(1, exemplar)
        return missed


def _exemplar(context: RequestContext) -> dict[str, str] | None:
    """Exemplar that leads from a sample to its trace, in OpenMetrics."""
    return {"trace_id": context.trace.trace_id} if context.trace else None


_AVAILABILITY = "availability"
_TENANTS_OWN = (401, 403, 409, 429)


def missed_objectives(
    slo: SloSettings, context: RequestContext, model: str, ending: Ending
) -> list[str] | None:
    """The objectives that an ended request missed; None for one that has none.

    Each is the model's, else the route's, else the general one. Invalid requests, flex requests and
    those over the tenant's own share have none. A request that a full server refused, that failed
    or was late misses `availability`. One whose client disconnected counts only if it had missed an
    objective before: a client that gives up on a slow answer must not make the service look better.
    """
    promised = context.tier is Tier.DEFAULT and OPERATIONS.get(context.route)
    if ending.outcome == "invalid" or not promised:
        return None
    if ending.outcome == "refused":
        own = ending.error is not None and ending.error.status in _TENANTS_OWN
        return None if own else [_AVAILABILITY]
    if ending.outcome in ("error", "deadline"):
        return [_AVAILABILITY]
    elapsed, first = context.elapsed(), context.times.first_token
    taken = {
        "ttft": elapsed if first is None else first,
        "tpot": context.token_seconds(),
        "e2e": elapsed,
    }
    levels = (slo.models.get(model), slo.routes.get(context.route), slo)
    missed = []
    for name, seconds in taken.items():
        found = (getattr(level, f"{name}_ms", None) for level in levels)
        limit = next((each for each in found if each is not None), None)
        if seconds is not None and limit is not None and seconds * 1000 > limit:
            missed.append(name)
    return missed or None if ending.outcome == "cancelled" else missed


_QUIET_ROUTES = ("/health", "/ping")
"""Paths that balancers request every second; logged at the level `debug`."""


class RequestLog:
    """Writes a line for each ended request: its tenant, route, model, usage, times and outcome.

    The line holds no text of a prompt, an answer, a message or a key. Times are in milliseconds;
    steps that a request did not reach are omitted. Only a tenant's first refusals in each second
    get a line; `left_out` in its next line counts the others. The logging module is bypassed,
    because it would cost a request more than all its counters.
    """

    def __init__(self, settings: LogSettings, stream: TextIO) -> None:
        self._level = logging.getLevelNamesMapping()[settings.level.upper()]
        self._stream = stream
        self._console: structlog.dev.ConsoleRenderer | None = None
        if renderer(settings) == "console":
            self._console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        self._refusals = PerSecond(settings.refusals_per_s)
        self._left_out: Counter[str] = Counter()

    def write(self, context: RequestContext, ending: Ending) -> None:
        """Write the line of a request that ended."""
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
            "logger": "service.request",
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
            "event": "request",
            "level": logging.getLevelName(level).lower(),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        stated = {key: value for key, value in facts.items() if value is not None}
        if self._console is None:
            line = to_json(stated).decode()
        else:
            line = self._console(None, "", stated)
        self._stream.write(line + "\n")
        self._stream.flush()


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class RequestTelemetry:
    """Counts and logs each request (a line on the standard error), and traces it if tracing is
    on."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = RequestLog(settings.log, sys.stderr)
        self._tracing: Tracing | None = None
        if settings.tracing.endpoint is not None:
            # Import OpenTelemetry and gRPC only if tracing is on.
            from service.telemetry import tracing

            self._tracing = tracing.Tracing(settings.tracing, settings.tracing.endpoint)

    def begin(self, context: RequestContext, method: str, headers: Mapping[str, str]) -> None:
        """Begin the trace of a request; the names of its headers are in lower case."""
        if self._tracing is not None:
            context.trace = self._tracing.begin(method, headers)

    def end(self, context: RequestContext, ending: Ending) -> Ending:
        """Record a request's end; returns it with the objectives that the request missed."""
        missed = self._metrics.count_request(context, ending)
        self._log.write(context, ending)
        if context.trace is not None:
            context.trace.ended(context, ending)
        return ending if missed is None else replace(ending, missed=missed)

    def close(self) -> None:
        """Send the remaining traces; blocks meanwhile."""
        if self._tracing is not None:
            self._tracing.close()
