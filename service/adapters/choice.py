"""The choice of the model, its version and its encoder for each request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from service.adapters.confidence import ConfidenceMap
from service.adapters.decisions import DecisionsRecord
from service.adapters.manifest import GenerationManifest
from service.adapters.registry import (
    AdapterRegistry,
    Entry,
    ServedVersion,
    VersionPairs,
    unknown_model,
)
from service.classification.classifier import Classifier
from service.classification.encoder import HeadClassifier
from service.classification.result import TextClassifier
from service.common.error_messages import quote
from service.context import RequestContext
from service.engine.contract import Adapter
from service.engine.pooling import ConformalSets, EncoderEngine, EncoderInfo, EncoderTask
from service.errors import EncoderQuarantined, NotFound, UnsupportedFeature
from service.settings.tree import Settings
from service.tenants.tenant import Tenant

_ROUTES: Mapping[EncoderTask, str] = {
    "embed": "/v1/embeddings, /v1/rerank or /v1/score",
    "score": "/v1/rerank or /v1/score",
    "classify": "/v1/classify",
}


Encoders = Mapping[str, EncoderEngine | None]
"""The engines of encoders by name; None for one that could not start, as the log says."""


def check_task(info: EncoderInfo, *tasks: EncoderTask) -> None:
    """Raise UnsupportedFeature for an encoder whose task is not one of these."""
    if info.task not in tasks:
        raise for_other_routes(info)


def for_other_routes(info: EncoderInfo) -> UnsupportedFeature:
    """The error for an encoder on a route of another task."""
    return UnsupportedFeature(
        f"model: {quote(info.name)} is an encoder for {_ROUTES[info.task]}", param="model"
    )


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model that one request may use; `version` is None for the base model."""

    name: str
    version: ServedVersion | None

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the chosen version."""
        return None if self.version is None else self.version.adapter

    @property
    def confidence_map(self) -> ConfidenceMap | None:
        """The adapter's map from confidence measures to P(answer is right); None if it has none."""
        manifest = None if self.version is None else self.version.manifest
        return manifest.confidence if isinstance(manifest, GenerationManifest) else None

    @property
    def decisions(self) -> DecisionsRecord:
        """How the adapter is asked closed questions; the default if its manifest does not say."""
        manifest = None if self.version is None else self.version.manifest
        return manifest.decisions if isinstance(manifest, GenerationManifest) else DecisionsRecord()

    def sampling(self, of_base: Mapping[str, Any]) -> Mapping[str, Any]:
        """How to sample for a request that sets nothing: as the adapter says, else the base."""
        manifest = None if self.version is None else self.version.manifest
        if not isinstance(manifest, GenerationManifest):
            return of_base
        return {**of_base, **manifest.sampling.model_dump(exclude_none=True)}

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
        """Choose the version that answers a request for `name`; returns its name."""

    def sets(self, context: RequestContext, fitted: ConformalSets) -> ConformalSets:
        """The label sets of the version that answers, adjusted from the `fitted` ones."""

    async def refresh(self) -> None:
        """Read which versions are live, as other replicas may have changed it.

        Raises ConfigurationError if it cannot be read.
        """

    async def configure(
        self, settings: Settings, pairs: VersionPairs, apply: Callable[[], None]
    ) -> None:
        """Set the configured and planned versions of all adapters.

        `apply` updates the names in the registry; it is called now and after each change of a live
        version. Raises ConfigurationError for versions that cannot be used.
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
        """Return the model of this name; the request keeps this version until it ends.

        Raises NotFound for a name that is not served or not for this tenant, UnsupportedFeature for
        an encoder, AdapterQuarantined for an adapter that failed.
        """
        if name in self._encoders:
            raise for_other_routes(self.choose_encoder(name, context).info)
        base = self._registry is not None and name == self._registry.base_name
        if not (self.has_base(context.tenant) if base else context.tenant.may_use_adapter(name)):
            raise unknown_model(name)
        exact = name if self._versions is None else self._versions.route(name, context)
        return self._acquire(name, exact, context)

    def sets(self, context: RequestContext, fitted: ConformalSets | None) -> ConformalSets | None:
        """The label sets of a request's version; None if it has none."""
        if self._versions is None or fitted is None:
            return fitted
        return self._versions.sets(context, fitted)

    def choose_encoder(self, name: str, context: RequestContext) -> EncoderEngine:
        """Return the encoder of this name.

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
        return self._encoder(name)

    def choose_for_service(self, name: str, context: RequestContext) -> TextClassifier:
        """Return a model's classifier for the service's own use; checks no tenant's rights.

        Never chooses a release's next version. Raises NotFound for a name that is not served,
        UnsupportedFeature for a model without labels, AdapterQuarantined, EncoderQuarantined.
        """
        if name in self._encoders:
            encoder = self._encoder(name)
            check_task(encoder.info, "classify")
            context.model = name
            return HeadClassifier(encoder)
        return self._acquire(name, name, context).own_classifier()

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
            if each is not None and tenant.may_use_base(name)
        ]

    def no_language_model(self, tenant: Tenant) -> NotFound:
        """The 404 of a route that needs a language model, in a service of encoders alone."""
        served = "; ".join(
            f"{quote(info.name)} for {_ROUTES[info.task]}" for info in self.encoders(tenant)
        )
        hint = f". Its encoders are {served}" if served else ""
        return NotFound(f"This service has no language model{hint}", code="model_not_found")

    def has_base(self, tenant: Tenant) -> bool:
        """True if the base model exists for the tenant."""
        return self._registry is not None and tenant.may_use_base(self._registry.base_name)

    def adapter(self, name: str, tenant: Tenant) -> ServedVersion:
        """The adapter of this name, for routes that only describe it; raises as `choose` does.

        The next version of a release is found as `name@version` only.
        """
        if self._registry is None or not tenant.may_use_adapter(name):
            raise unknown_model(name)
        return self._registry.find(name)

    def adapters(self, tenant: Tenant) -> Mapping[str, Entry]:
        """The adapters that exist for the tenant, by configured name."""
        entries = {} if self._registry is None else self._registry.entries
        return {name: entries[name] for name in entries if tenant.may_use_adapter(name)}

    def versions(self, name: str) -> list[str]:
        """The versions of an adapter that are served, also a release's next one."""
        served = () if self._registry is None else self._registry.versions
        return sorted(each.manifest.version for each in served if each.name == name)

    def _encoder(self, name: str) -> EncoderEngine:
        """An encoder's engine; EncoderQuarantined for one that could not start."""
        if (encoder := self._encoders[name]) is None:
            raise EncoderQuarantined(
                f"model: the encoder {quote(name)} could not start and is not served",
                param="model",
            )
        return encoder

    def _acquire(self, name: str, exact: str, context: RequestContext) -> ChosenModel:
        """The version `exact` of a name, which is kept until the request ends."""
        if self._registry is None:
            raise unknown_model(name)
        chosen = ChosenModel(name, self._registry.acquire(exact))
        context.model, context.adapter = name, chosen.adapter
        if chosen.version is not None:
            context.at_end.callback(self._registry.release, chosen.version)
        return chosen
