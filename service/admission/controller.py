"""The scheduler's decisions, carried out on an event loop."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from service.admission.background import widest
from service.admission.flows import BULK
from service.admission.limiter import Limiter, Targets
from service.admission.load_shedding import Refusal
from service.admission.queued_request import Demand, QueuedRequest
from service.admission.scheduler import Placement, Scheduler
from service.admission.slots import Charges, HeldSlots, Preempted
from service.context import RequestContext
from service.errors import DeadlineExceeded, InvalidRequest, ServiceError
from service.settings.admission import AdmissionSettings
from service.tenants.tenant import SERVICE, Tenant, Tier

_SMALLEST = Demand(prompt_tokens=0, max_output_tokens=1)

_BULK_PARTS = 8
"""A request of so many parts is bulk work: nobody watches for its first token."""

_LOOK_AGAIN_SECONDS = 1.0
"""Interval at which the queue is checked without an event, because a limit may have grown."""


class AdmissionObserver(Protocol):
    """Is notified when the load changes."""

    def load_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Report the sequences in flight, how many of them are background, and the limit."""

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        """Report a change in the number of waiting requests of a tenant and tier."""

    def preempted(self) -> None:
        """Report that a flex request was preempted by an interactive one, and will restart."""


class AdmissionController:
    """Admits, orders and ends engine requests.

    `capacity` is the largest number of sequences that the engine may run at once; the limiter may
    allow fewer. A request of several sequences (n > 1) takes as many slots, at most the whole
    capacity. The scheduler decides which requests wait, start or are refused. The controller keeps
    the deadlines of waiting and running requests, with one timer.
    """

    def __init__(
        self, settings: AdmissionSettings, observer: AdmissionObserver, capacity: int = 1
    ) -> None:
        self._limiter = Limiter(capacity, settings.min_in_flight, _targets(settings))
        self._scheduler = Scheduler(
            time.monotonic,
            self._limiter,
            max_waiting=settings.max_queued,
            background=settings.background,
        )
        self._charges = Charges(self._scheduler)
        self._max_wait = settings.max_wait_ms / 1000
        self._max_patience = max(settings.max_wait_ms, settings.max_patience_ms) / 1000
        self._cuts = settings.at_deadline == "length"
        self._observer = observer
        self._waiting: dict[QueuedRequest, asyncio.Future[HeldSlots]] = {}
        self._running: dict[QueuedRequest, HeldSlots] = {}
        self._closed: Callable[[], ServiceError] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    @property
    def capacity(self) -> int:
        """The most sequences that the engine may run at once."""
        return self._limiter.ceiling

    @capacity.setter
    def capacity(self, sequences: int) -> None:
        self._limiter.ceiling = sequences

    @property
    def limit(self) -> int:
        """The number of sequences that may run in the engine now, at most the capacity."""
        return self._scheduler.limit

    @property
    def in_flight(self) -> int:
        """Sequences that hold a slot; the last to start may have borrowed beyond the limit."""
        return self._scheduler.in_use

    @property
    def busy(self) -> bool:
        """True if interactive requests hold slots."""
        return self._scheduler.in_use > self._scheduler.background_in_use

    @property
    def engine_wanted(self) -> bool:
        """True if a request runs in the engine, interactive or not."""
        return bool(self._running)

    @property
    def queued(self) -> int:
        """Requests that wait, of both tiers."""
        return self._scheduler.waiting + self._scheduler.background_waiting

    @property
    def flex_room(self) -> int:
        """Sequences that flex requests may have in flight now."""
        return max(0, self._scheduler.background_room())

    async def acquire(
        self, context: RequestContext, demand: Demand, *, again: bool = False
    ) -> HeldSlots:
        """Wait for a place in the engine and take it; `again` after it was preempted.

        The first of a request's parts is admitted or refused for all of them. Raises at once
        TooManyRequests or QueueFull if the scheduler refuses, InvalidRequest for a flex request of
        too many sequences, or the error of `close`; DeadlineExceeded when the deadline
        passes before the turn.
        """
        self._check_open(context)
        request = self._queued(context, demand, again)
        placement = self._scheduler.offer(request)
        if isinstance(placement, Refusal):
            context.admission_refusal = placement
            raise placement
        context.admitted = True
        if placement is Placement.STARTED:
            held = self._start(request)
            self._set_timer()
            self._tell()
            return held
        held = await self._wait(request)
        context.times.queue = max(context.times.queue, time.monotonic() - request.arrival)
        return held

    def refuse_early(self, context: RequestContext) -> None:
        """Refuse a request before its prompt is tokenised, if even the smallest would be refused.

        Raises as `acquire`.
        """
        self._check_open(context)
        if context.admitted:
            return
        refusal = self._scheduler.refusal(self._queued(context, _SMALLEST, again=False))
        if refusal is not None:
            context.admission_refusal = refusal
            raise refusal

    def debit(self, tenant: Tenant, tokens: float) -> None:
        """Charge a tenant for work before admission, worth so many prompt tokens."""
        self._scheduler.debit(tenant.name, tenant.weight, tokens)

    def take_served(self) -> dict[str, float]:
        """Service of each tenant and tier since the last call, as `FairQueue.take_served`."""
        return self._scheduler.take_served()

    def add_elsewhere(self, served: Mapping[str, float]) -> None:
        """Let what other replicas served, named as `take_served` does, count in the order here."""
        self._scheduler.add_elsewhere(served)

    def close(self, error: Callable[[], ServiceError]) -> None:
        """End waiting and running requests and refuse new ones, with a new error for each."""
        self._closed = error
        for request, future in list(self._waiting.items()):
            self._scheduler.cancel(request)
            self._refuse(request, future, error())
        for held in self._running.values():
            held.interrupt(error())
        self._tell()

    def open(self) -> None:
        """Admit requests again after `close`."""
        self._closed = None

    def _check_open(self, context: RequestContext) -> None:
        """Raise the error of `close`, or the refusal of another part of the request."""
        if self._closed:
            raise self._closed()
        if context.admission_refusal:
            raise context.admission_refusal

    def _queued(self, context: RequestContext, demand: Demand, again: bool) -> QueuedRequest:
        background = context.tier is Tier.FLEX
        if background and demand.slots > (most := widest(self.capacity)):
            message = f"n: at most {most} with the service tier flex, got {demand.slots}"
            raise InvalidRequest(message, param="n")
        bulk = context.parts >= _BULK_PARTS
        max_wait = self._max_patience if bulk or context.stated_ms is not None else self._max_wait
        return QueuedRequest(
            context.tenant.name,
            demand.prompt_tokens,
            demand.max_output_tokens,
            arrival=time.monotonic(),
            deadline=context.deadline,
            max_wait=math.inf if context.tenant is SERVICE else max_wait,
            slots=min(demand.slots, self.capacity),
            weight=context.tenant.weight,
            followers=0 if context.admitted else context.parts - 1,
            follows=context.admitted,
            background=background,
            restartable=background and demand.restartable,
            again=again,
            flow=context.flow or (BULK if bulk else ""),
            first_token_within=context.first_token_within,
        )

    async def _wait(self, request: QueuedRequest) -> HeldSlots:
        future: asyncio.Future[HeldSlots] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        self._observer.queue_changed(request.tenant, _tier(request), 1)
        self._advance()
        try:
            return await future
        except asyncio.CancelledError:
            if self._scheduler.cancel(request):
                self._leave(request)
                self._tell()
            elif request in self._running:  # granted, and cancelled before it could run
                self._running[request].release()
            else:  # refused, and cancelled before it could run: asyncio need not log the error
                future.exception()
            raise

    def _start(self, request: QueuedRequest) -> HeldSlots:
        held = self._running[request] = HeldSlots(self._charges, request, self._release)
        return held

    def _release(self, request: QueuedRequest) -> None:
        del self._running[request]
        self._scheduler.finish(request)
        self._advance()

    def _advance(self) -> None:
        """Start the requests that may start, and end those that are late."""
        while started := self._scheduler.next_dispatches():
            for request in started:
                held = self._start(request)
                future = self._leave(request)
                if not future.done():
                    future.set_result(held)
        for request in self._scheduler.expire():
            self._end_late(request)
        for request in self._scheduler.preempt():
            self._running[request].interrupt(Preempted())
            self._observer.preempted()
        self._set_timer()
        self._tell()

    def _end_late(self, request: QueuedRequest) -> None:
        seconds = time.monotonic() - request.arrival
        if request in self._running:
            held = self._running[request]
            if self._cuts and held.cut is not None and held.cut():
                return
            message = f"The deadline passed {seconds:.1f} s after the request reached the engine's "
            message += "queue, before the answer was complete. State a longer deadline, or ask for "
            message += "fewer tokens."
            held.interrupt(DeadlineExceeded(message))
        elif request in self._waiting:
            message = f"The request waited {seconds:.1f} s for its turn; "
            message += "its deadline passed before it ran."
            self._refuse(request, self._waiting[request], DeadlineExceeded(message, retry_after=1))

    def _refuse(
        self, request: QueuedRequest, future: asyncio.Future[HeldSlots], error: ServiceError
    ) -> None:
        self._leave(request)
        if not future.done():  # else its task was cancelled and has yet to run
            future.set_exception(error)

    def _leave(self, request: QueuedRequest) -> asyncio.Future[HeldSlots]:
        """Remove a request from those that wait, and return its future."""
        self._observer.queue_changed(request.tenant, _tier(request), -1)
        return self._waiting.pop(request)

    def _set_timer(self) -> None:
        """Schedule `_advance` for the next deadline, and at least once a second while any wait.

        An earlier timer fires without effect, which costs less than a timer for each request.
        """
        now = time.monotonic()
        due = self._scheduler.next_deadline() or math.inf
        if self._waiting:
            due = min(due, now + _LOOK_AGAIN_SECONDS)
        if due == math.inf or due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        wait = max(0.001, due - now)
        self._timer = asyncio.get_running_loop().call_later(wait, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        self._advance()

    def _tell(self) -> None:
        background = self._scheduler.background_in_use
        self._observer.load_changed(self.in_flight, background, self.limit)


def _targets(settings: AdmissionSettings) -> Targets:
    """Targets of the limiter; without `target_token_ms` nothing counts as slow."""
    if settings.target_token_ms is None:
        return Targets(token=math.inf, engine_wait=math.inf)
    return Targets(token=settings.target_token_ms / 1000)


def _tier(request: QueuedRequest) -> Tier:
    return Tier.FLEX if request.background else Tier.DEFAULT
