"""Tokens of one stream, told to its permit, its request and its observer."""

import pytest

from service.context import internal_context
from service.context.answer import Answer
from service.engine.contract import Progress
from service.gate.limiter import Limiter
from service.gate.meter import Meter
from service.gate.permit import Permit
from service.gate.scheduler import Scheduler
from service.gate.ticket import Usage
from tests.gate.test_stream import Recorder
from tests.gate.tickets import ticket


class Trace:
    """Implements `context.StreamTrace`; remembers what was used."""

    def __init__(self) -> None:
        self.usage: list[tuple[int, int, int]] = []

    def granted(self) -> None: ...

    def first_item(self) -> None: ...

    def used(self, prompt: int, cached: int, completion: int) -> None:
        self.usage.append((prompt, cached, completion))

    def ended(self) -> None: ...


class Stream:
    """One stream of an engine: its permit, its meter and what these tell."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(lambda: 0.0, Limiter(1), max_waiting=9)
        self.ended: list[Usage] = []
        self.observer, self.trace = Recorder(), Trace()
        self.context = internal_context("test", 9.0)
        started = ticket()
        self.scheduler.offer(started)
        self.permit = Permit(self.scheduler, started, 0.0, self._end)
        self.meter = Meter(self.context, self.observer, self.permit, self.trace)

    def _end(self, each: object) -> None:
        self.ended.append(self.scheduler.finish(self.permit.ticket))


def test_the_permit_is_charged_each_items_totals_and_released_once() -> None:
    stream = Stream()
    for new in (2, 3):
        stream.meter.add(Progress(prompt_tokens=12, cached_tokens=4, new_tokens=new))
    stream.permit.release()
    stream.permit.release()
    assert stream.ended == [Usage(prompt=12, cached=4, output=5)]
    assert stream.meter.close() == 17
    assert stream.observer.usage == stream.trace.usage == [(12, 4, 5)]


@pytest.mark.parametrize(("seconds", "order"), [(0.0, "abab"), (1.0, "bbaa")])
def test_the_time_of_masks_costs_a_tenant_its_turns(seconds: float, order: str) -> None:
    stream = Stream()
    running = stream.permit.ticket  # of the tenant a
    for tenant in "baab":
        stream.scheduler.offer(ticket(tenant))
    stream.meter.add(Progress(1, 0, 1, mask_seconds=seconds))
    served = ""
    for _ in order:
        stream.scheduler.finish(running)
        (running,) = stream.scheduler.next_dispatches()
        served += running.tenant
    assert served == order


@pytest.mark.parametrize(
    ("ends", "cut"),
    [([None], None), ([False], False), ([True, False], True), ([False, True], True)],
)
def test_one_cut_answer_makes_the_request_a_cut_one(
    ends: list[bool | None], cut: bool | None
) -> None:
    stream = Stream()
    for end in ends:
        stream.meter.add(Progress(prompt_tokens=1, cached_tokens=0, new_tokens=1, cut=end))
    assert stream.context.extended(Answer).structure_cut is cut
