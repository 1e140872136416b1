"""The stream of every engine request, which holds a permit and keeps a deadline."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from service.context import RequestContext, StreamTrace, current_context
from service.errors import DeadlineExceeded, ServiceError
from service.gate.gate import Gate
from service.gate.permit import Permit
from service.gate.ticket import Demand

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a stream after an item: its prompt's tokens and the item's new tokens.

    `engine_wait` is the time in seconds that the engine held the request before its first step, if
    it reports one.
    """

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    engine_wait: float | None = None


class EngineRequest(Protocol[Item]):
    """One request to an engine, not yet made."""

    demand: Demand

    def start(self) -> AsyncGenerator[Item, None]: ...

    def progress(self, item: Item) -> Progress: ...

    def explain(self, error: Exception) -> ServiceError | None:
        """The service's error for one of the engine's, None for one that it does not know."""


class StreamObserver(Protocol):
    """Observes streams, whose figures are in the request's context already; times in seconds."""

    def queued_for(self, context: RequestContext, seconds: float) -> None: ...

    def first_token(self, context: RequestContext, seconds: float) -> None:
        """Record the time from a request to its first item, once for each request."""

    def tokens_after(self, context: RequestContext, seconds: float, tokens: int) -> None: ...

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None: ...


def gated(
    gate: Gate, observer: StreamObserver, request: EngineRequest[Item]
) -> AsyncGenerator[Item, None]:
    """Run an engine request under a permit, as part of the current HTTP request.

    The permit goes back when the stream ends, fails, is closed or cancelled, after the engine's
    stream was closed (which aborts the engine's request). The stream raises the gate's error that
    refuses or ends it, waiting or running. The context's scope closes a stream that is left open.
    """
    context = current_context()
    stream = _run(gate, observer, request, context)
    context.streams.append(stream)
    return stream


async def _run(
    gate: Gate, observer: StreamObserver, request: EngineRequest[Item], context: RequestContext
) -> AsyncGenerator[Item, None]:
    asked = time.monotonic()
    trace = context.trace.stream() if context.trace else None
    context.stream_began()
    try:
        reservation = await context.allowance.reserve(request.demand.most_tokens)
        permit = await gate.acquire(context, request.demand)
        observer.queued_for(context, time.monotonic() - asked)
        meter = _Meter(context, observer, permit, trace)
        try:
            if trace:
                trace.granted()
            async with aclosing(request.start()) as engine_stream:
                try:
                    while True:
                        item = await permit.wait(engine_stream.__anext__)
                        meter.add(request.progress(item))
                        yield item
                except (GeneratorExit, DeadlineExceeded):
                    if (made := await _made(engine_stream)) is not None:
                        meter.add(request.progress(made))
                    raise
        except StopAsyncIteration:
            return
        except (asyncio.CancelledError, DeadlineExceeded):
            meter.read(request.demand.prompt_tokens)
            raise
        finally:
            reservation.used = meter.close()
            permit.release()
    except ServiceError as error:
        context.stream_failure = error
        raise
    except Exception as error:
        if known := request.explain(error):
            context.stream_failure = known
            raise known from error
        raise
    finally:
        context.stream_ended()
        if trace:
            trace.ended()


async def _made(stream: AsyncGenerator[Item, None]) -> Item | None:
    """The item that the engine made while the client did not read, if any; the stream is over."""
    try:
        async with asyncio.timeout(0):
            return await anext(stream)
    except Exception:  # it waits for the next step, has ended or fails: nothing to charge
        return None


class _Meter:
    """Counts one engine stream: for its permit, the request, the observer and the trace."""

    def __init__(
        self,
        context: RequestContext,
        observer: StreamObserver,
        permit: Permit,
        trace: StreamTrace | None,
    ) -> None:
        self._context = context
        self._observer = observer
        self._permit = permit
        self._trace = trace
        self._prompt = self._cached = self._completion = 0
        self._last: float | None = None

    def add(self, step: Progress) -> None:
        now = time.monotonic()
        self._prompt, self._cached = step.prompt_tokens, step.cached_tokens
        self._completion += step.new_tokens
        first = self._last is None
        self._permit.charge(
            self._prompt, self._cached, self._completion, step.engine_wait if first else None
        )
        if self._last is None:
            if self._context.first_token_seconds is None:
                self._context.first_token_seconds = now - self._context.arrival
                self._observer.first_token(self._context, self._context.first_token_seconds)
            if self._trace:
                self._trace.first_item()
        elif step.new_tokens:
            self._context.decode_seconds += now - self._last
            self._context.decode_tokens += step.new_tokens
            self._observer.tokens_after(self._context, now - self._last, step.new_tokens)
        self._last = now

    def read(self, prompt_tokens: int) -> None:
        """Charge a prompt that the engine has read, of a cancelled or late request, once."""
        self._prompt = self._prompt or prompt_tokens

    def close(self) -> int:
        """Report the tokens used; returns their number."""
        self._context.prompt_tokens += self._prompt
        self._context.cached_tokens += self._cached
        self._context.completion_tokens += self._completion
        self._observer.used(self._context, self._prompt, self._cached, self._completion)
        if self._trace:
            self._trace.used(self._prompt, self._cached, self._completion)
        return self._prompt + self._completion
