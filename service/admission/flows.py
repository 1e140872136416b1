"""Turns of the end users behind one gateway, within the turns of the gateway's tenant."""

from collections.abc import Collection, Mapping

from service.admission.queued_request import QueuedRequest

MOST_FLOWS = 256
OTHERS = "*"
"""The flow of all that come while there are `MOST_FLOWS` others; no gateway names one so."""


class Flows:
    """Counters of the service that each flow of one tenant got: virtual token counters again.

    The tenant's next request is that of the waiting flow with the smallest counter, the oldest
    first. A flow that comes back is raised to the smallest counter of those that wait, or to that
    of the last that did. Operations look at all requests of the tenant that wait.
    """

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._floor = 0.0

    def __len__(self) -> int:
        return len(self._counters)

    def enter(self, request: QueuedRequest, waiting: Collection[QueuedRequest]) -> None:
        """Count the request's flow among those that wait; it becomes one of `OTHERS` if need be."""
        if request.flow not in self._counters and len(self._counters) >= MOST_FLOWS:
            self._forget(waiting)
            if len(self._counters) >= MOST_FLOWS:
                request.flow = OTHERS
        if any(each.flow == request.flow for each in waiting):
            return
        level = min((self._counter(each) for each in waiting), default=self._floor)
        self._counters[request.flow] = max(self._counter(request), level)

    def first(self, waiting: Collection[QueuedRequest]) -> QueuedRequest:
        """The request whose turn it is, of those that wait in the order of their arrival."""
        oldest = next(iter(waiting))
        if oldest.again:  # preempted: it goes before all others of its tenant
            return oldest
        chosen = min(waiting, key=self._counter)
        self._floor = max(self._floor, self._counter(chosen))
        return chosen

    def pay(self, request: QueuedRequest, cost: float) -> None:
        """Charge a request's flow; a negative cost is given back."""
        self._counters[request.flow] = self._counter(request) + cost

    def _counter(self, request: QueuedRequest) -> float:
        return self._counters.get(request.flow, 0.0)

    def _forget(self, waiting: Collection[QueuedRequest]) -> None:
        """Drop the flows whose counters a new one would have, too."""
        kept = {each.flow for each in waiting}
        for flow, counter in list(self._counters.items()):
            if counter <= self._floor and flow not in kept:
                del self._counters[flow]


def part_of_flow(
    request: QueuedRequest, waiting: Mapping[QueuedRequest, float]
) -> tuple[int, float, int]:
    """What waits of the request's flow: requests, expected cost, and how many flows with it."""
    own = [cost for each, cost in waiting.items() if each.flow == request.flow]
    flows = {request.flow, *(each.flow for each in waiting)}
    return len(own), sum(own), len(flows)
