"""An engine behind admission control: slots, deadlines, names and reports of what it is asked."""

import asyncio
from collections.abc import Mapping
from typing import Literal

import pytest

from loadtests.processes import eventually
from service.admission.admitted import Admitted
from service.admission.controller import AdmissionController
from service.admission.queued_request import Demand
from service.context import enter_context, internal_context
from service.context.answer import Answer
from service.engine.contract import (
    Adapter,
    Job,
    LabelQuery,
    Output,
    PoolQuery,
    Sampling,
    Sink,
    Structure,
)
from service.errors import DeadlineExceeded, InvalidRequest, QueueFull
from service.generation.fold import Fold
from service.settings.admission import AdmissionSettings
from service.tenants.tenant import Tenant, Tier
from tests.admission.conftest import Clock
from tests.admission.counting import CountingEngine, Recorder
from tests.admission.occupation import Occupation
from tests.admission.test_controller import PATIENCE_S

PROMPT = range(7)
ADAPTER = Adapter("shout", 1, "", "sha256:" + "0" * 64)


class FairThreadPool:
    """Admission to two slots of an engine, its recorder, and the context of what is asked."""

    def __init__(
        self,
        engine: CountingEngine | None = None,
        max_queued: int = 10,
        timeout_s: float = PATIENCE_S,
        at_deadline: Literal["refuse", "length"] = "refuse",
    ) -> None:
        settings = AdmissionSettings(max_queued=max_queued, at_deadline=at_deadline)
        self.admission = AdmissionController(settings, Occupation(), capacity=2)
        self.recorder, self.engine = Recorder(), engine or CountingEngine()
        self.admitted = Admitted(self.engine, self.admission, self.recorder)
        self.context = internal_context("test", timeout_s)
        enter_context(self.context)

    async def run(self, sampling: Sampling | None = None, sink: Sink | None = None) -> str:
        fold = Fold()
        job = Job(PROMPT, sampling or Sampling(6))
        await self.admitted.run(job, sink or fold)
        return fold.whole()[0].text

    def start(self) -> asyncio.Task[str]:
        return asyncio.create_task(self.run())

    async def asked(self, kind: str) -> object:
        """Ask the engine for a thing of each kind."""
        if kind == "job":
            return await self.run()
        if kind == "logprobs":
            return await self.admitted.logprobs(LabelQuery(PROMPT, (1,)))
        return await self.admitted.pool(PoolQuery(PROMPT, None))

    @property
    def idle(self) -> bool:
        return (self.admission.in_flight, self.engine.running) == (0, 0)


class Trace:
    """Implements `context.RequestTrace`, and a stream of it; remembers what it was told."""

    trace_id = "0" * 32
    response_header = ""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}
        self.told: list[object] = []

    def stream(self) -> "Trace":
        return self

    def granted(self) -> None:
        self.headers = {"traceparent": f"stream-{len(self.told)}"}
        self.told.append("granted")

    def first_item(self) -> None:
        self.told.append("first")

    def used(self, prompt: int, cached: int, completion: int) -> None:
        self.told.append((prompt, cached, completion))

    def ended(self, *_: object) -> None:
        self.told.append("ended")


class Refusing:
    """A sink that fails."""

    restart = None

    def take(self, output: Output) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("kind", "usage"),
    [("job", (7, 5, 6)), ("logprobs", (7, 5, 1)), ("pool", (7, 5, 0))],
)
async def test_whatever_is_asked_takes_one_slot_and_reports_its_use(
    kind: str, usage: tuple[int, int, int]
) -> None:
    stage = FairThreadPool()
    await stage.asked(kind)
    assert (stage.engine.started, stage.idle) == (1, True)
    assert (stage.recorder.grants, stage.recorder.first_tokens) == (1, 1)
    assert stage.recorder.usage == [usage]


async def test_an_answer_that_ends_gives_its_slots_back_and_is_counted_by_its_tokens() -> None:
    stage = FairThreadPool(CountingEngine(last=4))
    stage.engine.hold.clear()
    asked = asyncio.create_task(stage.run(Sampling(8, n=2)))
    await eventually(lambda: stage.recorder.first_tokens == 1)
    assert stage.admission.in_flight == 2
    stage.engine.hold.set()
    await asked
    assert stage.idle
    assert (stage.recorder.grants, stage.recorder.first_tokens) == (1, 1)
    assert stage.recorder.later_tokens == 6
    assert stage.recorder.usage == [(7, 5, 8)]


async def test_the_sink_gets_what_the_engine_made_texts_alone_too() -> None:
    assert await FairThreadPool(CountingEngine(last=4)).run() == "0123"


async def test_the_request_knows_what_its_jobs_took_whoever_observes() -> None:
    stage = FairThreadPool()
    await stage.run()
    first = stage.context.times.first_token
    await stage.run()
    context = stage.context
    assert (context.tokens.prompt, context.tokens.cached, context.tokens.completion) == (14, 10, 12)
    assert context.times.first_token == first is not None
    assert (stage.recorder.first_tokens, context.times.decode_tokens) == (1, 8)
    assert context.times.decode > 0


@pytest.mark.parametrize("kind", ["job", "logprobs", "pool"])
async def test_the_request_decides_the_name_the_priority_and_the_salt(kind: str) -> None:
    stage = FairThreadPool()
    await stage.asked(kind)
    stage.context.tier = Tier.FLEX
    await stage.asked(kind)
    stage.context.tenant = Tenant("other")
    await stage.asked(kind)
    names, salts, priorities = zip(*stage.engine.seen, strict=True)
    assert len(set(names)) == 3
    assert all(name.startswith(stage.context.request_id) for name in names)
    assert salts[0] == salts[1] != salts[2]
    assert priorities == (0, 2, 2)


async def test_an_adapter_shares_no_cached_blocks_with_the_base_model() -> None:
    stage = FairThreadPool()
    for adapter in (None, ADAPTER):
        await stage.admitted.run(Job(PROMPT, Sampling(6), adapter=adapter), Fold())
        await stage.admitted.logprobs(LabelQuery(PROMPT, (1,), adapter=adapter))
    salts = [salt for _, salt, _ in stage.engine.seen]
    assert salts[0] == salts[1] != salts[2] == salts[3]


async def test_each_stream_of_a_traced_request_runs_under_headers_of_its_own() -> None:
    stage = FairThreadPool()
    stage.context.trace = trace = Trace()
    job, query = Job(PROMPT, Sampling(6)), LabelQuery(PROMPT, (1,))
    await stage.admitted.run(job, Fold())
    await stage.admitted.logprobs(query)
    assert [job.trace_headers, query.trace_headers] == [
        {"traceparent": "stream-0"},
        {"traceparent": "stream-4"},
    ]
    spans = [["granted", "first", (7, 5, tokens), "ended"] for tokens in (6, 1)]
    assert trace.told == spans[0] + spans[1]


@pytest.mark.parametrize("kind", ["job", "logprobs"])
@pytest.mark.parametrize(("neighbours", "priorities"), [(0, [0, 0]), (1, [0, 1])])
async def test_a_request_above_its_tenants_share_stands_back_before_it_is_made(
    neighbours: int, priorities: list[int], kind: str
) -> None:
    stage = FairThreadPool()
    for number in range(neighbours):
        context = internal_context("neighbour", PATIENCE_S)
        context.tenant = Tenant(f"neighbour-{number}")
        (await stage.admission.acquire(context, Demand(1, 1))).release()
    stage.engine.hold.clear()
    first = stage.start()
    await eventually(lambda: stage.engine.running == 1)
    second = asyncio.create_task(stage.asked(kind))
    await eventually(lambda: stage.engine.started == 2)
    assert [priority for _, _, priority in stage.engine.seen] == priorities
    stage.engine.hold.set()
    await asyncio.gather(first, second)


async def test_cancelling_who_asks_aborts_the_engines_request_and_charges_what_it_made() -> None:
    stage = FairThreadPool()
    stage.engine.hold.clear()
    asked = stage.start()
    await eventually(lambda: stage.recorder.first_tokens == 1)
    assert stage.admission.in_flight == 1
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (stage.idle, stage.engine.aborted) == (True, 1)
    assert stage.recorder.usage == [(7, 5, 2)]


async def test_what_a_cancelled_task_used_is_known_before_its_request_settles() -> None:
    """Tasks that are cancelled, and that none awaits."""
    stage = FairThreadPool()
    stage.engine.hold.clear()
    settled: list[tuple[int, int, int]] = []
    stage.context.at_end.callback(lambda: settled.extend(stage.recorder.usage))
    asked = [stage.start() for _ in range(2)]
    await eventually(lambda: stage.engine.running == 2)
    for task in asked:
        task.cancel()
    await stage.context.close()
    assert settled == [(7, 5, 2)] * 2


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_leaves_or_is_late_before_the_first_token_pays_the_prompt(
    clock: Clock, leaves: bool
) -> None:
    stage = FairThreadPool(CountingEngine(silent=True), timeout_s=60)
    asked = stage.start()
    await eventually(lambda: stage.engine.running == 1)
    if leaves:
        asked.cancel()
    else:
        clock.move_on(60)
    with pytest.raises(asyncio.CancelledError if leaves else DeadlineExceeded):
        await asked
    assert stage.recorder.usage == [(7, 0, 0)]


async def test_what_the_engine_refuses_costs_nothing() -> None:
    stage = FairThreadPool(CountingEngine(last=0, failure=InvalidRequest("no")))
    with pytest.raises(InvalidRequest):
        await stage.run()
    assert stage.recorder.usage == [(0, 0, 0)]


async def test_a_deadline_that_passes_while_running_aborts_the_engines_request(
    clock: Clock,
) -> None:
    stage = FairThreadPool(timeout_s=60)
    stage.engine.hold.clear()
    asked = stage.start()
    await eventually(lambda: stage.recorder.first_tokens == 1)
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="before the answer was complete"):
        await asked
    assert (stage.idle, stage.engine.aborted) == (True, 1)
    assert stage.recorder.usage == [(7, 5, 2)]


async def test_a_deadline_may_end_an_answer_with_what_the_engine_made(clock: Clock) -> None:
    stage = FairThreadPool(timeout_s=60, at_deadline="length")
    stage.engine.hold.clear()
    asked = stage.start()
    await eventually(lambda: stage.recorder.first_tokens == 1)
    clock.move_on(60)
    assert await asked == "01"
    assert (stage.idle, stage.engine.aborted) == (True, 0)
    assert stage.recorder.usage == [(7, 5, 4)]


@pytest.mark.parametrize(
    ("at_deadline", "silent"), [("refuse", False), ("length", True)], ids=["refuse", "no token"]
)
async def test_a_deadline_refuses_by_default_and_where_there_is_no_token(
    clock: Clock, at_deadline: Literal["refuse", "length"], silent: bool
) -> None:
    stage = FairThreadPool(CountingEngine(silent=silent), timeout_s=60, at_deadline=at_deadline)
    stage.engine.hold.clear()
    asked = stage.start()
    await eventually(lambda: stage.engine.running == 1)
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded):
        await asked
    assert not stage.engine.hold.is_set()


async def test_a_deadline_that_passes_while_waiting_never_reaches_the_engine(clock: Clock) -> None:
    stage = FairThreadPool(timeout_s=60)
    held = await stage.admission.acquire(internal_context("other", PATIENCE_S), Demand(1, 1, 2))
    asked = stage.start()
    await eventually(lambda: stage.admission.queued == 1)
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="for its turn"):
        await asked
    assert (stage.engine.started, stage.admission.queued) == (0, 0)
    assert stage.recorder.usage == []
    held.release()


async def test_a_deadline_that_has_passed_already_never_brings_an_answer() -> None:
    stage = FairThreadPool(timeout_s=0.0)
    stage.engine.hold.clear()
    with pytest.raises(DeadlineExceeded):
        await stage.run()
    assert stage.idle


async def test_a_full_queue_keeps_a_request_from_the_engine() -> None:
    stage = FairThreadPool(max_queued=0)
    held = await stage.admission.acquire(internal_context("other", PATIENCE_S), Demand(1, 1, 2))
    for kind in ("job", "logprobs", "pool"):
        with pytest.raises(QueueFull):
            await stage.asked(kind)
    assert stage.engine.started == 0
    held.release()


async def test_a_failure_of_the_engine_gives_the_slots_back() -> None:
    stage = FairThreadPool(CountingEngine(failure=ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await stage.run()
    assert stage.idle


async def test_a_failure_of_the_sink_ends_the_request_and_charges_its_tokens() -> None:
    stage = FairThreadPool()
    with pytest.raises(ZeroDivisionError):
        await stage.run(sink=Refusing())
    assert stage.idle
    assert stage.recorder.usage == [(7, 5, 2)]


@pytest.mark.parametrize(
    ("structure", "cut"),
    [(None, None), (Structure(json_object=True), True), (Structure(regex="a", asked=False), None)],
)
async def test_an_answer_of_a_structure_that_reached_its_limit_is_known_to_be_cut(
    structure: Structure | None, cut: bool | None
) -> None:
    stage = FairThreadPool()
    await stage.run(Sampling(6, structure=structure))
    assert stage.context.extended(Answer).structure_cut is cut
