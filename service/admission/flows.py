"""Accounts of tenants, and turns of a tenant's flows: users of a gateway, and bulk work."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.admission.queued_request import QueuedRequest

MOST_FLOWS = 256
OTHERS = "*"
"""The flow of all that come while there are `MOST_FLOWS` others; no gateway names one so."""
BULK = "bulk"
"""The flow of requests of many parts, behind which others of the same tenant do not wait; no
gateway names one so."""


@dataclass(slots=True)
class _Waiting:
    """What waits of one flow, in order of arrival, with the sum of the expected costs."""

    requests: OrderedDict[QueuedRequest, float] = field(default_factory=OrderedDict)
    cost: float = 0.0

    @property
    def since(self) -> float:
        return next(iter(self.requests)).arrival


class Flows:
    """Counters of the service that each flow of one tenant got: virtual token counters again.

    The tenant's next request is that of the waiting flow with the smallest counter, the oldest
    first. A flow that comes back is raised to the smallest counter of those that wait, or to that
    of the last that did. Operations look at the flows that wait, at most 257.
    """

    def __init__(self, waiting: Mapping[QueuedRequest, float]) -> None:
        """Flows of a tenant of which these requests wait, with these expected costs."""
        self._counters: dict[str, float] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._floor = 0.0
        for request, cost in waiting.items():
            self.enter(request, cost)

    def __len__(self) -> int:
        return len(self._counters)

    def enter(self, request: QueuedRequest, cost: float) -> None:
        """Let a request wait in its flow; it becomes one of `OTHERS` if there are too many."""
        if request.flow not in self._counters and len(self._counters) >= MOST_FLOWS:
            self._forget()
            if len(self._counters) >= MOST_FLOWS:
                request.flow = OTHERS
        if request.flow not in self._waiting:
            level = min((self._counter(flow) for flow in self._waiting), default=self._floor)
            self._counters[request.flow] = max(self._counter(request.flow), level)
            self._waiting[request.flow] = _Waiting()
        flow = self._waiting[request.flow]
        flow.requests[request] = cost
        flow.cost += cost

    def leave(self, request: QueuedRequest) -> None:
        """Remove a request that waits."""
        flow = self._waiting[request.flow]
        flow.cost -= flow.requests.pop(request)
        if not flow.requests:
            del self._waiting[request.flow]

    def first(self) -> QueuedRequest:
        """The request whose turn it is; one must wait."""
        chosen = min(
            self._waiting, key=lambda flow: (self._counter(flow), self._waiting[flow].since)
        )
        self._floor = max(self._floor, self._counter(chosen))
        return next(iter(self._waiting[chosen].requests))

    def pay(self, request: QueuedRequest, cost: float) -> None:
        """Charge a request's flow; a negative cost is given back."""
        self._counters[request.flow] = self._counter(request.flow) + cost

    def waiting_of(self, flow: str) -> tuple[int, float, int]:
        """What waits of a flow: requests, expected cost, and how many flows wait with it."""
        own = self._waiting.get(flow)
        flows = len(self._waiting) + (own is None)
        return (len(own.requests), own.cost, flows) if own is not None else (0, 0.0, flows)

    def _counter(self, flow: str) -> float:
        return self._counters.get(flow, 0.0)

    def _forget(self) -> None:
        """Drop the flows whose counters a new one would have, too."""
        for flow, counter in list(self._counters.items()):
            if counter <= self._floor and flow not in self._waiting:
                del self._counters[flow]


@dataclass(slots=True, eq=False)
class Account:
    """What a tenant waits for, runs and was served; see fair_queue.py."""

    name: str
    weight: float
    counter: float = 0.0
    elsewhere: float = 0.0
    """The part of the counter, above a newcomer's, that other replicas served."""
    unended: float = 0.0
    """Cost so far of the running requests."""
    running: int = 0
    in_use: int = 0
    held: int = 0
    expected: float = 0.0
    # Expected costs in order of arrival. A plain dict would scan the places of removed requests
    # each time the first one is read.
    waiting: OrderedDict[QueuedRequest, float] = field(default_factory=OrderedDict)
    flows: Flows | None = None
    """None until a request names its flow."""

    @property
    def here(self) -> float:
        """The counter without what other replicas served."""
        return self.counter - self.elsewhere

    @property
    def ended(self) -> float:
        """The counter without the cost of running requests."""
        return self.counter - self.unended / self.weight
