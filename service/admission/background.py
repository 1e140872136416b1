"""Background work: the slots that it may hold beside interactive work, and its own queue."""

import math

from service.admission.fair_queue import FairQueue
from service.admission.load_shedding import Refusal, refusal_of_full_queue
from service.admission.queued_request import QueuedRequest, Usage
from service.settings.admission import BackgroundSettings

_SLOTS_PER_SPARE = 16
_RETRY_S = 30.0
"""Time after which a refused client may come back: a full queue of background work is long."""
_BESIDE_S = 10.0
"""Time without an interactive request after which background work counts as alone."""


def spare_slots(limit: int) -> int:
    """Slots that background work leaves free; when alone it may hold as many above the limit.

    A sixteenth of the slots, at least one; none if there is only one slot.
    """
    return min(max(1, limit // _SLOTS_PER_SPARE), limit - 1)


def widest(capacity: int) -> int:
    """The most slots of one background request in an engine of `capacity` slots.

    A request starts when one slot is free for it, and borrows its others from the spare ones. So it
    never fills the engine beside interactive work.
    """
    return max(1, spare_slots(capacity))


class Background:
    """The background requests of one engine.

    They have a `FairQueue` of their own, so background and interactive requests do not count in
    each other's turns. A background request starts if no interactive request waits and enough slots
    stay free for coming interactive work. If these slots are too few, restartable requests give
    way. No slot is left free if no interactive request has come for a while and all running
    requests are restartable. A request is refused only if the queue is full; otherwise it waits
    until its deadline, whatever the forecast.
    """

    def __init__(self, rules: BackgroundSettings) -> None:
        self.queue = FairQueue(most_reserved=0)
        self._rules = rules
        self._alone_from = -math.inf
        self._lasting = 0
        self._leaving: set[QueuedRequest] = set()

    def price(self, cost: float) -> float:
        """The part of a background cost that is charged to the tenant's interactive counter."""
        return (1 - self._rules.discount) * cost

    def interactive(self, now: float) -> None:
        """Note that an interactive request came or ended."""
        self._alone_from = now + _BESIDE_S

    def pop(self, room: int) -> QueuedRequest | None:
        """Start the next request that `room` slots allow; None if none may start."""
        request = self.queue.pop(room)
        if request is not None:
            self._lasting += not request.restartable
        return request

    def finish(self, request: QueuedRequest) -> Usage:
        """End a running request; raises KeyError unless it runs."""
        usage = self.queue.finish(request)
        self._lasting -= not request.restartable
        return usage

    def room(self, limit: int, interactive: FairQueue, now: float) -> int:
        """Slots that background requests may hold now, of `limit` slots.

        Without interactive work they may hold a few more than `limit`. These wait inside the
        engine, which would otherwise idle for a step until the controller hears that an answer has
        ended.
        """
        if interactive.waiting:
            return 0
        spare = spare_slots(limit)
        alone = not interactive.in_use and now >= self._alone_from
        if alone and not self._lasting:
            return limit + spare
        room = limit - spare - interactive.in_use
        most = self._rules.max_in_flight
        return room if alone or most is None else min(room, most)

    def give_way(self, slots: int) -> list[QueuedRequest]:
        """Select requests to preempt so that, with those selected before, `slots` slots are freed.

        Requests with the fewest output tokens are selected, since these are lost.
        """
        running = self.queue.running
        self._leaving &= running.keys()
        slots -= sum(request.slots for request in self._leaving)
        named = []
        for request in sorted(running, key=lambda request: running[request].output):
            if slots > 0 and request.restartable and request not in self._leaving:
                named.append(request)
                slots -= request.slots
        self._leaving.update(named)
        return named

    def refusal(self, request: QueuedRequest) -> Refusal | None:
        """Reason to refuse a request; None lets it wait until its deadline."""
        if request.follows:
            return None
        backlog = self.queue.backlog(request)
        return refusal_of_full_queue(backlog, self._rules.max_queued, _RETRY_S)
