"""The latest samples of each tenant."""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.gate.ticket import Ticket

Sample = TypeVar("Sample")

_TENANTS = 1024


class Samples(Generic[Sample]):
    """At most `each` samples of a tenant, those of the 1,024 tenants with the latest ones."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._tenants: OrderedDict[str, deque[Sample]] = OrderedDict()

    def add(self, tenant: str, sample: Sample) -> None:
        """Keep a sample of a tenant in place of its oldest one."""
        if tenant not in self._tenants:
            self._tenants[tenant] = deque(maxlen=self._each)
            if len(self._tenants) > _TENANTS:
                self._tenants.popitem(last=False)
        self._tenants[tenant].append(sample)
        self._tenants.move_to_end(tenant)

    def of(self, tenant: str) -> deque[Sample]:
        """A tenant's samples, oldest first; the caller may drop some. Empty if none are kept."""
        return self._tenants.get(tenant, deque())


_SAMPLES = 64
_SERVED_PART = 0.95

_Sample = tuple[float, bool]


class Lengths:
    """The latest outputs of each tenant, in tokens per sequence; for a new tenant those of all.

    A request's `max_tokens` says little about its answer, because many clients leave it at the
    model's maximum; the tenant's latest answers say more. Tickets that may produce at most one
    token need no guess and leave no sample. The 1,024 latest tenants are kept.
    """

    def __init__(self) -> None:
        self._all: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._tenants: Samples[_Sample] = Samples(_SAMPLES)

    def add(self, ticket: Ticket, output: int, *, late: bool) -> None:
        """Record a ticket's output over its sequences; `late` if its deadline cut it short."""
        if ticket.max_output_tokens <= 1:
            return
        sample = (output / ticket.slots, late)
        self._tenants.add(ticket.tenant, sample)
        self._all.append(sample)

    def expected(self, ticket: Ticket) -> float:
        """The mean output of one sequence of such a ticket; 0 while unknown."""
        most = ticket.max_output_tokens
        if most <= 1:
            return most
        samples = self._of(ticket)
        return sum(min(output, most) for output, _ in samples) / max(1, len(samples))

    def needed(self, ticket: Ticket, possible: float) -> float:
        """95th percentile of answer length among the tenant's answers of at most `possible` tokens.

        At least one token, if the ticket may have any, and one while nothing is known. Infinite
        when `possible` has not been enough for any answer.
        """
        most = ticket.max_output_tokens
        if most <= 1:
            return most if most <= possible else math.inf
        samples = self._of(ticket)
        if not samples:
            return 1.0 if possible >= 1 else math.inf
        # A late answer needed more tokens than it had time for, but at most as many as it may have.
        lengths = (most if late else min(output, most) for output, late in samples)
        complete = sorted(length for length in lengths if length <= possible)
        if not complete:
            return math.inf
        return max(1.0, complete[math.ceil(_SERVED_PART * len(complete)) - 1])

    def _of(self, ticket: Ticket) -> deque[_Sample]:
        return self._tenants.of(ticket.tenant) or self._all


_stretches_SAMPLES = 128
_MEMORY_S = 10.0
_PART = 0.9


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A ratio of a real time, of wait and answer, to its forecast; `answer` is the latter's part.

    A wait is as long for a short answer as for a long one. So for any request the ratio is applied
    to its forecast wait and this `answer`, in seconds, and not to that of its own.
    """

    ratio: float = 1.0
    answer: float = 0.0

    def wait(self, forecast: float) -> float:
        """The seconds that a request will wait whose wait is forecast so."""
        # Below 1 it shortens the wait alone: a long answer must not make a wait seem short.
        return max(forecast * self.ratio, forecast + (forecast + self.answer) * (self.ratio - 1))


class Stretches:
    """The latest ratios of the time that a tenant's requests took to the time forecast for them.

    Kept per tenant, because the waits of a tenant over its share say nothing about another's.
    Ratios older than ten seconds are ignored: after a stall, refused requests could never show that
    it has ended. The 1,024 latest tenants are kept.
    """

    def __init__(self) -> None:
        self._tenants: Samples[tuple[float, Stretch]] = Samples(_stretches_SAMPLES)

    def add(self, tenant: str, stretch: Stretch, now: float) -> None:
        """Record a ratio of the tenant's, at `now` in seconds."""
        self._tenants.add(tenant, (now, stretch))

    def of(self, tenant: str, now: float) -> Stretch:
        """The 90 % quantile of the tenant's latest ratios; a ratio of 1 where there are none."""
        samples = self._tenants.of(tenant)
        while samples and samples[0][0] < now - _MEMORY_S:
            samples.popleft()
        if not samples:
            return Stretch()
        ordered = sorted(stretch for _, stretch in samples)
        return ordered[int(_PART * (len(ordered) - 1))]
