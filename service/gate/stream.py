"""The one way into the engine: a stream that holds a permit and keeps a deadline."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from service.context import RequestContext, StreamTrace, current_context
from service.errors import DeadlineExceeded, ServiceError
from service.gate.deadline import DeadlineTimer
from service.gate.gate import Gate

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a stream knows after an item: its prompt's tokens and the item's new tokens."""

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int


class EngineRequest(Protocol[Item]):
    """One request to an engine, not yet made."""

    slots: int

    def start(self) -> AsyncGenerator[Item, None]: ...

    def progress(self, item: Item) -> Progress: ...

    def explain(self, error: Exception) -> ServiceError | None:
        """The service's error for one of the engine's, None for one that it does not know."""


class StreamObserver(Protocol):
    """Who is told what a stream did; times in seconds."""

    def queued_for(self, context: RequestContext, seconds: float) -> None: ...

    def first_token(self, context: RequestContext, seconds: float) -> None: ...

    def tokens_after(self, context: RequestContext, seconds: float, tokens: int) -> None: ...

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None: ...


def gated(
    gate: Gate, observer: StreamObserver, request: EngineRequest[Item]
) -> AsyncGenerator[Item, None]:
    """Run an engine request under a permit, as part of the current HTTP request.

    The permit goes back when the stream ends, fails, is closed or cancelled, after the engine's
    stream was closed (which aborts the engine's request). The stream raises QueueFull, and
    DeadlineExceeded whether it waits or runs. The context's scope closes what its user leaves open.
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
    meter = _Meter(context, observer, trace)
    try:
        permit = await gate.acquire(context, request.slots)
        observer.queued_for(context, time.monotonic() - asked)
        deadline = DeadlineTimer(context.remaining())
        try:
            if trace:
                trace.granted()
            async with aclosing(request.start()) as engine_stream:
                while True:
                    item = await deadline.wait(anext(engine_stream))
                    meter.add(request.progress(item))
                    yield item
        except StopAsyncIteration:
            return
        finally:
            deadline.close()
            meter.close()
            permit.release()
    except TimeoutError:
        context.failure = DeadlineExceeded(
            f"The deadline passed {context.elapsed():.1f} s after the request arrived, "
            "before the answer was complete."
        )
        raise context.failure from None
    except ServiceError as error:
        context.failure = error
        raise
    except Exception as error:
        if known := request.explain(error):
            context.failure = known
            raise known from error
        raise
    finally:
        if trace:
            trace.ended(meter.prompt, meter.cached, meter.completion)


class _Meter:
    """Counts one engine stream and tells the observer, and its trace if it has one."""

    def __init__(
        self, context: RequestContext, observer: StreamObserver, trace: StreamTrace | None
    ) -> None:
        self._context = context
        self._observer = observer
        self._trace = trace
        self.prompt = self.cached = self.completion = 0
        self._last: float | None = None

    def add(self, step: Progress) -> None:
        now = time.monotonic()
        self.prompt, self.cached = step.prompt_tokens, step.cached_tokens
        self.completion += step.new_tokens
        if self._last is None:
            self._observer.first_token(self._context, now - self._context.arrival)
            if self._trace:
                self._trace.first_item()
        elif step.new_tokens:
            self._observer.tokens_after(self._context, now - self._last, step.new_tokens)
        self._last = now

    def close(self) -> None:
        self._observer.used(self._context, self.prompt, self.cached, self.completion)
