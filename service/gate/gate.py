"""A bounded first-come queue before a bounded engine."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from service.context import RequestContext
from service.errors import DeadlineExceeded, QueueFull


class GateObserver(Protocol):
    """Who is told how full the gate is, and for whom; `change` is in requests that wait."""

    def gate_changed(self, in_flight: int) -> None: ...

    def queue_changed(self, tenant: str, change: int) -> None: ...


class Permit:
    """The right to occupy `slots` sequences of the engine until released."""

    def __init__(self, gate: "Gate", slots: int) -> None:
        self._gate = gate
        self._slots = slots

    def release(self) -> None:
        """Give the slots back; a second call does nothing."""
        slots, self._slots = self._slots, 0
        if slots:
            self._gate.release(slots)


@dataclass(slots=True, eq=False)
class _Ticket:
    granted: asyncio.Future[None]
    slots: int
    tenant: str


class Gate:
    """Admits at most `capacity` sequences; up to `max_queued` requests wait in order.

    A request of several sequences (n > 1) takes as many slots; one wider than the whole capacity
    takes all of it.
    """

    def __init__(self, capacity: int, max_queued: int, observer: GateObserver) -> None:
        self.capacity = capacity
        self.max_queued = max_queued
        self.in_flight = 0
        self._waiting: deque[_Ticket] = deque()
        self._observer = observer

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def check_room(self, slots: int = 1) -> None:
        """Raise QueueFull if a request that came now would be refused."""
        if not self._fits(slots) and self.queued >= self.max_queued:
            raise QueueFull(
                f"The server is full: {self.in_flight} sequences run and {self.queued} requests "
                f"wait (limit {self.max_queued}). Try again later.",
                retry_after=1,
            )

    async def acquire(self, context: RequestContext, slots: int = 1) -> Permit:
        """Wait for room and take it.

        Raises QueueFull at once when the queue is full, DeadlineExceeded when the request's
        deadline passes before its turn.
        """
        slots = min(slots, self.capacity)
        if self._fits(slots):
            self.in_flight += slots
            self._tell()
            return Permit(self, slots)
        self.check_room(slots)
        return await self._wait(context, slots)

    def release(self, slots: int) -> None:
        """Return slots and let those who waited longest in; called by Permit."""
        self.in_flight -= slots
        self._dispatch()
        self._tell()

    async def _wait(self, context: RequestContext, slots: int) -> Permit:
        ticket = _Ticket(asyncio.get_running_loop().create_future(), slots, context.tenant.name)
        self._waiting.append(ticket)
        self._observer.queue_changed(ticket.tenant, 1)
        started = time.monotonic()
        try:
            async with asyncio.timeout(context.remaining()):
                await ticket.granted
        except BaseException as error:
            if ticket.granted.done() and not ticket.granted.cancelled():
                self.release(slots)
            else:
                with suppress(ValueError):  # passed over since it was cancelled
                    self._waiting.remove(ticket)
                    self._observer.queue_changed(ticket.tenant, -1)
                self._dispatch()
                self._tell()
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(
                    f"The request waited {time.monotonic() - started:.1f} s for its turn; "
                    "its deadline passed before it ran.",
                    retry_after=1,
                ) from None
            raise
        context.queue_seconds = max(context.queue_seconds, time.monotonic() - started)
        return Permit(self, slots)

    def _fits(self, slots: int) -> bool:
        return not self._waiting and self.in_flight + slots <= self.capacity

    def _dispatch(self) -> None:
        while self._waiting and self.in_flight + self._waiting[0].slots <= self.capacity:
            ticket = self._waiting.popleft()
            self._observer.queue_changed(ticket.tenant, -1)
            if ticket.granted.cancelled():  # its task has yet to run and leave
                continue
            self.in_flight += ticket.slots
            ticket.granted.set_result(None)

    def _tell(self) -> None:
        self._observer.gate_changed(self.in_flight)
