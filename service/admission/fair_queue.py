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

Five points go beyond the paper. A request of several sequences starts as soon as one slot is free,
and borrows the others, up to `slots - 1`, beyond the limit, so it cannot starve. A prompt is
charged in full at the start, and its cached part given back once the engine has reported it. While
several tenants are active, an eighth of the slots, at most 4, is reserved for tenants that hold
fewer than their share, so a tenant with few requests finds a free slot. For such a slot tenants are
compared without the cost of their running requests; otherwise a request that came a moment ago,
whose prompt is paid already, would delay its tenant's next one. U bounds these costs, so the bound
above still holds. Such a tenant may also start above a limit that was just lowered, up to the
engine's maximum. Replicas may share counters (shared.py): then what others served counts, too. So
that no tenant starves here, reserved slots that no other may take go by what tenants got here, and
so does every eighth start where none are reserved.
"""

import math
from collections import defaultdict
from dataclasses import replace

from service.admission.flows import Account, Flows
from service.admission.queued_request import (
    OUTPUT_PRICE,
    ActiveTenants,
    Backlog,
    LazyHeap,
    QueuedRequest,
    Usage,
)

_SLOTS_PER_RESERVED = 8
_STARTS_IN_ORDER = 8


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
        self._tenants: dict[str, Account] = {}
        self._backlogged: LazyHeap[Account] = LazyHeap()
        self._resting: LazyHeap[Account] = LazyHeap()
        self.running: dict[QueuedRequest, Usage] = {}
        """The running requests, and their tokens so far."""
        self._floor = 0.0
        self._last: Account | None = None
        self._expected = 0.0
        self._waiting_weight = 0.0
        self._presence = ActiveTenants()
        self._served: defaultdict[str, float] | None = None
        self._starts = 0
        self._fillers: set[QueuedRequest] = set()

    @property
    def tenants(self) -> int:
        """Tenants remembered: those with requests or with a counter above a newcomer's."""
        return len(self._tenants)

    def tick(self, now: float) -> None:
        """Advance the clock, in seconds; tenants that have been away for long lose their share."""
        self._presence.tick(now)

    def room(self, limit: int) -> bool:
        """True if an unreserved slot of `limit` is free."""
        return self.in_use < limit - max(0, self._reserved(limit) - len(self._fillers))

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

    def _backlog(self, request: QueuedRequest, tenant: Account | None) -> Backlog:
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
            tenant = self._tenants[request.tenant] = Account(request.tenant, request.weight)
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
        tenant, fills = self._next_to_start(limit, max(limit, ceiling))
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
        if fills:
            self._fillers.add(request)
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
        added, tenant = OUTPUT_PRICE * tokens, self._tenants[request.tenant]
        tenant.unended += added
        service = added / tenant.weight
        tenant.counter += service
        if self._served is not None:
            self._served[tenant.name] += service
        if tenant.flows is not None:
            tenant.flows.pay(request, added)
        return added

    def finish(self, request: QueuedRequest) -> Usage:
        """End a running request, give its slots back; raises KeyError unless it runs."""
        usage, tenant = self.running.pop(request), self._tenants[request.tenant]
        self._fillers.discard(request)
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
        self._pay(tenant := self._account(name, weight), cost)
        self._rest(tenant)

    def take_served(self) -> dict[str, float]:
        """Service of each tenant, divided by its weight, since the last call; the first begins."""
        served, self._served = self._served, defaultdict(float)
        return served or {}

    def add_elsewhere(self, name: str, service: float, most: float) -> None:
        """Charge a tenant for service on other replicas, divided by its weight, as `debit` does.

        It puts the tenant at most `most` behind the next one, however long others lag.
        """
        if not self.waiting and not self.running:
            return
        tenant = self._account(name, 1.0)
        behind = self._next() or self._last
        level = self._floor if behind is None else behind.counter
        before = tenant.counter
        tenant.counter = max(before, min(before + service, level + most))
        tenant.elsewhere += tenant.counter - before
        self._rest(tenant)

    def _account(self, name: str, weight: float) -> Account:
        """The tenant, which gets no credit for not waiting."""
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Account(name, weight)
        if not tenant.waiting:
            self._lift(tenant)
        return tenant

    def _rest(self, tenant: Account) -> None:
        if not tenant.waiting and not tenant.running:
            self._resting.set(tenant, tenant.counter)

    def _reserved(self, limit: int) -> int:
        if self._presence.tenants < 2:
            return 0
        return min(limit // _SLOTS_PER_RESERVED, self._most_reserved)

    def _next_to_start(self, limit: int, ceiling: int) -> tuple[Account | None, bool]:
        """The tenant whose turn it is, and whether it fills a reserved slot that is no other's."""
        first = self._next()
        if first is None:
            return None, False
        if self.room(limit):
            return self._in_order(first, limit), False
        if self.in_use >= ceiling:
            return None, False
        # Only slots for tenants below their share are free.
        below = [tenant for tenant in self._backlogged if self._below_share(tenant, limit)]
        level = (tenant for tenant in below if tenant.ended <= first.counter)
        chosen = min(level, key=lambda tenant: tenant.counter, default=None)
        if chosen is not None or self._served is None:
            return chosen, False
        level = (each for each in below if each.ended - each.elsewhere <= first.counter)
        chosen = min(level, key=lambda tenant: tenant.here, default=None)
        return chosen, chosen is not None

    def _in_order(self, first: Account, limit: int) -> Account:
        """The first tenant, or every eighth time the least served here if no slots are reserved."""
        if self._served is None or self._reserved(limit):
            return first
        self._starts = (self._starts + 1) % _STARTS_IN_ORDER
        return first if self._starts else min(self._backlogged, key=lambda tenant: tenant.here)

    def _below_share(self, tenant: Account, limit: int) -> bool:
        return tenant.in_use < self._presence.share(tenant.name, tenant.weight) * limit

    def _wake(self, tenant: Account) -> None:
        self._lift(tenant)
        self._waiting_weight += tenant.weight
        if tenant.running < self._most_each:
            self._backlogged.set(tenant, tenant.counter)

    def _lift(self, tenant: Account) -> None:
        """Raise the counter of a tenant that starts to wait to the smallest waiting tenant's."""
        self._resting.discard(tenant)
        behind = self._next() or self._last
        if behind is not None and behind.counter > self._floor:
            self._floor = behind.counter
            self._forget()
        tenant.counter = max(tenant.counter, self._floor)
        tenant.elsewhere = min(tenant.elsewhere, tenant.counter - self._floor)

    def _next(self) -> Account | None:
        while (top := self._backlogged.peek()) is not None:
            key, tenant = top
            if tenant.counter <= key:
                return tenant
            # Counters grow at every token: move a waiting tenant only when it reaches the top.
            self._backlogged.set(tenant, tenant.counter)
        return None

    def _leave(self, tenant: Account, request: QueuedRequest) -> None:
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

    def _pay(self, tenant: Account, cost: float) -> None:
        service = cost / tenant.weight
        tenant.counter += service
        if self._served is not None:
            self._served[tenant.name] += service
        if cost < 0 and tenant in self._backlogged:
            self._backlogged.set(tenant, tenant.counter)

    def _end(self, tenant: Account, request: QueuedRequest) -> None:
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
