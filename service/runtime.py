"""The parts of one running service, as the composition root put them together."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from service.adapters.fleet import Change
from service.adapters.registry import AdapterRegistry
from service.classification.question_cache import QuestionCache
from service.engine.protocol import Engine
from service.gate.gate import Gate
from service.settings import Settings
from service.telemetry.metrics import Metrics


class Phase(Enum):
    """Where a service is in its life; it only moves forward."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Reload:
    """Reloads the adapters on the loop that serves, from whatever thread or loop asks."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reload: Callable[[], Coroutine[Any, Any, Change]]
    ) -> None:
        self._loop = loop
        self._reload = reload

    async def __call__(self) -> Change:
        """Wait for the reload; raises what `AdapterFleet.reload` raises."""
        return await asyncio.wrap_future(self.start())

    def start(self) -> Future[Change]:
        """Begin the reload without waiting for it."""
        return asyncio.run_coroutine_threadsafe(self._reload(), self._loop)


class Status:
    """The phase, shared with the operations port, which lives in a thread of its own.

    `reload` is there while the service is ready.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.failure: Exception | None = None
        self.reload: Reload | None = None

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Keep what goes wrong here: the server would only log it."""
        try:
            yield
        except Exception as error:
            self.failure = error
            raise


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a route needs; it exists once the engine is up and the adapters are loaded."""

    settings: Settings
    metrics: Metrics
    gate: Gate
    engine: Engine
    adapters: AdapterRegistry
    questions: QuestionCache
