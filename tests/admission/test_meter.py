"""Tokens of one engine request, told to its slots, its request and its observer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.admission.admitted import Meter, MeteredSink
from service.admission.limiter import Limiter
from service.admission.queued_request import QueuedRequest, Usage
from service.admission.scheduler import Scheduler
from service.admission.slots import Charges, HeldSlots
from service.context import internal_context
from service.context.answer import Answer
from service.engine.contract import Output, Part, TextSink
from tests.admission.counting import Recorder
from tests.admission.requests import request


class Trace:
    """Implements `context.StreamTrace`; remembers what was used."""

    def __init__(self) -> None:
        self.usage: list[tuple[int, int, int]] = []

    def granted(self) -> None: ...

    def first_item(self) -> None: ...

    def used(self, prompt: int, cached: int, completion: int) -> None:
        self.usage.append((prompt, cached, completion))

    def ended(self) -> None: ...


class CountedScheduler(Scheduler):
    """A scheduler that remembers what it was told in each charge of many requests."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0, Limiter(2), max_waiting=9)
        self.steps: list[list[int]] = []

    def charge_step(self, tokens: Sequence[tuple[QueuedRequest, int]]) -> None:  # type: ignore[override]
        self.steps.append([new for _, new in tokens])
        super().charge_step(tokens)


class Stream:
    """One request of an engine: its slots, its meter and what these tell."""

    def __init__(self, charges: Charges | None = None) -> None:
        self.charges = charges or Charges(Scheduler(lambda: 0.0, Limiter(1), max_waiting=9))
        self.scheduler = self.charges.scheduler
        self.ended: list[Usage] = []
        self.observer, self.trace = Recorder(), Trace()
        self.context = internal_context("test", 9.0)
        self.request = request()
        self.scheduler.offer(self.request)
        self.held = HeldSlots(self.charges, self.request, self._end)
        self.meter = Meter(self.context, self.observer, self.held, self.trace)

    def _end(self, each: QueuedRequest) -> None:
        self.ended.append(self.scheduler.finish(each))


class Sink:
    """Takes outputs, and text alone if it is to."""

    restart = None

    def __init__(self, *, texts: bool = False) -> None:
        self.texts = ""
        self.released = 0
        self._alone = texts

    def take(self, output: Output) -> TextSink | None:
        self.texts += "".join(part.text for part in output.parts)
        return self if self._alone else None

    def add(self, text: str, tokens: int) -> None:
        self.texts += text

    def release(self) -> None:
        self.released += 1


def output(*reasons: str | None, mask_seconds: float = 0.0) -> Output:
    parts = [Part(index, "a", [1, 2], reason) for index, reason in enumerate(reasons or (None,))]
    return Output(parts, prompt_tokens=12, cached_tokens=4, mask_seconds=mask_seconds)


def test_the_slots_are_charged_each_items_totals_and_released_once() -> None:
    stream = Stream()
    for new in (2, 3):
        stream.meter.total(12, 4, new)
    stream.held.release()
    stream.held.release()
    assert stream.ended == [Usage(prompt=12, cached=4, output=5)]
    assert stream.meter.close() == 17
    assert stream.observer.usage == stream.trace.usage == [(12, 4, 5)]


async def test_tokens_of_one_turn_of_the_loop_are_charged_together() -> None:
    scheduler = CountedScheduler()
    charges = Charges(scheduler)
    streams = [Stream(charges), Stream(charges)]
    for stream in streams:
        stream.meter.total(12, 4, 1)
    for turn in range(2):
        for number, stream in enumerate(streams):
            stream.meter.count(1 + number + turn)
        await asyncio.sleep(0)
    assert scheduler.steps == [[1, 2], [2, 3]]
    for stream in streams:
        stream.held.release()
    assert [stream.ended[0].output for stream in streams] == [4, 6]


async def test_a_request_that_ends_in_the_turn_of_its_last_tokens_pays_for_them() -> None:
    stream, other = Stream(charges := Charges(CountedScheduler())), Stream(charges)
    for each in (stream, other):
        each.meter.total(12, 4, 1)
        each.meter.count(5)
    stream.held.release()
    assert stream.ended == [Usage(prompt=12, cached=4, output=6)]
    await asyncio.sleep(0)
    other.held.release()
    assert other.ended == [Usage(prompt=12, cached=4, output=6)]


async def test_a_sink_gets_all_that_is_counted() -> None:
    stream, sink = Stream(), Sink(texts=True)
    metered = MeteredSink(sink, stream.meter, stream.context, structured=False)
    texts = metered.take(output())
    assert texts is not None
    texts.add("b", 3)
    texts.release()
    metered.take(output("stop"))
    stream.held.release()
    assert (sink.texts, sink.released) == ("aba", 1)
    assert stream.ended == [Usage(prompt=12, cached=4, output=7)]
    assert stream.context.extended(Answer).structure_cut is None


def test_a_sink_that_wants_the_tokens_gets_outputs() -> None:
    stream = Stream()
    metered = MeteredSink(Sink(), stream.meter, stream.context, structured=False)
    assert metered.take(output(None, None)) is None
    assert stream.meter.tokens == 4


@pytest.mark.parametrize(("seconds", "order"), [(0.0, "abab"), (1.0, "bbaa")])
def test_the_time_of_masks_costs_a_tenant_its_turns(seconds: float, order: str) -> None:
    stream = Stream()
    running = stream.request  # of the tenant a
    for tenant in "baab":
        stream.scheduler.offer(request(tenant))
    metered = MeteredSink(Sink(), stream.meter, stream.context, structured=False)
    made = replace(output(mask_seconds=seconds), prompt_tokens=1, cached_tokens=0)
    made.parts[0].token_ids = [1]
    metered.take(made)
    served = ""
    for _ in order:
        stream.scheduler.finish(running)
        (running,) = stream.scheduler.next_dispatches()
        served += running.tenant
    assert served == order


@pytest.mark.parametrize(
    ("ends", "cut"),
    [
        ([None], None),
        (["stop"], False),
        (["length", "stop"], True),
        (["stop", "length"], True),
    ],
)
def test_one_cut_answer_makes_the_request_a_cut_one(
    ends: list[str | None], cut: bool | None
) -> None:
    stream = Stream()
    metered = MeteredSink(Sink(), stream.meter, stream.context, structured=True)
    for end in ends:
        metered.take(output(end))
    assert stream.context.extended(Answer).structure_cut is cut
