"""Usage in a Redis or Valkey, which replicas share."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any

from service.common.aio import together
from service.common.redis_client import KEY_PREFIX, connect, reached
from service.plugins.usage.row import SECONDS, Amounts, Batch, Kind, Question, UsageRow

_PREFIX = f"{KEY_PREFIX}/usage"
_TENANTS = f"{_PREFIX}/tenants"
_ADD = """
if redis.call("SET", KEYS[1], 1, "NX", "EX", ARGV[1]) then
    for place = 2, #ARGV, 4 do
        redis.call("ZADD", KEYS[2], ARGV[place + 1], ARGV[place + 1])
        redis.call("HINCRBY", KEYS[tonumber(ARGV[place])], ARGV[place + 2], ARGV[place + 3])
    end
end
"""
"""Adds a tenant's part of a batch, unless the batch was added before."""

_KNOWN_SECONDS = 86_400
"""Time for which a batch is known that was added, and would not be added again."""
_HOURS_AT_ONCE = 24
"""Hours that are read at once: redis-py parses an answer without a pause, some us an element."""
_ORDER = attrgetter("start", *(f"kind.{field.name}" for field in fields(Kind)))


class SharedUsage:
    """Counts at an address of `usage.storage`; implements `usage.store.UsageStore`.

    A tenant has a hash for each hour, whose fields are the kinds of requests and names of amounts,
    and a sorted set of the hours that have one. Raises ConfigurationError for an invalid address.
    """

    def __init__(self, address: str) -> None:
        self._client = connect(address, "usage.storage")

    async def add(self, batch: Batch) -> None:
        """Add a batch; a tenant's part of it is added whole, or not at all.

        After an error nobody knows whether it was added, so the same batch must be given again.
        """
        tenants: dict[str, list[tuple[int, Kind, Amounts]]] = defaultdict(list)
        for (hour, kind), amounts in batch.rows.items():
            tenants[kind.tenant].append((hour, kind, amounts))
        with reached("usage"):
            # First of all, because counts of a tenant that is not listed would not be found.
            await self._client.sadd(_TENANTS, *tenants)
            await together(self._add(batch.id, name, rows) for name, rows in tenants.items())

    async def _add(self, batch: str, tenant: str, rows: list[tuple[int, Kind, Amounts]]) -> None:
        keys = [_key(tenant, f"batch/{batch}"), _key(tenant, "hours")]
        arguments: list[Any] = [_KNOWN_SECONDS]
        for hour, kind, amounts in rows:
            keys.append(_key(tenant, str(hour)))
            for name, amount in asdict(amounts).items():
                if amount:
                    arguments += [len(keys), hour, _field(kind, name), amount]
        await self._client.eval(_ADD, len(keys), *keys, *arguments)

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows; asks for the hours of one tenant after the other."""
        rows: list[UsageRow] = []
        with reached("usage"):
            for tenant in await self._tenants(question.tenant):
                rows += await self._rows(tenant, question)
        rows.sort(key=_ORDER)
        return rows[: question.limit]

    async def _rows(self, tenant: str, question: Question) -> list[UsageRow]:
        """A tenant's rows, as many as the question asks for and those of the last one's period."""
        seconds = SECONDS[question.period]
        found: dict[tuple[int, Kind], Amounts] = defaultdict(Amounts)
        last = 0
        async with aclosing(self._hours(tenant, question.hours)) as hours:
            async for hour, counted in hours:
                start = hour * SECONDS["hour"] // seconds * seconds
                if start != last and len(found) >= question.limit:
                    break
                last = start
                for field, amount in counted.items():
                    *kind, name = json.loads(field)
                    found[start, Kind(tenant, *kind)].add(Amounts(**{name: int(amount)}))
                await asyncio.sleep(0)  # let requests in between two hours
        return [UsageRow(start, kind, amounts) for (start, kind), amounts in found.items()]

    async def _tenants(self, one: str | None) -> list[str]:
        if one is not None:
            return [one]
        return sorted(each.decode() for each in await self._client.smembers(_TENANTS))

    async def _hours(
        self, tenant: str, hours: range
    ) -> AsyncGenerator[tuple[int, dict[bytes, bytes]], None]:
        """Pairs of an hour and the fields of its hash."""
        known = await self._known_hours(tenant, hours.start, hours.stop - 1)
        for place in range(0, len(known), _HOURS_AT_ONCE):
            some = known[place : place + _HOURS_AT_ONCE]
            pipeline = self._client.pipeline(transaction=False)
            for hour in some:
                pipeline.hgetall(_key(tenant, str(hour)))
            for hour, counted in zip(some, await pipeline.execute(), strict=True):
                yield hour, counted

    async def _known_hours(self, tenant: str, first: int | str, last: int) -> list[int]:
        found = await self._client.zrangebyscore(_key(tenant, "hours"), first, last)
        return [int(hour) for hour in found]

    async def forget(self, hour: int) -> None:
        with reached("usage"):
            for tenant in await self._tenants(None):
                old = await self._known_hours(tenant, "-inf", hour - 1)
                if old:
                    await self._client.delete(*(_key(tenant, str(each)) for each in old))
                    await self._client.zrem(_key(tenant, "hours"), *old)

    async def close(self) -> None:
        await self._client.aclose()


def _key(tenant: str, rest: str) -> str:
    # Braces keep a tenant's keys on one node of a cluster.
    return f"{_PREFIX}/{{{tenant}}}/{rest}"


def _field(kind: Kind, amount: str) -> str:
    return json.dumps([kind.model, kind.adapter, kind.route, kind.service_tier, amount])
