"""Keys of tenants: the file with their hashes, and the search for a key's tenant."""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationError,
)

from service.common.error_messages import Problem, problems
from service.common.files import read_texts
from service.common.plain_yaml import parse
from service.errors import ConfigurationError
from service.settings.section import Section, ServedName
from service.tenants.tenant import RESERVED, Counted, Quota, TenancyObserver, Tenant, Tier

PREFIX = "sk-"
_RANDOM_BYTES = 32
_MAX_CHARS = 128


def new_key() -> str:
    """A new random key of 256 bits, which needs no salt and no slow hash."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def key_digest(key: str) -> bytes | None:
    """The sha256 of a key as received; None for text that is too long for a key."""
    return hashlib.sha256(key.encode()).digest() if len(key) <= _MAX_CHARS else None


ALL = "*"


def _names(value: object) -> object:
    if value == ALL:
        return None
    if not isinstance(value, list):
        raise ValueError("must be '*' or a list of names")
    return value


def _distinct(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    if len(set(tiers)) < len(tiers):
        raise ValueError("each tier at most once")
    return tiers


Names = Annotated[frozenset[ServedName] | None, BeforeValidator(_names)]
"""`*`, every name, becomes None."""

Amount = Annotated[int | None, Field(ge=1, le=10**15)]


class KeyRecord(Section):
    """One key, by its hash."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """The key's public id: the first digits of its hash. The key itself must not be shown."""
        return self.sha256[:12]

    def live(self, now: float) -> bool:
        """True if the key is valid at `now`, in seconds since 1970."""
        return self.expires is None or now < self.expires.timestamp()


class QuotaRecord(Section):
    """Quotas of a tenant, for a minute and for a day (UTC)."""

    requests_per_minute: Amount = None
    requests_per_day: Amount = None
    tokens_per_minute: Amount = None
    tokens_per_day: Amount = None

    def quotas(self) -> tuple[Quota, ...]:
        """The quotas that are set."""
        each: list[tuple[Counted, int | None, int]] = [
            ("requests", self.requests_per_minute, 60),
            ("requests", self.requests_per_day, 86_400),
            ("tokens", self.tokens_per_minute, 60),
            ("tokens", self.tokens_per_day, 86_400),
        ]
        return tuple(Quota(counted, amount, seconds) for counted, amount, seconds in each if amount)


class TenantRecord(Section):
    """One tenant and its keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    weight: float = Field(1.0, gt=0, le=1000)
    models: Names
    adapters: Names
    quotas: QuotaRecord = QuotaRecord()
    salt_group: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    service_tiers: Annotated[tuple[Tier, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        Tier.DEFAULT,
        Tier.FLEX,
    )
    gateway: bool = False
    keys: list[KeyRecord]

    def tenant(self) -> Tenant:
        """The tenant of requests that use one of these keys."""
        return Tenant(
            name=self.name,
            weight=self.weight,
            models=self.models,
            adapters=self.adapters,
            quotas=self.quotas.quotas(),
            salt_group=self.salt_group,
            tiers=self.service_tiers,
            gateway=self.gateway,
        )


class _Document(Section):
    tenants: list[TenantRecord]


@dataclass(frozen=True, slots=True)
class ListedTenant:
    """A tenant and the place that defines it, as `file:line`; `key_places` are its keys' places."""

    record: TenantRecord
    place: str
    key_places: Sequence[str]


def parse_keys(source: str, text: bytes) -> list[ListedTenant]:
    """The tenants of a keys file.

    Raises ConfigurationError with one line per problem, each naming file, line and field. Text that
    could be a key is not shown.
    """
    document, tree = parse(source, text)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source}:1: must hold a mapping with `tenants`")
    try:
        tenants = _Document.model_validate(document).tenants
    except ValidationError as error:
        found = problems(error.errors(include_url=False), _Document)
        lines = [f"{source}:{_line(tree, each.place)}: {_explain(each)}" for each in found]
        raise ConfigurationError("\n".join(lines)) from None
    return [
        ListedTenant(
            record,
            f"{source}:{_line(tree, ('tenants', index))}",
            [
                f"{source}:{_line(tree, ('tenants', index, 'keys', key))}"
                for key in range(len(record.keys))
            ],
        )
        for index, record in enumerate(tenants)
    ]


def _line(node: yaml.Node | None, loc: Sequence[str | int]) -> int:
    """The line of the node at `loc`, or of the closest node around it."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _explain(problem: Problem) -> str:
    field = re.sub(rf"{PREFIX}[^.]*", f"{PREFIX}...", problem.field)
    # A plain key in the wrong place must not appear in a log.
    secret = "keys" in problem.place or PREFIX in problem.given
    return f"{field}: {problem.reason}{'' if secret else problem.given}"


MAX_LIVE_KEYS = 2
"""Live keys of one tenant: the one in use and the one that replaces it."""

MAX_BYTES = 4 << 20
_PREFIX_BYTES = 4


class Keyring:
    """The keys of every tenant; immutable.

    Raises ConfigurationError, naming file and line, for a name or key that appears twice, a
    reserved name, and more than MAX_LIVE_KEYS live keys of one tenant.
    """

    def __init__(self, tenants: Iterable[ListedTenant]) -> None:
        self._entries: defaultdict[bytes, list[tuple[bytes, KeyRecord, Tenant]]] = defaultdict(list)
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
                self._entries[digest[:_PREFIX_BYTES]].append((digest, record, tenant))

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
        for known, record, tenant in self._entries.get(digest[:_PREFIX_BYTES], ()):
            if hmac.compare_digest(known, digest) and record.live(now):
                return tenant
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

    Raises ConfigurationError as `read_texts`, for over MAX_BYTES together.
    """
    return read_texts(path, MAX_BYTES)


def build_keyring(sources: dict[str, bytes]) -> Keyring:
    """The keyring of these keys files; ConfigurationError with file, line and field."""
    return Keyring(
        listed for source, text in sources.items() for listed in parse_keys(source, text)
    )


_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class LiveKeyring:
    """The present keys of a file or folder, at most a few seconds late.

    Raises ConfigurationError if the file or folder cannot be used at the start. Later such a fault
    is logged once, and the previous keys stay valid.
    """

    def __init__(self, path: Path, observer: TenancyObserver) -> None:
        self._path = path
        self._observer = observer
        sources = read_keys(path)
        self._ring = build_keyring(sources)
        observer.weights_read(self._ring.weights())
        self._tried: Mapping[str, bytes] | None = sources
        self._complaint = ""

    def tenant_of(self, key: str) -> Tenant | None:
        """Tenant of a live key; None if there is none."""
        return self._ring.tenant_of(key, time.time())

    def tenant_named(self, name: str) -> Tenant | None:
        """Tenant of this name; None if it has no live key."""
        return self._ring.tenant_named(name, time.time())

    def describe(self) -> str:
        """Numbers of tenants and keys, for a log."""
        return f"{len(self._ring)} keys of {len(self._ring.tenants)} tenants in {self._path}"

    async def follow(self) -> None:
        """Read the files again whenever they change; never returns.

        Compares content, not modification times: a copied file may keep its time, and a swapped
        symlink does not change it.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                ring = await asyncio.to_thread(self._changed)
            except Exception:
                # The next check must come after any error.
                self._observer.keys_read(accepted=False)
                _log.exception("changed keys refused, the previous keys stay")
                continue
            if ring is not None:
                self._ring = ring
                self._observer.weights_read(ring.weights())
                self._observer.keys_read(accepted=True)
                _log.info("keys read again: %s", self.describe())

    def _changed(self) -> Keyring | None:
        try:
            # After a failed read, the same files count as changed once they can be read.
            before, self._tried = self._tried, None
            self._tried = read_keys(self._path)
            if self._tried == before:
                return None
            ring = build_keyring(self._tried)
        except ConfigurationError as error:
            self._complain(str(error))
            return None
        self._complaint = ""
        return ring

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self._observer.keys_read(accepted=False)
            _log.error("changed keys refused, the previous keys stay: %s", complaint)
