"""Invariants that hold after every event, checked on counts of the simulation's own."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from service.admission.limiter import Targets
from service.admission.queued_request import OUTPUT_PRICE, QueuedRequest, Usage, cost_of
from service.admission.scheduler import Scheduler
from service.settings.admission import BackgroundSettings
from tests.admission.simulation.workload import Arrival


class Violation(AssertionError):
    """An invariant does not hold."""


def hold(condition: bool, claim: str, **values: object) -> None:
    """Raise Violation with the claim and what was seen unless the condition is true."""
    if not condition:
        seen = ", ".join(f"{name}={value}" for name, value in values.items())
        raise Violation(f"{claim} ({seen})")


@dataclass(slots=True)
class Entry:
    """One request in the books."""

    arrival: Arrival
    request: QueuedRequest
    state: str = "new"
    output: int = 0
    cached: int = 0
    paid: float = 0.0
    due: float = 0.0
    """Instant at which its first token is due, in seconds of the world."""


class Fairness:
    """Service per weight of every tenant, and the largest lead over a tenant that waited.

    While i waits, j gets ahead of it by at most 2 U / (smallest weight) if j waits too over the
    same interval (theorem 4.4 of arXiv 2401.00588), at most twice that whatever j does (theorem
    4.9: no starvation).
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._any: dict[str, dict[str, float]] = {}
        self._both: dict[str, dict[str, float]] = {}
        self._least_weight = 1.0
        self._longest_prompt = 0
        self._in_engine = 0
        self._most_in_engine = 0
        self.closest = 0.0
        """The largest lead seen, as a part of its bound."""

    def entered(self, entry: Entry) -> None:
        """Note that a request started to wait."""
        name = entry.arrival.tenant
        self._least_weight = min(self._least_weight, entry.arrival.weight)
        self._longest_prompt = max(self._longest_prompt, entry.arrival.prompt)
        count = self._waiting.get(name, 0)
        self._waiting[name] = count + 1
        if count:
            return
        own = self._served.setdefault(name, 0.0)
        self._any[name] = {other: served - own for other, served in self._served.items()}
        self._both[name] = {}
        for other in self._waiting:
            if other != name:
                gap = self._served[other] - own
                self._both[name][other] = gap
                self._both[other][name] = -gap

    def left(self, entry: Entry) -> None:
        """Note that a request stopped waiting."""
        name = entry.arrival.tenant
        self._waiting[name] -= 1
        if not self._waiting[name]:
            del self._waiting[name], self._any[name], self._both[name]
            for other in self._waiting:
                self._both[other].pop(name, None)

    def engine(self, entry: Entry, sign: int) -> None:
        """A request came into the engine or left it."""
        self._in_engine += sign * (entry.arrival.prompt + entry.arrival.output)
        self._most_in_engine = max(self._most_in_engine, self._in_engine)

    def bound(self) -> float:
        """2 U / (smallest weight), of what was seen so far."""
        most = max(self._longest_prompt, OUTPUT_PRICE * self._most_in_engine)
        return 2 * most / self._least_weight

    @property
    def waits(self) -> bool:
        """True if a request waits."""
        return bool(self._waiting)

    def own(self, name: str) -> int:
        """The tenant's requests that wait."""
        return self._waiting.get(name, 0)

    def paid(self, entry: Entry, cost: float) -> None:
        """A request was charged; checks the leads that this changes."""
        name = entry.arrival.tenant
        served = self._served[name] = self._served.get(name, 0.0) + cost / entry.arrival.weight
        bound = self.bound() * (1 + 1e-9)
        for waiter, lows in self._any.items():
            if waiter == name:
                continue
            gap = served - self._served[waiter]
            low = lows.setdefault(name, min(gap, -self._served[waiter]))
            self._check(gap, low, 2 * bound, "no starvation", name, waiter)
            lows[name] = min(low, gap)
            both = self._both[waiter]
            if name in both:
                self._check(gap, both[name], bound, "VTC bound", name, waiter)
                both[name] = min(both[name], gap)
        if name in self._waiting:
            for lows in (self._any[name], self._both[name]):
                for other in lows:
                    lows[other] = min(lows[other], self._served[other] - served)

    def forget_guest(self, name: str) -> None:
        """Forget a tenant that came only once."""
        if name not in self._waiting:
            self._served.pop(name, None)
            for lows in self._any.values():
                lows.pop(name, None)

    def _check(
        self, gap: float, low: float, bound: float, claim: str, ahead: str, behind: str
    ) -> None:
        self.closest = max(self.closest, (gap - low) / bound)
        hold(gap - low <= bound, claim, ahead=ahead, behind=behind, lead=gap - low, bound=bound)


class ActiveTenants:
    """The slots that each tenant holds, waiting or running, 0 for half a minute after the last."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._weights: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self.slots: dict[str, int] = {}

    def entered(self, entry: Entry) -> None:
        """A request came, and was not refused."""
        name = entry.arrival.tenant
        self.slots[name] = self.slots.get(name, 0) + entry.request.slots
        self._weights[name] = entry.arrival.weight
        self._left.pop(name, None)

    def left(self, entry: Entry) -> None:
        """A request ended."""
        name = entry.arrival.tenant
        self.slots[name] -= entry.request.slots
        if not self.slots[name]:
            self._left[name] = self._clock()

    def held(self, entry: Entry) -> int:
        """Slots of the request's tenant, the request's own included."""
        return self.slots.get(entry.arrival.tenant, 0) + entry.request.slots

    def share(self, entry: Entry) -> float:
        """The part that is due to the request's tenant among all active tenants."""
        for name in [name for name, at in self._left.items() if at < self._clock() - 30]:
            del self._left[name], self.slots[name]
        own = entry.arrival.weight
        others = (self._weights[name] for name in self.slots if name != entry.arrival.tenant)
        return own / (own + sum(others))


class BackgroundRoom:
    """The slots that background requests may hold, counted apart from the scheduler."""

    def __init__(self, rules: BackgroundSettings, clock: Callable[[], float]) -> None:
        self._most_beside = math.inf if rules.max_in_flight is None else rules.max_in_flight
        self._clock = clock
        self._seen = -math.inf

    def interactive(self) -> None:
        """An interactive request came or ended."""
        self._seen = self._clock()

    def beside(self, interactive: int) -> bool:
        """True while interactive requests hold slots or have come of late."""
        return interactive > 0 or self._clock() < self._seen + 10

    def of(self, limit: int, interactive: int, *, all_give_way: bool) -> float:
        """Slots for background requests while interactive ones hold so many and none waits.

        `all_give_way` if all that run would give way to interactive ones.
        """
        spare = 0 if limit == 1 else max(1, limit // 16)
        room = limit - spare - interactive
        if self.beside(interactive):
            return min(room, self._most_beside)
        return limit + spare if all_give_way else room


class Books:
    """Every request's state and every slot, counted independently of the scheduler.

    What is kept for each class of work stands under `background`, false or true.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        limits: range,
        clock: Callable[[], float],
        background: BackgroundSettings,
    ) -> None:
        self._limits = limits
        self._scheduler = scheduler
        self._rules = background
        self._room = BackgroundRoom(background, clock)
        self.fairness = {False: Fairness(), True: Fairness()}
        self.presence = {False: ActiveTenants(clock), True: ActiveTenants(clock)}
        self.entries: dict[QueuedRequest, Entry] = {}
        self.running = {False: 0, True: 0}
        self._lasting = 0
        self._runs: Counter[str] = Counter()
        self.waiting = {False: 0, True: 0}
        self.ended: dict[str, int] = {}

    def refused(self, entry: Entry, retry_after: float | None) -> None:
        """A request was refused: only with every slot taken, and with a time to come back."""
        hold(not entry.request.follows, "admitted as a whole", tenant=entry.arrival.tenant)
        hold(1 <= (retry_after or 0) <= 60, "retry_after in [1, 60]", retry_after=retry_after)
        if entry.request.background:
            own, all_waiting = self.fairness[True].own(entry.arrival.tenant), self.waiting[True]
            # A tenant has eight times the free places, each of its flows eight times those left.
            full = 9 * own >= 64 * (self._rules.max_queued - all_waiting)
            hold(full, "background waits for its deadline", own=own, waiting=all_waiting)
            hold(not self._idle(), "no background refused while there is room")
            self._move(entry, "new", "refused background")
            return
        limit = self._scheduler.limit
        full = self._scheduler.in_use >= limit - self._reserved(limit)
        hold(full, "nobody refused while there is room", limit=limit)
        alone = self.running[False] + self.waiting[False]
        hold(alone >= limit, "nobody refused for background work", alone=alone, limit=limit)
        presence = self.presence[False]
        held, share = presence.held(entry), presence.share(entry)
        hold(held > share * limit, "served within its share", held=held, share=share, limit=limit)
        self._move(entry, "new", "refused")

    def queued(self, entry: Entry) -> None:
        """A request waits."""
        self._move(entry, "new", "waiting")
        self.waiting[entry.request.background] += 1
        self._entered(entry)
        self.fairness[entry.request.background].entered(entry)

    def started(self, entry: Entry, now: float, limit: int) -> None:
        """A request starts under a limit, directly or after waiting."""
        hold(
            now < entry.request.deadline, "never started late", now=now, late=entry.request.deadline
        )
        background = entry.request.background
        if entry.state == "waiting":
            self.waiting[background] -= 1
            self.fairness[background].left(entry)
        else:
            self._entered(entry)
        self._move(entry, entry.state, "running")
        if background:
            self._check_background(entry, limit)
            self._lasting += not entry.request.restartable
        self.running[background] += entry.request.slots
        if not background:
            self._check_borrowed(entry, limit)
        # Background requests may be charged beside interactive ones, too.
        for fairness in {self.fairness[False], self.fairness[background]}:
            fairness.engine(entry, 1)
        self.paid(entry)

    def paid(self, entry: Entry) -> None:
        """The request's tokens so far have been reported."""
        cost = cost_of(entry.arrival.prompt, entry.cached, entry.output)
        added = cost - entry.paid
        self.fairness[entry.request.background].paid(entry, added)
        if entry.request.background and self.fairness[False].waits and added > 0:
            self.fairness[False].paid(entry, (1 - self._rules.discount) * added)
        entry.paid = cost

    def dropped(self, entry: Entry, how: str) -> None:
        """A waiting request ends without having run."""
        self.waiting[entry.request.background] -= 1
        self.fairness[entry.request.background].left(entry)
        self._move(entry, "waiting", how)

    def finished(self, entry: Entry, how: str, usage: Usage) -> None:
        """A running request ends; its usage must be what the engine did, each token once."""
        background = entry.request.background
        self.running[background] -= entry.request.slots
        if background:
            self._lasting -= not entry.request.restartable
        else:
            self._runs[entry.arrival.tenant] -= entry.request.slots
            self._room.interactive()
        for fairness in {self.fairness[False], self.fairness[background]}:
            fairness.engine(entry, -1)
        done = Usage(entry.arrival.prompt, entry.cached, entry.output)
        hold(usage == done, "usage charged once", usage=usage, done=done)
        self._move(entry, "running", how)

    def preempted(self, entry: Entry, usage: Usage) -> None:
        """A running background request is ended, to be offered again: an interactive one waits."""
        request = entry.request
        hold(request.background and request.restartable, "only what can start again gives way")
        hold(self.waiting[False] > 0, "background gives way to requests that wait")
        self.finished(entry, "preempted", usage)

    def check(self) -> None:
        """Invariants between events."""
        core = self._scheduler
        held = (core.in_use, core.background_in_use)
        own = (sum(self.running.values()), self.running[True])
        hold(held == own, "slots conserved", core=held, own=own)
        waiting = {False: core.waiting, True: core.background_waiting}
        hold(waiting == self.waiting, "requests conserved", core=waiting, own=self.waiting)
        idle = core.waiting and core.in_use < core.limit - self._reserved(core.limit)
        hold(core.limit in self._limits, "limit within its bounds", limit=core.limit)
        hold(not idle, "work conserving", waiting=core.waiting, in_use=core.in_use)
        hold(not (core.background_waiting and self._idle()), "background takes what is left")
        if core.waiting and self.running[False] < core.limit - self._reserved(core.limit):
            in_the_way = any(
                request.restartable and entry.state == "running"
                for request, entry in self.entries.items()
                if request.background
            )
            hold(not in_the_way, "background gives way", waiting=core.waiting)

    def _entered(self, entry: Entry) -> None:
        self.presence[entry.request.background].entered(entry)
        if not entry.request.background:
            self._room.interactive()

    def _check_borrowed(self, entry: Entry, limit: int) -> None:
        name = entry.arrival.tenant
        below = self._runs[name] < self.presence[False].share(entry) * limit
        borrowed = sum(self.running.values()) - (max(self._limits) if below else limit)
        self._runs[name] += entry.request.slots
        hold(borrowed < entry.request.slots, "borrows less than its slots", borrowed=borrowed)

    def _check_background(self, entry: Entry, limit: int) -> None:
        waiting, held = self.waiting[False], self.running[True]
        hold(not waiting, "background starts behind interactive work", waiting=waiting)
        room = self._background_room(limit)
        hold(held < room, "background holds no more than it may", held=held, room=room)
        most = sum(self.running.values()) + entry.request.slots
        fits = most <= max(self._limits) or not self._room.beside(self.running[False])
        hold(fits, "background beside interactive work never fills the engine", slots=most)

    def _background_room(self, limit: int) -> float:
        return self._room.of(limit, self.running[False], all_give_way=not self._lasting)

    def _idle(self) -> bool:
        """True if a slot is free that a background request should have."""
        core = self._scheduler
        if self.waiting[False] or core.rates.token_seconds > Targets().token:
            return False
        return self.running[True] < self._background_room(core.limit)

    def _reserved(self, limit: int) -> int:
        return min(limit // 8, 4) if len(self.presence[False].slots) > 1 else 0

    def _move(self, entry: Entry, before: str, after: str) -> None:
        hold(entry.state == before, "a request ends once", state=entry.state, after=after)
        if (before == "waiting" and after != "running") or before == "running":
            self.presence[entry.request.background].left(entry)
        entry.state = after
        if after not in ("waiting", "running"):
            self.ended[after] = self.ended.get(after, 0) + 1
            self.entries.pop(entry.request, None)
            if entry.arrival.tenant.startswith("guest"):
                for fairness in self.fairness.values():
                    fairness.forget_guest(entry.arrival.tenant)
