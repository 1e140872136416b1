"""The adapters that should be served, followed while the service runs: docs/adapters.md."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.adapters.fleet import AdapterFleet, FleetChange, change_since
from service.adapters.list_file import edit_list
from service.adapters.metrics import AdapterMetrics
from service.adapters.registry import Failure
from service.common.aio import gather
from service.errors import ConfigurationError, Conflict, InvalidRequest, NotFound, ServiceError
from service.settings.adapters import AdapterSettings, ListedAdapter
from service.settings.load import masked, parse_adapter_list, read_adapter_list, with_list
from service.settings.tree import Settings

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 300.0
"""Time until an adapter that failed is tried again; it doubles each time."""


@dataclass(frozen=True, slots=True)
class AdapterState:
    """An adapter that should be served, and what is served under its name now.

    `wanted` is the pinned digest; `version` and `digest` are those served, null if none is.
    `serving` and `unproven` adapters are as wanted. A `loading` or `failed` one may still have an
    older version, and `error` says why it failed. A `retiring` version has requests to finish.
    """

    name: str
    state: Literal["serving", "unproven", "loading", "failed", "retiring"]
    wanted: str | None = None
    version: str | None = None
    digest: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """How far one replica is; `converged` if it serves what it should.

    `list_digest` is that of the list it follows, null for adapters of the configuration.
    `list_error` says why the present files of the list are refused.
    """

    converged: bool
    list_digest: str | None
    list_error: str | None
    adapters: Sequence[AdapterState]


class DesiredAdapters:
    """Follows the list of `adapters_path`, and serves, replaces and retires what it says.

    Each adapter has a task of its own, which ends when the adapter is served, and tries again after
    a failure. Without a list the adapters are those of the configuration, until a reload.
    """

    def __init__(
        self,
        fleet: AdapterFleet,
        settings: Settings,
        read_settings: Callable[[], Settings],
        metrics: AdapterMetrics,
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._read_settings = read_settings
        self._metrics = metrics
        self._path = settings.adapters_path
        self._wanted = dict(fleet.wanted)
        self._digest: str | None = None
        self._texts: Mapping[str, bytes] | None = None
        self._complaint: str | None = None
        self._errors: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()

    async def follow(self) -> None:
        """Look at the list every few seconds; ends at once without one, else when cancelled.

        Compares content: a ConfigMap is changed by another target of a symbolic link.
        """
        if self._path is None:
            return
        entries = self._fleet.registry.entries
        failed = [name for name, each in entries.items() if isinstance(each, Failure)]
        for name in failed:
            self._begin(name, _FIRST_PAUSE_S)
        try:
            while True:
                try:
                    await self._look(self._path)
                except ConfigurationError:
                    pass  # already told
                except Exception:
                    _log.exception("the list of adapters was not followed; it is tried again")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._end(list(self._tasks))

    async def reload(self) -> FleetChange:
        """Fetch again what is configured, also at addresses that stayed the same.

        With a list, raises Conflict where adapters failed, whose old versions stay; the others
        changed. Without one, as `AdapterFleet.reload`. Raises InvalidRequest for a list or a
        configuration that is not valid.
        """
        if self._path is None:
            return await self._fleet.reload(self._read_settings)
        before = self._fleet.registry.versions
        try:
            await self._look(self._path)
        except ConfigurationError as error:
            raise InvalidRequest(str(error), code="configuration_invalid") from error
        async with self._changing:
            await self._end(list(self._tasks))
            await gather(self._try(name) for name in self._wanted)
            for name in self._errors:
                self._begin(name, _FIRST_PAUSE_S)
        self._metrics.adapters_reloaded("failed" if self._errors else "ok")
        if self._errors:
            raise Conflict("\n".join(self._errors.values()), code="adapter_refused")
        change = change_since(before, self._fleet.registry)
        _log.info("adapters reloaded: %s", change)
        return change

    async def put(self, adapter: ListedAdapter) -> AdapterState:
        """Add an adapter to the list's file, or replace its entry, and begin to serve it.

        Raises Conflict where the file cannot be written.
        """
        await self._edit(adapter.name, adapter)
        return self._state(adapter.name)

    async def remove(self, name: str) -> None:
        """Take an adapter out of the list's file, and retire it.

        Raises NotFound for a name that is not listed, Conflict where the file cannot be written.
        """
        await self._edit(name, None)

    def report(self) -> AdapterReport:
        """The state of every adapter that should be served, or that has requests to finish."""
        registry = self._fleet.registry
        states = [self._state(name) for name in sorted(self._now_wanted())]
        behind = any(each.state in ("loading", "failed") for each in states)
        for version in registry.in_use() - registry.versions:
            manifest, digest = version.manifest, version.adapter.digest
            states.append(
                AdapterState(version.name, "retiring", None, manifest.version, digest, None)
            )
        return AdapterReport(
            converged=not behind and self._complaint is None,
            list_digest=self._digest,
            list_error=self._complaint,
            adapters=states,
        )

    def _now_wanted(self) -> Mapping[str, AdapterSettings]:
        return self._fleet.wanted if self._path is None else self._wanted

    def _state(self, name: str) -> AdapterState:
        entry, error = self._fleet.registry.entries.get(name), self._errors.get(name)
        wanted = self._now_wanted()[name]
        if isinstance(entry, Failure):
            return AdapterState(name, "failed", wanted.digest, error=error or _told(entry))
        if entry is None:
            return AdapterState(name, "failed" if error else "loading", wanted.digest, error=error)
        state: Literal["serving", "unproven", "loading", "failed"] = entry.state
        if error is not None or name in self._tasks:
            state = "loading" if error is None else "failed"
        version, digest = entry.manifest.version, entry.adapter.digest
        return AdapterState(name, state, wanted.digest, version, digest, error)

    async def _look(self, path: Path) -> None:
        """Read the list, and begin to serve it if it changed; raises ConfigurationError."""
        async with self._changing:
            before, self._texts = self._texts, None
            try:
                texts = await asyncio.to_thread(read_adapter_list, path)
                if texts == before and self._complaint is not None:
                    raise ConfigurationError(self._complaint)
                if texts != before:
                    listed = await asyncio.to_thread(parse_adapter_list, path, texts)
                    await self._want(with_list(self._settings, listed).adapters)
                    self._complaint, self._digest = None, listed.digest
                    self._metrics.list_read(accepted=True)
            except ConfigurationError as error:
                self._complain(str(error))
                raise
            self._texts = texts

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self._metrics.list_read(accepted=False)
            _log.error("changed list of adapters refused, the previous one stays: %s", complaint)

    async def _want(self, adapters: Iterable[AdapterSettings]) -> None:
        """Begin to serve these adapters alone; those that are served as they say stay."""
        wanted = {str(each.name): each for each in adapters}
        gone = self._wanted.keys() - wanted.keys()
        changed = [name for name, each in wanted.items() if self._wanted.get(name) != each]
        await self._end([*gone, *changed])
        self._wanted = wanted
        for name in [*gone, *changed]:
            self._errors.pop(name, None)
        if gone:
            await self._fleet.retire(gone, self._settings)
        for name in changed:
            self._begin(name)
        if gone or changed:
            _log.info("list of adapters: %d changed, %d retired", len(changed), len(gone))
        self._show()

    def _begin(self, name: str, pause_s: float = 0.0) -> None:
        task = asyncio.create_task(self._bring(name, pause_s))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name, task))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        self._show()

    async def _end(self, names: Iterable[str]) -> None:
        """Cancel the tasks of these names, and wait until they have left nothing half done."""
        tasks = [self._tasks.pop(name) for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _bring(self, name: str, pause_s: float) -> None:
        """Try to serve an adapter as the list wants it, until it is."""
        await asyncio.sleep(pause_s)
        pause_s = max(pause_s, _FIRST_PAUSE_S / 2)
        while not await self._try(name):
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
        if self._tasks.keys() <= {name}:
            with suppress(OSError):
                await self._fleet.prune(self._settings)

    async def _try(self, name: str) -> bool:
        """Serve an adapter as the list wants it, if it can be; keeps and logs the error."""
        wanted = self._wanted[name]
        try:
            failure = await self._fleet.replace(wanted, self._settings)
        except ServiceError as error:
            failure = Failure(wanted, name, ConfigurationError(str(error)))
        except Exception as error:  # one adapter must not end the others
            _log.exception("adapter %s: it could not be loaded", name)
            failure = Failure(wanted, name, ConfigurationError(f"adapter {name}: {error!r}"))
        if failure is None:
            self._errors.pop(name, None)
        elif self._errors.get(name) != (told := _told(failure)):
            self._errors[name] = told
            _log.error("adapter %s: not served as the list wants it: %s", name, failure.error)
        self._show()
        return failure is None

    def _show(self) -> None:
        self._metrics.adapters_behind(len(self._tasks.keys() | self._errors.keys()))

    async def _edit(self, name: str, adapter: ListedAdapter | None) -> None:
        if self._path is None:
            raise Conflict(
                "adapters_path is not set: the adapters are those of the configuration",
                code="adapters_read_only",
            )
        if adapter is None and name not in self._wanted:
            raise NotFound(f"adapter: {name!r:.140} is not in the list", code="model_not_found")
        try:
            await asyncio.to_thread(edit_list, self._path, name, adapter)
            await self._look(self._path)
        except ConfigurationError as error:
            raise Conflict(str(error), code="adapters_read_only") from error


def _told(failure: Failure) -> str:
    """Why an adapter failed, for who may see the admin port, without a secret of its address."""
    source = failure.wanted.source
    return str(failure.error).replace(source, masked(source))
