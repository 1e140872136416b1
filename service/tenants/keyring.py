"""Keyring: the tenant that a key belongs to."""

import hmac
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigurationError
from service.tenants.key import key_digest
from service.tenants.keys_document import KeyRecord, ListedTenant, parse_keys
from service.tenants.tenant import RESERVED, Tenant

MAX_LIVE_KEYS = 2
"""Live keys of one tenant: the one in use and the one that replaces it."""

MAX_BYTES = 4 << 20
_PREFIX_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    record: KeyRecord
    tenant: Tenant


class Keyring:
    """The keys of every tenant, never changed.

    Raises ConfigurationError, naming file and line, for a name or key that appears twice, a
    reserved name, and more than MAX_LIVE_KEYS live keys of one tenant.
    """

    def __init__(self, tenants: Iterable[ListedTenant]) -> None:
        self._entries: defaultdict[bytes, list[_Entry]] = defaultdict(list)
        self.tenants: dict[str, ListedTenant] = {}
        places: dict[str, str] = {}
        for listed in tenants:
            self._check(listed, time.time())
            self.tenants[listed.record.name] = listed
            tenant = listed.record.tenant()
            for record, place in zip(listed.record.keys, listed.key_places, strict=True):
                if other := places.get(record.sha256):
                    raise ConfigurationError(f"{place}: the key {record.id} is also at {other}")
                places[record.sha256] = place
                digest = bytes.fromhex(record.sha256)
                self._entries[digest[:_PREFIX_BYTES]].append(_Entry(digest, record, tenant))

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def tenant_of(self, key: str, now: float) -> Tenant | None:
        """Tenant of a key that is live at `now`, in seconds since 1970; None if there is none.

        The first bytes of the hash, which no caller can choose, find the candidates; these are
        compared with the key in constant time.
        """
        digest = key_digest(key)
        if digest is None:
            return None
        for entry in self._entries.get(digest[:_PREFIX_BYTES], ()):
            if hmac.compare_digest(entry.digest, digest) and entry.record.live(now):
                return entry.tenant
        return None

    def tenant_named(self, name: str, now: float) -> Tenant | None:
        """Tenant of this name; None if it has no key that is live at `now`."""
        listed = self.tenants.get(name)
        if listed is None or not any(record.live(now) for record in listed.record.keys):
            return None
        return listed.record.tenant()

    def weights(self) -> dict[str, float]:
        """Each tenant's weight by its name."""
        return {name: listed.record.weight for name, listed in self.tenants.items()}

    def _check(self, listed: ListedTenant, now: float) -> None:
        name = listed.record.name
        if name in RESERVED:
            raise ConfigurationError(f"{listed.place}: the name {name!r} is the service's own")
        if other := self.tenants.get(name):
            raise ConfigurationError(
                f"{listed.place}: the tenant {name!r} is also at {other.place}"
            )
        live = [record for record in listed.record.keys if record.live(now)]
        if len(live) > MAX_LIVE_KEYS:
            raise ConfigurationError(
                f"{listed.place}: the tenant {name!r} may have {MAX_LIVE_KEYS} live keys, "
                f"got {len(live)}"
            )


def read_keys(path: Path) -> dict[str, bytes]:
    """The bytes of a keys file, or of every keys file in a folder, by file name.

    Files whose name begins with a dot are not keys files. Of a mounted Secret all files are read
    from one version, while Kubernetes swaps `..data` for the next. Raises ConfigurationError for
    files that cannot be read or have over MAX_BYTES together.
    """
    sources: dict[str, bytes] = {}
    size = 0
    try:
        for file in _files(path):
            with file.open("rb") as stream:
                sources[file.name] = stream.read(MAX_BYTES + 1)
            size += len(sources[file.name])
            if size > MAX_BYTES:
                raise ConfigurationError(f"{path}: at most {MAX_BYTES} bytes, got more")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    return sources


def build_keyring(sources: dict[str, bytes]) -> Keyring:
    """The ring of these keys files; ConfigurationError with file, line and field."""
    return Keyring(
        listed for source, text in sources.items() for listed in parse_keys(source, text)
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    version = path / "..data"
    folder = version.resolve() if version.is_dir() else path
    names = sorted(folder.iterdir())
    return [file for file in names if not file.name.startswith(".") and file.is_file()]
