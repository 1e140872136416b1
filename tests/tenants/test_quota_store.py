"""Quotas counted in memory and in a real Redis, and what a dead Redis costs."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from service.errors import ConfigurationError, InvalidRequest, TooManyRequests, Unavailable
from service.tenants import quota_store
from service.tenants.quota_store import QuotaStore
from service.tenants.tenant import Quota, Tenant
from tests.tenants.redis_server import RedisServer

DAY = 86_400
TENANT = Tenant("t", quotas=(Quota("tokens", 100, 60), Quota("tokens", 150, DAY)))
REQUESTS = Tenant("r", quotas=(Quota("requests", 2, 60),))


class Failures:
    """Implements `tenants.TenancyObserver`; remembers why the store did not answer, each time."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def quota_store_failed(self, reason: str) -> None:
        self.reasons.append(reason)

    def keys_read(self, accepted: bool) -> None:
        raise AssertionError(accepted)

    def weights_read(self, weights: object) -> None:
        raise AssertionError(weights)


class Clock:
    """Seconds since 1970 that a test moves: 20 s into a minute, and into a day."""

    now = 20_000.0 * DAY + 20

    def __call__(self) -> float:
        return self.now


class Stage:
    """A store with a clock of its own, closed at the end of the block."""

    def __init__(self, url: str, *, fail_open: bool = True, timeout_s: float = 5.0) -> None:
        self.failures, self.clock = Failures(), Clock()
        self.store = QuotaStore(
            url,
            timeout_s=timeout_s,
            fail_open=fail_open,
            observer=self.failures,
            clock=self.clock,
        )

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()

    async def left(self, tenant: Tenant) -> int:
        """Number of tokens that the tenant gets now, found by asking for one at a time."""
        count = 0
        while True:
            try:
                await self.store.take(tenant, "tokens", 1)
            except TooManyRequests:
                return count
            count += 1


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "redis", "valkey"])
async def stage(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[Stage]:
    url = "memory://"
    if request.param != "memory":
        redis.kill()
        redis.start()
        url = redis.url.replace("redis:", f"{request.param}:")
    async with Stage(url) as stage:
        yield stage


async def test_a_window_that_is_full_refuses_until_it_ends(stage: Stage) -> None:
    for _ in range(2):
        await stage.store.take(REQUESTS, "requests", 1)
    with pytest.raises(TooManyRequests, match=r"2 requests a minute is used up") as refused:
        await stage.store.take(REQUESTS, "requests", 1)
    assert (refused.value.retry_after, refused.value.code) == (40, "quota_exceeded")
    stage.clock.now += 40
    await stage.store.take(REQUESTS, "requests", 1)


async def test_what_is_counted_is_the_tenants_own_and_of_one_kind(stage: Stage) -> None:
    await stage.store.take(REQUESTS, "requests", 2)
    assert await stage.store.take(REQUESTS, "tokens", 10**9) == []
    assert await stage.store.take(Tenant("free"), "requests", 10**9) == []
    await stage.store.take(Tenant("other", quotas=REQUESTS.quotas), "requests", 2)


async def test_the_longest_window_that_is_full_says_when_to_come_back(stage: Stage) -> None:
    await stage.store.take(TENANT, "tokens", 100)
    with pytest.raises(TooManyRequests, match="100 tokens a minute") as refused:
        await stage.store.take(TENANT, "tokens", 30)
    assert refused.value.retry_after == 40
    with pytest.raises(TooManyRequests, match="150 tokens a day") as refused:
        await stage.store.take(TENANT, "tokens", 51)
    assert refused.value.retry_after == DAY - 20


async def test_a_refusal_counts_nothing_and_giving_back_makes_room(stage: Stage) -> None:
    windows = await stage.store.take(TENANT, "tokens", 90)
    with pytest.raises(TooManyRequests):
        await stage.store.take(TENANT, "tokens", 11)
    await stage.store.give_back(dict.fromkeys(windows, 50))
    assert await stage.left(TENANT) == 60
    stage.clock.now += 60
    assert await stage.left(TENANT) == 50  # what the day has left


async def test_giving_back_to_a_window_that_has_ended_adds_nothing_to_the_next(
    stage: Stage,
) -> None:
    windows = await stage.store.take(TENANT, "tokens", 90)
    stage.clock.now += 60
    await stage.store.give_back(dict.fromkeys(windows, 90))
    assert await stage.left(TENANT) == 100


async def test_more_than_a_whole_window_is_no_matter_of_waiting(stage: Stage) -> None:
    with pytest.raises(
        InvalidRequest, match=r"may take 101 tokens.*100 tokens a minute"
    ) as refused:
        await stage.store.take(TENANT, "tokens", 101)
    assert (refused.value.code, refused.value.param) == ("quota_too_small", "max_tokens")
    assert await stage.left(TENANT) == 100


async def test_a_period_without_a_name_is_told_in_seconds() -> None:
    tenant = Tenant("s", quotas=(Quota("requests", 1, 90),))
    async with Stage("memory://") as stage:
        with pytest.raises(InvalidRequest, match="1 requests a 90 s"):
            await stage.store.take(tenant, "requests", 2)


async def test_standings_say_what_is_left_and_until_when(stage: Stage) -> None:
    await stage.store.take(TENANT, "tokens", 30)
    minute, day = stage.store.standings(TENANT)
    assert (minute.left, minute.resets_s) == (70, 40)
    assert (day.left, day.resets_s) == (120, DAY - 20)


async def test_many_at_once_get_exactly_what_there_is(stage: Stage) -> None:
    takes = [stage.store.take(TENANT, "tokens", 1) for _ in range(130)]
    outcomes = await asyncio.gather(*takes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyRequests)]
    assert len(refused) == 30
    assert stage.failures.reasons == []


async def test_replicas_count_together(redis: RedisServer) -> None:
    redis.kill()
    redis.start()
    async with Stage(redis.url) as first, Stage(redis.url) as second:
        await first.store.take(TENANT, "tokens", 60)
        with pytest.raises(TooManyRequests):
            await second.store.take(TENANT, "tokens", 60)
        assert await second.left(TENANT) == 40


@pytest.mark.parametrize("death", ["killed", "frozen"])
@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_dead_redis_follows_the_policy_after_a_bounded_wait(
    death: str, fail_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server:
        url = server.url.replace("//", "//:hunter2@") if death == "killed" else server.url
        server.kill() if death == "killed" else server.freeze()
        async with Stage(url, fail_open=fail_open, timeout_s=0.05) as stage:
            outcomes, told = Counter[type](), set[object]()
            for _ in range(1000):  # all of them waiting would take 50 s
                try:
                    await stage.store.take(TENANT, "tokens", 1)
                except (TooManyRequests, Unavailable) as refused:
                    outcomes[type(refused)] += 1
                    told.add((refused.code, refused.retry_after))
                else:
                    outcomes[type(None)] += 1
        assert 3 <= len(stage.failures.reasons) <= 23
        assert ("error" if death == "killed" else "timeout") in stage.failures.reasons
    # The first two of three failures are taken for slow moments, and counted here.
    here, refusal = (100, TooManyRequests) if fail_open else (2, Unavailable)
    assert outcomes == {type(None): here, refusal: 1000 - here}
    assert told == {("quota_exceeded", 40) if fail_open else ("quota_store_unavailable", 1)}
    own = [record for record in caplog.records if record.name == quota_store.__name__]
    assert [record.levelname for record in own] == ["ERROR"]
    policy = "are counted by each replica alone" if fail_open else "get a 503"
    assert re.fullmatch(rf"the quota store failed \(\w*Error\): requests {policy}", own[0].message)
    assert "hunter2" not in caplog.text


async def test_what_was_used_before_the_store_failed_counts_without_it() -> None:
    with RedisServer() as server:
        async with Stage(server.url) as stage:
            await stage.store.take(TENANT, "tokens", 90)
            server.kill()
            assert await stage.left(TENANT) == 10


async def test_a_redis_that_comes_back_counts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", quota_store.__name__)
    with RedisServer() as server:
        async with Stage(server.url, timeout_s=60.0) as stage:
            await stage.store.take(TENANT, "tokens", 10)
            server.kill()
            for _ in range(5):
                await stage.store.take(TENANT, "tokens", 10)
            assert len(stage.failures.reasons) == 3
            server.start()
            monkeypatch.setattr(stage.store, "_rests_until", 0.0)
            await stage.store.take(TENANT, "tokens", 1)
            assert set(server.counts().values()) == {51}  # it began anew, and is told of the five
            assert caplog.messages[-1] == "the quota store answers again"
            assert await stage.left(TENANT) == 49


async def test_a_redis_that_thaws_is_not_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tenants.quota_store.REST_SECONDS", 0.0)
    with RedisServer() as server:
        async with Stage(server.url, timeout_s=1.0) as stage:
            await stage.store.take(TENANT, "tokens", 1)
            server.freeze()
            await stage.store.take(REQUESTS, "requests", 1)
            assert stage.failures.reasons == ["timeout"]
            server.thaw()
            # A late answer to the request before must not be taken for this one's.
            other = Tenant("other", quotas=TENANT.quotas)
            await stage.store.take(other, "tokens", 60)
            assert await stage.left(other) == 40


async def test_a_burst_of_one_tenant_does_not_switch_its_quota_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More requests than the store answers in its time, a few at once."""
    with RedisServer() as server:
        async with Stage(server.url, timeout_s=1.0) as stage:
            assert stage.store._shared is not None
            answered_at_once = stage.store._shared.incr
            under_way = most = 0

            async def incr(*counted: Any) -> int:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0.03)
                under_way -= 1
                return await answered_at_once(*counted)

            monkeypatch.setattr(stage.store._shared, "incr", incr)
            takes = [stage.store.take(TENANT, "tokens", 1) for _ in range(1000)]
            outcomes = await asyncio.gather(*takes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyRequests)]
    assert len(outcomes) - len(refused) <= 100
    assert most == 2 * quota_store._AT_ONCE  # each counts in two windows
    assert stage.failures.reasons == []


async def test_failures_on_demand_give_a_tenant_hardly_more_than_its_quota(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.tenants.quota_store.REST_SECONDS", 0.0)
    taken = 0
    with RedisServer() as server:
        async with Stage(server.url, timeout_s=0.2) as stage:
            for _ in range(5):
                for change in (server.freeze, server.thaw):
                    change()
                    takes = [stage.store.take(TENANT, "tokens", 1) for _ in range(40)]
                    for outcome in await asyncio.gather(*takes, return_exceptions=True):
                        taken += not isinstance(outcome, TooManyRequests)
    assert stage.failures.reasons
    # Of 400. What was given back in the instant of a failure may be given back twice.
    assert taken <= 120


@pytest.mark.parametrize("url", ["memory", "redis"])
async def test_a_late_loop_is_no_failure_of_the_store(url: str, redis: RedisServer) -> None:
    redis.kill()
    redis.start()
    address = redis.url if url == "redis" else "memory://"
    async with Stage(address, timeout_s=0.5) as stage:
        await stage.store.take(REQUESTS, "requests", 1)
        for _ in range(3):
            taken = asyncio.create_task(stage.store.take(TENANT, "tokens", 1))
            await asyncio.sleep(0)  # it is under way now, and the loop stands still
            asyncio.get_running_loop().call_soon(time.sleep, 1.0)
            await taken
        assert stage.failures.reasons == []


@pytest.mark.parametrize("url", ["redis://host:port", "redis+sentinel://host:1", "ftp://host"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"quotas\.storage: cannot be used") as refused:
        Stage(url)
    assert "host" not in str(refused.value)


def test_real_time_is_the_default() -> None:
    store = QuotaStore("memory://", timeout_s=1, fail_open=True, observer=Failures())
    assert store._clock is time.time
