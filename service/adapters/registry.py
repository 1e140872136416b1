"""The registry of served adapters: resolves a requested model name to a version."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from service.adapters.manifest import Manifest
from service.adapters.proof import Proof
from service.classification.classifier import Classifier
from service.common.error_messages import quote
from service.engine.contract import Adapter
from service.errors import (
    AdapterQuarantined,
    ConfigurationError,
    NotFound,
)


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """An adapter that was verified, loaded and, if its manifest allows for it, proven.

    `classifier` is set for a classification adapter; `load_seconds` is the time of fetching,
    verifying and loading, without waits for other adapters. `signed_by` names the trusted key.
    """

    adapter: Adapter
    manifest: Manifest
    classifier: Classifier | None
    proof: Proof | None
    load_seconds: float
    signed_by: str | None = None

    @property
    def unproven(self) -> str | None:
        """What the adapter lacks for a complete proof, in words; None for a proven adapter."""
        if self.proof is None:
            return "it has no golden examples"
        return "it has no fingerprint" if self.proof.fingerprint is None else None

    @property
    def state(self) -> Literal["serving", "unproven"]:
        """The adapter's state while it is served."""
        return "serving" if self.unproven is None else "unproven"

    @property
    def names(self) -> tuple[str, str]:
        """The names under which it is served."""
        return self.adapter.name, f"{self.adapter.name}@{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class QuarantinedAdapter:
    """An adapter that failed. `reason` is for the operator and may name paths; `shown` may not."""

    name: str
    reason: str
    shown: str


Entry = ServedVersion | QuarantinedAdapter


def unknown_model(model: str) -> NotFound:
    """The answer for a name that is not served, or that is served only to other tenants."""
    return NotFound(
        f"model: {quote(model)} is not served here; GET /v1/models lists what is",
        code="model_not_found",
        param="model",
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The adapters that are served at one moment.

    `entries` maps each configured name to its version or its quarantine, `versions` are all served
    versions. Every version is served as `name@version`, that of an entry as the name alone too.
    """

    entries: Mapping[str, Entry]
    versions: frozenset[ServedVersion]
    _served: Mapping[str, ServedVersion]

    @classmethod
    def of(
        cls,
        taken: Collection[str],
        entries: Iterable[Entry],
        others: Iterable[ServedVersion] = (),
    ) -> "Snapshot":
        """The snapshot of these entries and of `others`, which are served as `name@version` only.

        Raises ConfigurationError for a name that is taken already.
        """
        by_name: dict[str, Entry] = {}
        served: dict[str, ServedVersion] = {}
        for entry in entries:
            name = entry.adapter.name if isinstance(entry, ServedVersion) else entry.name
            if name in taken or name in by_name:
                raise ConfigurationError(f"adapters: the name {name!r} is taken already")
            by_name[name] = entry
            if isinstance(entry, ServedVersion):
                served |= dict.fromkeys(entry.names, entry)
        for other in others:
            if served.setdefault(other.names[1], other) is not other:
                raise ConfigurationError(f"adapters: the name {other.names[1]!r} is taken already")
        return cls(MappingProxyType(by_name), frozenset(served.values()), MappingProxyType(served))

    def find(self, model: str) -> ServedVersion:
        """The version with exactly this name.

        Raises AdapterQuarantined for a name whose adapter failed, with or without a version, and
        NotFound for any other.
        """
        if version := self._served.get(model):
            return version
        if isinstance(self.entries.get(model.partition("@")[0]), QuarantinedAdapter):
            raise AdapterQuarantined(
                f"model: the adapter {quote(model)} failed its checks and is not served",
                param="model",
            )
        raise unknown_model(model)


VersionPairs = Mapping[str, tuple[ServedVersion | None, ServedVersion | None]]
"""The configured and the planned version of each name; None for one that cannot serve."""


class AdapterRegistry:
    """The base model's name, and a snapshot of the adapters that is replaced as a whole.

    No adapter may have the base's name or an encoder's.

    A request acquires a version once and keeps it until it ends, even if names are swapped
    meanwhile. `on_unused` is called once for each version that no snapshot and no request uses any
    longer.
    """

    def __init__(
        self,
        base_name: str,
        on_unused: Callable[[ServedVersion], None],
        encoder_names: Iterable[str] = (),
    ) -> None:
        self.base_name = base_name
        self._taken = frozenset([base_name, *encoder_names])
        self._on_unused = on_unused
        self._snapshot = Snapshot.of(self._taken, ())
        self._users: Counter[ServedVersion] = Counter()

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Served adapters by configured name."""
        return self._snapshot.entries

    @property
    def versions(self) -> frozenset[ServedVersion]:
        """All served versions, also those that are served as `name@version` only."""
        return self._snapshot.versions

    def find(self, model: str) -> ServedVersion:
        """The version of this name, without counting a user of it; raises as `acquire` does."""
        return self._snapshot.find(model)

    def in_use(self) -> set[ServedVersion]:
        """The versions that are served, and those that running requests still use."""
        return {*self.versions, *self._users}

    def acquire(self, model: str) -> ServedVersion | None:
        """The version for a new request, None for the base model; call `release` at its end.

        Raises NotFound for a name that is not served, AdapterQuarantined for one that failed.
        """
        if model == self.base_name:
            return None
        version = self._snapshot.find(model)
        self._users[version] += 1
        return version

    def release(self, version: ServedVersion) -> None:
        """Give back the version of a request that has ended."""
        self._users[version] -= 1
        if not self._users[version]:
            del self._users[version]
            if version not in self.versions:
                self._on_unused(version)

    def check(self, entries: Iterable[Entry], others: Iterable[ServedVersion] = ()) -> None:
        """Raise the error that `swap` would raise."""
        Snapshot.of(self._taken, entries, others)

    def swap(self, entries: Iterable[Entry], others: Iterable[ServedVersion] = ()) -> None:
        """Replace the snapshot; new requests see these adapters, `others` as `name@version` only.

        Raises ConfigurationError for a name that is taken twice.
        """
        before, self._snapshot = self.versions, Snapshot.of(self._taken, entries, others)
        for version in before - self.versions - self._users.keys():
            self._on_unused(version)
