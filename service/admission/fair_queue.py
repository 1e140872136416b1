"""Weighted virtual token counters: they decide which tenant is served next.

Follows "Fairness in Serving Large Language Models" (Sheng et al., arXiv 2401.00588), algorithm 2
with the weights of its section 4.3. Every tenant has a counter of the service that it got, divided
by its weight; the tenant with work waiting and the smallest counter is served next. The counter of
a tenant that comes back after having no waiting work is raised to the smallest counter among the
waiting tenants (or, if none waits, to that of the last that did), so that a pause earns no credit.

If two tenants both have work waiting over an interval, their service in it, divided by their
weights, differs by at most 2 U / (smallest weight), where U = max(w_in * L_input, w_out * M),
L_input is the longest prompt and M the most tokens, prompts and outputs, of the requests in the
engine at once (theorem 4.4; it asks for w_in <= w_out).

Four points go beyond the paper. A request of several sequences starts as soon as one slot is free,
and borrows the others, up to `slots - 1`, beyond the limit. So no slot idles until enough are free,
and the request cannot starve. A prompt is charged in full at the start, and its cached part is
given back once the engine has reported it. While several tenants are active, an eighth of the
slots, at most 4, is reserved for tenants that hold fewer than their share, so a tenant with few
requests finds a free slot instead of waiting for another's request to end. For such a slot tenants
are compared without the cost of their running requests; otherwise a request that came a moment ago,
whose prompt is paid already, would delay its tenant's next one. U bounds these costs, so the bound
above still holds. Such a tenant may also start above a limit that was just lowered, up to the
engine's maximum, because other tenants hold the slots in excess.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from service.admission.flows import Flows
from service.admission.queued_request import (
    OUTPUT_PRICE,
    ActiveTenants,
    LazyHeap,
    QueuedRequest,
    Usage,
)

_SLOTS_PER_RESERVED = 8


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


@dataclass(slots=True, eq=False)
class _Tenant:
    name: str
    weight: float
    counter: float = 0.0
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


class FairQueue:
    """Requests that wait and requests that run; each operation is O(log tenants) amortised.

    Only `pop` is slower: it scans all waiting tenants while only reserved slots are free. A tenant
    with `most_each` running requests is skipped until one of these ends. At most `most_reserved`
    slots are reserved for tenants below their share.
    """

    def __init__(self, *, most_each: float = math.inf, most_reserved: int = 4) -> None:
        self._most_each = most_each
        self._most_reserved = most_reserved
        self.in_use = 0
        """Slots of the running requests."""
        self.waiting = 0
        """Requests that wait."""
        self._tenants: dict[str, _Tenant] = {}
        self._backlogged: LazyHeap[_Tenant] = LazyHeap()
        self._resting: LazyHeap[_Tenant] = LazyHeap()
        self.running: dict[QueuedRequest, Usage] = {}
        """The running requests, and their tokens so far."""
        self._floor = 0.0
        self._last: _Tenant | None = None
        self._expected = 0.0
        self._waiting_weight = 0.0
        self._presence = ActiveTenants()

    @property
    def tenants(self) -> int:
        """Tenants remembered: those with requests or with a counter above a newcomer's."""
        return len(self._tenants)

    def tick(self, now: float) -> None:
        """Advance the clock, in seconds; tenants that have been away for long lose their share."""
        self._presence.tick(now)

    def room(self, limit: int) -> bool:
        """True if an unreserved slot of `limit` is free."""
        return self.in_use < limit - self._reserved(limit)

    def within_share(self, request: QueuedRequest, limit: int) -> bool:
        """True if the tenant, with this request, holds no more slots than its share of `limit`.

        The tenant's waiting requests count like its running ones.
        """
        tenant = self._tenants.get(request.tenant)
        held = tenant.held if tenant is not None else 0
        share = self._presence.share(request.tenant, request.weight)
        return held + request.slots <= share * limit

    def above_share(self, request: QueuedRequest, limit: int) -> bool:
        """True if the tenant of a running request holds more slots than its share of `limit`."""
        tenant = self._tenants[request.tenant]
        return tenant.in_use > self._presence.share(tenant.name, tenant.weight) * limit

    def backlog(self, request: QueuedRequest) -> Backlog:
        """The requests before this one, which is not pushed yet; its tenant counts as waiting.

        For a tenant with flows the costs and parts are those of the request's flow.
        """
        tenant = self._tenants.get(request.tenant)
        whole = self._backlog(request, tenant)
        if tenant is None or not tenant.waiting or not (request.flow or tenant.flows):
            return whole
        # Without flows yet, all that waits has no name, and this request would be the second flow.
        requests, cost, many = (
            tenant.flows.waiting_of(request.flow) if tenant.flows is not None else (0, 0.0, 2)
        )
        whole = replace(whole, share=whole.share / many, due=whole.due / many)
        return replace(whole, own_cost=cost, flow_requests=requests)

    def _backlog(self, request: QueuedRequest, tenant: _Tenant | None) -> Backlog:
        own = len(tenant.waiting) if tenant is not None else 0
        others = self._waiting_weight
        if tenant is not None and own:
            others -= tenant.weight
        return Backlog(
            own_requests=own,
            own_cost=tenant.expected if tenant is not None else 0.0,
            all_requests=self.waiting,
            all_cost=self._expected,
            share=request.weight / (max(others, 0.0) + request.weight),
            due=self._presence.due(request.tenant, request.weight),
            others=len(self._backlogged) - bool(own),
        )

    def push(self, request: QueuedRequest, expected_cost: float) -> None:
        """Queue a request after its tenant's others, or before them if it was preempted.

        Sets the tenant's weight to the request's.
        """
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            tenant = self._tenants[request.tenant] = _Tenant(request.tenant, request.weight)
        change = request.weight - tenant.weight
        tenant.weight = request.weight
        if tenant.waiting:
            self._waiting_weight += change
        else:
            self._wake(tenant)
        if request.flow or tenant.flows is not None:
            tenant.flows = tenant.flows or Flows(tenant.waiting)
            tenant.flows.enter(request, expected_cost)
        self._presence.enter(tenant.name, tenant.weight)
        tenant.held += request.slots
        tenant.waiting[request] = expected_cost
        if request.again:
            tenant.waiting.move_to_end(request, last=False)
        tenant.expected += expected_cost
        self._expected += expected_cost
        self.waiting += 1

    def pop(self, limit: int, ceiling: int = 0) -> QueuedRequest | None:
        """Start the next request and charge its prompt; None if none may start.

        A request may start while a slot of `limit` is free for it; for a tenant below its share of
        `limit`, a slot of the larger of `limit` and `ceiling`. Afterwards `in_use` is below that
        number plus the request's slots.
        """
        tenant = self._next_to_start(limit, max(limit, ceiling))
        if tenant is None:
            return None
        flows, request = tenant.flows, next(iter(tenant.waiting))
        if flows is not None and not request.again:  # a preempted one goes before all others
            request = flows.first()
        self._leave(tenant, request)
        tenant.running += 1
        if tenant.running >= self._most_each:
            self._backlogged.discard(tenant)
        tenant.in_use += request.slots
        self.in_use += request.slots
        usage = self.running[request] = Usage(request.prompt_tokens)
        tenant.unended += usage.cost
        self._pay(tenant, usage.cost)
        if flows is not None:
            flows.pay(request, usage.cost)
        return request

    def charge(
        self,
        request: QueuedRequest,
        *,
        prompt: int | None = None,
        cached: int = 0,
        output: int = 0,
    ) -> float:
        """Account a running request's tokens so far; returns the cost that this added.

        The numbers are totals, so a repeated report charges nothing; `prompt` corrects the
        request's own count, and `output` never falls. Raises KeyError unless the request runs.
        """
        usage, tenant = self.running[request], self._tenants[request.tenant]
        before = usage.cost
        usage.prompt = request.prompt_tokens if prompt is None else prompt
        usage.cached, usage.output = cached, max(usage.output, output)
        added = usage.cost - before
        tenant.unended += added
        self._pay(tenant, added)
        if tenant.flows is not None:
            tenant.flows.pay(request, added)
        return added

    def add_output(self, request: QueuedRequest, tokens: int) -> float:
        """Account so many new output tokens of a running request; returns their cost."""
        self.running[request].output += tokens
        added = OUTPUT_PRICE * tokens
        tenant = self._tenants[request.tenant]
        tenant.unended += added
        tenant.counter += added / tenant.weight
        if tenant.flows is not None:
            tenant.flows.pay(request, added)
        return added

    def finish(self, request: QueuedRequest) -> Usage:
        """End a running request, give its slots back; raises KeyError unless it runs."""
        usage, tenant = self.running.pop(request), self._tenants[request.tenant]
        self.in_use -= request.slots
        tenant.running -= 1
        tenant.unended = tenant.unended - usage.cost if tenant.running else 0.0
        tenant.in_use -= request.slots
        if tenant.waiting and tenant not in self._backlogged:
            self._backlogged.set(tenant, tenant.counter)
        self._end(tenant, request)
        return usage

    def cancel(self, request: QueuedRequest) -> bool:
        """Drop a waiting request, free of charge; False if it does not wait."""
        tenant = self._tenants.get(request.tenant)
        if tenant is None or request not in tenant.waiting:
            return False
        self._leave(tenant, request)
        self._end(tenant, request)
        return True

    def debit(self, name: str, weight: float, cost: float) -> None:
        """Charge a tenant for work outside of its requests; free while nothing waits or runs."""
        if not self.waiting and not self.running:
            return
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name, weight)
        if not tenant.waiting:
            self._lift(tenant)
        self._pay(tenant, cost)
        if not tenant.waiting and not tenant.running:
            self._resting.set(tenant, tenant.counter)

    def _reserved(self, limit: int) -> int:
        if self._presence.tenants < 2:
            return 0
        return min(limit // _SLOTS_PER_RESERVED, self._most_reserved)

    def _next_to_start(self, limit: int, ceiling: int) -> _Tenant | None:
        first = self._next()
        if first is None or self.room(limit):
            return first
        if self.in_use >= ceiling:
            return None
        # Only slots for tenants below their share are free.
        below = (tenant for tenant in self._backlogged if self._below_share(tenant, limit))
        level = (tenant for tenant in below if _ended(tenant) <= first.counter)
        return min(level, key=lambda tenant: tenant.counter, default=None)

    def _below_share(self, tenant: _Tenant, limit: int) -> bool:
        return tenant.in_use < self._presence.share(tenant.name, tenant.weight) * limit

    def _wake(self, tenant: _Tenant) -> None:
        self._lift(tenant)
        self._waiting_weight += tenant.weight
        if tenant.running < self._most_each:
            self._backlogged.set(tenant, tenant.counter)

    def _lift(self, tenant: _Tenant) -> None:
        """Raise the counter of a tenant that starts to wait to the smallest waiting tenant's."""
        self._resting.discard(tenant)
        behind = self._next() or self._last
        if behind is not None and behind.counter > self._floor:
            self._floor = behind.counter
            self._forget()
        tenant.counter = max(tenant.counter, self._floor)

    def _next(self) -> _Tenant | None:
        while (top := self._backlogged.peek()) is not None:
            key, tenant = top
            if tenant.counter <= key:
                return tenant
            # Counters grow at every token: move a waiting tenant only when it reaches the top.
            self._backlogged.set(tenant, tenant.counter)
        return None

    def _leave(self, tenant: _Tenant, request: QueuedRequest) -> None:
        expected = tenant.waiting.pop(request)
        if tenant.flows is not None:
            tenant.flows.leave(request)
        tenant.expected -= expected
        self._expected -= expected
        self.waiting -= 1
        if not tenant.waiting:
            tenant.expected = 0.0
            self._waiting_weight -= tenant.weight
            self._backlogged.discard(tenant)
            self._last = tenant
        if not self.waiting:
            # Sums of floats drift; in an empty queue they are exactly zero.
            self._expected = self._waiting_weight = 0.0

    def _pay(self, tenant: _Tenant, cost: float) -> None:
        tenant.counter += cost / tenant.weight
        if cost < 0 and tenant in self._backlogged:
            self._backlogged.set(tenant, tenant.counter)

    def _end(self, tenant: _Tenant, request: QueuedRequest) -> None:
        tenant.held -= request.slots
        self._presence.leave(tenant.name)
        if tenant.waiting or tenant.running:
            return
        self._resting.set(tenant, tenant.counter)
        if not self.waiting and not self.running:
            # No tenant is owed service any more: the next tenants all start level.
            self._floor = max(self._floor, *(other.counter for other in self._tenants.values()))
            self._last = None
        self._forget()

    def _forget(self) -> None:
        while (top := self._resting.peek()) is not None and top[0] <= self._floor:
            self._resting.discard(top[1])
            del self._tenants[top[1].name]


def _ended(tenant: _Tenant) -> float:
    """The tenant's counter without the cost of its running requests."""
    return tenant.counter - tenant.unended / tenant.weight
