"""Usage by tenant and hour, and the stores that keep it: in SQLite, or in Redis or Valkey."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, astuple, dataclass, fields
from operator import attrgetter
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal, Protocol

from service.common.aio import gather
from service.common.database import Database
from service.common.files import make_local
from service.common.redis_client import KEY_PREFIX, connect, report_unreachable

Period = Literal["hour", "day"]
SECONDS: dict[Period, int] = {"hour": 3600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that are counted together; `adapter` is the answering adapter's name, or empty."""

    tenant: str
    model: str
    adapter: str
    route: str
    service_tier: str


@dataclass(slots=True)
class Amounts:
    """Ended requests, the refused ones among them, and the tokens of all.

    `with_objectives` requests had objectives; `objectives_kept` of these met all their objectives.
    `cached_tokens` are part of `prompt_tokens`.
    """

    requests: int = 0
    refused: int = 0
    with_objectives: int = 0
    objectives_kept: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, other: "Amounts") -> None:
        """Add other amounts."""
        self.requests += other.requests
        self.refused += other.refused
        self.with_objectives += other.with_objectives
        self.objectives_kept += other.objectives_kept
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Amounts of one kind in the period that begins at `start`, in seconds since 1970."""

    start: int
    kind: Kind
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Question:
    """A query for periods from `start` to before `end`, of one tenant or of all."""

    start: int
    end: int
    period: Period = "day"
    tenant: str | None = None
    limit: int = 1000

    @property
    def hours(self) -> range:
        """The hours, counted from 1970, that begin between `start` and `end`."""
        hour = SECONDS["hour"]
        return range(-(-self.start // hour), -(-self.end // hour))


@dataclass(frozen=True, slots=True)
class Batch:
    """Counts by hour and kind that are written together, under a unique `id`."""

    id: str
    rows: dict[tuple[int, Kind], Amounts]


class UsageStore(Protocol):
    """Keeps usage by the hour; its calls raise Unavailable while it cannot be reached."""

    async def add(self, batch: Batch) -> None:
        """Add the counts of a batch; adding the same batch again has no effect."""

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows of these periods, ordered by their start and kind."""

    async def forget(self, hour: int) -> None:
        """Remove the counts of all hours (since 1970) before this one."""

    async def close(self) -> None:
        """Finish pending work, and close files or connections."""


DATABASE = "usage.sqlite3"
_FIRST = """
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
) WITHOUT ROWID
"""
_WITH_OBJECTIVES = """
ALTER TABLE usage ADD COLUMN with_objectives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN objectives_kept INTEGER NOT NULL DEFAULT 0
"""
_ADD = """
INSERT INTO usage (
    hour, tenant, model, adapter, route, service_tier, requests, refused,
    with_objectives, objectives_kept, prompt_tokens, cached_tokens, completion_tokens
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    refused = refused + excluded.refused,
    with_objectives = with_objectives + excluded.with_objectives,
    objectives_kept = objectives_kept + excluded.objectives_kept,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_READ = """
SELECT hour * 3600 / ? * ? AS start, tenant, model, adapter, route, service_tier,
    SUM(requests), SUM(refused), SUM(with_objectives), SUM(objectives_kept),
    SUM(prompt_tokens), SUM(cached_tokens), SUM(completion_tokens)
FROM usage WHERE hour >= ? AND hour < ? AND (? IS NULL OR tenant = ?)
GROUP BY start, tenant, model, adapter, route, service_tier
ORDER BY start, tenant, model, adapter, route, service_tier LIMIT ?
"""


class UsageFolder:
    """A `UsageStore` that keeps the counts in an SQLite file in a folder.

    Raises ConfigurationError for a folder that cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        make_local("usage.path", folder)
        self._database = Database(folder / DATABASE, (_FIRST, _WITH_OBJECTIVES))

    async def add(self, batch: Batch) -> None:
        """Add a batch in one transaction; after an error of `Database.run` nothing was added."""
        rows = [(hour, *astuple(kind), *astuple(each)) for (hour, kind), each in batch.rows.items()]

        def add(connection: Connection) -> None:
            connection.executemany(_ADD, rows)

        await self._database.run(add)

    async def read(self, question: Question) -> list[UsageRow]:
        seconds, hours = SECONDS[question.period], question.hours
        values = (
            *(seconds, seconds, hours.start, hours.stop),
            *(question.tenant, question.tenant, question.limit),
        )

        def read(connection: Connection) -> list[UsageRow]:
            rows = connection.execute(_READ, values)
            return [UsageRow(row[0], Kind(*row[1:6]), Amounts(*row[6:])) for row in rows]

        return await self._database.run(read)

    async def forget(self, hour: int) -> None:
        await self._database.run(lambda c: c.execute("DELETE FROM usage WHERE hour < ?", (hour,)))

    async def close(self) -> None:
        self._database.close()


_PREFIX = f"{KEY_PREFIX}/usage"
_TENANTS = f"{_PREFIX}/tenants"
_shared_ADD = """
if redis.call("SET", KEYS[1], 1, "NX", "EX", ARGV[1]) then
    for place = 2, #ARGV, 4 do
        redis.call("ZADD", KEYS[2], ARGV[place + 1], ARGV[place + 1])
        redis.call("HINCRBY", KEYS[tonumber(ARGV[place])], ARGV[place + 2], ARGV[place + 3])
    end
end
"""
"""Adds a tenant's part of a batch, unless the batch was added before."""

_KNOWN_SECONDS = 86_400
"""Time for which the id of an added batch is remembered, so that it is not added again."""
HOURS_AT_ONCE = 24
"""Hours in one read: redis-py parses an answer, some us an element, in one go."""
_ORDER = attrgetter("start", *(f"kind.{field.name}" for field in fields(Kind)))


class SharedUsage:
    """Counts at an address of `usage.storage`; implements `UsageStore`.

    A tenant has a sorted set of its hours and, for each hour, a hash. A field of the hash is named
    by a kind of request and an amount. Raises ConfigurationError for an invalid address.
    """

    def __init__(self, address: str) -> None:
        self._client = connect(address, "usage.storage")

    async def add(self, batch: Batch) -> None:
        """Add a batch; a tenant's part of it is added whole, or not at all.

        After an error it is unknown whether it was added, so the same batch must be added again.
        """
        tenants: dict[str, list[tuple[int, Kind, Amounts]]] = defaultdict(list)
        for (hour, kind), amounts in batch.rows.items():
            tenants[kind.tenant].append((hour, kind, amounts))
        with report_unreachable("usage"):
            # First of all, because counts of a tenant that is not listed would not be found.
            await self._client.sadd(_TENANTS, *tenants)
            await gather(self._add(batch.id, name, rows) for name, rows in tenants.items())

    async def _add(self, batch: str, tenant: str, rows: list[tuple[int, Kind, Amounts]]) -> None:
        keys = [_key(tenant, f"batch/{batch}"), _key(tenant, "hours")]
        arguments: list[Any] = [_KNOWN_SECONDS]
        for hour, kind, amounts in rows:
            keys.append(_key(tenant, str(hour)))
            for name, amount in asdict(amounts).items():
                if amount:
                    arguments += [len(keys), hour, _field(kind, name), amount]
        await self._client.eval(_shared_ADD, len(keys), *keys, *arguments)

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows; reads one tenant after another."""
        rows: list[UsageRow] = []
        with report_unreachable("usage"):
            for tenant in await self._tenants(question.tenant):
                rows += await self._rows(tenant, question)
        rows.sort(key=_ORDER)
        return rows[: question.limit]

    async def _rows(self, tenant: str, question: Question) -> list[UsageRow]:
        """A tenant's rows, up to the question's limit and then to the end of the last period."""
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
                await asyncio.sleep(0)  # let other requests run
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
        for place in range(0, len(known), HOURS_AT_ONCE):
            some = known[place : place + HOURS_AT_ONCE]
            pipeline = self._client.pipeline(transaction=False)
            for hour in some:
                pipeline.hgetall(_key(tenant, str(hour)))
            for hour, counted in zip(some, await pipeline.execute(), strict=True):
                yield hour, counted

    async def _known_hours(self, tenant: str, first: int | str, last: int) -> list[int]:
        found = await self._client.zrangebyscore(_key(tenant, "hours"), first, last)
        return [int(hour) for hour in found]

    async def forget(self, hour: int) -> None:
        with report_unreachable("usage"):
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


def usage_store(path: Path | None, storage: str | None) -> UsageStore | None:
    """The store below a folder, or at an address; None without either.

    Raises ConfigurationError for a store that cannot be used.
    """
    if storage is not None:
        return SharedUsage(storage)
    return None if path is None else UsageFolder(path)
