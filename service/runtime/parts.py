"""The components of a running service, and the interface of its plugins (docs/plugins.md)."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, Self, TypeVar

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.adapters.choice import Models, Versions
from service.adapters.fleet import AdapterFleet
from service.adapters.registry import AdapterRegistry
from service.admission.controller import AdmissionController
from service.classification.classifier import QuestionCache
from service.common.entry_points import load_group
from service.common.error_forms import ERROR_FORMS, ErrorForm
from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext, SinkWrappers
from service.engine.contract import Job, Sink
from service.engine.pooling import EncoderEngine
from service.errors import ServiceError
from service.generation.served_model import ServedModel
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.tenants.tenancy import Tenancy
from service.tenants.tenant import Tenant

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a JSON body; `retry_after`, if it has one, is in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None


class Call(Protocol):
    """Sends a tenant's request to the service itself, with all checks of an HTTP request."""

    async def __call__(
        self, tenant: Tenant, path: str, body: bytes, *, request_id: str, timeout_s: float
    ) -> Reply: ...


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """The warm engine of the base model, its admission control, adapters and classifiers."""

    engine: ServedModel
    admission: AdmissionController
    fleet: AdapterFleet
    questions: QuestionCache

    @property
    def registry(self) -> AdapterRegistry:
        """The adapters that are served."""
        return self.fleet.registry


@dataclass(frozen=True, slots=True)
class Runtime:
    """Components that routes use; they exist when the engines run and the adapters are loaded.

    `language_model` is None in a service of encoders alone. `admission` is the first engine's
    admission control.
    """

    settings: Settings
    status: Status
    metrics: Metrics
    language_model: LanguageModel | None
    encoders: Sequence[EncoderEngine]
    models: Models
    admission: AdmissionController
    call: Call
    plugins: "Plugins"

    @property
    def base(self) -> LanguageModel:
        """The language model; for routes that exist only in a service that has one."""
        assert self.language_model is not None
        return self.language_model


class OpenRequests:
    """Counts requests from their first byte to their last; belongs to one event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._refusal: Callable[[], ServiceError] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def closing(self) -> bool:
        """True while new requests are refused."""
        return self._refusal is not None

    def check(self) -> None:
        """Raise an error for a new request, once `close` was called."""
        if self._refusal:
            raise self._refusal()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a request while the block runs."""
        self.count += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._empty.set()

    def close(self, refusal: Callable[[], ServiceError]) -> None:
        """Refuse new requests with errors that `refusal` makes; open requests continue."""
        self._refusal = refusal

    async def wait_until_none(self) -> None:
        """Wait until no request is open."""
        await self._empty.wait()


@dataclass(frozen=True, slots=True)
class Host:
    """What a plugin can use before an engine starts."""

    settings: Settings
    registry: CollectorRegistry
    metrics: Metrics
    tenancy: Tenancy
    status: Status


@dataclass(frozen=True, slots=True)
class Served:
    """A request and its chosen model, before the model runs.

    `writes` is true if the model generates text.
    """

    context: RequestContext
    runtime: Runtime
    read: Callable[[], Mapping[str, Any]]
    writes: bool = True

    @property
    def body(self) -> Mapping[str, Any]:
        """The body's fields, as JSON has them."""
        return self.read()


class OwnBodyReader(Protocol):
    """Reads the bodies of some requests itself, because they are too large for memory."""

    def owns(self, scope: Scope) -> bool:
        """True for a request whose body this reader reads."""

    async def read(self, headers: Headers, receive: Receive, context: RequestContext) -> int:
        """Read the body, and return its bytes; raises ServiceError to refuse it."""


class Plugin:
    """An optional part of the service; every method has a default.

    Plugins are found through entry points in the group `llm_service.plugins`, and their settings
    through the group `llm_service.settings`.
    """

    routers: ClassVar[Sequence[APIRouter]] = ()
    """Routes of the public port."""
    switch: ClassVar[str] = ""
    """The setting that turns the plugin on; its routes name it while the plugin is off."""
    operations: ClassVar[Mapping[str, str | None]] = {}
    """Its routes that take a body, as `service.common.operations` has them."""
    open_paths: ClassVar[frozenset[str]] = frozenset()
    """Paths of the public port that need no key."""
    needs_model: ClassVar[bool] = False
    """True if its routes need a language model; without one they answer so."""
    error_forms: ClassVar[Mapping[str, ErrorForm]] = {}
    """How errors look on those of its paths that have a form of their own."""
    examples: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    """Bodies for the description, by path and title, to which the base model's name is added."""

    @classmethod
    def of(cls, host: Host) -> Self | None:
        """The plugin with these settings; None where they turn it off.

        Raises ConfigurationError for settings that it cannot use.
        """
        return cls()

    @classmethod
    def check_engine(cls, config: Any, settings: Settings) -> str | None:
        """Report on vLLM's configuration, for `serve --check`, before any engine starts.

        Raises ConfigurationError for one that cannot work.
        """
        return None

    def body_reader(self) -> OwnBodyReader | None:
        """The reader for requests whose bodies are too large for memory; None if there is none."""
        return None

    def add_admin_routes(self, app: FastAPI, may_control: Sequence[Any]) -> None:
        """Add routes to the admin port; those that change something depend on `may_control`."""

    def lifespan(self, service: Runtime) -> AbstractAsyncContextManager[None]:
        """Runs while the service serves; entered once the engines are up."""
        return nullcontext()

    async def accept(self, request: Served) -> None:
        """Inspect a request before a model gets it; raises ServiceError to refuse it."""

    def versions(self) -> Versions | None:
        """The router between versions of adapters; at most one plugin has one."""
        return None

    def wrap(self, request: Served, job: Job, sink: Sink) -> Sink:
        """The sink that gets the outputs of one of a request's jobs in place of `sink`."""
        return sink

    def headers(self, context: RequestContext, status: int) -> Mapping[str, str]:
        """Headers of an answer with this status."""
        return {}

    def ended(self, context: RequestContext, ending: Ending) -> None:
        """A request ended."""

    async def overview(self) -> Mapping[str, Any]:
        """The plugin's state as JSON, for people."""
        return {}

    def drains(self) -> None:
        """The service drains: begin no work of your own."""

    def close(self) -> None:
        """Save state at shutdown, after everything else has stopped; blocks meanwhile."""


def plugin_types() -> dict[str, type[Plugin]]:
    """The plugins that are installed, by name."""
    return load_group("llm_service.plugins")


def engine_reports(config: Any, settings: Settings) -> list[str]:
    """The plugins' reports on vLLM's configuration; raises as `Plugin.check_engine`."""
    told = (kind.check_engine(config, settings) for kind in plugin_types().values())
    return [each for each in told if each is not None]


class Plugins:
    """The enabled plugins of one service."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._all = tuple(plugins)
        # Most plugins do not look at requests, so only those that do are called for each.
        self._accepting = self._with("accept")
        self._wrapping = self._with("wrap")
        self._heading = self._with("headers")
        self._counting = self._with("ended")

    @classmethod
    def of(cls, host: Host) -> "Plugins":
        """The installed plugins that the settings turn on; raises as `Plugin.of`."""
        kinds = plugin_types().values()
        for kind in kinds:
            OPERATIONS.update(kind.operations)
            ERROR_FORMS.update(kind.error_forms)
        made = (kind.of(host) for kind in kinds)
        return cls(each for each in made if each is not None)

    def _with(self, method: str) -> list[Plugin]:
        base = getattr(Plugin, method)
        return [each for each in self._all if getattr(type(each), method) is not base]

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._all)

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths of the public port that need no key."""
        return frozenset[str]().union(*(each.open_paths for each in self._all))

    def has(self, kind: type[Plugin]) -> bool:
        """True if the plugin of this type is on."""
        return any(type(each) is kind for each in self._all)

    def versions(self) -> Versions | None:
        """The router between versions of adapters; None if no plugin has one."""
        found = (each.versions() for each in self._all)
        return next((each for each in found if each is not None), None)

    def get(self, kind: type[T]) -> T:
        """The plugin of this type; LookupError if it is off."""
        for each in self._all:
            if isinstance(each, kind):
                return each
        raise LookupError(f"{kind.__name__} is off")

    async def accept(self, request: Served) -> None:
        """Have every plugin look at a request; raises the first refusal."""
        for each in self._accepting:
            await each.accept(request)
        if self._wrapping:
            wrappers = request.context.extended(SinkWrappers)
            wrappers.wrap += [partial(each.wrap, request) for each in self._wrapping]

    def headers(self, context: RequestContext, status: int) -> dict[str, str]:
        """Headers of an answer with this status."""
        found: dict[str, str] = {}
        for each in self._heading:
            try:
                found |= each.headers(context, status)
            except Exception:
                _log.exception("plugin %s: no headers", type(each).__name__)
        return found

    def ended(self, context: RequestContext, ending: Ending) -> None:
        """Tell every plugin of a request's end; errors are logged and affect no other plugin."""
        for each in self._counting:
            try:
                each.ended(context, ending)
            except Exception:
                _log.exception("plugin %s: a request is not counted", type(each).__name__)

    async def overview(self) -> dict[str, Any]:
        """The state of all plugins, for a person to look at."""
        found: dict[str, Any] = {}
        for each in self._all:
            found |= await each.overview()
        return found

    def drains(self) -> None:
        """Tell every plugin that the service drains."""
        for each in self._all:
            each.drains()

    def close(self) -> None:
        """Have every plugin save its state; blocks meanwhile."""
        for each in self._all:
            each.close()
