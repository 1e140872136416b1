"""`llm-service usage`: what tenants used, for an operator."""

import asyncio
import csv
import sys
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from service.common.command_line import one_message, print_table
from service.errors import ConfigurationError
from service.plugins.usage.stores import (
    DATABASE,
    Amounts,
    Kind,
    Question,
    SharedUsage,
    UsageFolder,
    UsageRow,
    UsageStore,
)

_MOST_ROWS = 1_000_000
_COLUMNS = ("start", *(each.name for each in (*fields(Kind), *fields(Amounts))))


def usage(
    store: Annotated[
        str,
        typer.Option(
            "--store",
            "-s",
            envvar="LLM_SERVICE_USAGE__STORAGE",
            show_envvar=True,
            help="Folder of `usage.path`, or address of `usage.storage`; give an address with a "
            "password by the environment variable.",
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=3660, help="Days to show, up to now (UTC).")] = 30,
    by_hour: Annotated[bool, typer.Option("--by-hour", help="By the hour, not the day.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant; default all.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print requests and tokens by tenant, model, adapter, route and tier.

    Example: llm-service usage --store /var/lib/llm-service/usage --days 7 --csv
    """
    with one_message():
        kept = _open(store)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        start, end = today - timedelta(days=days - 1), today + timedelta(days=1)
        question = Question(
            int(start.timestamp()),
            int(end.timestamp()),
            "hour" if by_hour else "day",
            tenant,
            _MOST_ROWS,
        )
        lines = [_line(row) for row in asyncio.run(_read(kept, question))]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, _COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
        return
    print_table(_COLUMNS, ([str(value) for value in line.values()] for line in lines))


def _open(store: str) -> UsageStore:
    if "://" in store:
        return SharedUsage(store)
    folder = Path(store)
    if not (folder / DATABASE).exists():
        raise ConfigurationError(f"{folder}: no folder of usage: it has no {DATABASE}")
    return UsageFolder(folder)


async def _read(store: UsageStore, question: Question) -> list[UsageRow]:
    try:
        return await store.read(question)
    finally:
        await store.close()


def _line(row: UsageRow) -> dict[str, Any]:
    start = datetime.fromtimestamp(row.start, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return {"start": start, **asdict(row.kind), **asdict(row.amounts)}
