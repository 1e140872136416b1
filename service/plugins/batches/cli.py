"""List, show and cancel batches.

By default the commands ask the service, and see the batches of the tenant whose key is in
OPENAI_API_KEY. With --store they read a store directly, and see the batches of all tenants; the
store is a folder of this machine or the address of a shared store.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from service.common.command_line import one_message, print_table, service_address
from service.errors import ConfigurationError, NotFound, ServiceError
from service.plugins.batches.bodies import BatchBody
from service.plugins.batches.local_store import DATABASE, LocalStore
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.shared_store import SharedStore
from service.plugins.batches.store import Batch, Store

app = typer.Typer(no_args_is_help=True, help=__doc__)

_Question = Callable[[Store], Awaitable[Batch | list[Batch]]]
_KEY = "OPENAI_API_KEY"
_SECONDS = 60
_URL = "http://127.0.0.1:8000"

Url = Annotated[
    str | None, typer.Option("--url", "-u", help=f"Address of the service; default {_URL}.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        envvar="LLM_SERVICE_BATCHES__STORAGE",
        show_envvar=True,
        help="Folder of `batches.path` or address of `batches.storage`, in place of --url; give "
        "an address with a password by the environment variable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of the batch.")]


@app.command("list")
def list_(
    url: Url = None,
    store: StoreOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Batches to list, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List batches and how far they are.

    Example: llm-service batches list --store /var/lib/llm-service/batches
    """
    path = f"?limit={limit}"
    batches = _fetch(url, store, "GET", path, lambda store: _newest(store, limit))["data"]
    if as_json:
        typer.echo(json.dumps(batches))
        return
    columns = ("batch", "tenant", "status", "answered", "errors", "lines", "made", "expires")
    print_table(columns, map(_row, batches))


@app.command()
def show(batch: BatchId, url: Url = None, store: StoreOption = None) -> None:
    """Print a batch as JSON.

    Example: llm-service batches show batch_0f3c --url https://llm.example.com
    """
    found = _fetch(url, store, "GET", f"/{batch}", lambda store: _find(store, batch))
    typer.echo(json.dumps(found, indent=2))


@app.command()
def cancel(batch: BatchId, url: Url = None, store: StoreOption = None) -> None:
    """End a batch; what is answered by then is kept.

    Example: llm-service batches cancel batch_0f3c --store /var/lib/llm-service/batches
    """
    found = _fetch(url, store, "POST", f"/{batch}/cancel", lambda store: _cancel(store, batch))
    typer.echo(f"{found['id']}: {found['status']}")


def _fetch(url: str | None, store: str | None, method: str, path: str, ask: _Question) -> Any:
    """Ask the store if there is one and no URL, else the service; returns its JSON.

    An error ends the command with its message.
    """
    with one_message():
        if url or not store:
            return _request(url or _URL, method, path)
        try:
            return asyncio.run(_read(store, ask))
        except ServiceError as error:
            raise ConfigurationError(error.message) from error


def _request(url: str, method: str, path: str) -> Any:
    """Send a request about batches to the service at a URL; returns its JSON."""
    key = os.environ.get(_KEY)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    address = f"{service_address(url)}/v1/batches{path}"
    try:
        answer = httpx.request(method, address, headers=headers, timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"{url}: cannot be reached: {error}") from error
    if answer.is_error:
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = "this is not an answer of llm-service; is the address right?"
        raise ConfigurationError(f"{url}: {answer.status_code}: {message}")
    return answer.json()


async def _read(place: str, ask: _Question) -> Any:
    """What `ask` finds in the store at a folder or address, as JSON like the service's."""
    store = _open(place)
    try:
        found = await ask(store)
    finally:
        await store.close()
    return _body(found) if isinstance(found, Batch) else {"data": [*map(_body, found)]}


def _open(place: str) -> Store:
    """Open a service's store, also while the service runs; ConfigurationError if there is none."""
    if "://" in place:
        return SharedStore(place, BatchSettings())
    if not (Path(place) / DATABASE).exists():
        raise ConfigurationError(f"{place}: no folder of batches: it has no {DATABASE}")
    return LocalStore(Path(place), BatchSettings())


async def _newest(store: Store, limit: int) -> list[Batch]:
    """At most `limit` batches of all tenants, the newest first."""
    found = [*reversed(await store.unfinished()), *await store.ended(limit)]
    return sorted(found, key=lambda batch: -batch.created_at)[:limit]


async def _find(store: Store, batch_id: str) -> Batch:
    """A batch of any tenant."""
    try:
        return await store.batch(None, batch_id)
    except NotFound:
        raise ConfigurationError(
            f"there is no batch {batch_id[:64]!r}; `llm-service batches list` shows the latest"
        ) from None


async def _cancel(store: Store, batch_id: str) -> Batch:
    """Ask a batch to end; a running service does so within a second."""
    batch = await _find(store, batch_id)
    return await store.cancel(batch.tenant, batch.id)


def _body(batch: Batch) -> dict[str, Any]:
    return {"tenant": batch.tenant, **BatchBody.of(batch).model_dump(mode="json")}


def _row(batch: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a batch in the list."""
    counts = batch["request_counts"]
    numbers = (str(counts[name]) for name in ("completed", "failed", "total"))
    times = (_time(batch[name]) for name in ("created_at", "expires_at"))
    return batch["id"], batch.get("tenant", ""), batch["status"], *numbers, *times


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
