"""A simulated fleet of replicas: who waits where, by which counters, and what is cached.

The queues are the service's own (`FairQueue`); engines, prefix caches and the load are models. A
request takes a slot for its uncached prompt and its output. The load has the shape of a public
multi-tenant service (Chutes, arXiv 2608.13573: heavy-tailed users, long prompts with common
beginnings, short answers); its parameters are assumed, not fitted.
"""

import math
from bisect import bisect
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate, count
from random import Random
from typing import NamedTuple

from service.admission.fair_queue import FairQueue
from service.admission.queued_request import QueuedRequest, cost_of

SLOTS = 8
_PREFILL_S, _TOKEN_S = 0.25e-3, 0.02
_CACHE_TOKENS = 64_000
_LOAD = 1.4
_MOST_WAITING = 4 * SLOTS
LIGHT = "light-"
"""Beginning of the names of tenants with a short request a second each."""
_EACH_LIGHT_S = 1.0
_SESSIONS = 12


class Ask(NamedTuple):
    """A request: when it comes, of which session (whose beginning is `common` tokens long)."""

    at: float
    tenant: str
    session: int
    connection: int
    prompt: int
    common: int
    output: int


def load(replicas: int, seconds: float, seed: int) -> list[Ask]:
    """Requests for 1.4 times what the replicas can serve, and those of some light tenants."""
    random = Random(f"{seed}/{replicas}")
    tenants = min(200, 8 * replicas)
    parts = list(accumulate(random.paretovariate(1.1) for _ in range(tenants)))
    lights = range(max(2, replicas // 8))
    asks = [each for number in lights for each in _lights(f"{LIGHT}{number}", seconds, random)]
    work = 0.0
    while work < _LOAD * replicas * SLOTS * seconds:
        tenant = bisect(parts, random.uniform(0, parts[-1]))
        of_tenant = Random(tenant)
        common = of_tenant.choice((500, 2000, 6000))
        prompt = common + int(random.lognormvariate(5.5, 1.0))
        output = 1 + int(random.lognormvariate(4.5, 0.8))
        # A tenant has a connection for each part of a thousandth of all requests, at most 64.
        share = (parts[tenant] - (parts[tenant - 1] if tenant else 0.0)) / parts[-1]
        connections = max(1, min(64, round(share * 4 * replicas)))
        asks.append(
            Ask(
                random.uniform(0, seconds),
                f"t{tenant}",
                random.randrange(_SESSIONS),
                random.randrange(connections),
                prompt,
                common,
                output,
            )
        )
        work += prompt * _PREFILL_S + output * _TOKEN_S
    return sorted(asks)


def _lights(name: str, seconds: float, random: Random) -> Iterator[Ask]:
    at = random.uniform(0, _EACH_LIGHT_S)
    while at < seconds:
        yield Ask(at, name, 0, 0, 100, 50, 20)
        at += random.expovariate(1 / _EACH_LIGHT_S)


@dataclass(frozen=True, slots=True)
class Policy:
    """`route`: turns, connections, prefix, or one queue of all; `shared_s`: the time between
    exchanges of counters, 0 without them."""

    route: str
    shared_s: float = 0.0


class Engine:
    """Slots in use, and the sessions whose beginnings are cached, the oldest first."""

    def __init__(self) -> None:
        self.in_use = 0
        self._cached: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._tokens = 0

    def knows(self, ask: Ask) -> int:
        """Tokens of the prompt that are cached."""
        return self._cached.get((ask.tenant, ask.session), 0)

    def read(self, ask: Ask) -> None:
        """Cache the beginning."""
        key = (ask.tenant, ask.session)
        self._tokens += ask.common - self._cached.pop(key, 0)
        self._cached[key] = ask.common
        while self._tokens > _CACHE_TOKENS:
            self._tokens -= self._cached.popitem(last=False)[1]


@dataclass(slots=True)
class Result:
    """Of one run: service by tenant, tokens, and the waits of light tenants."""

    wanted: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    prompt: int = 0
    cached: int = 0
    tokens: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def jain(self) -> float:
        """Jain's index of what each tenant got of its max-min share of all that was served."""
        shares = _max_min(self.wanted, sum(self.served.values()))
        got = [self.served[tenant] / share for tenant, share in shares.items()]
        return sum(got) ** 2 / (len(got) * sum(each * each for each in got))

    @property
    def light_wait(self) -> float:
        """99th percentile of the light tenants' waits, in seconds."""
        return sorted(self.waits)[math.ceil(0.99 * len(self.waits)) - 1]


def _max_min(wanted: Mapping[str, float], total: float) -> dict[str, float]:
    shares, left = {}, len(wanted)
    for tenant, most in sorted(wanted.items(), key=lambda each: each[1]):
        shares[tenant] = min(most, total / left)
        total, left = total - shares[tenant], left - 1
    return shares


class Fleet:
    """Plays a load on so many replicas by a policy."""

    def __init__(self, replicas: int, policy: Policy) -> None:
        self._policy = policy
        self._engines = [Engine() for _ in range(replicas)]
        one = policy.route == "one"
        self._queues = [FairQueue() for _ in range(1 if one else replicas)]
        self._asks: dict[QueuedRequest, Ask] = {}
        self._waiting: Counter[tuple[str, int]] = Counter()
        self._events: list[tuple[float, int, QueuedRequest, int, int]] = []
        self._serial = count()
        self.result = Result()

    def play(self, asks: Sequence[Ask], seconds: float) -> Result:
        """Play the load; what is served later than these seconds does not count."""
        exchange = self._policy.shared_s or math.inf
        for queue in self._queues if self._policy.shared_s else ():
            queue.take_served()
        for ask in asks:
            self._run_until(ask.at)
            while exchange <= ask.at:
                self._exchange()
                exchange += self._policy.shared_s
            self.result.wanted[ask.tenant] += cost_of(ask.prompt, 0, ask.output)
            self._arrive(ask)
        self._run_until(seconds)
        return self.result

    def _run_until(self, at: float) -> None:
        while self._events and self._events[0][0] <= at:
            now, _, request, place, cached = heappop(self._events)
            self._end(now, request, place, cached)

    def _arrive(self, ask: Ask) -> None:
        place = self._placed(ask)
        at = 0 if self._policy.route == "one" else place
        most = _MOST_WAITING * (len(self._engines) if self._policy.route == "one" else 1)
        if self._waiting[ask.tenant, at] >= most:
            return
        self._waiting[ask.tenant, at] += 1
        request = QueuedRequest(ask.tenant, ask.prompt, ask.output, arrival=ask.at)
        self._asks[request] = ask
        self._queues[at].push(request, 1.0)
        self._start(ask.at, place)

    def _placed(self, ask: Ask) -> int:
        """The replica to which a request goes."""
        size, route = len(self._engines), self._policy.route
        if route == "turns":
            return next(self._serial) % size
        if route == "connections":
            return Random(f"{ask.tenant}/{ask.connection}").randrange(size)
        if route == "prefix":
            return Random(f"{ask.tenant}/{ask.session}").randrange(size)
        free = [each for each, engine in enumerate(self._engines) if engine.in_use < SLOTS]
        return max(free, key=lambda each: self._engines[each].knows(ask), default=0)

    def _start(self, now: float, place: int) -> None:
        engine, at = self._engines[place], 0 if self._policy.route == "one" else place
        limit = SLOTS * (len(self._engines) if self._policy.route == "one" else 1)
        while engine.in_use < SLOTS:
            request = self._queues[at].pop(limit)
            if request is None:
                return
            ask = self._asks[request]
            self._waiting[ask.tenant, at] -= 1
            cached = engine.knows(ask)
            engine.read(ask)
            engine.in_use += 1
            self._queues[at].charge(request, cached=cached)
            if ask.tenant.startswith(LIGHT):
                self.result.waits.append(now - ask.at)
            took = (ask.prompt - cached) * _PREFILL_S + ask.output * _TOKEN_S
            heappush(self._events, (now + took, next(self._serial), request, place, cached))

    def _end(self, now: float, request: QueuedRequest, place: int, cached: int) -> None:
        ask, engine = self._asks.pop(request), self._engines[place]
        engine.in_use -= 1
        queue = self._queues[0 if self._policy.route == "one" else place]
        queue.charge(request, cached=cached, output=ask.output)
        queue.finish(request)
        # A cached token is a token served: else a tenant would get less for its locality.
        self.result.served[ask.tenant] += cost_of(ask.prompt, 0, ask.output)
        self.result.prompt += ask.prompt
        self.result.cached += cached
        self.result.tokens += ask.prompt + ask.output
        self._start(now, place)

    def _exchange(self) -> None:
        """Each replica is charged with what the others served, as service/admission/shared.py."""
        told = [queue.take_served() for queue in self._queues]
        total: dict[str, float] = defaultdict(float)
        for tenant, service in (pair for each in told for pair in each.items()):
            total[tenant] += service
        for queue, own in zip(self._queues, told, strict=True):
            for tenant, service in total.items():
                if (others := service - own.get(tenant, 0.0)) > 0:
                    queue.add_elsewhere(tenant, others, math.inf)
