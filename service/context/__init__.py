"""The request that the current task serves: its id, tenant, deadline, counts and end."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from service.engine.contract import Adapter, Job, Sink
from service.errors import ServiceError
from service.tenants.quota_store import Allowance
from service.tenants.tenant import ANONYMOUS, SERVICE, Tenant, Tier

T = TypeVar("T")


class StreamTrace(Protocol):
    """Spans of one engine stream."""

    def granted(self) -> None:
        """The stream got its slots and starts now, under the trace's `headers`."""

    def first_item(self) -> None:
        """The engine produced the first output."""

    def used(self, prompt: int, cached: int, completion: int) -> None:
        """The stream used these tokens of the engine."""

    def ended(self) -> None:
        """The stream ended, whether it ran or still waited."""


class RequestTrace(Protocol):
    """The trace that a request is part of."""

    trace_id: str
    """32 hexadecimal digits."""

    headers: Mapping[str, str]
    """W3C Trace Context for the engine stream that starts now."""

    response_header: str
    """Header of the answer that names the trace (W3C Trace Context Level 2, `traceresponse`)."""

    def stream(self) -> StreamTrace | None:
        """Begin the spans of a stream that now waits for its slots; None if it has too many."""

    def ended(self, context: "RequestContext", ending: "Ending") -> None:
        """The request ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a request, for telemetry.

    `status` is None if nothing of an answer was sent. `error` is the error that the client sees,
    not that of a single stream: an answer to several texts can succeed although some of them
    failed. `missed` are the objectives that the request missed; None for a request that has none.
    """

    outcome: str
    status: int | None
    error: ServiceError | None = None
    missed: Sequence[str] | None = None


@dataclass(slots=True)
class Hooks:
    """Callbacks for a request's progress and end; an extension of its context.

    `on_progress` is called at the first token, at the first result, and before the client gets an
    answer; `on_ending` with the request's ending.
    """

    on_progress: Callable[[], None] | None = None
    on_ending: Callable[[Ending], None] | None = None


@dataclass(slots=True)
class SinkWrappers:
    """Wrappers around the sink of a request's outputs; an extension of its context."""

    wrap: list[Callable[[Job, Sink], Sink]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The default and the longest deadline of requests, in ms.

    The default is for requests that state none. `flex` are the timeouts of the flex tier; None if
    they are the same.
    """

    default_ms: int
    max_ms: int
    flex: "Timeouts | None" = None


@dataclass(slots=True)
class Tokens:
    """Tokens that the request's streams used in total."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def add(self, other: "Tokens") -> None:
        """Add the tokens of other work."""
        self.prompt += other.prompt
        self.cached += other.cached
        self.completion += other.completion


@dataclass(slots=True)
class Times:
    """Times of the request's streams, in seconds.

    `queue` is the longest wait of a stream for admission, `first_token` the time from the request's
    arrival to its first token. `decode` is the time after each stream's first token, summed over
    the streams, and `decode_tokens` the number of tokens in that time.
    """

    queue: float = 0.0
    first_token: float | None = None
    decode: float = 0.0
    decode_tokens: int = 0


@dataclass(slots=True)
class RequestContext:
    """One request's identity, deadline and bookkeeping; times are seconds of `time.monotonic`."""

    request_id: str
    arrival: float
    deadline: float
    timeouts: Timeouts
    tenant: Tenant = ANONYMOUS
    model: str = "none"
    """The served name that the request chose."""
    route: str = "internal"
    body_bytes: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    times: Times = field(default_factory=Times)
    adapter: Adapter | None = None
    """The version that the request began with, kept for it until `at_end` runs."""
    allowance: Allowance = field(default_factory=Allowance)
    at_end: AsyncExitStack = field(default_factory=AsyncExitStack)
    trace: RequestTrace | None = None
    """The trace that the request is part of, None if it is not traced."""
    parts: int = 1
    """Number of engine requests of the request; admitted or refused together."""
    ignored_fields: tuple[str, ...] = ()
    """Places of the unknown fields in the body."""
    tier: Tier = Tier.DEFAULT
    """The class of work that the request belongs to."""
    flow: str = ""
    """The end user of a trusted gateway that the request is for."""
    first_token_within: float = math.inf
    """The time to the first token that a trusted gateway asks for."""
    asked_tier: str | None = None
    """The tier that the body or a header names."""
    stated_ms: float | None = None
    """The deadline that the request asked for, in ms after its arrival."""
    admitted: bool = False
    """True once one of the request's parts was admitted, and so all."""
    admission_refusal: ServiceError | None = None
    """The error with which one of the request's parts was refused admission, and so all."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers by names in lower case."""
    _extensions: dict[type, Any] = field(default_factory=dict)
    _running: int = 0
    _none_runs: asyncio.Event | None = None

    @property
    def unversioned_model(self) -> str:
        """The served name without a version."""
        return self.model if self.adapter is None else self.adapter.name

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.arrival

    def token_seconds(self) -> float | None:
        """Seconds per output token after the first; None for an answer of one token."""
        times = self.times
        return times.decode / times.decode_tokens if times.decode_tokens else None

    def set_timeout(self, timeout_ms: float | None) -> None:
        """Move the deadline to `timeout_ms` after the arrival, at most the configured longest.

        None leaves the deadline as it is.
        """
        if timeout_ms is not None:
            self.deadline = self.arrival + min(timeout_ms, self.timeouts.max_ms) / 1000
            self.stated_ms = timeout_ms

    def become_flex(self) -> None:
        """Make this a request of the tier `flex`, with that tier's deadlines."""
        self.tier = Tier.FLEX
        if self.timeouts.flex is None:
            return
        self.timeouts = self.timeouts.flex
        if self.stated_ms is None:
            self.deadline = self.arrival + self.timeouts.default_ms / 1000
        self.set_timeout(self.stated_ms)

    def follow_client(self, timeout_ms: int | None, *, streams: bool) -> None:
        """Set the deadline to the timeout of the client's SDK, if it is known.

        An SDK applies its timeout to each part of a streamed answer, so there the deadline can only
        become later. A deadline that the request stated itself stays.
        """
        if timeout_ms is None or self.stated_ms is not None:
            return
        least = 1000 * (self.deadline - self.arrival) if streams else 0
        self.set_timeout(max(timeout_ms, least))

    def extension(self, kind: type[T]) -> T | None:
        """The extension of this type; None if there is none."""
        return self._extensions.get(kind)

    def extend(self, value: object) -> None:
        """Attach an extension to the request; it has at most one of each type."""
        self._extensions[type(value)] = value

    def extended(self, kind: type[T]) -> T:
        """The extension of this type, created if there is none yet."""
        found: T | None = self._extensions.get(kind)
        if found is None:
            found = self._extensions[kind] = kind()
        return found

    def progressed(self) -> None:
        """Call the hook `on_progress`, because more is known of the answer."""
        hooks = self.extension(Hooks)
        if hooks is not None and hooks.on_progress is not None:
            hooks.on_progress()

    def ended(self, ending: Ending) -> None:
        """Call the hook `on_ending`."""
        hooks = self.extension(Hooks)
        if hooks is not None and hooks.on_ending is not None:
            hooks.on_ending(ending)

    def stream_began(self) -> None:
        """Note that a stream has begun; `close` waits until it has ended."""
        self._running += 1

    def stream_ended(self) -> None:
        """Note that a stream has ended, after its tokens were counted here."""
        self._running -= 1
        if not self._running and self._none_runs is not None:
            self._none_runs.set()

    async def close(self) -> None:
        """End the request: wait for its streams, then give back what it held."""
        async with self.at_end:
            # The tokens that they used are known only then, and are settled by `at_end`.
            if self._running:
                self._none_runs = asyncio.Event()
                await self._none_runs.wait()


_current: ContextVar[RequestContext] = ContextVar("request_context")


def current_context() -> RequestContext:
    """The context of the request that this task serves; LookupError outside of one."""
    return _current.get()


def enter_context(context: RequestContext) -> None:
    """Make this the context of the running task and of the tasks it starts."""
    _current.set(context)


def internal_context(name: str, timeout_s: float) -> RequestContext:
    """A context for the service's own requests (warm-up, probes, proofs)."""
    now, timeout_ms = time.monotonic(), int(timeout_s * 1000)
    timeouts = Timeouts(timeout_ms, timeout_ms)
    return RequestContext(name, now, now + timeout_s, timeouts, tenant=SERVICE)


def internal_request(name: str, timeout_s: float) -> AbstractAsyncContextManager[RequestContext]:
    """Run a block as one of the service's own requests, and wait for its streams to end."""
    return _running(internal_context(name, timeout_s))


@asynccontextmanager
async def work_beside(context: RequestContext) -> AsyncIterator[RequestContext]:
    """Run a block that uses another model for this request; its tokens count as the request's.

    The block has a context of its own with the same tenant, tier, deadline and quotas. The
    request's model, time to first token and admission are not affected.
    """
    own = RequestContext(
        context.request_id,
        context.arrival,
        context.deadline,
        context.timeouts,
        tenant=context.tenant,
        route=context.route,
        allowance=context.allowance,
        trace=context.trace,
        tier=context.tier,
        stated_ms=context.stated_ms,
        flow=context.flow,
    )
    try:
        async with _running(own):
            yield own
    finally:
        context.tokens.add(own.tokens)
        context.times.queue = max(context.times.queue, own.times.queue)


@asynccontextmanager
async def _running(context: RequestContext) -> AsyncIterator[RequestContext]:
    """Make a context the current one for a block, and close it after."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
        await context.close()
