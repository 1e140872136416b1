"""The stream of every engine request, which holds a permit and keeps a deadline."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from service.context import RequestContext, current_context
from service.engine.contract import Progress
from service.errors import DeadlineExceeded, ServiceError
from service.gate.gate import Gate
from service.gate.meter import Meter, StreamObserver
from service.gate.permit import Permit, Preempted
from service.gate.ticket import Demand
from service.tenants.allowance import Reservation

Item = TypeVar("Item")

_MOST_RUNS = 4
"""The most runs of a request that gives way; the output of all but the last is lost."""


class Permitted(Protocol):
    """One request to an engine, not yet made."""

    @property
    def demand(self) -> Demand: ...

    def explain(self, error: Exception) -> ServiceError | None:
        """The service's error for one of the engine's, None for any other."""


class EngineRequest(Permitted, Protocol[Item]):
    """A request whose answer is a stream of items."""

    def start(self) -> AsyncGenerator[Item, None]: ...

    def progress(self, item: Item) -> Progress: ...


class PushedRequest(Permitted, Protocol):
    """A request that hands its items on itself."""

    async def push(self, meter: Meter) -> None:
        """Make the request, and count its items and hand them on; ends with the last item."""

    def restart(self) -> None:
        """Forget the items, to begin again; only called if the demand is restartable."""


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
    async with _UnderPermit(gate, observer, request, context) as (permit, meter):
        async with aclosing(request.start()) as engine_stream:
            try:
                while True:
                    try:
                        item = await permit.wait(engine_stream.__anext__)
                    except StopAsyncIteration:
                        return
                    meter.add(request.progress(item))
                    yield item
            except (GeneratorExit, DeadlineExceeded):
                if (made := await _made(engine_stream)) is not None:
                    meter.add(request.progress(made))
                raise


async def pushed(gate: Gate, observer: StreamObserver, request: PushedRequest) -> None:
    """Run an engine request under a permit; it hands its items on in the engine's own steps.

    No task is woken for an item. The permit goes back once the stream has ended; if the stream
    fails or this call is cancelled, the engine's request is aborted first. Raises as a `gated`
    stream, and the errors of handing on. A request that the gate preempts begins again, with at
    most `_MOST_RUNS` runs in all.
    """
    context = current_context()
    for run in range(_MOST_RUNS):
        try:
            async with _UnderPermit(gate, observer, request, context, run) as (permit, meter):
                await permit.wait(partial(request.push, meter))
                return
        except Preempted:
            request.restart()


class _UnderPermit:
    """Runs a block under a permit, with the meter of its stream; raises as `Gate.acquire`.

    The permit goes back at the end, and the engine's errors are raised as the service's. A class
    takes fewer calls for each request than a generator.
    """

    def __init__(
        self,
        gate: Gate,
        observer: StreamObserver,
        request: Permitted,
        context: RequestContext,
        runs_before: int = 0,
    ) -> None:
        self._gate = gate
        self._observer = observer
        self._request = request
        self._context = context
        self._demand = request.demand
        if runs_before == _MOST_RUNS - 1:
            self._demand = replace(self._demand, restartable=False)
        self._again = runs_before > 0
        self._trace = context.trace.stream() if context.trace else None
        self._running: tuple[Permit, Meter, Reservation] | None = None

    async def __aenter__(self) -> tuple[Permit, Meter]:
        self._context.stream_began()
        try:
            return await self._begin()
        except BaseException as error:
            self._end(error)
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._end(error)

    async def _begin(self) -> tuple[Permit, Meter]:
        context, demand, asked = self._context, self._demand, time.monotonic()
        reservation = await context.allowance.reserve(demand.most_tokens)
        permit = await self._gate.acquire(context, demand, again=self._again)
        meter = Meter(context, self._observer, permit, self._trace)
        self._running = permit, meter, reservation
        self._observer.queued_for(context, time.monotonic() - asked)
        permit.cut = partial(_cut, demand, meter)
        if demand.stand_back is not None and permit.above_share:
            demand.stand_back()
        if self._trace:
            self._trace.granted()
        return permit, meter

    def _end(self, error: BaseException | None) -> None:
        if self._running is not None:
            permit, meter, reservation = self._running
            if isinstance(error, asyncio.CancelledError | DeadlineExceeded):
                meter.count_prompt(self._demand.prompt_tokens)
            elif isinstance(error, Preempted):
                meter.forget()
            reservation.used = meter.close()
            permit.release()
        self._context.stream_ended()
        if self._trace:
            self._trace.ended()
        if isinstance(error, Exception) and (known := self._request.explain(error)):
            raise known from error


def _cut(demand: Demand, meter: Meter) -> bool:
    if demand.cut is None or not meter.tokens:
        return False
    demand.cut()
    return True


async def _made(stream: AsyncGenerator[Item, None]) -> Item | None:
    """The item that the engine made while the client did not read, None without one.

    The stream must not be read any more.
    """
    try:
        async with asyncio.timeout(0):
            return await anext(stream)
    except Exception:  # it waits for the next step, has ended or fails: nothing to charge
        return None
