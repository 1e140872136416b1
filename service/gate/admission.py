"""Whether a request that has to wait would still be answered in time."""

from dataclasses import dataclass
from enum import StrEnum

from service.errors import QueueFull, ServiceError, TooManyRequests
from service.gate.fair_queue import Backlog, Waiting
from service.gate.rates import Rates
from service.gate.ticket import Prices, Ticket

_NEWCOMERS_PART = 8
_RETRY_S = (1.0, 60.0)


class Cause(StrEnum):
    """Why a request is refused."""

    OWN_EXCESS = "own_excess"
    SERVER_FULL = "server_full"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not accepted; `retry_after` is in seconds."""

    cause: Cause
    retry_after: float
    message: str

    def error(self) -> ServiceError:
        """429 for the tenant's own excess, 503 for a full server."""
        if self.cause is Cause.OWN_EXCESS:
            return TooManyRequests(self.message, code="over_share", retry_after=self.retry_after)
        return QueueFull(self.message, retry_after=self.retry_after)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds that a request is expected to wait, then to its first token, then to its last."""

    wait: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        """Seconds until the answer is complete."""
        return self.wait + self.prefill + self.decode


class Admission:
    """Refuses at once what would miss its deadline or does not fit into the queue.

    The wait is that of a fluid fair queue: the tenant's own backlog at its share of the measured
    service rate, or the whole backlog at the whole rate, whichever ends first, and then the next
    slot. What has not been measured counts as no time: only experience refuses.

    The queue's places follow the dynamic threshold of Choudhury and Hahne (IEEE/ACM Transactions on
    Networking 6(2), 1998): a tenant may have as many tickets waiting as eight times the places
    that are free, so one tenant alone can take eight ninths of them and a newcomer finds a place.
    """

    def __init__(self, rates: Rates, prices: Prices, max_waiting: int) -> None:
        self._rates = rates
        self._prices = prices
        self._max_waiting = max_waiting

    def forecast(self, ticket: Ticket, backlog: Backlog) -> Forecast:
        """When a ticket that has to wait behind this backlog would be answered."""
        wait = 0.0
        if self._rates.service:
            own = self._cost(backlog.own) / backlog.share
            wait += min(own, self._cost(backlog.all)) / self._rates.service
        if self._rates.releases:
            wait += 1 / self._rates.releases
        return Forecast(
            wait=wait,
            prefill=ticket.prompt_tokens * self._rates.prefill_seconds,
            decode=ticket.max_output_tokens * self._rates.length * self._rates.token_seconds,
        )

    def refusal(self, ticket: Ticket, backlog: Backlog, now: float) -> Refusal | None:
        """Why a ticket that has to wait is not accepted; None accepts it."""
        forecast = self.forecast(ticket, backlog)
        free = self._max_waiting - backlog.all.tickets
        if backlog.own.tickets >= _NEWCOMERS_PART * free:
            message = (
                f"The queue is full: {backlog.all.tickets} requests wait, {backlog.own.tickets} of"
                f" them yours; the limit is {self._max_waiting}."
            )
            # One place is free again once the next of the tenant's own has started.
            return self._refuse(backlog, forecast.wait / max(1, backlog.own.tickets), message)
        left = ticket.deadline - now
        if forecast.total <= left:
            return None
        message = (
            f"The answer would take {forecast.total:.1f} s, {forecast.wait:.1f} s of it waiting;"
            f" the deadline is in {left:.1f} s."
        )
        return self._refuse(backlog, min(forecast.wait, forecast.total - left), message)

    def _cost(self, waiting: Waiting) -> float:
        output = self._rates.length * waiting.output_tokens
        return self._prices.cost(waiting.prompt_tokens, output=output)

    def _refuse(self, backlog: Backlog, seconds: float, message: str) -> Refusal:
        due = backlog.share * self._cost(backlog.all)
        excess = self._cost(backlog.own) > due * (1 + 1e-6)
        least, most = _RETRY_S
        return Refusal(
            cause=Cause.OWN_EXCESS if excess else Cause.SERVER_FULL,
            retry_after=min(max(seconds, least), most),
            message=message,
        )
