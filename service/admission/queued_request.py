"""Requests as the scheduler sees them, with their cost; heaps and tenants."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from service.tenants.tenant import SERVICE

TOKENS_PER_SECOND = 1_000_000 / 256
"""Prompt tokens that a second of a core counts as, for work that is not the model's."""


@dataclass(slots=True)
class Demand:
    """What an engine request asks of admission control."""

    prompt_tokens: int
    max_output_tokens: int
    """The most tokens of each sequence."""
    slots: int = 1
    restartable: bool = False
    """True if the request may be ended and made again: no output is handed on before its end."""

    @property
    def most_tokens(self) -> int:
        """Largest possible number of tokens, prompt and answers together."""
        return self.prompt_tokens + self.slots * self.max_output_tokens


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One engine request; two requests are the same only when they are the same object.

    Times are seconds of the scheduler's clock.
    """

    tenant: str
    prompt_tokens: int
    max_output_tokens: int
    """The most tokens of each sequence."""
    arrival: float
    deadline: float = math.inf
    max_wait: float = math.inf
    """The longest forecast wait with which the request is accepted, whatever its deadline."""
    slots: int = 1
    """Sequences that the request takes in the engine."""
    weight: float = 1.0
    """The tenant's share relative to that of others."""
    followers: int = 0
    """Number of later requests to the engine for the same caller, admitted with this one."""
    follows: bool = False
    """True for one of these later requests."""
    background: bool = False
    """True for a request that takes only the slots that interactive requests leave."""
    restartable: bool = False
    """True for a background request that may be ended for an interactive one."""
    again: bool = False
    """True if the request was ended for an interactive one: it goes before its tenant's others."""
    flow: str = ""
    """The end user of a gateway that the request is for."""
    first_token_within: float = math.inf
    """The longest forecast time to the first token with which the request is accepted."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Requests that wait before a request, with the expected costs given to `push`."""

    own_requests: int
    own_cost: float
    all_requests: int
    all_cost: float
    share: float
    """The tenant's part of the service among the tenants that wait, in (0, 1]."""
    due: float
    """The tenant's part among all tenants with requests, waiting or running, in (0, 1]."""
    others: int
    """Other tenants that wait."""
    flow_requests: int = 0
    """Those of `own_requests` that are of the same flow; 0 for a tenant without flows."""


OUTPUT_PRICE = 2.0
"""Cost of an output token, in prompt tokens (arXiv 2401.00588, section 3.1)."""
_CACHED_DISCOUNT = 0.9


def cost_of(prompt: int, cached: int = 0, output: float = 0) -> float:
    """The cost of these tokens, in units of one uncached prompt token;

    `prompt` includes `cached`. This is VTC's service function (see fair_queue.py) with the paper's
    weights.
    """
    return prompt - _CACHED_DISCOUNT * cached + OUTPUT_PRICE * output


@dataclass(slots=True)
class Usage:
    """Tokens of one request so far; `cached` counts those of `prompt` that the cache served."""

    prompt: int
    cached: int = 0
    output: int = 0

    @property
    def cost(self) -> float:
        """The cost of these tokens."""
        return cost_of(self.prompt, self.cached, self.output)


Item = TypeVar("Item", bound=Hashable)

_SLACK = 64


class LazyHeap(Generic[Item]):
    """Distinct items by key, smallest first; equal keys in the order they were set.

    Moved and removed items leave a dead entry, which is dropped when it reaches the top or when
    dead entries outnumber live ones. So every operation is O(log n) amortised, and memory is linear
    in live items.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._live: dict[Item, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Item]:
        """The items in no order of their keys."""
        return iter(self._live)

    def __contains__(self, item: Item) -> bool:
        return item in self._live

    def set(self, item: Item, key: float) -> None:
        """Insert an item, or move it behind those of the same key."""
        self._serial += 1
        self._live[item] = self._serial
        heappush(self._heap, (key, self._serial, item))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def discard(self, item: Item) -> None:
        """Remove an item if it is there."""
        self._live.pop(item, None)

    def peek(self) -> tuple[float, Item] | None:
        """The smallest key with its item, None when empty."""
        while self._heap:
            key, serial, item = self._heap[0]
            if self._live.get(item) == serial:
                return key, item
            heappop(self._heap)
        return None


_LINGER_S = 30.0


@dataclass(slots=True)
class _Present:
    weight: float
    requests: int = 0


class ActiveTenants:
    """Tenants with requests, and those whose last request ended within the last 30 seconds.

    So a tenant with a request every few seconds keeps its share in between. The service itself
    does not: its proofs and probes are not followed by more. Times are seconds of one clock; every
    operation is O(1) amortised.
    """

    def __init__(self) -> None:
        self._here: dict[str, _Present] = {}
        self._left: OrderedDict[str, float] = OrderedDict()
        self._weight = 0.0
        self._weight_with_requests = 0.0
        self._now = 0.0

    @property
    def tenants(self) -> int:
        """Number of tenants that a share is kept for."""
        return len(self._here)

    def tick(self, now: float) -> None:
        """Let time pass; drop the tenants that have been away for too long."""
        self._now = now
        while self._left and next(iter(self._left.values())) < now - _LINGER_S:
            self._forget(self._left.popitem(last=False)[0])

    def enter(self, tenant: str, weight: float) -> None:
        """Count a queued request of a tenant and set the tenant's weight."""
        present = self._here.setdefault(tenant, _Present(0.0))
        self._weight += weight - present.weight
        self._weight_with_requests += weight - (present.weight if present.requests else 0.0)
        present.weight = weight
        present.requests += 1
        self._left.pop(tenant, None)

    def leave(self, tenant: str) -> None:
        """Note that a request of the tenant has ended."""
        present = self._here[tenant]
        present.requests -= 1
        if not present.requests:
            self._weight_with_requests -= present.weight
            if tenant == SERVICE.name:
                self._forget(tenant)
            else:
                self._left[tenant] = self._now

    def share(self, tenant: str, weight: float) -> float:
        """The part of the service that is kept for a tenant of this weight, in (0, 1]."""
        present = self._here.get(tenant)
        others = self._weight - (present.weight if present is not None else 0.0)
        return weight / (max(others, 0.0) + weight)

    def due(self, tenant: str, weight: float) -> float:
        """The tenant's share among the tenants that have requests now, in (0, 1]."""
        present = self._here.get(tenant)
        active = present is not None and present.requests > 0
        others = self._weight_with_requests - (present.weight if present and active else 0.0)
        return weight / (max(others, 0.0) + weight)

    def _forget(self, tenant: str) -> None:
        self._weight -= self._here.pop(tenant).weight
        if not self._here:
            self._weight = self._weight_with_requests = 0.0  # sums of floats drift
