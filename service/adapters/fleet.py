"""The adapters to serve: the configured versions and the planned ones."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.adapters.choice import Versions
from service.adapters.classifier import build_classifier
from service.adapters.fetch import (
    FETCHES,
    Fetched,
    FetchedAdapter,
    FetchOutcome,
    adapter_cache,
    fetch_adapter,
    fetch_all,
    read_base,
    refuse_fatal,
    shown_examples,
)
from service.adapters.manifest import ClassificationManifest
from service.adapters.metrics import AdapterMetrics
from service.adapters.planned import Pair, arrange, failures_of, pair_up
from service.adapters.proof import prove
from service.adapters.proof_record import open_record
from service.adapters.registry import AdapterRegistry, Entry, Failure, ServedVersion
from service.common.aio import shielded
from service.engine.contract import Adapter
from service.errors import (
    ConfigurationError,
    Conflict,
    EngineDead,
    InvalidRequest,
    ServiceError,
)
from service.generation.served_model import ServedModel
from service.models.base_model import ServedBase
from service.settings.adapters import AdapterSettings
from service.settings.tree import ModelSettings, Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetChange:
    """Changes by a reload, each a list of `name@version` or of quarantined names."""

    loaded: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    quarantined: tuple[str, ...]


class AdapterFleet:
    """Owns the registry, all changes of it, and the adapters in the engine.

    Adapters are fetched and verified concurrently, but loaded and proven one after the other,
    because the engine is fastest when all requests of a batch use the same adapter. Engine ids are
    never reused.
    """

    def __init__(
        self,
        engine: ServedModel,
        base_name: str,
        metrics: AdapterMetrics,
        encoder_names: Sequence[str] = (),
        versions: Versions | None = None,
    ) -> None:
        self._engine = engine
        self._ids = itertools.count(1)
        self._model: ModelSettings | None = None
        self._base: ServedBase | None = None
        self._metrics = metrics
        self._versions = versions
        self._reloading = asyncio.Lock()
        self._unloads: set[asyncio.Task[None]] = set()
        self._fetching = asyncio.Semaphore(FETCHES)
        self._proving, self._changing = asyncio.Lock(), asyncio.Lock()
        self.wanted: Mapping[str, AdapterSettings] = {}
        """What was configured, by the name under which it is served or quarantined."""
        self.registry = AdapterRegistry(base_name, self._on_unused, encoder_names)

    async def apply(self, settings: Settings, fetched: Fetched | None = None) -> FleetChange:
        """Serve the adapters that are configured; at the start and at every reload.

        New versions are loaded and proven while the old ones serve, then all are swapped at once;
        an old version is unloaded when its last request has ended. An adapter that fails is
        quarantined if it is not `required` or `adapters_on_failure` is `quarantine`, and no served
        adapter would be lost. Any other failure raises ConfigurationError with a line for each, and
        changes nothing. `fetched` are adapters fetched before the engine started.
        """
        before, served = self.registry.versions, _served(self.registry.entries)
        if self._versions is not None:
            await self._versions.refresh()
        outcomes = await self._load_all(settings, before, fetched)
        loaded = dict.fromkeys(each for each in outcomes if isinstance(each, ServedVersion))
        added = [version for version in loaded if version not in before]
        pairs = pair_up(settings, outcomes)
        failures, refused = failures_of(pairs, self._live)
        gone = served.keys() - {configured.name for configured, _ in pairs}
        addresses = {each.source: name for name, each in self.wanted.items() if name in served}
        try:
            refuse_fatal(failures, settings, served, gone, addresses)
            self.registry.check(*arrange(pairs, self._live))
            await self._serve(pairs, settings)
        except ConfigurationError:
            for version in added:
                await self._unload(version)
            raise
        for version in added:
            if version not in self.registry.versions:
                await self._unload(version)
        names = [configured.name for configured, _ in pairs]
        self.wanted = dict(zip(names, settings.adapters, strict=True))
        for failure in failures:
            _log.error("adapter %s: quarantined: %s", failure.name, failure.error)
        for failure in refused:
            _log.error("release of %s: refused: %s", failure.name, failure.error)
        await self.prune(settings)
        return change_since(before, self.registry)

    async def replace(self, wanted: AdapterSettings, settings: Settings) -> Failure | None:
        """Fetch, verify, load and prove one adapter of a list, then serve it in place of its name.

        A failure is returned and changes nothing, except that a name without a served version is
        quarantined. Raises ServiceError where the engine cannot answer. Not for a service with
        planned versions. A cancellation takes effect completely or not at all.
        """
        async with self._fetching:
            base = await self._served_base(settings)
            current = _by_digest(self.registry.versions)
            outcome = await fetch_adapter(wanted, settings, base, current)
        async with self._proving:
            entry = await self._load(outcome, settings, current)
        async with self._changing:
            served = isinstance(self.registry.entries.get(entry.name), ServedVersion)
            if isinstance(entry, Failure) and served:
                return entry
            try:
                await shielded(self._swap({**self.registry.entries, entry.name: entry}, settings))
            except ConfigurationError as error:
                if isinstance(entry, ServedVersion) and entry not in self.registry.versions:
                    await self._unload(entry)
                return Failure(wanted, entry.name, error)
        return entry if isinstance(entry, Failure) else None

    async def retire(self, names: Collection[str], settings: Settings) -> None:
        """Serve these names no more; their versions leave the engine after their last requests."""
        async with self._changing:
            left = {name: each for name, each in self.registry.entries.items() if name not in names}
            await shielded(self._swap(left, settings))

    async def _swap(self, entries: Mapping[str, Entry], settings: Settings) -> None:
        await self._serve([(each, None) for each in entries.values()], settings)

    async def prune(self, settings: Settings) -> None:
        """Give free what the cache holds of adapters that are not in use."""
        digests = {version.adapter.digest for version in self.registry.in_use()}
        kept = settings.adapter_cache
        prune = adapter_cache(kept.path).prune
        await asyncio.to_thread(prune, digests, kept.unused_days * 86_400)

    async def reload(self, read_settings: Callable[[], Settings]) -> FleetChange:
        """Read the configuration again and apply only its adapters.

        Raises InvalidRequest for a configuration that is not valid, and Conflict when another
        reload runs or an adapter fails; then the old adapters stay in service.
        """
        if self._reloading.locked():
            raise Conflict(
                "Another reload is under way. Try again once it has ended.",
                code="reload_in_progress",
            )
        async with self._reloading:
            try:
                change = await self._reload(read_settings)
            except Exception as error:
                self._metrics.adapters_reloaded("failed")
                _log.error("adapters not reloaded, the old ones stay in service: %s", error)
                raise
        self._metrics.adapters_reloaded("ok")
        _log.info("adapters reloaded: %s", change)
        return change

    async def watch_residency(self, seconds: float) -> None:
        """Check at intervals which adapters the engine holds and uses; ends with the engine."""
        while True:
            if served := _served(self.registry.entries):
                try:
                    await self._metrics.observe_use(self._engine, served)
                except EngineDead:
                    return
            await asyncio.sleep(seconds)

    async def _serve(self, pairs: Sequence[Pair], settings: Settings) -> None:
        """Put the adapters into the registry, now and whenever a release changes a live version."""

        def swap() -> None:
            self.registry.swap(*arrange(pairs, self._live))
            self._metrics.adapters_changed(self.registry.entries)

        if self._versions is None:
            swap()
            return
        loaded = {
            configured.name: (_loaded(configured), _loaded(planned))
            for configured, planned in pairs
        }
        await self._versions.configure(settings, loaded, swap)

    def _live(self, name: str) -> str | None:
        return None if self._versions is None else self._versions.live(name)

    async def _reload(self, read_settings: Callable[[], Settings]) -> FleetChange:
        try:
            settings = read_settings()
        except ConfigurationError as error:
            raise InvalidRequest(str(error), code="configuration_invalid") from error
        try:
            return await self.apply(settings)
        except ConfigurationError as error:
            raise Conflict(str(error), code="adapter_refused") from error

    async def _load_all(
        self,
        settings: Settings,
        current: Iterable[ServedVersion],
        fetched: Fetched | None,
    ) -> list[Entry]:
        """Load `settings.wanted_adapters` in order; a current version with equal bytes is kept.

        `fetched` is the result of `fetch_before_start`; without it adapters are fetched now. The
        base is that of the first call, with which the engine was started: a model that is
        configured later is served only after a restart.
        """
        self._model = self._model or settings.base
        if not settings.wanted_adapters:
            return []
        self._check_room()
        versions = _by_digest(current)
        if fetched is None:
            base = await self._served_base(settings)
            fetched = Fetched(base, await fetch_all(settings, base, versions))
        self._base = fetched.base
        return [await self._load(each, settings, versions) for each in fetched.outcomes]

    async def _served_base(self, settings: Settings) -> ServedBase:
        """The base that the engine was started with; ConfigurationError without room beside it."""
        rank = self._check_room()
        self._base = self._base or await read_base(self._model or settings.base, rank)
        return self._base

    def _check_room(self) -> int:
        """The engine's highest rank; ConfigurationError where it has no room for adapters."""
        rank = self._engine.model.max_lora_rank
        if not rank:
            raise ConfigurationError(
                "adapters: the engine was started without room for them; restart the service, "
                "or start it with `engine.enable_lora: true`"
            )
        return rank

    async def _load(
        self,
        outcome: FetchOutcome,
        settings: Settings,
        versions: dict[tuple[str, str], ServedVersion],
    ) -> Entry:
        """Load a fetched adapter, unless equal bytes are loaded under its name already."""
        if not isinstance(outcome, FetchedAdapter):
            return outcome
        key = outcome.name, outcome.verified.digest
        if key not in versions:
            try:
                versions[key] = await self._into_engine(outcome, settings)
            except ConfigurationError as error:
                return Failure(outcome.wanted, outcome.name, error)
        return versions[key]

    async def _into_engine(self, fetched: FetchedAdapter, settings: Settings) -> ServedVersion:
        """Load and prove an adapter; after a failure it does not stay in the engine."""
        verified = fetched.verified
        manifest = verified.manifest
        adapter = Adapter(
            fetched.name,
            next(self._ids),
            str(verified.folder),
            verified.digest,
            manifest.version,
        )
        started = time.monotonic()
        try:
            await self._engine.load_adapter(adapter)
            loaded = fetched.seconds + time.monotonic() - started
            classifier = None
            if isinstance(manifest, ClassificationManifest):
                classifier = build_classifier(self._engine, adapter, manifest)
            record = await asyncio.to_thread(open_record, settings, self._engine.model)
            timeout_s = settings.golden_timeout_s
            proof = await prove(self._engine, adapter, manifest, timeout_s, record=record)
            shown = await asyncio.to_thread(shown_examples, fetched, settings)
        except BaseException:
            await self._engine.unload_adapter(adapter)
            raise
        version = ServedVersion(
            adapter, manifest, classifier, proof, loaded, fetched.signed_by, shown
        )
        level = logging.INFO if version.unproven is None else logging.WARNING
        _log.log(level, "adapter %s %s: %s", version.names[1], adapter.digest, _describe(version))
        return version

    async def _unload(self, version: ServedVersion) -> None:
        """Remove a version that is no longer used from the engine."""
        await self._engine.unload_adapter(version.adapter)
        _log.info("adapter %s: unloaded", version.adapter.engine_name)

    def _on_unused(self, version: ServedVersion) -> None:
        task = asyncio.get_running_loop().create_task(self._unload_unused(version))
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _unload_unused(self, version: ServedVersion) -> None:
        try:
            await self._unload(version)
        except ServiceError as error:
            _log.warning("adapter %s: not unloaded: %s", version.adapter.engine_name, error)


def _loaded(outcome: Entry | None) -> ServedVersion | None:
    return outcome if isinstance(outcome, ServedVersion) else None


def _served(entries: Mapping[str, Entry]) -> dict[str, ServedVersion]:
    return {name: each for name, each in entries.items() if isinstance(each, ServedVersion)}


def _by_digest(versions: Iterable[ServedVersion]) -> dict[tuple[str, str], ServedVersion]:
    return {(each.name, each.adapter.digest): each for each in versions}


def change_since(before: Collection[ServedVersion], registry: AdapterRegistry) -> FleetChange:
    """What changed since these versions were served."""
    now = registry.versions
    return FleetChange(
        loaded=_names(now - set(before)),
        unchanged=_names(now & set(before)),
        removed=_names(set(before) - now),
        quarantined=tuple(
            name for name, each in registry.entries.items() if isinstance(each, Failure)
        ),
    )


def _names(versions: Iterable[ServedVersion]) -> tuple[str, ...]:
    return tuple(sorted(version.names[1] for version in versions))


def _describe(version: ServedVersion) -> str:
    loaded, proof = f"loaded in {version.load_seconds:.2f} s", version.proof
    if version.signed_by is not None:
        loaded += f", signed by {version.signed_by}"
    if version.unproven is not None:
        loaded += f", served unproven: {version.unproven}"
    if proof is None:
        return loaded
    match = proof.fingerprint
    shown = "" if match is None else f"; fingerprint off by {match.distance:.2f} nats"
    when = "recorded at an earlier start, checked" if proof.recorded else "golden examples"
    return (
        f"{loaded}, {when} in {proof.seconds:.2f} s: {proof.result.passed} of "
        f"{proof.result.total} right (at least {proof.min_accuracy:g}; the base "
        f"{proof.base.passed}){shown}"
    )
