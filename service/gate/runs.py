"""Running tickets, timed from charge to charge: what they show of the engine's rates."""

from dataclasses import dataclass
from typing import NamedTuple

from service.gate.rates import Rates
from service.gate.ticket import Ticket


class _Instant(NamedTuple):
    """A point in time, and the total time before it in which every slot was taken, in seconds."""

    at: float
    full: float


@dataclass(slots=True)
class _Run:
    started: float
    charged: _Instant
    unserved: float
    seen: float
    full_part: float = 0.0
    cached: int = 0
    output: int = 0


class Runs:
    """The running tickets of both classes.

    Times are seconds of the scheduler's clock. `rates` gets every measurement here except the
    service, which the caller counts once for all tickets of a step. Raises KeyError for a ticket
    that does not run.
    """

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._runs: dict[Ticket, _Run] = {}
        self._now = _Instant(now, 0.0)
        self._full = False

    def tick(self, now: float, *, full: bool) -> None:
        """Let time pass, in which every slot was taken if `full`; a step back counts as no time."""
        full_seconds = self._now.full
        passed = now - self._now.at
        if full and passed > 0:
            self._rates.elapsed(passed)
            full_seconds += passed
        self._now = _Instant(now, full_seconds)
        self._full = full

    def start(self, ticket: Ticket, prompt_cost: float) -> None:
        """Begin a ticket, whose prompt counts as served with its first charge."""
        now = self._now
        self._runs[ticket] = _Run(now.at, now, unserved=prompt_cost, seen=now.at)

    def cache_served(self, ticket: Ticket, cached: int) -> None:
        """Note how many tokens of the prompt the cache served."""
        self._runs[ticket].cached = cached

    def charge(self, ticket: Ticket, cost: float) -> float:
        """Charge a ticket's cost since its last charge; returns the part that a full engine served.

        The part is that of the time since the last charge. Whether the engine is full at this
        instant would not do: sequences of one batch are charged and end one directly after the
        other, so only the first would find it full. Nor would the part of the ticket's whole life:
        a slot given back soon after the engine became full would count for little, and the next one
        would seem to take minutes.
        """
        run = self._runs[ticket]
        if self._now.at > run.charged.at or not run.full_part:
            run.full_part = self._full_part(run.charged)
        cost += run.unserved
        run.unserved = 0.0
        run.charged = self._now
        return cost * run.full_part

    def time_tokens(self, ticket: Ticket, tokens: int) -> float | None:
        """Time new output tokens; returns the seconds that one token of one sequence took.

        The first ones time the prompt: None for these, where no time has passed, and for no tokens.
        """
        run = self._runs[ticket]
        if not tokens:
            return None
        seconds = None
        took = self._now.at - run.seen
        if run.output == 0:
            self._rates.prefilled(ticket.prompt_tokens - run.cached, max(0.0, took))
        elif took > 0:
            of_each = tokens / ticket.slots
            self._rates.decoded(of_each, took)
            seconds = took / of_each
        run.seen = self._now.at
        run.output += tokens
        return seconds

    def output(self, ticket: Ticket) -> int:
        """Output tokens of a ticket so far."""
        return self._runs[ticket].output

    def background_output(self) -> dict[Ticket, int]:
        """Output tokens so far of the background tickets."""
        return {ticket: run.output for ticket, run in self._runs.items() if ticket.background}

    def finish(self, ticket: Ticket) -> None:
        """End a ticket after its last charge; one without an answer times its prompt."""
        run = self._runs.pop(ticket)
        self._rates.released(ticket.slots * run.full_part)
        if ticket.max_output_tokens == 0:
            took = max(0.0, self._now.at - run.started)
            self._rates.prefilled(ticket.prompt_tokens - run.cached, took)

    def _full_part(self, since: _Instant) -> float:
        """The part of the time since then in which every slot was taken."""
        passed = self._now.at - since.at
        return (self._now.full - since.full) / passed if passed > 0 else float(self._full)
