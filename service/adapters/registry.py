"""Models as tenants may use them: which version of which adapter a requested name is."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from service.adapters.confidence import ConfidenceMap
from service.adapters.encoder_registry import (
    Encoders,
    QuarantinedEncoder,
    check_task,
    engine_of,
    for_other_routes,
    with_routes,
)
from service.adapters.manifest import GenerationManifest, Manifest
from service.adapters.proof import Proof
from service.classification.classifier import Classifier
from service.classification.head import HeadClassifier
from service.classification.result import TextClassifier
from service.common.error_messages import quote
from service.context import RequestContext
from service.engine.conformal_sets import ConformalSets
from service.engine.pooling import EncoderEngine, EncoderInfo
from service.engine.protocol import Adapter
from service.errors import (
    AdapterQuarantined,
    ConfigurationError,
    InvalidRequest,
    NotFound,
    UnsupportedFeature,
)
from service.settings.tree import Settings
from service.tenants.tenant import Tenant


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
        """The part of a proof that the manifest lacks; None for a proven adapter."""
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
    """The adapters at one moment, by configured name; `versions` are all that are served.

    A version is served as `name@version`. The entry of a name is served as the name alone, too.
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
    """The base model's name and the adapters', which are replaced as a whole.

    No adapter may have the base's name or an encoder's.

    A request acquires a version once and keeps it to its end, also when names are swapped.
    `on_unused` is called once for each version that no snapshot and no request holds any longer.
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
        """The version of this name, without keeping it; raises as `acquire` does."""
        return self._snapshot.find(model)

    def in_use(self) -> set[ServedVersion]:
        """The versions that are served, and those that running requests still use."""
        return {*self.versions, *self._users}

    def acquire(self, model: str) -> ServedVersion | None:
        """The version for a new request, None for the base model; release it at the request's end.

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
        """Serve these from the next request on, `others` as `name@version` only.

        Raises ConfigurationError for a name that is taken twice.
        """
        before, self._snapshot = self.versions, Snapshot.of(self._taken, entries, others)
        for version in before - self.versions - self._users.keys():
            self._on_unused(version)


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model of one request, which may use it; `version` None is the base model."""

    name: str
    version: ServedVersion | None

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of its version."""
        return None if self.version is None else self.version.adapter

    @property
    def confidence_map(self) -> ConfidenceMap | None:
        """The map from measures to the probability of being right; None if it has none."""
        manifest = None if self.version is None else self.version.manifest
        return manifest.confidence if isinstance(manifest, GenerationManifest) else None

    def own_classifier(self) -> Classifier:
        """Classifier of an adapter's own labels; UnsupportedFeature for an adapter without any."""
        if self.version is None or self.version.classifier is None:
            raise UnsupportedFeature(
                f"model: {quote(self.name)} is an adapter for generation", param="model"
            )
        return self.version.classifier

    def check_converses(self) -> None:
        """Raise UnsupportedFeature for an adapter that was trained to classify."""
        if self.version is not None and self.version.classifier is not None:
            raise UnsupportedFeature(
                f"model: {quote(self.name)} is an adapter for classification and holds no "
                "conversation: call /v1/classify with the text as `input`",
                param="model",
            )


class Versions(Protocol):
    """Decides between the configured version of an adapter's name and a planned one."""

    def live(self, name: str) -> str | None:
        """Digest of the version that the name stands for; None for the configured version."""

    def route(self, name: str, context: RequestContext) -> str:
        """The name under which a request for `name` is answered."""

    def sets(self, context: RequestContext, fitted: ConformalSets) -> ConformalSets:
        """The label sets of a request's version, by those that were fitted."""

    async def configure(
        self, settings: Settings, pairs: VersionPairs, apply: Callable[[], None]
    ) -> None:
        """Begin with these versions; `apply` gives the names theirs, now and after each change.

        Raises ConfigurationError where it cannot.
        """


class Models:
    """The base model, its adapters and the encoders; the only place that asks a tenant's rights.

    Without a `registry` there are encoders alone.
    """

    def __init__(
        self,
        registry: AdapterRegistry | None,
        encoders: Encoders = MappingProxyType({}),
        versions: Versions | None = None,
    ) -> None:
        self._registry = registry
        self._versions = versions
        self._encoders = encoders

    def choose(self, name: str, context: RequestContext) -> ChosenModel:
        """Give a request the model that it asks for, which it keeps to its end.

        Raises NotFound for a name that is not served or not for this tenant, UnsupportedFeature for
        an encoder, AdapterQuarantined for an adapter that failed.
        """
        if name in self._encoders:
            raise for_other_routes(self.choose_encoder(name, context).info)
        if (registry := self._registry) is None:
            raise unknown_model(name)
        base = name == registry.base_name
        if not (self.has_base(context.tenant) if base else context.tenant.may_use_adapter(name)):
            raise unknown_model(name)
        exact = name if self._versions is None else self._versions.route(name, context)
        chosen = ChosenModel(name, registry.acquire(exact))
        context.model, context.adapter = name, chosen.adapter
        if chosen.version is not None:
            context.version = chosen.version.manifest.version
            context.at_end.callback(registry.release, chosen.version)
        return chosen

    def sets(self, context: RequestContext, fitted: ConformalSets | None) -> ConformalSets | None:
        """The label sets of a request's version; None if it has none."""
        return (
            fitted
            if self._versions is None or fitted is None
            else self._versions.sets(context, fitted)
        )

    def choose_encoder(self, name: str, context: RequestContext) -> EncoderEngine:
        """Give a request the encoder that it asks for.

        Raises NotFound for a name that is not served or not for this tenant, UnsupportedFeature for
        a language model, EncoderQuarantined for an encoder that could not start.
        """
        if name not in self._encoders:
            self.choose(name, context)
            raise UnsupportedFeature(
                f"model: {quote(name)} is a language model; this route is for encoders",
                param="model",
            )
        if not context.tenant.may_use_base(name):
            raise unknown_model(name)
        context.model = name
        return engine_of(self._encoders[name])

    def choose_for_service(self, name: str, context: RequestContext) -> TextClassifier:
        """Give work of the service's own the classifier of a model, whoever may use the model.

        A release's next version is not drawn. Raises NotFound for a name that is not served,
        UnsupportedFeature for a model without labels, AdapterQuarantined, EncoderQuarantined.
        """
        if name in self._encoders:
            encoder = engine_of(self._encoders[name])
            check_task(encoder.info, "classify")
            context.model = name
            return HeadClassifier(encoder)
        if (registry := self._registry) is None:
            raise unknown_model(name)
        chosen = ChosenModel(name, registry.acquire(name))
        if chosen.version is not None:
            context.at_end.callback(registry.release, chosen.version)
        context.model, context.adapter = name, chosen.adapter
        return chosen.own_classifier()

    def may_use(self, name: str, tenant: Tenant) -> bool:
        """True if the adapter or encoder of this name exists for the tenant."""
        return tenant.may_use_base(name) if name in self._encoders else tenant.may_use_adapter(name)

    def is_encoder(self, name: str) -> bool:
        """True for the name of an encoder, whoever may use it."""
        return name in self._encoders

    def encoders(self, tenant: Tenant) -> list[EncoderInfo]:
        """The encoders that exist for the tenant and run."""
        return [
            each.info
            for name, each in self._encoders.items()
            if tenant.may_use_base(name) and not isinstance(each, QuarantinedEncoder)
        ]

    def no_language_model(self, tenant: Tenant) -> NotFound:
        """The answer of a route that needs a language model, where encoders alone are served."""
        served = "; ".join(map(with_routes, self.encoders(tenant)))
        told = f". Its encoders are {served}" if served else ""
        return NotFound(f"This service has no language model{told}", code="model_not_found")

    def has_base(self, tenant: Tenant) -> bool:
        """True if the base model exists for the tenant."""
        return self._registry is not None and tenant.may_use_base(self._registry.base_name)

    def adapter(self, name: str, tenant: Tenant) -> ServedVersion:
        """The adapter of this name for a question about it; raises as `choose` does.

        The next version of a release is found as `name@version` only.
        """
        if self._registry is None or not tenant.may_use_adapter(name):
            raise unknown_model(name)
        return self._registry.find(name)

    def label_place(self, name: str, number: str, label: str, tenant: Tenant) -> int:
        """The place of a label among those of a version.

        Raises InvalidRequest for a label that it does not have, and what `adapter` raises.
        """
        version = self.adapter(f"{name}@{number}", tenant)
        names = () if version.classifier is None else version.classifier.names
        if label not in names:
            raise InvalidRequest(
                f"label: not one of the labels of {version.names[1]}, got {quote(label)}",
                param="label",
            )
        return names.index(label)

    def adapters(self, tenant: Tenant) -> Mapping[str, Entry]:
        """The adapters that exist for the tenant, by configured name."""
        entries = {} if self._registry is None else self._registry.entries
        return {name: entries[name] for name in entries if tenant.may_use_adapter(name)}

    def versions(self, name: str) -> list[str]:
        """The versions of an adapter that are served, also a release's next one."""
        served = () if self._registry is None else self._registry.versions
        return sorted(each.manifest.version for each in served if each.names[0] == name)
