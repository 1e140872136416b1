"""Background answers that give way to interactive ones, on an event loop."""

import asyncio

import pytest
from service.gate.stream import pushed

from service.context import RequestContext, enter_context, internal_context
from service.engine.contract import Progress
from service.errors import DeadlineExceeded, EngineDead
from service.gate.gate import Gate
from service.gate.meter import Meter
from service.gate.ticket import Demand
from service.settings.gate import GateSettings
from service.tenants.tenant import Tenant, Tier
from service.together import abreast
from tests.gate.conftest import Clock
from tests.gate.occupation import Occupation
from tests.gate.test_stream import Recorder


class Answer:
    """An answer of three tokens, made when told; implements `stream.PushedRequest`."""

    def __init__(self, *, restartable: bool = True) -> None:
        self.demand = Demand(7, 10, restartable=restartable)
        self.starts = self.restarts = self.aborts = 0
        self.end = asyncio.Event()

    async def push(self, meter: Meter) -> None:
        self.starts += 1
        meter.add(Progress(prompt_tokens=7, cached_tokens=0, new_tokens=2))
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.aborts += 1
            raise
        meter.add(Progress(prompt_tokens=7, cached_tokens=0, new_tokens=1))

    def restart(self) -> None:
        self.restarts += 1

    def explain(self, error: Exception) -> None:
        return None


class Service:
    """A gate of two slots, and requests under contexts of their own."""

    def __init__(self) -> None:
        self.occupation, self.recorder = Occupation(), Recorder()
        self.gate = Gate(GateSettings(), self.occupation, capacity=2)

    def run(self, request: Answer, context: RequestContext) -> asyncio.Task[None]:
        async def run() -> None:
            enter_context(context)
            await pushed(self.gate, self.recorder, request)

        return asyncio.create_task(run())


def context_of(tier: Tier, timeout_s: float = 300.0) -> RequestContext:
    context = internal_context("test", timeout_s)
    context.tenant, context.tier = Tenant("a"), tier
    return context


async def tick() -> None:
    for _ in range(12):
        await abreast()
        await asyncio.sleep(0)


async def test_an_answer_that_gives_way_is_made_again_and_counted_once() -> None:
    service, flex = Service(), Answer()
    context = context_of(Tier.FLEX)
    background = service.run(flex, context)
    await tick()
    people = [Answer(), Answer()]
    tasks = [service.run(each, context_of(Tier.DEFAULT)) for each in people]
    await tick()
    assert [each.starts for each in people] == [1, 1]
    assert (flex.starts, flex.aborts, flex.restarts) == (1, 1, 1)
    assert (service.occupation.preemptions, service.gate.queued) == (1, 1)
    for each in people:
        each.end.set()
    await asyncio.gather(*tasks)
    await tick()
    assert flex.starts == 2
    flex.end.set()
    await background
    assert (context.tokens.prompt, context.tokens.completion) == (7, 3)
    assert (7, 0, 3) in service.recorder.usage
    assert (service.gate.in_flight, service.gate.queued, service.occupation.background) == (0, 0, 0)


async def test_an_answer_that_cannot_begin_again_keeps_its_slot() -> None:
    service, flex = Service(), Answer(restartable=False)
    background = service.run(flex, context_of(Tier.FLEX))
    await tick()
    people = [Answer(), Answer()]
    tasks = [service.run(each, context_of(Tier.DEFAULT)) for each in people]
    await tick()
    assert [each.starts for each in people] == [1, 0]
    flex.end.set()
    await background
    await tick()
    assert [each.starts for each in people] == [1, 1]
    for each in people:
        each.end.set()
    await asyncio.gather(*tasks)
    assert (flex.aborts, service.occupation.preemptions) == (0, 0)


async def test_it_gives_way_three_times_at_most() -> None:
    service, flex = Service(), Answer()
    background = service.run(flex, context_of(Tier.FLEX))
    await tick()
    for round_ in range(4):
        people = [Answer(), Answer()]
        tasks = [service.run(each, context_of(Tier.DEFAULT)) for each in people]
        await tick()
        assert people[1].starts == (round_ < 3)
        people[0].end.set()
        people[1].end.set()
        if round_ == 3:
            flex.end.set()
        await asyncio.gather(*tasks)
        await tick()
    await background
    assert flex.starts == 4


async def test_what_gave_way_still_has_its_deadline(clock: Clock) -> None:
    service, flex = Service(), Answer()
    background = service.run(flex, context_of(Tier.FLEX, timeout_s=60))
    await tick()
    people = [Answer(), Answer()]
    tasks = [service.run(each, context_of(Tier.DEFAULT)) for each in people]
    await tick()
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="waited"):
        await background
    for each in people:
        each.end.set()
    await asyncio.gather(*tasks)


async def test_a_gate_that_closes_ends_what_waits_to_begin_again() -> None:
    service, flex = Service(), Answer()
    background = service.run(flex, context_of(Tier.FLEX))
    await tick()
    tasks = [service.run(Answer(), context_of(Tier.DEFAULT)) for _ in range(2)]
    await tick()
    service.gate.close(lambda: EngineDead("ended"))
    for task in (background, *tasks):
        with pytest.raises(EngineDead):
            await task
    assert (service.gate.in_flight, service.gate.queued) == (0, 0)
