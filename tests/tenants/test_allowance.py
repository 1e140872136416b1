"""Reserve before, settle after: no token stays reserved, whatever ends a request."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest

from loadtests.processes import eventually
from service.errors import TooManyRequests
from service.tenants.quota_store import Allowance, QuotaStore, Window
from service.tenants.tenant import Counted, Quota, Tenant
from tests.tenants.test_quota_store import Failures

TENANT = Tenant("t", quotas=(Quota("tokens", 100, 86_400), Quota("requests", 2, 86_400)))


class SlowStore(QuotaStore):
    """A store whose answers wait for `answers`."""

    def __init__(self) -> None:
        super().__init__("memory://", timeout_s=5, fail_open=True, observer=Failures())
        self.answers = asyncio.Event()
        self.answers.set()
        self.balance = 0
        self.asked = 0

    async def take(self, tenant: Tenant, counted: Counted, amount: int) -> Sequence[Window]:
        self.asked += 1
        windows = await super().take(tenant, counted, amount)
        self.balance += amount * (counted == "tokens")
        await self.answers.wait()
        return windows

    async def give_back(self, amounts: Mapping[Window, int]) -> None:
        self.balance -= sum(amounts.values())
        await super().give_back(amounts)


async def test_what_was_not_used_is_given_back() -> None:
    store = SlowStore()
    allowance = Allowance(store, TENANT)
    first, second = await allowance.reserve(40), await allowance.reserve(50)
    assert store.balance == 90
    first.used, second.used = 15, 0
    await allowance.settle()
    assert store.balance == 15


async def test_a_refusal_leaves_what_was_reserved_before_to_be_settled() -> None:
    store = SlowStore()
    allowance = Allowance(store, TENANT)
    await allowance.reserve(60)
    with pytest.raises(TooManyRequests):
        await allowance.reserve(60)
    await allowance.settle()
    assert store.balance == 0


async def test_a_request_cancelled_while_it_reserves_settles_all_the_same() -> None:
    store = SlowStore()
    store.answers.clear()
    allowance = Allowance(store, TENANT)
    reserving = asyncio.create_task(allowance.reserve(60))
    await eventually(lambda: store.balance == 60)
    reserving.cancel()
    with suppress(asyncio.CancelledError):
        await reserving
    assert store.balance == 60
    store.answers.set()
    await allowance.settle()
    assert store.balance == 0


async def test_requests_are_counted_once_and_not_given_back() -> None:
    store = SlowStore()
    for _ in range(2):
        allowance = Allowance(store, TENANT)
        await allowance.count_request()
        await allowance.settle()
    with pytest.raises(TooManyRequests, match="2 requests a day"):
        await Allowance(store, TENANT).count_request()


async def test_who_has_no_quota_never_asks_the_store() -> None:
    store = SlowStore()
    for allowance in (Allowance(), Allowance(store, Tenant("free"))):
        await allowance.count_request()
        await allowance.reserve(10**9)
        await allowance.settle()
    assert store.asked == 0


async def test_only_what_a_quota_counts_is_asked_for() -> None:
    store = SlowStore()
    allowance = Allowance(store, Tenant("t", quotas=(Quota("requests", 2, 60),)))
    await allowance.reserve(10**9)
    assert store.asked == 0
    await allowance.count_request()
    assert store.asked == 1


async def test_the_headers_tell_what_is_left_after_the_requests_that_ended() -> None:
    store = SlowStore()
    allowance = Allowance(store, TENANT)
    first, _ = await allowance.reserve(40), await allowance.reserve(50)
    first.used = 15
    assert allowance.headers()["x-ratelimit-remaining-tokens"] == "35"
    for allowance in (Allowance(), Allowance(None, TENANT), Allowance(store, Tenant("free"))):
        assert allowance.headers() == {}
