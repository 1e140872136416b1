"""A gated stream: its permit, deadline, reports and ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
from service.gate.stream import gated

from loadtests.processes import eventually
from service.context import RequestContext, enter_context, internal_context
from service.engine.contract import Progress
from service.errors import DeadlineExceeded, InvalidRequest, QueueFull, ServiceError
from service.gate.gate import Gate
from service.gate.ticket import Demand
from service.settings.gate import GateSettings
from service.tenants.tenant import Tenant
from tests.gate.conftest import Clock
from tests.gate.occupation import Occupation
from tests.gate.test_gate import PATIENCE_S, tick


class Recorder:
    """Implements `stream.StreamObserver`; remembers what it was told."""

    def __init__(self) -> None:
        self.first_tokens = self.permits = self.later_tokens = 0
        self.usage: list[tuple[int, int, int]] = []

    def queued_for(self, context: RequestContext, seconds: float) -> None:
        self.permits += 1

    def first_token(self, context: RequestContext, seconds: float) -> None:
        self.first_tokens += 1

    def between_tokens(self, context: RequestContext) -> Callable[[float, int], None]:
        return self._passed

    def _passed(self, seconds: float, times: int) -> None:
        self.later_tokens += times

    def used(self, context: RequestContext, prompt: int, cached: int, completion: int) -> None:
        self.usage.append((prompt, cached, completion))


class Counting:
    """An engine request that counts up, two tokens an item; implements `stream.EngineRequest`.

    A `silent` one never comes to its first item.
    """

    def __init__(
        self,
        last: int = 3,
        slots: int = 1,
        failure: Exception | None = None,
        silent: bool = False,
    ) -> None:
        self.demand = Demand(prompt_tokens=7, max_output_tokens=2 * last, slots=slots)
        self.running = self.started = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self._last = last
        self._failure = failure
        self._silent = silent

    async def start(self) -> AsyncGenerator[int, None]:
        self.started += 1
        self.running += 1
        try:
            if self._silent:
                await asyncio.Event().wait()
            for number in range(self._last):
                yield number
                await self.hold.wait()
            if self._failure:
                raise self._failure
        finally:
            self.running -= 1

    def progress(self, item: int) -> Progress:
        return Progress(prompt_tokens=7, cached_tokens=5, new_tokens=2)

    def explain(self, error: Exception) -> ServiceError | None:
        return InvalidRequest("explained") if isinstance(error, KeyError) else None


class Stage:
    """A gate of two slots, its recorder, and the context that the streams belong to."""

    def __init__(
        self,
        max_queued: int = 10,
        timeout_s: float = PATIENCE_S,
        at_deadline: Literal["refuse", "length"] = "refuse",
    ) -> None:
        settings = GateSettings(max_queued=max_queued, at_deadline=at_deadline)
        self.gate = Gate(settings, Occupation(), capacity=2)
        self.recorder = Recorder()
        self.context = internal_context("test", timeout_s)
        enter_context(self.context)

    def run(self, request: Counting) -> AsyncGenerator[int, None]:
        return gated(self.gate, self.recorder, request)


async def take_all(stream: AsyncGenerator[int, None]) -> list[int]:
    return [item async for item in stream]


async def test_nothing_starts_and_no_permit_is_taken_before_the_first_item_is_asked_for() -> None:
    stage, request = Stage(), Counting()
    stream = stage.run(request)
    assert (request.started, stage.gate.in_flight) == (0, 0)
    assert await anext(stream) == 0
    assert (request.started, stage.gate.in_flight) == (1, 1)
    await stream.aclose()


@pytest.mark.parametrize(("neighbours", "seen"), [(0, []), (1, [0])])
async def test_a_request_above_its_tenants_share_stands_back_before_it_is_made(
    neighbours: int, seen: list[int]
) -> None:
    stage = Stage()
    for number in range(neighbours):
        context = internal_context("neighbour", PATIENCE_S)
        context.tenant = Tenant(f"neighbour-{number}")
        (await stage.gate.acquire(context, Demand(1, 1))).release()
    stood_back: list[int] = []
    first, second = Counting(), Counting()
    for request in (first, second):
        back = partial(lambda each: stood_back.append(each.started), request)
        request.demand = replace(request.demand, stand_back=back)
    streams = [stage.run(first), stage.run(second)]
    assert [await anext(each) for each in streams] == [0, 0]
    assert stood_back == seen
    for each in streams:
        await each.aclose()


async def test_a_stream_that_ends_gives_its_permit_back_and_reports_its_use() -> None:
    stage, request = Stage(), Counting(slots=2)
    stream = stage.run(request)
    assert [await anext(stream), stage.gate.in_flight] == [0, 2]
    assert await take_all(stream) == [1, 2]
    assert (stage.gate.in_flight, request.running) == (0, 0)
    recorder = stage.recorder
    assert (recorder.permits, recorder.first_tokens, recorder.later_tokens) == (1, 1, 4)
    assert recorder.usage == [(7, 5, 6)]


async def test_the_request_knows_what_its_streams_took_whoever_observes() -> None:
    stage = Stage()
    await take_all(stage.run(Counting()))
    first = stage.context.times.first_token
    await take_all(stage.run(Counting()))
    context = stage.context
    assert (context.tokens.prompt, context.tokens.cached, context.tokens.completion) == (14, 10, 12)
    assert context.times.first_token == first is not None
    assert (stage.recorder.first_tokens, context.times.decode_tokens) == (1, 8)
    assert context.times.decode > 0


async def test_closing_a_stream_closes_the_engines_and_gives_the_permit_back() -> None:
    stage, request = Stage(), Counting()
    request.hold.clear()
    async with aclosing(stage.run(request)) as stream:
        await anext(stream)
    assert (stage.gate.in_flight, request.running) == (0, 0)
    assert stage.recorder.usage == [(7, 5, 2)]


async def test_what_the_engine_made_and_its_client_never_took_is_charged() -> None:
    stage, request = Stage(), Counting()
    request.hold.clear()
    async with aclosing(stage.run(request)) as stream:
        await anext(stream)
        request.hold.set()
    assert (stage.gate.in_flight, request.running) == (0, 0)
    assert stage.recorder.usage == [(7, 5, 4)]


async def test_cancelling_who_reads_closes_the_engines_stream() -> None:
    stage, request = Stage(), Counting()
    request.hold.clear()
    reader = asyncio.create_task(take_all(stage.run(request)))
    await eventually(lambda: request.running == 1)
    assert stage.gate.in_flight == 1
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (stage.gate.in_flight, request.running) == (0, 0)


async def test_a_stream_left_open_is_known_to_its_context() -> None:
    stage, request = Stage(), Counting()
    stream = stage.run(request)
    await anext(stream)
    assert stage.context.streams == [stream]
    await stage.context.streams[0].aclose()
    assert stage.gate.in_flight == 0


async def test_what_a_cancelled_reader_used_is_known_before_its_request_settles() -> None:
    """The way vLLM leaves the prompts of a completion: tasks cancelled, and none awaited."""
    stage, request = Stage(), Counting()
    request.hold.clear()
    settled: list[tuple[int, int, int]] = []
    stage.context.at_end.callback(lambda: settled.extend(stage.recorder.usage))
    readers = [asyncio.create_task(take_all(stage.run(request))) for _ in range(2)]
    await eventually(lambda: request.running == 2)
    for reader in readers:
        reader.cancel()
    await stage.context.close()
    assert settled == [(7, 5, 2)] * 2


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_leaves_or_is_late_before_the_first_item_pays_the_prompt(
    clock: Clock, leaves: bool
) -> None:
    stage, request = Stage(timeout_s=60), Counting(silent=True)
    reader = asyncio.create_task(take_all(stage.run(request)))
    await eventually(lambda: request.running == 1)
    if leaves:
        reader.cancel()
    else:
        clock.move_on(60)
    with pytest.raises(asyncio.CancelledError if leaves else DeadlineExceeded):
        await reader
    assert stage.recorder.usage == [(7, 0, 0)]


async def test_what_the_engine_refuses_costs_nothing() -> None:
    stage = Stage()
    with pytest.raises(InvalidRequest):
        await take_all(stage.run(Counting(last=0, failure=KeyError())))
    assert stage.recorder.usage == [(0, 0, 0)]


async def test_a_deadline_that_passes_while_running_aborts_the_engines_stream(clock: Clock) -> None:
    stage, request = Stage(timeout_s=60), Counting()
    request.hold.clear()
    stream = stage.run(request)
    assert await anext(stream) == 0
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="before the answer was complete"):
        await anext(stream)
    assert (stage.gate.in_flight, request.running) == (0, 0)


async def test_a_deadline_may_end_an_answer_with_what_the_engine_made(clock: Clock) -> None:
    stage, request = Stage(timeout_s=60, at_deadline="length"), Counting(last=2)
    request.hold.clear()
    request.demand = replace(request.demand, cut=request.hold.set)
    reader = asyncio.create_task(take_all(stage.run(request)))
    await eventually(lambda: stage.recorder.first_tokens == 1)
    clock.move_on(60)
    assert await reader == [0, 1]
    assert (stage.gate.in_flight, request.running) == (0, 0)
    assert stage.recorder.usage == [(7, 5, 4)]


@pytest.mark.parametrize(
    ("at_deadline", "silent"), [("refuse", False), ("length", True)], ids=["refuse", "no token"]
)
async def test_a_deadline_refuses_by_default_and_where_there_is_no_token(
    clock: Clock, at_deadline: Literal["refuse", "length"], silent: bool
) -> None:
    stage = Stage(timeout_s=60, at_deadline=at_deadline)
    request = Counting(silent=silent)
    request.hold.clear()
    request.demand = replace(request.demand, cut=request.hold.set)
    reader = asyncio.create_task(take_all(stage.run(request)))
    await eventually(lambda: request.running == 1)
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded):
        await reader
    assert not request.hold.is_set()


async def test_a_deadline_that_passes_while_nobody_reads_ends_what_the_engine_has_ready(
    clock: Clock,
) -> None:
    stage, request = Stage(timeout_s=60), Counting()
    stream = stage.run(request)
    assert await anext(stream) == 0
    clock.move_on(60)
    await tick()
    with pytest.raises(DeadlineExceeded):
        await anext(stream)
    assert (stage.gate.in_flight, request.running) == (0, 0)
    assert stage.recorder.usage == [(7, 5, 4)]


async def test_a_deadline_that_passes_while_waiting_never_reaches_the_engine(clock: Clock) -> None:
    stage, request = Stage(timeout_s=60), Counting()
    permit = await stage.gate.acquire(internal_context("other", PATIENCE_S), Demand(1, 1, 2))
    reader = asyncio.create_task(take_all(stage.run(request)))
    await eventually(lambda: stage.gate.queued == 1)
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="for its turn"):
        await reader
    assert (request.started, stage.gate.queued) == (0, 0)
    assert stage.recorder.usage == []
    permit.release()


async def test_a_deadline_that_has_passed_already_never_brings_an_item() -> None:
    stage, request = Stage(timeout_s=0.0), Counting()
    request.hold.clear()
    with pytest.raises(DeadlineExceeded):
        await take_all(stage.run(request))
    assert (stage.gate.in_flight, request.running) == (0, 0)


async def test_a_full_queue_keeps_a_request_from_the_engine() -> None:
    stage, request = Stage(max_queued=0), Counting()
    permit = await stage.gate.acquire(internal_context("other", PATIENCE_S), Demand(1, 1, 2))
    with pytest.raises(QueueFull):
        await take_all(stage.run(request))
    assert request.started == 0
    permit.release()


@pytest.mark.parametrize(
    ("raised", "seen"), [(KeyError("x"), InvalidRequest), (ZeroDivisionError(), ZeroDivisionError)]
)
async def test_an_engines_failure_is_explained_and_gives_the_permit_back(
    raised: Exception, seen: type[Exception]
) -> None:
    stage, request = Stage(), Counting(failure=raised)
    with pytest.raises(seen):
        await take_all(stage.run(request))
    assert (stage.gate.in_flight, request.running) == (0, 0)
