"""What is known of the request that the current task serves."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from service.engine.protocol import Adapter
from service.errors import ServiceError
from service.tenants.allowance import Allowance
from service.tenants.tenant import ANONYMOUS, SERVICE, Tenant


@dataclass(slots=True)
class RequestContext:
    """One request's identity, deadline and bookkeeping.

    Times are seconds of `time.monotonic`. `streams` are the engine streams opened on the request's
    behalf: its scope closes them, so that no permit outlives the request. `failure` is the error
    that ended one of them, kept because vLLM's own handlers turn exceptions into text. `adapter` is
    the version that the request began with, kept for it until `at_end` runs.
    """

    request_id: str
    arrival: float
    deadline: float
    max_timeout_ms: int
    tenant: Tenant = ANONYMOUS
    model: str = "none"
    queue_seconds: float = 0.0
    first_token_seconds: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    failure: ServiceError | None = None
    streams: list[AsyncGenerator[Any, None]] = field(default_factory=list)
    adapter: Adapter | None = None
    allowance: Allowance = field(default_factory=Allowance)
    at_end: AsyncExitStack = field(default_factory=AsyncExitStack)

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.arrival

    def set_timeout(self, timeout_ms: int) -> None:
        """Move the deadline to `timeout_ms` after the arrival, at most the configured longest."""
        self.deadline = self.arrival + min(timeout_ms, self.max_timeout_ms) / 1000

    async def close(self) -> None:
        """End the request: close the streams it left open, then give back what it held."""
        for stream in self.streams:
            # One still running belongs to a task that its owner has cancelled already.
            with suppress(RuntimeError, ServiceError):
                await stream.aclose()
        await self.at_end.aclose()


_current: ContextVar[RequestContext] = ContextVar("request_context")


def current_context() -> RequestContext:
    """The context of the request that this task serves; LookupError outside of one."""
    return _current.get()


def enter_context(context: RequestContext) -> None:
    """Make this the context of the running task and of the tasks it starts."""
    _current.set(context)


def internal_context(name: str, timeout_s: float) -> RequestContext:
    """A context for the service's own requests (warm-up, probes, proofs)."""
    now = time.monotonic()
    return RequestContext(name, now, now + timeout_s, int(timeout_s * 1000), tenant=SERVICE)


@asynccontextmanager
async def internal_request(name: str, timeout_s: float) -> AsyncIterator[RequestContext]:
    """Run a block as a request of the service's own; what it left open is closed after it."""
    context = internal_context(name, timeout_s)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
        await context.close()
