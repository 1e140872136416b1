"""Background answers that give way to interactive ones, on an event loop."""

import asyncio

import pytest

from service.admission.admitted import Admitted
from service.admission.controller import AdmissionController
from service.context import RequestContext, enter_context, internal_context
from service.engine.contract import Job, LabelQuery, Output, Part, Sampling, Sink
from service.errors import DeadlineExceeded, EngineDead
from service.generation.fold import Fold
from service.settings.admission import AdmissionSettings
from service.tenants.tenant import Tenant, Tier
from tests.admission.conftest import Clock
from tests.admission.counting import CountingEngine, Recorder
from tests.admission.occupation import Occupation


class Answer(Fold):
    """An answer of three tokens, made when told, and what the engine saw of it."""

    def __init__(self) -> None:
        self.starts = self.aborts = 0
        self.names: list[str] = []
        self.end = asyncio.Event()
        super().__init__()

    @property
    def sink(self) -> Sink:
        return self

    @property
    def text(self) -> str:
        return self.whole()[0].text


class Streamed(Answer):
    """An answer that is handed on as it is made, so that it cannot begin again."""

    @property
    def sink(self) -> Sink:
        return _HandedOn(self)


class _HandedOn:
    restart = None

    def __init__(self, answer: Answer) -> None:
        self.take = answer.take


class Engine(CountingEngine):
    """Makes answers, which end when they are told."""

    async def run(self, job: Job, sink: Sink) -> None:
        answer: Answer = job.options["answer"]
        answer.starts += 1
        answer.names.append(job.id)
        sink.take(Output([Part(0, "ab", [1, 2])], 7))
        try:
            await answer.end.wait()
        except asyncio.CancelledError:
            answer.aborts += 1
            raise
        sink.take(Output([Part(0, "c", [3], "stop")], 7))


class Service:
    """An engine of two slots behind admission control, and requests under contexts of their own."""

    def __init__(self) -> None:
        self.occupation, self.recorder, self.engine = Occupation(), Recorder(), Engine()
        self.admission = AdmissionController(AdmissionSettings(), self.occupation, capacity=2)
        self.admitted = Admitted(self.engine, self.admission, self.recorder)

    def run(self, answer: Answer, context: RequestContext) -> asyncio.Task[None]:
        async def run() -> None:
            enter_context(context)
            job = Job(range(7), Sampling(10), options={"answer": answer})
            await self.admitted.run(job, answer.sink)

        return asyncio.create_task(run())


def context_of(tier: Tier, timeout_s: float = 300.0) -> RequestContext:
    context = internal_context("test", timeout_s)
    context.tenant, context.tier = Tenant("a"), tier
    return context


async def tick() -> None:
    for _ in range(24):
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
    assert (flex.starts, flex.aborts, flex.tokens) == (1, 1, 0)
    assert (service.occupation.preemptions, service.admission.queued) == (1, 1)
    for each in people:
        each.end.set()
    await asyncio.gather(*tasks)
    await tick()
    assert flex.starts == 2
    flex.end.set()
    await background
    assert (flex.text, flex.tokens, len(set(flex.names))) == ("abc", 3, 2)
    assert (context.tokens.prompt, context.tokens.completion) == (7, 3)
    assert (7, 0, 3) in service.recorder.usage
    assert (
        service.admission.in_flight,
        service.admission.queued,
        service.occupation.background,
    ) == (0, 0, 0)


async def test_an_answer_that_cannot_begin_again_keeps_its_slot() -> None:
    service, flex = Service(), Streamed()
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


async def test_a_read_of_labels_gives_way_and_is_asked_again_under_another_name() -> None:
    service = Service()
    service.engine.hold.clear()

    async def read() -> None:
        enter_context(context_of(Tier.FLEX))
        await service.admitted.logprobs(LabelQuery(range(7), (1,)))

    background = asyncio.create_task(read())
    await tick()
    people = [Answer(), Answer()]
    tasks = [service.run(each, context_of(Tier.DEFAULT)) for each in people]
    await tick()
    assert ([each.starts for each in people], service.engine.aborted) == ([1, 1], 1)
    service.engine.hold.set()
    for each in people:
        each.end.set()
    await asyncio.gather(background, *tasks)
    assert len({name for name, _, _ in service.engine.seen}) == 2
    assert service.recorder.usage[0] == (0, 0, 0)
    assert service.recorder.usage[-1] == (7, 5, 1)


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


async def test_an_admission_that_closes_ends_what_waits_to_begin_again() -> None:
    service, flex = Service(), Answer()
    background = service.run(flex, context_of(Tier.FLEX))
    await tick()
    tasks = [service.run(Answer(), context_of(Tier.DEFAULT)) for _ in range(2)]
    await tick()
    service.admission.close(lambda: EngineDead("ended"))
    for task in (background, *tasks):
        with pytest.raises(EngineDead):
            await task
    assert (service.admission.in_flight, service.admission.queued) == (0, 0)
