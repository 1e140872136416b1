"""The adapters to serve: the configured versions and the planned ones."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.adapters.choice import Versions
from service.adapters.classifier import build_classifier
from service.adapters.fetch import (
    Fetched,
    FetchedAdapter,
    FetchOutcome,
    adapter_cache,
    fetch_all,
    read_base,
    refuse_fatal,
    shown_examples,
)
from service.adapters.manifest import ClassificationManifest
from service.adapters.metrics import AdapterMetrics
from service.adapters.proof import prove
from service.adapters.registry import AdapterRegistry, Entry, Failure, ServedVersion
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
from service.settings.adapters import PlannedAdapter
from service.settings.tree import ModelSettings, Settings

Pair = tuple[Entry, Entry | None]
"""The outcomes of loading a name's configured version and its planned one, if there is one."""
Live = Callable[[str], str | None]
"""Digest of the version that a release made live under a name, if one did."""


def _pair(settings: Settings, outcomes: Sequence[Entry]) -> list[Pair]:
    """Pair outcomes that are in the order of `settings.wanted_adapters`.

    A planned version that cannot replace the configured one becomes a failure.
    """
    plans, count = settings.planned_adapters, len(settings.adapters)
    planned = dict(zip(plans, outcomes[count:], strict=True))
    return [
        (each, _check_suits(each, planned[each.name], plans[each.name]))
        if each.name in plans
        else (each, None)
        for each in outcomes[:count]
    ]


def _check_suits(configured: Entry, planned: Entry, plan: PlannedAdapter) -> Entry:
    """The planned version, or the failure of one that cannot replace the configured one."""
    if isinstance(configured, Failure) or isinstance(planned, Failure) or configured is planned:
        return planned
    own, other = planned.manifest, configured.manifest
    if own.version == other.version:
        reason = f"must have a version of its own, got {own.version} as the configured one"
    elif own.task != other.task:
        reason = f"must be for {other.task} as the configured one, got {own.task}"
    else:
        return planned
    return Failure(plan.wanted, planned.name, ConfigurationError(f"{plan.place}: {reason}"))


def _arrange(pairs: Iterable[Pair], live: Live) -> tuple[list[Entry], list[ServedVersion]]:
    """The entry that each name resolves to, and the versions served as `name@version` only."""
    entries, others = list[Entry](), list[ServedVersion]()
    for configured, planned in pairs:
        first, second = configured, planned
        if planned is not None and _is_live(planned, live):
            first, second = planned, configured
        entries.append(first)
        if isinstance(second, ServedVersion):
            others.append(second)
    return entries, others


def _failures(pairs: Sequence[Pair], live: Live) -> tuple[list[Failure], list[Failure]]:
    """The failures of served names, and those of planned versions that are not live yet.

    A planned version that a release made live is required, as the configured one is not any more.
    """
    failures = [configured for configured, _ in pairs if isinstance(configured, Failure)]
    refused = list[Failure]()
    for _, planned in pairs:
        if isinstance(planned, Failure):
            if _is_live(planned, live):
                wanted = planned.wanted.model_copy(update={"required": True})
                failures.append(replace(planned, wanted=wanted))
            else:
                refused.append(planned)
    return failures, refused


def _is_live(planned: Entry, live: Live) -> bool:
    wanted = planned.wanted if isinstance(planned, Failure) else planned.adapter
    return wanted.digest is not None and live(planned.name) == wanted.digest


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
        self._addresses: dict[str, str] = {}
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
        outcomes = await self._load_all(settings, before, fetched)
        loaded = dict.fromkeys(each for each in outcomes if isinstance(each, ServedVersion))
        added = [version for version in loaded if version not in before]
        pairs = _pair(settings, outcomes)
        failures, refused = _failures(pairs, self._live)
        gone = served.keys() - {configured.name for configured, _ in pairs}
        try:
            refuse_fatal(failures, settings, served, gone, self._addresses)
            self.registry.check(*_arrange(pairs, self._live))
            await self._serve(pairs, settings)
        except ConfigurationError:
            for version in added:
                await self._unload(version)
            raise
        for version in added:
            if version not in self.registry.versions:
                await self._unload(version)
        self._addresses = {
            wanted.source: configured.name
            for wanted, (configured, _) in zip(settings.adapters, pairs, strict=True)
            if isinstance(configured, ServedVersion)
        }
        for failure in failures:
            _log.error("adapter %s: quarantined: %s", failure.name, failure.error)
        for failure in refused:
            _log.error("release of %s: refused: %s", failure.name, failure.error)
        digests = {version.adapter.digest for version in self.registry.in_use()}
        kept = settings.adapter_cache
        prune = adapter_cache(kept.path).prune
        await asyncio.to_thread(prune, digests, kept.unused_days * 86_400)
        return _change(before, self.registry)

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
            self.registry.swap(*_arrange(pairs, self._live))
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
        if not self._engine.model.max_lora_rank:
            raise ConfigurationError(
                "adapters: the engine was started without room for them; restart the service, "
                "or start it with `engine.enable_lora: true`"
            )
        versions = {(each.name, each.adapter.digest): each for each in current}
        if fetched is None:
            base = self._base or await read_base(self._model, self._engine.model.max_lora_rank)
            fetched = Fetched(base, await fetch_all(settings, base, versions))
        self._base = fetched.base
        return [await self._load(each, settings, versions) for each in fetched.outcomes]

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
            proof = await prove(self._engine, adapter, manifest, settings.golden_timeout_s)
        except BaseException:
            await self._engine.unload_adapter(adapter)
            raise
        shown = await asyncio.to_thread(shown_examples, fetched, settings)
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


def _change(before: Collection[ServedVersion], registry: AdapterRegistry) -> FleetChange:
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
    return (
        f"{loaded}, golden examples in {proof.seconds:.2f} s: {proof.result.passed} of "
        f"{proof.result.total} right (at least {proof.min_accuracy:g}; the base "
        f"{proof.base.passed}){shown}"
    )
