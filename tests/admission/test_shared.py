"""Tenants' service shared by replicas through a real Redis, and what happens without it."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.processes import PATIENCE_S, eventually
from service.admission.controller import AdmissionController
from service.admission.fair_queue import FairQueue
from service.admission.queued_request import Demand
from service.admission.shared import SharedService, Sums, check_storage
from service.common.aio import beside
from service.context import internal_context
from service.errors import ConfigurationError
from service.settings.admission import AdmissionSettings
from service.tenants.tenant import Tenant
from tests.admission.occupation import Occupation
from tests.admission.requests import request
from tests.tenants.redis_server import RedisServer

_SLOTS = 8
_FAIR_JAIN = 0.98


class Replica:
    """Admission control that shares through a store; counts what its tenants were served."""

    def __init__(self, url: str, pool: str | None = None, slots: int = _SLOTS) -> None:
        self.settings = AdmissionSettings(
            storage=url, pool=pool, exchange_ms=20, max_patience_ms=600_000
        )
        self.admission = AdmissionController(self.settings, Occupation(), slots)
        self.alone: set[str] = set()
        self.outcomes: list[str] = []
        self.served: dict[str, float] = {}
        self.shared = SharedService(self.settings, "m", self.admission, self, self.alone)

    def exchanged(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    async def serve(self, tenant: str, seconds: float = 0.02) -> None:
        """Answer one request of a tenant."""
        context = internal_context("test", PATIENCE_S)
        context.tenant, context.stated_ms = Tenant(tenant), 600_000
        held = await self.admission.acquire(context, Demand(10, 10))
        try:
            await asyncio.sleep(seconds)
            held.charge(10, 0, 10, None)
            self.served[tenant] = self.served.get(tenant, 0.0) + 1
        finally:
            held.release()

    async def client(self, tenant: str) -> None:
        """Ask without end."""
        while True:
            await self.serve(tenant)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    server.kill()
    server.start()
    return server


@asynccontextmanager
async def sharing(replicas: Sequence[Replica]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in replicas:
            await stack.enter_async_context(beside(each.shared.run()))
        yield


@asynccontextmanager
async def asked(
    clients: Sequence[tuple[Replica, str]], each: int = 2 * _SLOTS
) -> AsyncIterator[None]:
    """So many clients of each tenant at each replica ask while the block runs."""
    async with AsyncExitStack() as stack:
        for replica, tenant in clients:
            for _ in range(2 * _SLOTS):
                await stack.enter_async_context(beside(replica.client(tenant)))
        yield


def totals(replicas: Sequence[Replica], tenants: str) -> list[float]:
    return [sum(each.served.get(tenant, 0.0) for each in replicas) for tenant in tenants]


def jain(amounts: Sequence[float]) -> float:
    return sum(amounts) ** 2 / (len(amounts) * sum(each * each for each in amounts))


async def served_fairly(replicas: Sequence[Replica], tenants: str, answers: int) -> float:
    """Jain's index of the next so many answers."""
    before = totals(replicas, tenants)
    await eventually(lambda: sum(totals(replicas, tenants)) >= sum(before) + answers)
    return jain([now - then for now, then in zip(totals(replicas, tenants), before, strict=True)])


async def test_a_tenant_pinned_to_one_replica_gets_as_much_as_those_on_all(
    redis: RedisServer,
) -> None:
    replicas = [Replica(redis.url) for _ in range(2)]
    clients = [(replicas[0], "a"), *((each, name) for each in replicas for name in "bc")]
    async with asked(clients):
        alone = await served_fairly(replicas, "abc", 1000)
        async with sharing(replicas):
            await eventually(lambda: not any(each.alone for each in replicas))
            await served_fairly(replicas, "abc", 200)
            together = await served_fairly(replicas, "abc", 1000)
    assert alone < 0.9
    assert together > _FAIR_JAIN


async def test_a_replica_that_loses_the_store_is_fair_alone_and_joins_again(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    replicas = [Replica(redis.url) for _ in range(2)]
    clients = [(replicas[0], "a"), *((each, name) for each in replicas for name in "bc")]
    async with asked(clients), sharing(replicas):
        await eventually(lambda: not any(each.alone for each in replicas))
        redis.kill()
        await eventually(lambda: all(each.alone == {"m"} for each in replicas))
        for each in replicas:
            await eventually(lambda: each.outcomes.count("error") >= 2)  # noqa: B023
        lost = [each.message for each in caplog.records if "does not answer" in each.message]
        assert len(lost) == len(replicas)
        assert all(redis.url not in each for each in lost)
        assert await served_fairly(replicas, "abc", 400) < 0.95
        redis.start()
        await eventually(lambda: not any(each.alone for each in replicas))
        await served_fairly(replicas, "abc", 200)
        assert await served_fairly(replicas, "abc", 1000) > _FAIR_JAIN


async def test_no_request_waits_for_a_store_that_hangs(redis: RedisServer) -> None:
    replica = Replica(redis.url)
    async with sharing([replica]):
        await eventually(lambda: not replica.alone)
        redis.freeze()
        try:
            exchanges = len(replica.outcomes)
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(50):
                    await replica.serve("a", seconds=0.0)
            # All were answered before the exchange under way had ended, whatever that took.
            assert len(replica.outcomes) - exchanges <= 1
            await eventually(lambda: replica.outcomes[-1] == "timeout")
            assert replica.alone == {"m"}
        finally:
            redis.thaw()
        await eventually(lambda: not replica.alone)


async def test_what_was_served_alone_is_not_reported_afterwards(redis: RedisServer) -> None:
    here, there = Replica(redis.url), Replica(redis.url)
    charged: list[dict[str, float]] = []
    there.admission.add_elsewhere = charged.append  # type: ignore[method-assign,assignment]
    async with sharing([here, there]):
        await eventually(lambda: not here.alone and not there.alone)
        redis.kill()
        await eventually(lambda: here.alone and there.alone)
        await here.serve("lost")
        redis.start()
        await eventually(lambda: not here.alone and not there.alone)
        await here.serve("new")

        def news() -> float:
            return sum(each.get("default:new", 0.0) for each in charged)

        await eventually(lambda: news() >= 30.0)
    assert {name for each in charged for name in each} == {"default:new"}
    assert news() == pytest.approx(30.0)


async def test_pools_and_models_share_with_their_own_only(redis: RedisServer) -> None:
    here, other = Replica(redis.url, pool="one"), Replica(redis.url, pool="two")
    charged: list[dict[str, float]] = []
    other.admission.add_elsewhere = charged.append  # type: ignore[method-assign,assignment]
    async with sharing([here, other]):
        await eventually(lambda: not here.alone and not other.alone)
        await here.serve("a")
        await eventually(lambda: len(other.outcomes) > 20)
    assert not any(charged)


async def test_the_sums_end_by_themselves(redis: RedisServer) -> None:
    replica = Replica(redis.url)
    async with sharing([replica]):
        await eventually(lambda: not replica.alone)
        await replica.serve("a")
    assert 0 < redis.ends_in("llm-service/served/*") <= 60


def test_an_address_that_cannot_be_used_is_refused() -> None:
    settings = AdmissionSettings(storage="redis://host:secret")
    with pytest.raises(ConfigurationError, match=r"^admission\.storage: ") as refused:
        check_storage(settings)
    assert "secret" not in str(refused.value)


def test_sums_without_what_was_sent_are_the_others() -> None:
    sums = Sums()
    assert sums.others({"": "1", "a": "100"}, {}) == {}
    assert sums.others({"": "1", "a": "115.5", "b": "3"}, {"a": 10}) == {"a": 5.5, "b": 3}
    # A new hash: all of it came since.
    assert sums.others({"": "2", "a": "7"}, {"a": 3}) == {"a": 4}
    # Another replica's prompts were cached: 4 less, which the next 6 make up for.
    assert sums.others({"": "2", "a": "3"}, {}) == {}
    assert sums.others({"": "2", "a": "9"}, {}) == {"a": 2}
    sums.forget()
    assert sums.others({"": "2", "a": "50"}, {}) == {}


@given(st.integers(1, 64), st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.booleans())
def test_nobody_starves_and_few_slots_idle_whatever_others_served(
    limit: int, prompts: list[int], still: bool
) -> None:
    queue, starts = FairQueue(), Counter[str]()
    queue.take_served()
    lengths = cycle(prompts)

    def ask(tenant: str) -> None:
        queue.push(request(tenant, prompt=next(lengths)), 1.0)

    for tenant in "ab" * (limit + 1):
        ask(tenant)
    queue.add_elsewhere("b", 1e9, math.inf)
    while starts.total() < 640:
        if (started := queue.pop(limit)) is not None:
            starts[started.tenant] += 1
            ask(started.tenant)
            continue
        assert queue.in_use >= limit - min(4, limit // 8)
        queue.finish(next(iter(queue.running)))
        if still:
            queue.add_elsewhere("b", 1000.0, math.inf)
    assert 640 // 20 <= starts["b"] <= 640 // 6


def test_a_pause_earns_no_credit_over_replicas() -> None:
    queue = FairQueue()
    queue.take_served()
    for _ in range(3):
        queue.push(request("a"), 1.0)
    queue.pop(1)
    queue.add_elsewhere("b", 500.0, 1e9)
    queue.push(request("b"), 1.0)
    queue.push(request("c"), 1.0)
    order = []
    while queue.waiting:
        queue.finish(next(iter(queue.running)))
        started = queue.pop(1)
        assert started is not None
        order.append(started.tenant)
    # b got more elsewhere, so it comes last; c, which had nothing, comes level with a.
    assert order[-1] == "b"
    assert set(order[:2]) == {"a", "c"}


def test_an_imbalance_is_not_remembered_for_long() -> None:
    queue = FairQueue()
    queue.take_served()
    for _ in range(40):
        queue.push(request("a"), 1.0)
    for _ in range(40):
        queue.push(request("b"), 1.0)
    queue.add_elsewhere("b", 1e6, 100.0)
    order = []
    for _ in range(40):
        if queue.running:
            queue.finish(next(iter(queue.running)))
        started = queue.pop(1)
        assert started is not None
        order.append(started.tenant)
    assert order[:7] == ["a"] * 7
    assert 4 <= order[-10:].count("b") <= 6


def test_without_sharing_nothing_is_counted() -> None:
    queue = FairQueue()
    queue.push(request("a"), 1.0)
    queue.pop(1)
    assert queue.take_served() == {}
    queue.charge(next(iter(queue.running)), output=5)
    assert queue.take_served() == {"a": 10.0}
    assert queue.take_served() == {}
