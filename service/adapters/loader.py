"""Loading and proving of verified adapters."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable, Sequence

from service.adapters.fetch import (
    Failure,
    Fetched,
    FetchedAdapter,
    FetchOutcome,
    Unchanged,
    fetch_all,
)
from service.adapters.manifest import ClassificationManifest
from service.adapters.proof import prove
from service.adapters.questions import classifier_of
from service.adapters.registry import ServedVersion
from service.common.aio import gather
from service.engine.contract import Adapter
from service.errors import ConfigurationError
from service.generation.served_model import ServedModel
from service.models.base_model import ServedBase, read_base_model
from service.settings.tree import ModelSettings, Settings

_log = logging.getLogger(__name__)


class AdapterLoader:
    """Brings adapters into one engine; no two of them ever get the same engine id.

    Adapters are fetched and verified concurrently, but loaded and proven one after the other: a
    batch of one adapter is the fastest, and all its examples run at once.
    """

    def __init__(self, engine: ServedModel) -> None:
        self._engine = engine
        self._ids = itertools.count(1)
        self._in_engine = asyncio.Lock()
        self._model: ModelSettings | None = None
        self._base: ServedBase | None = None

    async def load_all(
        self,
        settings: Settings,
        current: Iterable[ServedVersion],
        fetched: Fetched | None = None,
    ) -> list[ServedVersion | Failure]:
        """Load `settings.wanted_adapters` in order; a current version with equal bytes is kept.

        `fetched` is the result of `fetch_before_start`; without it adapters are fetched now. The
        base is that of the first call, with which the engine was started: a model that is
        configured later is served only after a restart.
        """
        self._model = self._model or settings.base
        if not settings.wanted_adapters:
            return []
        if not self._engine.model.max_lora_rank:
            raise ConfigurationError(
                "adapters: the engine was started without room for them; restart the service, "
                "or start it with `engine.enable_lora: true`"
            )
        held = {(each.adapter.name, each.adapter.digest): each for each in current}
        if fetched is None:
            outcomes: Sequence[FetchOutcome] = await fetch_all(
                settings, await self._read_base(self._model), held.keys()
            )
        else:
            self._base, outcomes = fetched.base, fetched.outcomes
        distinct = {_identity(each): each for each in outcomes}
        loads = [self._load(each, settings, held) for each in distinct.values()]
        loaded = dict(zip(distinct, await gather(loads), strict=True))
        return [loaded[_identity(each)] for each in outcomes]

    async def unload(self, version: ServedVersion) -> None:
        """Remove a version that is no longer used from the engine."""
        await self._engine.unload_adapter(version.adapter)
        _log.info("adapter %s: unloaded", version.adapter.engine_name)

    async def _read_base(self, model: ModelSettings) -> ServedBase:
        if self._base is None:
            self._base = await asyncio.to_thread(
                read_base_model,
                model.path,
                name=model.name,
                max_rank=self._engine.model.max_lora_rank,
            )
        return self._base

    async def _load(
        self, fetched: FetchOutcome, settings: Settings, held: dict[tuple[str, str], ServedVersion]
    ) -> ServedVersion | Failure:
        if isinstance(fetched, Failure):
            return fetched
        if isinstance(fetched, Unchanged):
            return held[fetched.name, fetched.digest]
        try:
            async with self._in_engine:
                return await self._into_engine(fetched, settings)
        except ConfigurationError as error:
            return Failure(fetched.wanted, fetched.name, error)

    async def _into_engine(self, fetched: FetchedAdapter, settings: Settings) -> ServedVersion:
        """Load and prove an adapter; after a failure it does not stay in the engine."""
        verified = fetched.verified
        manifest = verified.manifest
        adapter = Adapter(
            fetched.name,
            next(self._ids),
            str(verified.folder),
            verified.digest,
            verified.manifest.version,
        )
        started = time.monotonic()
        try:
            await self._engine.load_adapter(adapter)
            loaded = fetched.seconds + time.monotonic() - started
            classifier = None
            if isinstance(manifest, ClassificationManifest):
                classifier = classifier_of(self._engine, adapter, manifest)
            proof = await prove(self._engine, adapter, manifest, settings.golden_timeout_s)
        except BaseException:
            await self._engine.unload_adapter(adapter)
            raise
        version = ServedVersion(adapter, manifest, classifier, proof, loaded, fetched.signed_by)
        level = logging.INFO if version.unproven is None else logging.WARNING
        _log.log(level, "adapter %s %s: %s", version.names[1], adapter.digest, _told(version))
        return version


def _identity(outcome: FetchOutcome) -> object:
    """A key that is equal for equal bytes under the same name, which are loaded only once."""
    match outcome:
        case FetchedAdapter():
            return outcome.name, outcome.verified.digest
        case Unchanged():
            return outcome.name, outcome.digest
        case Failure():
            return id(outcome)


def _told(version: ServedVersion) -> str:
    loaded, proof = f"loaded in {version.load_seconds:.2f} s", version.proof
    if version.signed_by is not None:
        loaded += f", signed by {version.signed_by}"
    if version.unproven is not None:
        loaded += f", served unproven: {version.unproven}"
    if proof is None:
        return loaded
    match = proof.fingerprint
    shown = "" if match is None else f"; fingerprint off by {match.distance:.2f} nats"
    return (
        f"{loaded}, golden examples in {proof.seconds:.2f} s: {proof.result.passed} of "
        f"{proof.result.total} right (at least {proof.min_accuracy:g}; the base "
        f"{proof.base.passed}){shown}"
    )
