"""Create, list and revoke the keys of tenants.

The commands edit a service's keys file, or a folder with one file for each tenant, and keep
comments. A running service applies a change within seconds.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from service.common.command_line import one_message, print_table
from service.common.files import write_atomically
from service.errors import ConfigurationError
from service.tenants.keyring import (
    ALL,
    Keyring,
    TenantRecord,
    build_keyring,
    key_digest,
    new_key,
    read_keys,
)

app = typer.Typer(no_args_is_help=True, help=__doc__)

Keys = Annotated[
    Path, typer.Option("--keys", "-k", help="Keys file, or folder with one file per tenant.")
]
TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="Name of the tenant.")]
NewOnly = "For a new tenant: "


@app.command()
def create(
    tenant: TenantName,
    keys: Keys,
    expires_days: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, help="Days until the key expires; default never."),
    ] = None,
    weight: Annotated[float, typer.Option(help=f"{NewOnly}share relative to others.")] = 1.0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{NewOnly}a base model or encoder it may use (default all); repeatable."
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help=f"{NewOnly}an adapter it may use (default all); repeatable."),
    ] = None,
) -> None:
    """Make a key, print it once, and store its hash.

    Example: llm-service keys create acme --keys keys.yaml --adapter sentiment --expires-days 90
    """
    with one_message(), _locked(keys):
        ring = _ring(keys)
        key = new_key()
        digest = key_digest(key)
        assert digest is not None
        record: dict[str, Any] = {"sha256": DoubleQuotedScalarString(digest.hex())}
        if expires_days is not None:
            expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=expires_days)
            record["expires"] = expires
        file, name = _file_of(keys, tenant, ring)
        document = _load(file)
        found = _entry(document, tenant)
        if found is None:
            rights = {"models": model or ALL, "adapters": adapter or ALL}
            found = {"name": tenant, "weight": weight, **rights, "keys": []}
            document["tenants"].append(found)
        elif model or adapter or weight != 1.0:
            raise ConfigurationError(
                f"{file}: the tenant {tenant!r} is there already: change its rights in the file"
            )
        found["keys"].append(record)
        _save(keys, file, name, document)
        typer.echo(key)
        typer.echo(f"stored as {digest.hex()[:12]} in {file}; it is not shown again", err=True)


@app.command("list")
def list_(
    keys: Keys, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List tenants and their keys, by the first digits of their hashes.

    Example: llm-service keys list --keys keys.yaml
    """
    with one_message():
        now = datetime.now(UTC).timestamp()
        ring = build_keyring(read_keys(keys))
        rows = [row for listed in ring.tenants.values() for row in _rows(listed.record, now)]
        if as_json:
            typer.echo(json.dumps(rows))
            return
        columns = tuple(rows[0]) if rows else ("tenant", "key")
        print_table(columns, (list(map(_cell, row.values())) for row in rows))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's name in `keys list`.")],
    keys: Keys,
) -> None:
    """Remove a key; a running service refuses it within seconds.

    Example: llm-service keys revoke 3f2a9c01d4e5 --keys keys.yaml
    """
    with one_message(), _locked(keys):
        ring = _ring(keys)
        for listed in ring.tenants.values():
            for index, record in enumerate(listed.record.keys):
                if record.id == key:
                    file, name = _file_of(keys, listed.record.name, ring)
                    document = _load(file)
                    entry = _entry(document, listed.record.name)
                    assert entry is not None
                    del entry["keys"][index]
                    _save(keys, file, name, document)
                    typer.echo(f"revoked {key} of {listed.record.name}")
                    return
        raise ConfigurationError(
            f"{keys}: no key has the name {key[:12]!r}; `llm-service keys list` shows the names"
        )


def _rows(record: TenantRecord, now: float) -> Iterator[dict[str, Any]]:
    """A row for each key of a tenant, or one without a key."""
    rights = {
        "weight": record.weight,
        "models": ALL if record.models is None else sorted(record.models),
        "adapters": ALL if record.adapters is None else sorted(record.adapters),
    }
    for key in record.keys or (None,):
        state = "no key" if key is None else "live" if key.live(now) else "expired"
        expires = key.expires.isoformat() if key and key.expires else None
        name = None if key is None else key.id
        yield {"tenant": record.name, "key": name, "state": state, "expires": expires, **rights}


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(value) if isinstance(value, list) else str(value)


@contextmanager
def _locked(keys: Path) -> Iterator[None]:
    """Allow one command at a time, because two that read the same file would lose a key."""
    target = keys.resolve()
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        raise ConfigurationError(f"{keys}: cannot be written: {folder} is not a folder")
    try:
        # Lock the folder itself, because a lock file would belong to the first user.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{keys}: cannot be written: {error.strerror}") from error


def _ring(keys: Path) -> Keyring:
    if not keys.exists():
        return Keyring(())
    return build_keyring(read_keys(keys))


def _file_of(keys: Path, tenant: str, ring: Keyring) -> tuple[Path, str]:
    """The file that holds a tenant or is to hold it, and its key among the keyring's sources."""
    if not keys.is_dir():
        return keys, keys.name
    listed = ring.tenants.get(tenant)
    name = listed.place.rpartition(":")[0] if listed else f"{tenant}.yaml"
    return keys / name, name


def _yaml() -> YAML:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _load(file: Path) -> Any:
    if not file.exists():
        return {"tenants": []}
    try:
        return _yaml().load(file.read_text(encoding="utf-8"))
    except YAMLError as error:
        # Its message may quote the file.
        raise ConfigurationError(f"{file}: cannot be edited: {type(error).__name__}") from None


def _entry(document: Any, tenant: str) -> Any:
    return next((entry for entry in document["tenants"] if entry["name"] == tenant), None)


def _save(keys: Path, file: Path, name: str, document: Any) -> None:
    """Write the file if the service can read it; else raise ConfigurationError without writing."""
    text = StringIO()
    _yaml().dump(document, text)
    content = text.getvalue().encode()
    sources = read_keys(keys) if keys.exists() else {}
    build_keyring(sources | {name: content})
    target = file.resolve()
    if not target.exists():
        write_atomically(target, content, mode=0o600)
        return
    # The file stays readable to a service that runs as another user.
    old = target.stat()
    owner = (old.st_uid, old.st_gid)
    try:
        write_atomically(target, content, mode=old.st_mode & 0o777, owner=owner)
    except PermissionError as error:
        raise ConfigurationError(
            f"{file}: cannot be replaced by a file of the same owner (uid {owner[0]}, gid "
            f"{owner[1]}): {error.strerror}; nothing is changed"
        ) from error
