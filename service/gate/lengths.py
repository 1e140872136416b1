"""Lengths of answers, measured tenant by tenant."""

import math
from collections import deque

from service.gate.samples import Samples
from service.gate.ticket import Ticket

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
