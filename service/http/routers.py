"""Signals to a router that chooses between replicas: statuses, reasons of refusals, and load."""

import hashlib
import math
import re
import time
from collections.abc import Mapping

from pydantic_core import to_json
from starlette.datastructures import Headers

from service.common.error_messages import quote
from service.context import RequestContext
from service.errors import InvalidRequest, ServiceError
from service.telemetry.metrics import Load, Metrics

_DROPPED_HEADER = "x-llm-d-request-dropped-reason"
_EXPIRED = "rejected-ttl-expired"
_SATURATED = "rejected-saturated"
_DROPPED = {
    "deadline_exceeded": _EXPIRED,
    "draining": "rejected-shutting-down",
    "over_share": _SATURATED,
    "queue_full": _SATURATED,
    "too_many_connections": _SATURATED,
}
"""llm-d's reasons by the codes of errors; other errors say nothing about the replica's load."""
_EVICTED = "evicted"

_FORMAT_HEADER = "endpoint-load-metrics-format"
_LOAD_HEADER = "endpoint-load-metrics"
_RATE_SECONDS = 10.0

_FLOW_HEADER = "x-llm-d-inference-fairness-id"
_TTFT_HEADER = "x-llm-d-slo-ttft-ms"


def dropped_reason(error: ServiceError, *, ran: bool = False) -> Mapping[str, str]:
    """The header with the reason of a refusal, if it has one; `ran` if the engine had begun."""
    reason = _DROPPED.get(error.code)
    if reason is None:
        return {}
    return {_DROPPED_HEADER: _EVICTED if ran and reason is _EXPIRED else reason}


def believe_gateway(headers: Headers, context: RequestContext) -> None:
    """Take from a trusted gateway's request for whom it is, and how soon it is to begin.

    Raises InvalidRequest for a time that is no positive number of milliseconds.
    """
    if (given := headers.get(_FLOW_HEADER, "")) != "":
        # Hashed, so that names may be long, and none is `OTHERS`.
        context.flow = hashlib.sha256(given.encode()).hexdigest()[:16]
    if (stated := headers.get(_TTFT_HEADER)) is not None:
        if not re.fullmatch(r"[0-9]{1,9}", stated) or int(stated) < 1:
            raise InvalidRequest.at(
                _TTFT_HEADER, f"must be a positive number of milliseconds, got {quote(stated)}"
            )
        context.first_token_within = int(stated) / 1000


class RequestRate:
    """Requests per second, of which those ten seconds ago count a third."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self._at = time.monotonic()

    def count(self, requests: int) -> None:
        """Bring the rate up to now, with so many more requests."""
        now = time.monotonic()
        self.per_second *= math.exp((self._at - now) / _RATE_SECONDS)
        self.per_second += requests / _RATE_SECONDS
        self._at = now


class RouterSignals:
    """Headers of answers for a router; the load is told to requests that ask for it (ORCA).

    The format is that of Open Request Cost Aggregation, with vLLM's names. To vLLM's
    `num_requests_waiting` the requests that wait for admission are added, since in vLLM none waits.
    `application_utilization` is the part of the slots in use, of the fullest engine, and above 1
    while requests wait; with `rps_fractional` Envoy makes a weight of it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._rate = RequestRate()

    def headers(
        self, asked: Headers, context: RequestContext, error: ServiceError | None, *, served: bool
    ) -> Mapping[str, str]:
        """The headers of an answer; `served` if a model gave it."""
        added: dict[str, str] = {}
        if error is not None:
            added |= dropped_reason(error, ran=context.times.first_token is not None)
        self._rate.count(served)
        if (form := asked.get(_FORMAT_HEADER)) is not None:
            load, rate = self._metrics.load(), self._rate.per_second
            report = _report(form.strip().upper(), load, rate)
            added |= {_LOAD_HEADER: report} if report else {}
        return added


def _report(form: str, load: Load, rate: float) -> str:
    """The load in a format, with its name before it; empty for an unknown format."""
    whole = {"application_utilization": load.utilization, "rps_fractional": rate}
    named = {
        "kv_cache_usage_perc": load.kv_cache_usage,
        "num_requests_waiting": float(load.waiting),
    }
    if form == "JSON":
        return f"JSON {to_json(whole | {'named_metrics': named}).decode()}"
    if form == "TEXT":
        whole |= {f"named_metrics.{name}": value for name, value in named.items()}
        return "TEXT " + ", ".join(f"{name}={value:g}" for name, value in whole.items())
    return ""
