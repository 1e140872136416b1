"""Load shedding: the forecast wait of a new request, and its refusal if it would wait too long."""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.admission.limiter import Rates
from service.admission.queued_request import Backlog, QueuedRequest, cost_of
from service.errors import QueueFull, TooManyRequests

Sample = TypeVar("Sample")

_TENANTS = 1024


class Samples(Generic[Sample]):
    """The latest samples of each tenant.

    Keeps at most `each` samples for a tenant, and the 1,024 tenants sampled last.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._tenants: OrderedDict[str, deque[Sample]] = OrderedDict()

    def add(self, tenant: str, sample: Sample) -> None:
        """Add a sample of a tenant; beyond `each` the oldest one is dropped."""
        if tenant not in self._tenants:
            self._tenants[tenant] = deque(maxlen=self._each)
            if len(self._tenants) > _TENANTS:
                self._tenants.popitem(last=False)
        self._tenants[tenant].append(sample)
        self._tenants.move_to_end(tenant)

    def of(self, tenant: str) -> deque[Sample]:
        """The tenant's samples, oldest first, empty if none; the caller may remove some."""
        return self._tenants.get(tenant, deque())


_SAMPLES = 64
_SERVED_PART = 0.95

_Sample = tuple[float, bool]


class Lengths:
    """The latest output lengths of each tenant, in tokens per sequence.

    For a new tenant those of all tenants are used. A request's `max_tokens` says little about its
    answer, because many clients leave it at the model's maximum; the tenant's latest answers say
    more. Requests that may produce at most one token need no guess and leave no sample. The 1,024
    latest tenants are kept.
    """

    def __init__(self) -> None:
        self._all: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._tenants: Samples[_Sample] = Samples(_SAMPLES)

    def add(self, request: QueuedRequest, output: int, *, late: bool) -> None:
        """Record a request's output over its sequences; `late` if its deadline cut it short."""
        if request.max_output_tokens <= 1:
            return
        sample = (output / request.slots, late)
        self._tenants.add(request.tenant, sample)
        self._all.append(sample)

    def expected(self, request: QueuedRequest) -> float:
        """Expected output of a request, in tokens per sequence; 0 while unknown."""
        most = request.max_output_tokens
        if most <= 1:
            return most
        samples = self._of(request)
        return sum(min(output, most) for output, _ in samples) / max(1, len(samples))

    def needed(self, request: QueuedRequest, possible: float) -> float:
        """95th percentile of answer length among the tenant's answers of at most `possible` tokens.

        At least one token, if the request may have any, and one while nothing is known. Infinite
        when `possible` has not been enough for any answer.
        """
        most = request.max_output_tokens
        if most <= 1:
            return most if most <= possible else math.inf
        samples = self._of(request)
        if not samples:
            return 1.0 if possible >= 1 else math.inf
        # A late answer needed more tokens than it had time for, but at most as many as it may have.
        lengths = (most if late else min(output, most) for output, late in samples)
        complete = sorted(length for length in lengths if length <= possible)
        if not complete:
            return math.inf
        return max(1.0, complete[math.ceil(_SERVED_PART * len(complete)) - 1])

    def _of(self, request: QueuedRequest) -> deque[_Sample]:
        return self._tenants.of(request.tenant) or self._all


_STRETCH_SAMPLES = 128
_MEMORY_S = 10.0
_PART = 0.9


@dataclass(frozen=True, slots=True, order=True)
class ForecastError:
    """Ratio of a request's real time, wait and answer together, to its forecast.

    `answer` is the forecast time of that request's answer, in seconds. To correct another request's
    wait, the ratio is applied to that wait plus this `answer`, and not plus the other request's own
    answer, on which its wait does not depend.
    """

    ratio: float = 1.0
    answer: float = 0.0

    def wait(self, forecast: float) -> float:
        """Apply this ratio to a forecast wait; both are in seconds."""
        # A ratio below 1 shortens only the wait: a long answer must not make a wait seem short.
        return max(forecast * self.ratio, forecast + (forecast + self.answer) * (self.ratio - 1))


class Stretches:
    """The latest ratios of actual to forecast time of each tenant's requests.

    Kept per tenant, because the waits of a tenant over its share say nothing about another's.
    Ratios older than ten seconds are ignored: after a stall all requests are refused, so no new
    ratio would show that it has ended. The 1,024 latest tenants are kept.
    """

    def __init__(self) -> None:
        self._tenants: Samples[tuple[float, ForecastError]] = Samples(_STRETCH_SAMPLES)

    def add(self, tenant: str, stretch: ForecastError, now: float) -> None:
        """Record a ratio of the tenant at the time `now`, in seconds."""
        self._tenants.add(tenant, (now, stretch))

    def of(self, tenant: str, now: float) -> ForecastError:
        """The 90th percentile of the tenant's latest ratios; a ratio of 1 without any."""
        samples = self._tenants.of(tenant)
        while samples and samples[0][0] < now - _MEMORY_S:
            samples.popleft()
        if not samples:
            return ForecastError()
        ordered = sorted(stretch for _, stretch in samples)
        return ordered[int(_PART * (len(ordered) - 1))]


_NEWCOMERS_PART = 8
_RETRY_S = (1.0, 60.0)
_OVERLOAD_SECONDS = 10.0


Refusal = TooManyRequests | QueueFull
"""429 for the tenant's own excess, 503 for a full server.

`retry_after` is the time until the present queue is served, in seconds, within [1, 60].
"""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds that a request is expected to wait, then to its first token, then to its last.

    `followers` is how many more seconds the later parts of the same HTTP request need.
    """

    wait: float
    prefill: float
    decode: float
    followers: float = 0.0

    @property
    def total(self) -> float:
        """Seconds until the request's own answer is complete."""
        return self.wait + self.prefill + self.decode


class LoadShedder:
    """Refuses requests on arrival that would wait too long or find the queue full.

    The wait is that of a fluid fair queue: the tenant's own backlog at its share of the measured
    service rate, or the whole backlog at the whole rate, whichever ends first; then the next slot,
    or a slot for each other waiting tenant, since each may have a turn before (start-time fair
    queueing: Goyal, Vin and Cheng, SIGCOMM 1996). The result is corrected by the errors of the
    tenant's latest forecasts (`Stretches`). A request is refused if the forecast is longer than its
    `max_wait`, or if waiting costs more than 5 % of its chance to be answered in time. This chance
    is estimated from the lengths of its tenant's latest answers, and counts the time of the later
    parts of the same HTTP request (`followers`). A request without a chance is refused. Times not
    yet measured count as zero, so nothing is refused before there are measurements.
    """

    def __init__(self, rates: Rates, max_waiting: int) -> None:
        self.lengths = Lengths()
        self._rates = rates
        self._max_waiting = max_waiting
        self._stretches = Stretches()
        self._overload = -math.inf
        """Time of the latest refusal for more than a deadline."""

    def overloaded(self, now: float) -> bool:
        """True if a request was refused for its wait in the last ten seconds."""
        return now - self._overload <= _OVERLOAD_SECONDS

    def expected_cost(self, request: QueuedRequest) -> float:
        """Cost of the request if it is like its tenant's latest and nothing is cached."""
        return cost_of(request.prompt_tokens, output=request.slots * self.lengths.expected(request))

    def forecast(self, request: QueuedRequest, backlog: Backlog) -> Forecast:
        """Forecast for a request that has to wait behind this backlog."""
        wait = followers = 0.0
        if self._rates.service:
            wait = min(backlog.own_cost / backlog.share, backlog.all_cost) / self._rates.service
            cost = request.followers * self.expected_cost(request)
            followers = cost / backlog.share / self._rates.service
        if self._rates.releases:
            wait += max(1, backlog.others) / self._rates.releases
        return Forecast(
            wait=wait,
            prefill=request.prompt_tokens * self._rates.prefill_seconds,
            decode=self.lengths.expected(request) * self._rates.token_seconds,
            followers=followers,
        )

    def record_wait(
        self, request: QueuedRequest, forecast: Forecast, seconds: float, now: float
    ) -> None:
        """Record how long a request with this forecast really waited, in seconds.

        A wait without a forecast, because nothing was measured yet, is ignored.
        """
        if forecast.wait > 0:
            answer = forecast.prefill + forecast.decode
            stretch = ForecastError((seconds + answer) / forecast.total, answer)
            self._stretches.add(request.tenant, stretch, now)

    def refusal(
        self,
        request: QueuedRequest,
        backlog: Backlog,
        forecast: Forecast,
        now: float,
    ) -> Refusal | None:
        """Reason to refuse a request that has to wait; None accepts it."""
        wait = self._stretches.of(request.tenant, now).wait(forecast.wait)
        if (full := refusal_of_full_queue(backlog, self._max_waiting, wait)) is not None:
            return full
        left = request.deadline - now
        spare = min(
            self._longest_wait(request, forecast, left),
            request.max_wait,
            request.first_token_within - forecast.prefill,
        )
        if wait <= spare:
            return None
        if wait > request.max_wait:
            self._overload = now
        message = (
            f"The request would wait {wait:.1f} s for its turn and may wait {max(spare, 0.0):.1f} s"
            f" (its deadline is in {left:.1f} s). Try again later."
        )
        return _refuse(backlog, wait, message)

    def _longest_wait(self, request: QueuedRequest, forecast: Forecast, left: float) -> float:
        token_seconds = self._rates.token_seconds
        left -= forecast.prefill + forecast.followers
        if token_seconds == 0:
            return left
        return left - token_seconds * self.lengths.needed(request, left / token_seconds)


def refusal_of_full_queue(
    backlog: Backlog, max_waiting: int, wait: float, queue: str = "The queue"
) -> Refusal | None:
    """Refusal of a request for which the queue has no place; `wait` is its predicted wait.

    The places follow the dynamic threshold of Choudhury and Hahne (IEEE/ACM Transactions on
    Networking 6(2), 1998): a tenant may have at most eight times as many requests waiting as places
    are free, so one tenant alone can take eight ninths of the places and a new tenant finds one.
    """
    places = _NEWCOMERS_PART * (max_waiting - backlog.all_requests) - backlog.own_requests
    # Of a tenant's places its flows have theirs by the same rule.
    if places > 0 and backlog.flow_requests < _NEWCOMERS_PART * places:
        return None
    message = (
        f"{queue} has no place for this request: {backlog.all_requests} wait,"
        f" {backlog.own_requests} of them yours. Its limit is {max_waiting}, and some places are"
        " kept for other callers. Try again later."
    )
    return _refuse(backlog, wait, message)


def _refuse(backlog: Backlog, wait: float, message: str) -> Refusal:
    least, most = _RETRY_S
    retry_after = min(max(wait, least), most)
    # The tolerance is for sums of floats: the only active tenant is never over its due.
    if backlog.own_cost > backlog.due * backlog.all_cost * (1 + 1e-6):
        return TooManyRequests(message, code="over_share", retry_after=retry_after)
    return QueueFull(message, retry_after=retry_after)
