"""The registry of served adapters: resolves a requested model name to a version."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import Manifest
from service.adapters.proof import Proof
from service.classification.classifier import Classifier
from service.common.error_messages import quote
from service.engine.contract import Adapter
from service.errors import AdapterQuarantined, ConfigurationError, NotFound
from service.settings.adapters import AdapterSettings


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """An adapter that was verified, loaded and, if its manifest has what a proof needs, proven.

    `classifier` is set for a classification adapter; `load_seconds` is the time of fetching,
    verifying and loading, without waits for other adapters. `signed_by` names the trusted key.
    """

    adapter: Adapter
    manifest: Manifest
    classifier: Classifier | None
    proof: Proof | None
    load_seconds: float
    signed_by: str | None = None
    examples: Sequence[Mapping[str, Any]] = ()
    """Fields of requests to try, that whoever may use the adapter may see."""

    @property
    def unproven(self) -> str | None:
        """The parts of a complete proof that the adapter lacks, in words; None if it lacks none."""
        if self.proof is None:
            return "it has no golden examples"
        return "it has no fingerprint" if self.proof.fingerprint is None else None

    @property
    def state(self) -> Literal["serving", "unproven"]:
        """The adapter's state while it is served."""
        return "serving" if self.unproven is None else "unproven"

    @property
    def name(self) -> str:
        """The configured name."""
        return self.adapter.name

    @property
    def names(self) -> tuple[str, str]:
        """The names under which it is served."""
        return self.name, f"{self.name}@{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A configured adapter that cannot be served; in the registry it counts as quarantined.

    The name is `guessed` if none was configured and no manifest could be read.
    """

    wanted: AdapterSettings
    name: str
    error: ConfigurationError
    guessed: bool = False

    @property
    def shown(self) -> str:
        """Why it failed; callers see only AdapterRefused, which names no paths of the machine."""
        if isinstance(self.error, AdapterRefused):
            return str(self.error)
        return f"adapter {self.name}: it could not be loaded; the server's log says why"


Entry = ServedVersion | Failure


def unknown_model(model: str) -> NotFound:
    """The answer for a name that is not served, or that is served only to other tenants."""
    return NotFound(
        f"model: {quote(model)} is not served here; GET /v1/models lists what is",
        code="model_not_found",
        param="model",
    )


VersionPairs = Mapping[str, tuple[ServedVersion | None, ServedVersion | None]]
"""The configured and the planned version of each name; None for one that cannot serve."""


class AdapterRegistry:
    """The base model's name, and the served adapters, which are replaced together.

    No adapter may have the base's name or an encoder's.

    A request acquires a version once and keeps it until it ends, even if names are swapped
    meanwhile. `on_unused` is called once for each version that is no longer served and that no
    request uses.
    """

    def __init__(
        self,
        base_name: str,
        on_unused: Callable[[ServedVersion], None],
        encoder_names: Iterable[str] = (),
    ) -> None:
        self.base_name = base_name
        self.entries: Mapping[str, Entry] = {}
        """Served and quarantined adapters by configured name."""
        self._taken = frozenset([base_name, *encoder_names])
        self._on_unused = on_unused
        self._served: Mapping[str, ServedVersion] = {}
        self._users: Counter[ServedVersion] = Counter()

    @property
    def versions(self) -> frozenset[ServedVersion]:
        """All served versions, also those that are served as `name@version` only."""
        return frozenset(self._served.values())

    def find(self, model: str) -> ServedVersion:
        """The version with exactly this name, without counting a user of it.

        Raises AdapterQuarantined for a name whose adapter failed, with or without a version, and
        NotFound for any other.
        """
        if version := self._served.get(model):
            return version
        if isinstance(self.entries.get(model.partition("@")[0]), Failure):
            raise AdapterQuarantined(
                f"model: the adapter {quote(model)} failed its checks and is not served",
                param="model",
            )
        raise unknown_model(model)

    def in_use(self) -> set[ServedVersion]:
        """The versions that are served, and those that running requests still use."""
        return {*self.versions, *self._users}

    def acquire(self, model: str) -> ServedVersion | None:
        """The version for a new request, None for the base model.

        The caller must call `release` when the request ends. Raises as `find`.
        """
        if model == self.base_name:
            return None
        version = self.find(model)
        self._users[version] += 1
        return version

    def release(self, version: ServedVersion) -> None:
        """Give back the version of a request that has ended."""
        self._users[version] -= 1
        if not self._users[version]:
            del self._users[version]
            if self._served.get(version.names[1]) is not version:
                self._on_unused(version)

    def check(
        self, entries: Iterable[Entry], others: Iterable[ServedVersion] = ()
    ) -> tuple[dict[str, Entry], dict[str, ServedVersion]]:
        """Check new entries, and return the version for each name, including those of `others`.

        Raises ConfigurationError for a name that is taken already.
        """
        by_name: dict[str, Entry] = {}
        served: dict[str, ServedVersion] = {}
        for entry in entries:
            if entry.name in self._taken or entry.name in by_name:
                raise ConfigurationError(f"adapters: the name {entry.name!r} is taken already")
            by_name[entry.name] = entry
            if isinstance(entry, ServedVersion):
                served |= dict.fromkeys(entry.names, entry)
        for other in others:
            if served.setdefault(other.names[1], other) is not other:
                raise ConfigurationError(f"adapters: the name {other.names[1]!r} is taken already")
        return by_name, served

    def swap(self, entries: Iterable[Entry], others: Iterable[ServedVersion] = ()) -> None:
        """Replace all adapters at once; `others` are served only as `name@version`.

        If `check` raises, nothing is changed.
        """
        before = self.versions
        self.entries, self._served = self.check(entries, others)
        for version in before - self.versions - self._users.keys():
            self._on_unused(version)
