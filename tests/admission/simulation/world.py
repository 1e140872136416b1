"""One scenario played to its end: arrivals, a model of the engine, accidents, checks."""

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from random import Random

from service.admission.flows import BULK
from service.admission.limiter import Limiter
from service.admission.load_shedding import Refusal
from service.admission.queued_request import QueuedRequest
from service.admission.scheduler import Placement, Scheduler
from tests.admission.simulation.invariants import Books, Entry, hold
from tests.admission.simulation.workload import Arrival, Scenario, arrivals

_PREFILL_S = 5e-4
_TOKEN_S = 0.02
_REPORTS = 3
_REPEATED_PART = 0.2


@dataclass(slots=True)
class Outcome:
    """Outcome of a scenario: requests by how they ended, and the largest lead over its bound."""

    events: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    closest: float = 0.0


class World:
    """Plays `count` requests of a scenario; raises Violation where an invariant breaks.

    The engine's step grows with the running slots, as on a real one: token time = a + b * slots.
    The engine uses the simulation's clock; the scheduler's clock differs from it and jumps.
    """

    def __init__(self, scenario: Scenario, count: int) -> None:
        self._scenario = scenario
        self._random = Random(scenario.seed + "/world")
        self._arrivals = arrivals(scenario, self._random)
        self._left = count
        self._events: list[tuple[float, int, str, Entry | None]] = []
        self._serial = 0
        self._now = 0.0
        self._skew = 1000.0
        self._stalled_until = 0.0
        self._gap = self._mean_gap()
        floor = max(1, scenario.ceiling // 8)
        self.scheduler = Scheduler(
            self._clock,
            Limiter(scenario.ceiling, floor),
            max_waiting=scenario.max_waiting,
            background=scenario.background,
        )
        limits = range(floor, scenario.ceiling + 1)
        self.books = Books(self.scheduler, limits, self._clock, scenario.background)

    def play(self) -> Outcome:
        """Play to the end and return what happened."""
        outcome = Outcome()
        self._at(0.0, "arrive", None)
        while self._events:
            outcome.events += 1
            deadline = self.scheduler.next_deadline()
            if deadline is not None and deadline - self._skew <= self._events[0][0]:
                self._now = max(self._now, deadline - self._skew + 1e-9)
            else:
                self._now, _, kind, entry = heappop(self._events)
                self._happen(kind, entry)
            self._expire()
            self._dispatch()
            while self._preempt():
                self._dispatch()
            self.books.check()
        hold(not self.books.entries, "every request ends", left=len(self.books.entries))
        hold(self.scheduler.tenants == 0, "idle tenants forgotten", left=self.scheduler.tenants)
        outcome.ended = self.books.ended
        outcome.closest = max(fairness.closest for fairness in self.books.fairness.values())
        return outcome

    def _clock(self) -> float:
        return self._now + self._skew

    def _mean_gap(self) -> float:
        scenario = self._scenario
        parts = sum(tenant.part for tenant in scenario.tenants)
        step = _TOKEN_S + self._scenario.token_per_slot * scenario.ceiling
        slot_seconds = sum(
            tenant.part
            / parts
            * (1 + tenant.widest)
            / 2
            * (tenant.longest_prompt * _PREFILL_S + tenant.longest_output * step)
            / 2
            for tenant in scenario.tenants
        )
        return slot_seconds / scenario.ceiling / scenario.load

    def _at(self, when: float, kind: str, entry: Entry | None) -> None:
        self._serial += 1
        heappush(self._events, (when, self._serial, kind, entry))

    def _happen(self, kind: str, entry: Entry | None) -> None:
        if entry is None:
            self._arrive()
        elif kind == "leave":
            self._leave(entry)
        elif entry.state == "running":
            if self._now < self._stalled_until:
                self._at(self._stalled_until, kind, entry)
            else:
                self._report(entry)

    def _arrive(self) -> None:
        self._accident()
        first, *rest = next(self._arrivals)
        if self._offer(first):
            for follower in rest:
                self._offer(follower)
        self._left -= 1
        if self._left:
            self._at(self._now + self._random.expovariate(1 / self._gap), "arrive", None)

    def _accident(self) -> None:
        random, scenario = self._random, self._scenario
        if random.random() < scenario.stall_part:
            self._stalled_until = self._now + random.uniform(0.1, 2 * scenario.patience)
        if random.random() < scenario.jump_part:
            self._skew += random.choice((0.5 * scenario.patience, 3600.0))

    def _offer(self, arrival: Arrival) -> bool:
        clock = self._clock()
        request = QueuedRequest(
            tenant=arrival.tenant,
            prompt_tokens=arrival.prompt,
            max_output_tokens=arrival.most,
            arrival=clock,
            deadline=clock + arrival.patience,
            slots=arrival.slots,
            weight=arrival.weight,
            followers=arrival.followers,
            follows=arrival.follows,
            background=arrival.background,
            restartable=arrival.restartable,
            flow=BULK if arrival.followers or arrival.follows else "",
        )
        smallest = replace(request, prompt_tokens=0, max_output_tokens=1, slots=1)
        foreseen = self.scheduler.refusal(smallest)
        entry = self._place(Entry(arrival, request))
        refused = entry.request not in self.books.entries
        if foreseen is not None:
            hold(refused, "what is refused unread is refused read", of=request)
        if arrival.leaves is not None and not refused:
            self._at(self._now + arrival.leaves, "leave", entry)
        return not refused

    def _place(self, entry: Entry) -> Entry:
        limit = self.scheduler.limit
        answer = self.scheduler.offer(entry.request)
        if isinstance(answer, Refusal):
            self.books.refused(entry, answer.retry_after)
            return entry
        self.books.entries[entry.request] = entry
        if answer is Placement.STARTED:
            self._start(entry, max(limit, self.scheduler.limit))
        else:
            self.books.queued(entry)
        return entry

    def _preempt(self) -> bool:
        """End the background requests that give way, offer them again; False if none does."""
        named = self.scheduler.preempt()
        for request in named:
            entry = self.books.entries[request]
            self.books.preempted(entry, self.scheduler.finish(request))
            # The client has not left, and its next run has events of its own.
            again = replace(request, follows=True, again=True)
            self._place(Entry(entry.arrival, again))
        return bool(named)

    def _start(self, entry: Entry, limit: int) -> None:
        self.books.started(entry, self._clock(), limit)
        uncached = entry.arrival.prompt - entry.arrival.cached
        entry.due = self._now + uncached * _PREFILL_S + self._step()
        self._at(entry.due, "report", entry)

    def _step(self) -> float:
        return _TOKEN_S + self._scenario.token_per_slot * self.scheduler.in_use

    def _report(self, entry: Entry) -> None:
        arrival = entry.arrival
        if entry.output == arrival.output:
            self.books.finished(entry, "answered", self.scheduler.finish(entry.request))
            return
        first = entry.output == 0
        portion = -(-arrival.output // _REPORTS)
        entry.output = min(arrival.output, max(arrival.slots, entry.output + portion))
        held = self._now - entry.due if first else None
        entry.cached = arrival.cached
        self.scheduler.charge(
            entry.request, cached=entry.cached, output=entry.output, engine_wait=held
        )
        if self._random.random() < _REPEATED_PART:
            self.scheduler.charge(entry.request, cached=entry.cached, output=entry.output)
        self.books.paid(entry)
        wait = portion / arrival.slots * self._step()
        self._at(self._now + wait, "report", entry)

    def _leave(self, entry: Entry) -> None:
        if self.scheduler.cancel(entry.request):
            self.books.dropped(entry, "left waiting")
        elif entry.state == "running":
            self.books.finished(entry, "left running", self.scheduler.finish(entry.request))

    def _expire(self) -> None:
        for request in self.scheduler.expire():
            entry = self.books.entries[request]
            if entry.state == "waiting":
                self.books.dropped(entry, "late waiting")
            else:
                usage = self.scheduler.finish(request)
                self.books.finished(entry, "late running", usage)
        deadline = self.scheduler.next_deadline()
        now = self._clock()
        hold(deadline is None or deadline > now, "deadlines kept", deadline=deadline, now=now)

    def _dispatch(self) -> None:
        before = self.scheduler.limit
        started = self.scheduler.next_dispatches()
        # The limit may change in between: a request starts under one of the two.
        for request in started:
            self._start(self.books.entries[request], max(before, self.scheduler.limit))
