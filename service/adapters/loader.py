"""One configured adapter on its way into the engine: resolve, verify, load, prove."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.adapters.base_model import BaseModel, read_base_model
from service.adapters.cache import AdapterCache
from service.adapters.manifest import ClassificationManifest, Manifest
from service.adapters.proof import prove
from service.adapters.refusal import AdapterRefused
from service.adapters.verify import verify
from service.adapters.version import QuarantinedAdapter, ServedVersion
from service.classification.adapter_classifier import AdapterClassifier
from service.classification.together import together
from service.engine.protocol import Adapter, Engine
from service.errors import ConfigurationError, InvalidRequest
from service.settings import AdapterSettings, Settings

_log = logging.getLogger(__name__)

_FETCHES = 4
"""Adapters that are fetched and verified at once, each in a thread."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A configured adapter that cannot be served."""

    wanted: AdapterSettings
    name: str
    error: ConfigurationError

    def quarantined(self) -> QuarantinedAdapter:
        """What is kept of it. What a refusal says is free of paths; other messages may not be."""
        shown = (
            str(self.error)
            if isinstance(self.error, AdapterRefused)
            else f"adapter {self.name}: it could not be loaded; the server's log says why"
        )
        return QuarantinedAdapter(self.name, str(self.error), shown)


class AdapterLoader:
    """Brings adapters into one engine; no two of them ever get the same engine id.

    Fetching and verifying run side by side. Loading and proving run one adapter after the other:
    a batch of one adapter is the fastest there is, and every example of it runs at once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids = itertools.count(1)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._in_engine = asyncio.Lock()
        self._base: BaseModel | None = None

    async def load_all(
        self, settings: Settings, current: Iterable[ServedVersion]
    ) -> list[ServedVersion | Failure]:
        """Load what is configured, in its order; a current version with equal bytes is kept."""
        if not settings.adapters:
            return []
        if not self._engine.model.max_lora_rank:
            raise ConfigurationError(
                "adapters: the engine was started without room for them; restart the service, "
                "or start it with `engine.enable_lora: true`"
            )
        if self._base is None:
            self._base = await asyncio.to_thread(
                read_base_model,
                settings.model.path,
                name=settings.model.name,
                max_rank=self._engine.model.max_lora_rank,
            )
        base, held = self._base, {each.names[0]: each for each in current}
        return await together(
            [self._load(wanted, settings, base, held) for wanted in settings.adapters]
        )

    async def unload(self, version: ServedVersion) -> None:
        """Take a version that nobody uses any longer out of the engine."""
        await self._engine.unload_adapter(version.adapter)
        _log.info("adapter %s: unloaded", version.adapter.engine_name)

    async def _load(
        self,
        wanted: AdapterSettings,
        settings: Settings,
        base: BaseModel,
        held: dict[str, ServedVersion],
    ) -> ServedVersion | Failure:
        name = wanted.name or PurePosixPath(wanted.source.rstrip("/")).name
        try:
            async with self._fetches:
                started = time.monotonic()
                cache = AdapterCache(settings.adapter_cache.path)
                cached = await asyncio.to_thread(
                    cache.resolve,
                    wanted.source,
                    digest=wanted.digest,
                    offline=settings.adapter_cache.offline,
                )
                name = wanted.name or cached.manifest.name
                current = held.get(name)
                if current and current.adapter.digest == cached.manifest.digest:
                    return current
                verified = await asyncio.to_thread(verify, cached.folder, base)
                fetched = time.monotonic() - started
            adapter = Adapter(name, next(self._ids), str(verified.folder), verified.digest)
            async with self._in_engine:
                return await self._into_engine(adapter, verified.manifest, settings, fetched)
        except ConfigurationError as error:
            if wanted.name is None and isinstance(error, AdapterRefused):
                name = error.adapter
            return Failure(wanted, name, error)

    async def _into_engine(
        self, adapter: Adapter, manifest: Manifest, settings: Settings, fetched: float
    ) -> ServedVersion:
        """Load and prove; whatever fails, nothing of it stays in the engine."""
        started = time.monotonic()
        try:
            await self._engine.load_adapter(adapter)
            loaded = fetched + time.monotonic() - started
            classifier = self._classifier(adapter, manifest)
            timeout = settings.golden_timeout_s
            proof = await prove(self._engine, adapter, manifest, classifier, timeout)
        except BaseException:
            await self._engine.unload_adapter(adapter)
            raise
        version = ServedVersion(adapter, manifest, classifier, proof, loaded)
        _log.info("adapter %s %s: %s", version.names[1], adapter.digest, _told(version))
        return version

    def _classifier(self, adapter: Adapter, manifest: Manifest) -> AdapterClassifier | None:
        if not isinstance(manifest, ClassificationManifest):
            return None
        try:
            return AdapterClassifier(self._engine, adapter, manifest)
        except InvalidRequest as error:
            raise AdapterRefused(
                manifest.name,
                "adapter.yaml",
                "classification",
                "labels that can be read after the template",
                error.message,
            ) from error


def _told(version: ServedVersion) -> str:
    loaded = f"loaded in {version.load_seconds:.2f} s"
    if version.proof is None:
        return f"{loaded}, has no golden examples and is served unproven"
    result = version.proof.result
    return (
        f"{loaded}, proven in {version.proof.seconds:.2f} s: {result.passed} of {result.total} "
        f"right ({result.accuracy:.3f}, at least {version.proof.min_accuracy:g})"
    )
