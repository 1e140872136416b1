"""Decides which requests run, wait or are refused: no I/O, and one injected clock.

A request's life: `offer` starts it, queues it or refuses it. `next_dispatches` starts waiting
requests; call it after `finish`, `cancel` and `expire`, and also on a timer, because the limit may
have grown. `charge` reports a running request's tokens, `charge_step` those of many, `finish` ends
it. `expire` names the requests whose deadline has passed; `next_deadline` says when to ask again.

Background requests have rules of their own (background.py). For interactive requests they are only
slots that are taken until they end.

Invariants, checked by tests/admission/simulation: after `next_dispatches` no request waits while a
slot is free for it; `in_use` is the slots of the requests started and not finished; no request is
refused while a slot is free for it, or while its tenant stays within its share of the slots; a
request ends once, is never started after its deadline, and pays for each of its tokens once;
tenants share, within each class, as fair_queue.py promises; no background request starts while an
interactive one waits.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto

from service.admission.background import Background
from service.admission.fair_queue import FairQueue
from service.admission.limiter import Limiter, Rates, RunningRequests
from service.admission.load_shedding import Forecast, LoadShedder, Refusal
from service.admission.queued_request import LazyHeap, QueuedRequest, Usage
from service.settings.admission import BackgroundSettings

_MEMORY_SECONDS = 10.0
"""A tenant is put behind the next one by at most what this replica serves in this time."""


class Placement(Enum):
    """Outcome of an accepted request."""

    STARTED = auto()
    QUEUED = auto()


class Scheduler:
    """One engine's requests.

    `clock` returns seconds and never goes back. `limiter` sets the number of slots, `max_waiting`
    bounds the waiting interactive requests, and `background` the background ones.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        limiter: Limiter,
        *,
        max_waiting: int,
        background: BackgroundSettings | None = None,
    ) -> None:
        self.rates = Rates()
        self._clock = clock
        self._limiter = limiter
        self._queue = FairQueue()
        self._background = Background(background or BackgroundSettings())
        self._queues = {"default": self._queue, "flex": self._background.queue}
        self._shedder = LoadShedder(self.rates, max_waiting)
        self._deadlines: LazyHeap[QueuedRequest] = LazyHeap()
        self._waits: dict[QueuedRequest, tuple[float, Forecast]] = {}
        self._late: list[QueuedRequest] = []
        self._runs = RunningRequests(self.rates, clock())

    @property
    def limit(self) -> int:
        """The present number of slots."""
        return self._limiter.slots

    @property
    def in_use(self) -> int:
        """Slots taken; a request of several may have borrowed all but one beyond the limit."""
        return self._queue.in_use + self._background.queue.in_use

    @property
    def waiting(self) -> int:
        """Interactive requests that wait."""
        return self._queue.waiting

    @property
    def background_in_use(self) -> int:
        """Slots that background requests hold."""
        return self._background.queue.in_use

    @property
    def background_waiting(self) -> int:
        """Background requests that wait."""
        return self._background.queue.waiting

    @property
    def tenants(self) -> int:
        """Number of tenants remembered by either class."""
        return self._queue.tenants + self._background.queue.tenants

    def background_room(self) -> int:
        """Slots that background requests may hold now, those that they hold included."""
        return self._background_room(self._clock())

    def offer(self, request: QueuedRequest) -> Placement | Refusal:
        """Start a request if a slot is free and no request waits for it, else queue or refuse it.

        A request is never refused

        - while a slot is free, or would be without background work, whatever the request's
          deadline;
        - while its tenant, with this request, has at most its share of the slots, waiting or
          running (of all slots, or of the taken ones if more): then others hold more than their
          shares, and the next slot that they give back is this tenant's;
        - if it follows another, because it would only wait behind the first of the same answer.

        A closed loop of as many clients as the engine may ever run at once is not refused either:
        it does not crowd, so the limit stays at its ceiling.
        """
        now = self._look()
        room = self._room(now, background=request.background)
        # A request that waits while there is room is about to be dispatched and comes first; a
        # request that is late already is left to `expire`.
        first = not self._queue_of(request).waiting and request.deadline > now
        starts = room and first
        forecast = None
        if not starts:
            forecast, refusal = self._foresee(request, now, room=room)
            if refusal is not None:
                return refusal
        if not request.background:
            self._background.interactive(now)
        # The expected cost is a mean over answers, so it is computed only for requests that wait.
        cost = 0.0 if starts else self._shedder.expected_cost(request)
        self._queue_of(request).push(request, cost)
        if request.deadline < math.inf:
            self._deadlines.set(request, request.deadline)
        if starts:
            self._start(request.background, now)
            return Placement.STARTED
        if forecast is not None:
            self._waits[request] = now, forecast
        return Placement.QUEUED

    def refusal(self, request: QueuedRequest) -> Refusal | None:
        """The refusal that `offer` would give to such a request now; None if it would accept it."""
        now = self._look()
        room = self._room(now, background=request.background)
        return None if room else self._foresee(request, now, room=False)[1]

    def above_share(self, request: QueuedRequest) -> bool:
        """True if a running request is interactive and its tenant holds more than its share."""
        return not request.background and self._queue.above_share(request, self.limit)

    def next_dispatches(self) -> list[QueuedRequest]:
        """Start waiting requests while a slot is free; the caller runs these now."""
        now = self._tick()
        self._collect_late(now)
        started = self._start_waiting(now)
        self._limiter.update(now, self._queue.in_use, crowded=self._crowded(now))
        return started + self._start_waiting(now)

    def preempt(self) -> list[QueuedRequest]:
        """The running background requests that the caller ends now, each named once.

        Interactive requests that wait get their slots. The caller finishes these, and offers them
        again. Call it after `next_dispatches`.
        """
        if not self.waiting or self._queue.in_use >= self.limit or not self.background_in_use:
            return []
        wanted = self.waiting + max(0, self.in_use - self.limit)
        return self._background.give_way(wanted)

    def charge(
        self,
        request: QueuedRequest,
        *,
        prompt: int | None = None,
        cached: int = 0,
        output: int = 0,
        engine_wait: float | None = None,
    ) -> None:
        """Report a running request's tokens so far, as totals over its sequences.

        `prompt` corrects the request's own count. `engine_wait` is the time, in seconds, that the
        engine held the request before its first step, if it reports one (vLLM: `scheduled_ts -
        queued_ts`); give it once. Raises as `FairQueue.charge`.
        """
        self._tick()
        queue = self._queue_of(request)
        usage = queue.running[request]
        before = usage.output
        cost = queue.charge(request, prompt=prompt, cached=cached, output=output)
        self._charge_beside(request, cost)
        self.rates.count_service(self._runs.charge(request, cost))
        if engine_wait is not None and self._tells(engine_wait, self._limiter.targets.engine_wait):
            self._limiter.record_engine_wait(engine_wait)
        self._time_tokens(request, usage.output - before)

    def charge_step(self, tokens: Iterable[tuple[QueuedRequest, int]]) -> None:
        """Report the new output tokens of running requests that one step of the engine made."""
        self._tick()
        served = 0.0
        for request, new in tokens:
            cost = self._queue_of(request).add_output(request, new)
            self._charge_beside(request, cost)
            served += self._runs.charge(request, cost)
            self._time_tokens(request, new)
        self.rates.count_service(served)

    def finish(self, request: QueuedRequest) -> Usage:
        """End a running request, whatever the reason; returns its usage, to settle quotas with.

        Raises KeyError unless it runs.
        """
        now = self._tick()
        self.rates.count_service(self._runs.charge(request, 0.0))
        self._runs.finish(request)
        late = request.deadline < math.inf and request not in self._deadlines
        self._deadlines.discard(request)
        if request.background:
            return self._background.finish(request)
        self._background.interactive(now)
        usage = self._queue.finish(request)
        self._limiter.release(request.slots)
        self._shedder.lengths.add(request, usage.output, late=late)
        return usage

    def cancel(self, request: QueuedRequest) -> bool:
        """Drop a waiting request; False if it does not wait (then it runs, or has ended)."""
        self._tick()
        dropped = self._queue_of(request).cancel(request)
        if dropped:
            self._waits.pop(request, None)
            self._deadlines.discard(request)
        return dropped

    def debit(self, tenant: str, weight: float, tokens: float) -> None:
        """Charge a tenant for work before admission, worth so many prompt tokens."""
        self._queue.debit(tenant, weight, tokens)

    def take_served(self) -> dict[str, float]:
        """Service of each tenant in each class since the last call, as `FairQueue.take_served`."""
        return {
            f"{tier}:{tenant}": service
            for tier, queue in self._queues.items()
            for tenant, service in queue.take_served().items()
        }

    def add_elsewhere(self, served: Mapping[str, float]) -> None:
        """Let what other replicas served, named as `take_served` does, count in the order here."""
        rate = self.rates.service
        most = math.inf if rate is None else rate * _MEMORY_SECONDS
        for name, service in served.items():
            tier, _, tenant = name.partition(":")
            if (queue := self._queues.get(tier)) is not None:
                queue.add_elsewhere(tenant, service, most)

    def expire(self) -> list[QueuedRequest]:
        """The requests whose deadline has passed since the last call, each named once.

        Waiting ones are dropped; running ones keep their slots until `finish`, which the caller
        calls once it has aborted them.
        """
        self._collect_late(self._tick())
        late, self._late = self._late, []
        return late

    def next_deadline(self) -> float | None:
        """Time at which the next request is late, on the scheduler's clock."""
        top = self._deadlines.peek()
        return top[0] if top is not None else None

    def _crowded(self, now: float) -> bool:
        """True if not all requests fit into the engine, or one had to be refused lately."""
        return self._crowd > self._limiter.ceiling or self._shedder.overloaded(now)

    @property
    def _crowd(self) -> int:
        """Slots that interactive requests hold, and interactive requests that wait."""
        return self._queue.in_use + self.waiting

    def _queue_of(self, request: QueuedRequest) -> FairQueue:
        return self._background.queue if request.background else self._queue

    def _look(self) -> float:
        """Advance the clock, update the limit of an idle engine, and return the time now."""
        now = self._tick()
        if not self._queue.in_use:
            self._limiter.update(now, 0, crowded=False)
        return now

    def _tick(self) -> float:
        now, queue, flex = self._clock(), self._queue, self._background.queue
        full = queue.waiting > 0 or queue.in_use + flex.in_use >= self.limit
        self._runs.tick(now, full=full)
        queue.tick(now)
        flex.tick(now)
        return now

    def _foresee(
        self, request: QueuedRequest, now: float, *, room: bool
    ) -> tuple[Forecast | None, Refusal | None]:
        """The forecast for a request that must wait, and its refusal: none if there is room."""
        if request.background:
            return None, None if room else self._background.refusal(request)
        backlog = self._queue.backlog(request)
        forecast = self._shedder.forecast(request, backlog)
        held = max(self.limit, self.in_use)
        owed = request.follows or self._queue.within_share(request, held)
        if room or owed or self._crowd < self.limit:
            return forecast, None
        return forecast, self._shedder.refusal(request, backlog, forecast, now)

    @property
    def _slots(self) -> int:
        """Slots that interactive requests may take now: those that no background one holds."""
        return self.limit - self.background_in_use

    def _room(self, now: float, *, background: bool) -> bool:
        """True if a slot is free for a request of this class."""
        if background:
            return self._background.queue.room(self._background_room(now))
        return self._queue.room(self._slots)

    def _background_room(self, now: float) -> int:
        limit = self.limit
        if self.rates.token_seconds > self._limiter.targets.token:
            # The engine is slow, whatever the reason: this must not be background work's doing.
            limit = min(limit, self._limiter.floor)
        return self._background.room(limit, self._queue, now)

    def _start(self, background: bool, now: float) -> QueuedRequest | None:
        if background:
            request = self._background.pop(self._background_room(now))
        else:
            ceiling = self._limiter.ceiling - self.background_in_use
            request = self._queue.pop(self._slots, ceiling)
        if request is not None:
            self._runs.start(request, self._queue_of(request).running[request])
        return request

    def _start_waiting(self, now: float) -> list[QueuedRequest]:
        started: list[QueuedRequest] = []
        if not (self._queue.waiting or self._background.queue.waiting):
            return started
        for background, waits in ((False, self.waiting), (True, self.background_waiting)):
            while waits and (request := self._start(background, now)) is not None:
                self._end_wait(request, now)
                started.append(request)
        return started

    def _end_wait(self, request: QueuedRequest, now: float) -> None:
        if request in self._waits:
            since, forecast = self._waits.pop(request)
            self._shedder.record_wait(request, forecast, now - since, now)

    def _collect_late(self, now: float) -> None:
        while (top := self._deadlines.peek()) is not None and top[0] <= now:
            request = top[1]
            self._deadlines.discard(request)
            if self._queue_of(request).cancel(request):
                self._end_wait(request, now)
            self._late.append(request)

    def _charge_beside(self, request: QueuedRequest, cost: float) -> None:
        """Charge a background request as interactive service too, if interactive ones wait."""
        if request.background and self._queue.waiting and cost > 0:
            self._queue.debit(request.tenant, request.weight, self._background.price(cost))

    def _time_tokens(self, request: QueuedRequest, tokens: int) -> None:
        seconds = self._runs.time_tokens(request, tokens)
        if seconds is not None and self._tells(seconds, self._limiter.targets.token):
            self._limiter.record_token_time(seconds)

    def _tells(self, seconds: float, target: float) -> bool:
        """True if a time is evidence of how many interactive sequences the engine can run.

        A slow one beside background work is not: background work gives way first.
        """
        return seconds <= target or not self.background_in_use
