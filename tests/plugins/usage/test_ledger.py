"""The ledger: what is counted, added up and kept, in a file and in a real Redis."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from service.common import redis_client
from service.context import Ending, RequestContext, internal_context
from service.errors import NotReady, ServiceError, TooManyRequests, Unavailable
from service.plugins.usage import stores as shared
from service.plugins.usage.ledger import Ledger
from service.plugins.usage.stores import (
    DATABASE,
    Amounts,
    Batch,
    Kind,
    Question,
    SharedUsage,
    UsageFolder,
    UsageRow,
    UsageStore,
)
from service.tenants.tenant import Tenant, Tier
from tests.tenants.redis_server import RedisServer

DAY = 20_000 * 86_400
OK = Ending("ok", 200)
ALL = Question(0, DAY * 2)
FIRST_VERSION = f"""
CREATE TABLE usage (
    hour INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    adapter TEXT NOT NULL,
    route TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    requests INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, model, adapter, route, service_tier)
) WITHOUT ROWID;
INSERT INTO usage VALUES
    ({DAY // 3600}, 'a', 'm', '', '/v1/generate', 'default', 7, 1, 50, 20, 30),
    ({DAY // 3600}, 'b', 'm', '', '/v1/generate', 'default', 2, 0, 9, 0, 4);
PRAGMA user_version = 1;
"""
"""A file as the service wrote it before it counted objectives."""


Opens = Callable[[], UsageStore]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["folder", "redis"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the same store again and again."""
    if request.param == "folder":
        return lambda: UsageFolder(tmp_path)
    server: RedisServer = request.getfixturevalue("redis")
    return lambda: SharedUsage(server.url)


@pytest.fixture
async def store(opens: Opens) -> AsyncIterator[UsageStore]:
    store = opens()
    yield store
    await store.close()


@pytest.fixture
def ledger(store: UsageStore) -> Ledger:
    return Ledger(store, 400, lambda: DAY + 10)


def request(tenant: str = "a", prompt: int = 0, completion: int = 0, **more: str) -> RequestContext:
    context = internal_context("x", 1)
    context.tenant, context.route = Tenant(tenant), more.get("route", "/v1/generate")
    context.model = "m"
    context.tokens.prompt, context.tokens.completion = prompt, completion
    return context


def kind(tenant: str = "a", tier: str = "default") -> Kind:
    return Kind(tenant, "m", "", "/v1/generate", tier)


async def test_requests_of_one_kind_are_added_up_in_memory_and_in_the_file(ledger: Ledger) -> None:
    ledger.answered(request(prompt=5, completion=2), OK)
    ledger.answered(request(prompt=1), OK)
    await ledger.write()
    ledger.answered(request(), Ending("refused", 429, TooManyRequests("no")))
    flex = request(prompt=3)
    flex.tier = Tier.FLEX
    ledger.answered(flex, OK)
    ledger.answered(request("b"), OK)
    assert await ledger.read(ALL) == [
        UsageRow(DAY, kind(), Amounts(3, 1, 0, 0, 6, 0, 2)),
        UsageRow(DAY, kind(tier="flex"), Amounts(1, 0, 0, 0, 3, 0, 0)),
        UsageRow(DAY, kind("b"), Amounts(1, 0, 0, 0, 0, 0, 0)),
    ]
    (other,) = await ledger.read(Question(0, DAY * 2, tenant="b"))
    assert other.kind.tenant == "b"
    assert len(await ledger.read(Question(0, DAY * 2, limit=2))) == 2


async def test_objectives_that_apply_and_those_that_are_kept_are_counted(ledger: Ledger) -> None:
    ledger.answered(request(), replace(OK, missed=[]))
    ledger.answered(request(), replace(OK, missed=[]))
    ledger.answered(request(), replace(OK, missed=["ttft", "tpot"]))
    ledger.answered(request(), OK)
    (row,) = await ledger.read(ALL)
    assert row.amounts == Amounts(requests=4, with_objectives=3, objectives_kept=2)


async def test_a_file_without_objectives_keeps_its_counts_and_gets_new_ones(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(FIRST_VERSION)
    for turn in (1, 2):
        store = UsageFolder(tmp_path)
        ledger = Ledger(store, 400, lambda: DAY + 10)
        ledger.answered(request(prompt=5, completion=2), replace(OK, missed=[]))
        rows = await ledger.read(ALL)
        await store.close()
        assert rows == [
            UsageRow(
                DAY, kind(), Amounts(7 + turn, 1, turn, turn, 50 + 5 * turn, 20, 30 + 2 * turn)
            ),
            UsageRow(DAY, kind("b"), Amounts(2, 0, 0, 0, 9, 0, 4)),
        ]


async def test_only_known_callers_of_the_engine_are_counted(ledger: Ledger) -> None:
    ledger.answered(request(route="/v1/tokenize"), OK)
    ledger.answered(request(route="unmatched"), OK)
    ledger.answered(request(), Ending("refused", 401, ServiceError()))
    assert await ledger.read(ALL) == []


async def test_hours_and_days_hold_what_ended_in_them(store: UsageStore) -> None:
    now = DAY
    ledger = Ledger(store, 400, lambda: now)
    for hour in range(30):
        now = DAY + hour * 3600 + 3599
        ledger.answered(request(prompt=hour), OK)
    by_day = await ledger.read(ALL)
    assert [(row.start, row.amounts.requests) for row in by_day] == [(DAY, 24), (DAY + 86_400, 6)]
    some = await ledger.read(Question(DAY + 3600, DAY + 3 * 3600, "hour"))
    assert [(row.start, row.amounts.prompt_tokens) for row in some] == [
        (DAY + 3600, 1),
        (DAY + 7200, 2),
    ]


async def test_it_is_kept_over_a_restart_and_forgotten_when_old(opens: Opens) -> None:
    ledger = Ledger(opens(), 1, lambda: DAY)
    async with ledger.kept():
        ledger.answered(request(prompt=7), OK)
    ledger = Ledger(opens(), 1, lambda: DAY + 86_400)
    async with ledger.kept():
        ledger.answered(request(prompt=8), OK)
        await ledger._forget()
        assert [row.amounts.prompt_tokens for row in await ledger.read(ALL)] == [7, 8]
    ledger = Ledger(opens(), 1, lambda: DAY + 2 * 86_400)
    async with ledger.kept():
        await ledger._forget()
        assert [row.amounts.prompt_tokens for row in await ledger.read(ALL)] == [8]


async def test_what_cannot_be_written_is_counted_later(
    ledger: Ledger, store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.answered(request(prompt=1), OK)
    add = store.add

    async def fails(batch: Batch) -> None:
        raise Unavailable("full")

    monkeypatch.setattr(store, "add", fails)
    with pytest.raises(Unavailable):
        await ledger.write()
    ledger.answered(request(prompt=2), OK)
    monkeypatch.setattr(store, "add", add)
    (row,) = await ledger.read(ALL)
    assert row.amounts == Amounts(2, 0, 0, 0, 3, 0, 0)


async def test_replicas_add_up_in_one_redis(redis: RedisServer) -> None:
    stores = [SharedUsage(redis.url) for _ in range(3)]
    replicas = [Ledger(each, 400, lambda: DAY + 10) for each in stores]
    for number, replica in enumerate(replicas, 1):
        for tenant in ("a", "b"):
            replica.answered(request(tenant, prompt=number), OK)
    await asyncio.gather(*(replica.write() for replica in replicas))
    expected = [UsageRow(DAY, kind(name), Amounts(3, prompt_tokens=6)) for name in ("a", "b")]
    for replica in replicas:
        assert await replica.read(ALL) == expected
    for each in stores:
        await each.close()


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_the_first_rows_are_those_of_the_whole(store: UsageStore, limit: int) -> None:
    kinds = [kind(), kind(tier="flex"), kind("b")]
    hours = [day * 24 + hour for day in (1, 2, 3) for hour in (0, 5, 23)]
    await store.add(Batch("1", {(hour, each): Amounts(1) for hour in hours for each in kinds}))
    for period in ("hour", "day"):
        for tenant in ("a", None):
            whole = await store.read(Question(0, DAY, period, tenant))
            assert await store.read(Question(0, DAY, period, tenant, limit)) == whole[:limit]


async def test_a_long_read_of_redis_lets_others_in_and_ends_at_its_limit(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "HOURS_AT_ONCE", 10)
    store = SharedUsage(redis.url)
    await store.add(Batch("1", {(hour, kind()): Amounts(1) for hour in range(1, 101)}))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    assert len(await store.read(Question(0, DAY, "hour", "a", limit=15))) == 15
    task.cancel()
    await store.close()
    assert turns >= 15
    client = redis_client.connect(redis.url, "usage.storage")
    commands = await client.info("commandstats")
    await client.aclose()
    assert commands["cmdstat_hgetall"]["calls"] == 20  # of the 100 hours


async def test_a_batch_that_comes_again_is_counted_once(redis: RedisServer) -> None:
    store = SharedUsage(redis.url)
    rows = {(DAY // 3600, kind(name)): Amounts(1, prompt_tokens=7) for name in ("a", "b")}
    batch = Batch("x", rows)
    await store.add(batch)
    await store.add(batch)
    assert [row.amounts for row in await store.read(ALL)] == [Amounts(1, prompt_tokens=7)] * 2
    await store.add(Batch("y", rows))
    assert [row.amounts.requests for row in await store.read(ALL)] == [2, 2]
    await store.close()


async def test_counts_wait_for_a_redis_that_does_not_answer(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "ANSWER_SECONDS", 2.0)
    store = SharedUsage(redis.url)
    ledger = Ledger(store, 400, lambda: DAY + 10)
    assert await ledger.read(ALL) == []  # connected
    ledger.answered(request(prompt=1), OK)
    redis.freeze()
    with pytest.raises(Unavailable, match="TimeoutError"):
        await ledger.write()
    ledger.answered(request(prompt=2), OK)
    redis.thaw()
    (row,) = await ledger.read(ALL)
    assert row.amounts == Amounts(2, prompt_tokens=3)
    await store.close()


async def test_a_redis_that_is_away_is_told_without_its_address(redis: RedisServer) -> None:
    store = SharedUsage(redis.url.replace("//", "//:hunter2@"))
    redis.kill()
    ledger = Ledger(store, 400)
    ledger.answered(request(), OK)
    with pytest.raises(Unavailable) as caught:
        await ledger.write()
    assert "hunter2" not in str(caught.value)
    await store.close()


async def test_readers_that_leave_lose_and_double_nothing(ledger: Ledger) -> None:
    for turn in range(50):
        ledger.answered(request(prompt=1), Ending("refused", 503, NotReady("x")))
        reading = asyncio.create_task(ledger.read(ALL))
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
    (row,) = await ledger.read(ALL)
    assert row.amounts == Amounts(50, 50, 0, 0, 50, 0, 0)
