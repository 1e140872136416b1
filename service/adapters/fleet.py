"""All adapters of a service: the configured ones are served, all or none."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.adapters.choice import Versions
from service.adapters.fetch import Fetched, adapter_cache, refuse_fatal
from service.adapters.lineup import Lineup
from service.adapters.loader import AdapterLoader
from service.adapters.metrics import AdapterMetrics
from service.adapters.registry import AdapterRegistry, Entry, QuarantinedAdapter, ServedVersion
from service.adapters.residency import Residency
from service.engine.roles import AdaptedDecoder
from service.errors import (
    ConfigurationError,
    Conflict,
    EngineDead,
    InvalidRequest,
    ServiceError,
)
from service.settings.tree import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetChange:
    """Changes by a reload, each a list of `name@version` or of quarantined names."""

    loaded: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    quarantined: tuple[str, ...]


class AdapterFleet:
    """Owns the registry and all changes of it."""

    def __init__(
        self,
        engine: AdaptedDecoder,
        base_name: str,
        metrics: AdapterMetrics,
        encoder_names: Sequence[str] = (),
        versions: Versions | None = None,
    ) -> None:
        self._loader = AdapterLoader(engine)
        self._residency = Residency(engine, metrics)
        self._metrics = metrics
        self._versions = versions
        self._reloading = asyncio.Lock()
        self._unloads: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, str] = {}
        self.registry = AdapterRegistry(base_name, self._on_unused, encoder_names)

    async def apply(self, settings: Settings, fetched: Fetched | None = None) -> FleetChange:
        """Serve the adapters that are configured; at the start and at every reload.

        New versions are loaded and proven while the old ones serve, then all are swapped at once;
        the old ones leave the engine when their last request has ended. An adapter that fails is
        quarantined if it is not `required` or `adapters_on_failure` is `quarantine`, and no served
        adapter would be lost. Any other failure raises ConfigurationError with a line for each, and
        changes nothing. `fetched` are adapters fetched before the engine started.
        """
        before, served = self.registry.versions, _served(self.registry.entries)
        outcomes = await self._loader.load_all(settings, before, fetched)
        loaded = dict.fromkeys(each for each in outcomes if isinstance(each, ServedVersion))
        added = [version for version in loaded if version not in before]
        lineup = Lineup.of(settings, outcomes)
        failures = lineup.failures(self._live)
        names = lineup.names
        try:
            refuse_fatal(failures, settings, served, served.keys() - names, self._addresses)
            self.registry.check(*lineup.arranged(self._live))
            await self._serve(lineup, settings)
        except ConfigurationError:
            for version in added:
                await self._loader.unload(version)
            raise
        for version in added:
            if version not in self.registry.versions:
                await self._loader.unload(version)
        self._addresses = {
            wanted.source: outcome.names[0]
            for wanted, outcome in zip(settings.adapters, lineup.configured, strict=True)
            if isinstance(outcome, ServedVersion)
        }
        for failure in failures:
            _log.error("adapter %s: quarantined: %s", failure.name, failure.error)
        for failure in lineup.refused(self._live):
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
                    await self._residency.look(served)
                except EngineDead:
                    return
            await asyncio.sleep(seconds)

    async def _serve(self, lineup: Lineup, settings: Settings) -> None:
        """Serve a lineup, now and after each change that a release makes."""

        def swap() -> None:
            self.registry.swap(*lineup.arranged(self._live))
            self._metrics.adapters_changed(self.registry.entries)

        if self._versions is None:
            swap()
        else:
            await self._versions.configure(settings, lineup.pairs(), swap)

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

    def _on_unused(self, version: ServedVersion) -> None:
        task = asyncio.get_running_loop().create_task(self._unload(version))
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _unload(self, version: ServedVersion) -> None:
        try:
            await self._loader.unload(version)
        except ServiceError as error:
            _log.warning("adapter %s: not unloaded: %s", version.adapter.engine_name, error)


def _served(entries: Mapping[str, Entry]) -> dict[str, ServedVersion]:
    return {name: each for name, each in entries.items() if isinstance(each, ServedVersion)}


def _change(before: Collection[ServedVersion], registry: AdapterRegistry) -> FleetChange:
    now = registry.versions
    return FleetChange(
        loaded=_names(now - set(before)),
        unchanged=_names(now & set(before)),
        removed=_names(set(before) - now),
        quarantined=tuple(
            name for name, each in registry.entries.items() if isinstance(each, QuarantinedAdapter)
        ),
    )


def _names(versions: Iterable[ServedVersion]) -> tuple[str, ...]:
    return tuple(sorted(version.names[1] for version in versions))
