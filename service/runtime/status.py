"""The status of one running service: its phase, its health, and the actions that it offers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from service.adapters.desired import DesiredAdapters
from service.adapters.fleet import FleetChange
from service.errors import Interrupted, NotReady

T = TypeVar("T")


class Phase(Enum):
    """The stage of a service's life; a service only moves forward."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


class Status:
    """State of the service, shared with the admin port, which has a thread of its own.

    An action that only some phases offer is None in the others.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.listening = True
        """False while a public server has yet to take connections."""
        self.stalled: set[str] = set()
        """Names of engines that make no step."""
        self.lost: set[str] = set()
        """Names of stalled engines that only a restart may help."""
        self.alone: set[str] = set()
        """Names of engines that share no fairness with other replicas, since the store is away."""
        self.about: tuple[str, ...] = ()
        """The version of vLLM, and which client reaches it."""
        self.failure: Exception | None = None
        """The error that ended the start or the service."""
        self.interrupt: Callable[[int], None] | None = None
        """Ends the start, for the signal of this number."""
        self.reload: Callable[[], Coroutine[Any, Any, FleetChange]] | None = None
        """Reloads the adapters; to be run on the loop that serves, as by `on_loop`."""
        self.adapters: DesiredAdapters | None = None
        """The adapters that should be served; to be used on the loop that serves."""
        self.drain: Callable[[bool], None] | None = None
        """Drains the service, after waiting for load balancers if True; for any thread."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that serves, while the service does."""
        self.stop: Callable[[], None] = lambda: None
        """Ends the public server; to be called on its loop."""

    @property
    def details(self) -> list[str]:
        """Lines for `/readyz?verbose`: what the service runs on, and what does not work."""
        silent = "fair alone: admission.storage does not answer"
        return [*self.about, *(f"{name}: {silent}" for name in sorted(self.alone))]

    @property
    def live(self) -> bool:
        """False if only a restart helps."""
        return not self.lost

    @property
    def ready(self) -> bool:
        """True if requests should be sent here."""
        served = self.phase is Phase.READY and self.listening
        return served and not self.stalled and self.failure is None

    def __str__(self) -> str:
        if self.failure is not None:
            return "failed"
        if self.stalled:
            return "stalled"
        return self.phase.value if self.listening else Phase.STARTING.value

    async def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the serving event loop and return its result, for callers on another one.

        Raises NotReady while the service does not serve.
        """
        if self.loop is None:
            work.close()
            raise NotReady(f"The service is {self.phase.value}.", retry_after=5)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Keep the error of a failed start as `failure`, since the server would only log it.

        During the block `interrupt`, called from any thread or signal handler, ends the start with
        Interrupted.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: int) -> None:
            self.failure = Interrupted(number)
            loop.call_soon_threadsafe(task.cancel)

        self.interrupt = interrupt
        try:
            yield
        except asyncio.CancelledError:
            if isinstance(self.failure, Interrupted):
                raise self.failure from None
            raise
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.interrupt = None
