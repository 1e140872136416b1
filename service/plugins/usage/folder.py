"""Usage in a SQLite file, which processes of one machine may share."""

from dataclasses import astuple
from pathlib import Path
from sqlite3 import Connection

from service.common.database import Database
from service.common.local_disk import make_local
from service.plugins.usage.row import SECONDS, Amounts, Batch, Kind, Question, UsageRow

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
    """Counts in a file below a folder; implements `usage.store.UsageStore`.

    Raises ConfigurationError for a folder that cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        make_local("usage.path", folder)
        self._database = Database(folder / DATABASE, (_FIRST, _WITH_OBJECTIVES))

    async def add(self, batch: Batch) -> None:
        """Add a batch in one transaction; raises as `Database.run`, and has added nothing then."""
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
