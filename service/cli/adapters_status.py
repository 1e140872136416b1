"""`llm-service adapters status`: how far replicas are with the adapters that they should serve."""

import json
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import typer

from service.common.command_line import one_message, print_table, service_address
from service.errors import ConfigurationError
from service.settings.load import parse_adapter_list, read_adapter_list

_URL = "http://127.0.0.1:8001"
_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica said of its adapters; `error` if it did not answer."""

    address: str
    error: str | None = None
    converged: bool = False
    list_digest: str | None = None
    list_error: str | None = None
    adapters: Sequence[dict[str, Any]] = field(default_factory=list)


def status(
    at: Annotated[
        list[str] | None,
        typer.Option(help="Address of an admin port; may be given several times."),
    ] = None,
    fleet: Annotated[
        bool,
        typer.Option(
            "--fleet", help="Ask every address of each name, as a headless Service has them."
        ),
    ] = False,
    list_: Annotated[
        Path | None,
        typer.Option("--list", help="The list that replicas must have read, as `adapters_path`."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until all have converged.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show which adapters replicas should serve and which they serve, by their admin ports.

    Exit codes: 0 each replica serves what it should, all of them the same; 1 not (yet); 2 the
    command cannot be used.

    Example: llm-service adapters status --at http://llm-ops.inference:8001 --fleet --wait 300
    """
    with one_message():
        expected = None
        if list_ is not None:
            expected = parse_adapter_list(list_, read_adapter_list(list_)).digest
        deadline = time.monotonic() + wait
        while True:
            addresses = _addresses(at or [_URL], fleet)
            replicas = replicas_at(addresses)
            faults = faults_of(replicas, expected)
            if not faults or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
    if as_json:
        told = {"converged": not faults, "faults": faults, "replicas": [*map(asdict, replicas)]}
        typer.echo(json.dumps(told))
    else:
        _print(replicas)
        for fault in faults:
            typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(1)


def _addresses(given: Iterable[str], every: bool) -> list[str]:
    """Base addresses of admin ports, sorted; with `every`, one for each address of a name."""
    found = set[str]()
    for each in given:
        url = urlsplit(service_address(each))
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigurationError(f"--at {each}: must be http://HOST:PORT")
        if not every:
            found.add(urlunsplit(url))
            continue
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
            entries = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--at {each}: {error}") from error
        for family, *_, place in entries:
            host = f"[{place[0]}]" if family == socket.AF_INET6 else place[0]
            found.add(urlunsplit(url._replace(netloc=f"{host}:{port}")))
    return sorted(found)


def replicas_at(addresses: Sequence[str]) -> list[Replica]:
    """What the replicas with these admin ports say, in the same order."""
    with ThreadPoolExecutor(min(_AT_ONCE, len(addresses))) as threads:
        return list(threads.map(_asked, addresses))


def _asked(address: str) -> Replica:
    try:
        answer = httpx.get(f"{address}/adapters", timeout=_SECONDS)
        if answer.is_error:
            told = answer.json()["error"]["message"]
            return Replica(address, error=f"{answer.status_code}: {told}")
        return Replica(address, **answer.json())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Replica(address, error=f"cannot be reached: {error}")
    except (ValueError, KeyError, TypeError):
        return Replica(address, error="this is not an admin port of llm-service")


def faults_of(replicas: Sequence[Replica], expected: str | None) -> list[str]:
    """Why the replicas have not converged on a list of the `expected` digest, a line each."""
    return list(_faults(replicas, expected))


def _faults(replicas: Sequence[Replica], expected: str | None) -> Iterator[str]:
    for each in replicas:
        if each.error is not None:
            yield f"{each.address}: {each.error}"
            continue
        if each.list_error is not None:
            yield f"{each.address}: list refused: {each.list_error}"
        elif expected is not None and each.list_digest != expected:
            yield f"{each.address}: has not read the list yet: follows {each.list_digest}"
        for state in each.adapters:
            if state["state"] in ("loading", "failed"):
                told = f": {state['error']}" if state["error"] else ""
                yield f"{each.address}: {state['name']} {state['state']}{told}"
    heard = [each for each in replicas if each.error is None]
    if len({each.list_digest for each in heard}) > 1:
        yield "the replicas follow different lists"
    for name, digests in _served(heard).items():
        if len(digests) > 1:
            yield f"{name}: the replicas serve different versions; a `digest` in the list pins one"


def _served(replicas: Iterable[Replica]) -> dict[str, set[str | None]]:
    """The digests that are served under each name, None where a replica serves none."""
    current = [
        {each["name"]: each["digest"] for each in replica.adapters if each["state"] != "retiring"}
        for replica in replicas
    ]
    names = sorted({name for each in current for name in each})
    return {name: {each.get(name) for each in current} for name in names}


def _print(replicas: Sequence[Replica]) -> None:
    """A row for each adapter, and a column for each replica."""
    if len(replicas) == 1:
        rows = replicas[0].adapters
        columns = ("name", "state", "version", "digest", "wanted")
        print_table(columns, ([_short(row[column]) for column in columns] for row in rows))
        return
    cells: dict[str, dict[str, list[str]]] = {}
    for replica in replicas:
        for each in replica.adapters:
            shown = " ".join(filter(None, (each["state"], each["version"], _short(each["digest"]))))
            cells.setdefault(each["name"], {}).setdefault(replica.address, []).append(shown)
    addresses = [each.address for each in replicas]
    print_table(
        ("adapter", *(each.partition("://")[2] for each in addresses)),
        (
            (name, *(", ".join(of.get(each, ["-"])) for each in addresses))
            for name, of in sorted(cells.items())
        ),
    )


def _short(value: str | None) -> str:
    return "" if value is None else value.removeprefix("sha256:")[:12] if ":" in value else value
