"""The fair queue: its rules one by one, then all of them against a plain model of the paper."""

import math
from collections.abc import Callable
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.admission.fair_queue import FairQueue
from service.admission.queued_request import QueuedRequest, Usage
from tests.admission.requests import request


def fill(queue: FairQueue, *requests: QueuedRequest) -> None:
    for each in requests:
        queue.push(each, 1.0)


def order(queue: FairQueue, limit: int = 1000) -> list[str]:
    """The tenants in the order in which they start, nothing ending in between."""
    names = []
    while (started := queue.pop(limit)) is not None:
        names.append(started.tenant)
    return names


def test_a_tenant_is_served_in_order_of_arrival() -> None:
    queue = FairQueue()
    requests = [request(prompt=n) for n in (30, 10, 20)]
    fill(queue, *requests)
    assert [queue.pop(9) for _ in requests] == requests


def test_a_request_that_is_offered_again_is_the_first_of_its_tenant() -> None:
    queue = FairQueue()
    waits, again = request(), request(again=True)
    fill(queue, waits, again)
    assert [queue.pop(9), queue.pop(9)] == [again, waits]


def test_equal_tenants_alternate_whatever_their_backlogs() -> None:
    queue = FairQueue()
    fill(queue, *(request("heavy") for _ in range(6)), request("light"), request("light"))
    assert order(queue) == ["heavy", "light", "heavy", "light", *["heavy"] * 4]


def test_a_weight_of_three_gets_three_starts_for_one() -> None:
    queue = FairQueue()
    fill(queue, *(request("a", weight=3.0) for _ in range(30)), *(request("b") for _ in range(30)))
    first = order(queue)[:20]
    assert (first.count("a"), first.count("b")) == (15, 5)


@pytest.mark.parametrize(
    "charge",
    [
        lambda queue, running: queue.charge(running, output=5),
        lambda queue, running: queue.add_output(running, 3) + queue.add_output(running, 2),
    ],
)
def test_output_is_charged_as_it_is_produced(
    charge: Callable[[FairQueue, QueuedRequest], float],
) -> None:
    queue = FairQueue()
    fill(queue, request("a"), request("a"), request("a"), request("b"), request("b"))
    running = queue.pop(9)
    assert running is not None
    assert charge(queue, running) == 10
    # a owes 10 + 2 * 5, b's first prompt brings it to 10 and its second to 20.
    assert order(queue) == ["b", "b", "a", "a"]


def test_output_weighs_by_the_tenants_weight() -> None:
    queue = FairQueue()
    fill(queue, *(request("a", weight=2.0) for _ in range(3)), *(request("b") for _ in range(4)))
    running = queue.pop(9)
    assert running is not None
    queue.add_output(running, 7)
    # a owes 10 / 2 + 2 * 7 / 2, and each prompt 5 more; each of b's 10.
    assert order(queue) == ["b", "b", "a", "a", "b", "b"]


def test_a_debit_puts_a_tenant_behind_and_is_remembered_while_others_wait() -> None:
    queue = FairQueue()
    fill(queue, request("a"), request("a"), request("b"), request("b"))
    queue.debit("a", 1.0, 15)
    queue.debit("away", 1.0, 15)
    fill(queue, request("away"))
    assert order(queue) == ["b", "b", "a", "away", "a"]


def test_a_debit_is_on_top_of_what_those_who_wait_owe() -> None:
    queue = FairQueue()
    fill(queue, *(request("a") for _ in range(4)))
    queue.pop(9), queue.pop(9)
    queue.debit("away", 1.0, 15)
    fill(queue, request("away"), request("away"))
    # a owes 20, away 20 + 15.
    assert order(queue) == ["a", "a", "away", "away"]


def test_a_tenant_that_was_only_debited_is_forgotten_with_the_others() -> None:
    queue = FairQueue()
    fill(queue, request("a"))
    queue.debit("away", 1.0, 15)
    running = queue.pop(9)
    assert running is not None
    queue.finish(running)
    assert queue.tenants == 0


def test_a_tenant_that_runs_is_debited_and_not_forgotten() -> None:
    queue = FairQueue()
    fill(queue, request("a"))
    running = queue.pop(9)
    assert running is not None
    queue.debit("a", 1.0, 5)
    fill(queue, *(request("b") for _ in range(5)))
    for _ in range(4):
        queue.pop(9)
    fill(queue, request("c"))  # level with b, who owes more than a by now
    assert queue.tenants == 3
    queue.finish(running)


def test_a_debit_weighs_by_the_tenants_weight() -> None:
    queue = FairQueue()
    fill(queue, request("b"), request("b"), request("b"))
    queue.debit("heavy", 10.0, 50)
    queue.debit("light", 1.0, 50)
    fill(queue, request("heavy"), request("light"))
    assert order(queue) == ["b", "heavy", "b", "b", "light"]


def test_a_debit_is_free_and_forgotten_while_nothing_waits_or_runs() -> None:
    queue = FairQueue()
    queue.debit("a", 1.0, 1000)
    assert queue.tenants == 0
    fill(queue, request("a"), request("b"))
    assert order(queue) == ["a", "b"]


def test_a_cached_prompt_is_given_back() -> None:
    queue = FairQueue()
    fill(queue, *(request("a", prompt=100) for _ in range(3)), *(request("b") for _ in range(3)))
    running = queue.pop(9)
    assert running is not None
    assert queue.charge(running, cached=100) == -90
    assert order(queue)[:2] == ["b", "a"]


def test_being_away_earns_no_credit() -> None:
    queue = FairQueue()
    fill(queue, request("idle"))
    left = queue.pop(9)
    assert left is not None
    fill(queue, *(request("busy") for _ in range(40)))
    for _ in range(20):
        queue.pop(1000)
    fill(queue, *(request("idle") for _ in range(9)), *(request("new") for _ in range(9)))
    assert sorted(order(queue)[:6]) == ["busy", "busy", "idle", "idle", "new", "new"]


def test_a_wake_into_an_empty_queue_is_level_with_the_last_that_waited() -> None:
    queue = FairQueue()
    fill(queue, request("busy"), request("busy"))
    busy = [queue.pop(9), queue.pop(9)]
    assert None not in busy
    fill(queue, *(request("new") for _ in range(3)), *(request("busy") for _ in range(3)))
    assert order(queue) == ["new", "busy"] * 3


def test_a_slot_that_is_free_starts_a_wide_request_and_it_borrows_the_rest() -> None:
    queue = FairQueue()
    fill(queue, *(request("a") for _ in range(3)), request("wide", slots=8), request("a"))
    assert order(queue, limit=4) == ["a", "wide"]
    assert queue.in_use == 9
    assert queue.pop(9) is None
    assert queue.pop(10) is not None


def test_cancelled_requests_cost_nothing_and_keep_the_order() -> None:
    queue = FairQueue()
    requests = [request(), request(), request()]
    fill(queue, *requests)
    assert queue.cancel(requests[0])
    assert not queue.cancel(requests[0])
    assert queue.pop(9) is requests[1]
    assert not queue.cancel(requests[1])
    assert queue.waiting == 1


def test_usage_counts_each_token_once() -> None:
    queue = FairQueue()
    fill(queue, request(prompt=100))
    running = queue.pop(9)
    assert running is not None
    assert queue.charge(running, cached=40, output=3) == pytest.approx(-36 + 6)
    assert queue.charge(running, cached=40, output=3) == 0
    assert queue.charge(running, cached=40, output=2) == 0
    assert queue.charge(running, prompt=110, cached=40) == 10
    assert queue.finish(running) == Usage(prompt=110, cached=40, output=3)
    assert queue.in_use == 0


def test_what_does_not_run_is_neither_charged_nor_finished() -> None:
    queue = FairQueue()
    waiting = request()
    fill(queue, waiting)
    with pytest.raises(KeyError):
        queue.charge(waiting, output=1)
    with pytest.raises(KeyError):
        queue.finish(waiting)
    assert queue.pop(1) is waiting
    queue.finish(waiting)
    with pytest.raises(KeyError):
        queue.finish(waiting)


def test_backlog_is_what_waits_and_the_share_that_is_due() -> None:
    queue = FairQueue()
    queue.push(request("a", weight=3.0), 5.0)
    queue.push(request("b"), 7.0)
    queue.push(request("b"), 11.0)
    seen = queue.backlog(request("b"))
    assert (seen.own_requests, seen.own_cost) == (2, 18.0)
    assert (seen.all_requests, seen.all_cost) == (3, 23.0)
    assert seen.share == pytest.approx(1 / 4)
    assert queue.backlog(request("c")).share == pytest.approx(1 / 5)
    newcomer = queue.backlog(request("c"))
    assert (newcomer.own_requests, newcomer.own_cost) == (0, 0)
    assert queue.backlog(request("a", weight=9.0)).share == pytest.approx(9 / 10)


def test_a_new_weight_counts_for_what_its_tenant_has_waiting() -> None:
    queue = FairQueue()
    fill(queue, request("a"), request("a", weight=3.0))
    assert queue.backlog(request("b")).share == 1 / 4


def test_what_has_started_is_no_longer_in_the_backlog() -> None:
    queue = FairQueue()
    queue.push(request("a"), 5.0)
    queue.push(request("a"), 7.0)
    queue.push(request("b", weight=3.0), 11.0)
    queue.pop(9)
    seen = queue.backlog(request("a"))
    assert (seen.own_cost, seen.all_cost, seen.share) == (7.0, 18.0, 0.25)
    queue.pop(9)
    seen = queue.backlog(request("c"))
    assert (seen.all_cost, seen.share) == (7.0, 0.5)
    queue.pop(9)
    seen = queue.backlog(request("a"))
    assert (seen.own_cost, seen.all_cost, seen.share) == (0.0, 0.0, 1.0)
    fill(queue, request("a"))
    assert queue.backlog(request("a")).own_cost == 1


def test_while_something_runs_a_newcomer_is_level_with_the_last_that_waited() -> None:
    queue = FairQueue()
    long, short = request("a"), request("b")
    fill(queue, long, short)
    order(queue)
    queue.add_output(long, 50)
    queue.finish(short)
    fill(queue, request("c"), request("c"), request("a"))
    assert order(queue) == ["c", "c", "a"]


def test_a_tenant_with_the_most_running_requests_is_skipped_until_one_ends() -> None:
    queue = FairQueue(most_each=2)
    first, second, third = request("a"), request("a"), request("a")
    fill(queue, first, second, third, request("b"))
    assert order(queue) == ["a", "b", "a"]
    queue.finish(first)
    assert order(queue) == ["a"]
    fill(queue, request("a"), request("a"))
    assert order(queue) == []
    queue.finish(second)
    queue.finish(third)
    assert order(queue) == ["a", "a"]


def test_who_runs_is_here_though_it_does_not_wait() -> None:
    queue = FairQueue()
    fill(queue, request("runs", weight=3.0))
    runs = queue.pop(9)
    assert runs is not None
    fill(queue, request("waits"))
    seen = queue.backlog(request("waits"))
    assert (seen.share, seen.due) == (1.0, 0.25)
    assert queue.backlog(request("runs", weight=3.0)).share == 0.75
    queue.finish(runs)
    assert queue.backlog(request("waits")).due == 1.0


def test_a_share_is_kept_for_half_a_minute_after_the_last_request() -> None:
    queue = FairQueue()
    fill(queue, request("left", weight=3.0))
    left = queue.pop(9)
    assert left is not None
    queue.tick(100.0)
    queue.finish(left)
    queue.tick(130.0)
    assert not queue.within_share(request("here"), 3)
    assert queue.within_share(request("here"), 4)
    queue.tick(130.1)
    assert queue.within_share(request("here"), 1)


def test_one_slot_of_8_is_for_tenants_with_fewer_than_their_share() -> None:
    queue = FairQueue()
    fill(queue, *(request("heavy") for _ in range(40)))
    assert len(order(queue, limit=32)) == 32
    queue = FairQueue()
    light = request("light", prompt=1)
    fill(queue, light, *(request("heavy") for _ in range(40)))
    assert order(queue, limit=32) == ["light", *["heavy"] * 27]
    assert not queue.room(32)
    fill(queue, *(request("light", prompt=1) for _ in range(3)))
    assert order(queue, limit=32) == ["light"] * 3
    assert queue.in_use == 31


def test_no_more_than_four_slots_are_reserved() -> None:
    queue = FairQueue()
    fill(queue, request("light", prompt=1), *(request("heavy") for _ in range(300)))
    assert order(queue, limit=256) == ["light", *["heavy"] * 251]


def test_a_tenant_is_above_its_share_from_the_slot_on_that_is_too_many() -> None:
    queue = FairQueue()
    started = [request("heavy") for _ in range(4)]
    fill(queue, *started)
    assert order(queue, limit=4) == ["heavy"] * 4
    assert not any(queue.above_share(each, 4) for each in started)
    light = request("light", weight=3.0)
    fill(queue, light)
    assert [queue.above_share(each, 16) for each in started] == [False] * 4
    assert all(queue.above_share(each, 8) for each in started)
    queue.finish(started.pop())
    assert order(queue, limit=8) == ["light"]
    assert not queue.above_share(light, 2)
    assert queue.above_share(light, 1)


def test_what_its_running_requests_cost_does_not_keep_a_tenant_from_a_reserved_slot() -> None:
    queue = FairQueue()
    first, second, third = (request("light", prompt=500, weight=0.5) for _ in range(3))
    fill(queue, first, *(request("heavy") for _ in range(40)))
    order(queue, limit=32)
    queue.charge(first, output=100)
    queue.add_output(first, 100)
    fill(queue, second)
    assert queue.pop(32) is second
    fill(queue, third)
    queue.finish(second)
    assert queue.pop(32) is None


def test_a_tenant_below_its_share_does_not_wait_until_others_are_below_a_lowered_limit() -> None:
    queue = FairQueue()
    heavy = [request("heavy") for _ in range(40)]
    fill(queue, *heavy)
    assert len(order(queue, limit=32)) == 32
    fill(queue, *(request("light", prompt=1) for _ in range(9)))
    assert queue.pop(16, ceiling=32) is None
    started = []
    for output in range(1, 20):
        queue.charge(heavy[0], output=output)
        started.append(queue.pop(16, ceiling=48))
    assert [each.tenant for each in started if each is not None] == ["light"] * 8


def test_a_tenant_that_gave_slots_back_is_below_its_share_again() -> None:
    queue = FairQueue()
    fill(queue, *(request("heavy") for _ in range(40)))
    order(queue, limit=32)
    light = [request("light", prompt=0) for _ in range(9)]
    fill(queue, *light)
    assert [queue.pop(16, ceiling=48) for _ in light] == [*light[:8], None]
    queue.finish(light[0])
    assert queue.pop(16, ceiling=48) is light[8]


def test_equal_tenants_leave_no_slot_reserved() -> None:
    queue = FairQueue()
    fill(queue, *(request(name) for _ in range(40) for name in "ab"))
    assert len(order(queue, limit=32)) == 32


def test_slots_count_towards_a_share_waiting_and_running() -> None:
    queue = FairQueue()
    fill(queue, request("a", slots=3), request("b"))
    running = queue.pop(9)
    assert running is not None
    fill(queue, request("a", slots=2), request("c"))
    assert not queue.within_share(request("a"), 17)
    assert queue.within_share(request("a"), 18)
    assert [queue.backlog(request(name)).others for name in "abd"] == [2, 2, 3]
    queue.finish(running)
    assert queue.within_share(request("a"), 9)


def test_a_tenant_that_came_back_is_not_forgotten() -> None:
    queue = FairQueue()
    first = request("a")
    fill(queue, first, *(request("b") for _ in range(3)))
    assert order(queue, limit=2) == ["a", "b"]
    queue.finish(first)
    fill(queue, request("a"))
    assert order(queue, limit=3) == ["b", "a"]
    fill(queue, request("c"))  # level with b, who owes what a owed when it rested
    assert queue.tenants == 3


def test_tenants_that_come_once_are_forgotten() -> None:
    queue = FairQueue()
    most = 0
    lasting = request("lasting")
    fill(queue, lasting)
    assert queue.pop(9) is lasting
    for number in range(1000):
        fill(queue, request(f"guest-{number}"))
        running = queue.pop(9)
        assert running is not None
        queue.finish(running)
        most = max(most, queue.tenants)
    assert most <= 3
    queue.finish(lasting)
    assert queue.tenants == 0


class Model:
    """Algorithm 2 of the paper, searched instead of indexed; nothing is ever forgotten."""

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}
        self.waiting: dict[str, list[QueuedRequest]] = {}
        self.running: list[QueuedRequest] = []
        self.floor = 0.0
        self.last: str | None = None

    def push(self, request: QueuedRequest) -> None:
        line = self.waiting.setdefault(request.tenant, [])
        if not line:
            waiting = [self.counters[name] for name, other in self.waiting.items() if other]
            if waiting:
                self.floor = max(self.floor, min(waiting))
            elif self.last is not None:
                self.floor = max(self.floor, self.counters[self.last])
            self.counters[request.tenant] = max(self.counters.get(request.tenant, 0.0), self.floor)
        line.append(request)

    def least(self) -> float:
        return min(self.counters[name] for name, line in self.waiting.items() if line)

    def leave(self, request: QueuedRequest) -> None:
        self.waiting[request.tenant].remove(request)
        if not self.waiting[request.tenant]:
            self.last = request.tenant

    def settle(self) -> None:
        if not self.running and not any(self.waiting.values()):
            self.floor = max([self.floor, *self.counters.values()])
            self.last = None


class FairQueueMachine(RuleBasedStateMachine):
    """Every start must be one that the paper's algorithm allows, every sum must be the same."""

    weights: ClassVar[dict[str, float]] = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(most_reserved=0)
        self.model = Model()
        self.usage: dict[QueuedRequest, tuple[int, int]] = {}

    @rule(name=st.sampled_from("abcd"), prompt=st.integers(1, 50), slots=st.integers(1, 4))
    def push(self, name: str, prompt: int, slots: int) -> None:
        new = request(name, prompt=prompt, slots=slots, weight=self.weights[name])
        self.queue.push(new, float(prompt))
        self.model.push(new)

    @rule(limit=st.integers(1, 8))
    def pop(self, limit: int) -> None:
        in_use = sum(each.slots for each in self.model.running)
        waits = any(self.model.waiting.values())
        started = self.queue.pop(limit)
        assert (started is not None) == (waits and in_use < limit)
        if started is None:
            return
        model = self.model
        assert model.waiting[started.tenant][0] is started
        assert math.isclose(model.counters[started.tenant], model.least(), abs_tol=1e-6)
        model.leave(started)
        model.running.append(started)
        model.counters[started.tenant] += started.prompt_tokens / started.weight
        self.usage[started] = (0, 0)

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), output=st.integers(0, 30))
    def charge(self, data: st.DataObject, output: int) -> None:
        running = data.draw(st.sampled_from(self.model.running))
        cached = data.draw(st.integers(0, running.prompt_tokens))
        before, made = self.usage[running], max(output, self.usage[running][1])
        added = -0.9 * (cached - before[0]) + 2.0 * (made - before[1])
        assert math.isclose(
            self.queue.charge(running, cached=cached, output=output), added, abs_tol=1e-6
        )
        self.usage[running] = (cached, made)
        self.model.counters[running.tenant] += added / running.weight

    @precondition(lambda self: self.model.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        done = data.draw(st.sampled_from(self.model.running))
        cached, output = self.usage.pop(done)
        assert self.queue.finish(done) == Usage(done.prompt_tokens, cached, output)
        self.model.running.remove(done)
        self.model.settle()

    @precondition(lambda self: any(self.model.waiting.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [each for line in self.model.waiting.values() for each in line]
        gone = data.draw(st.sampled_from(waiting))
        assert self.queue.cancel(gone)
        self.model.leave(gone)
        self.model.settle()

    @invariant()
    def counts_agree(self) -> None:
        lines = self.model.waiting.values()
        assert self.queue.waiting == sum(map(len, lines))
        assert self.queue.in_use == sum(each.slots for each in self.model.running)
        seen = self.queue.backlog(request("a"))
        cost = sum(each.prompt_tokens for line in lines for each in line)
        assert math.isclose(seen.all_cost, cost, abs_tol=1e-6)
        others = sum(self.weights[n] for n, line in self.model.waiting.items() if line and n != "a")
        assert math.isclose(seen.share, 1 / (1 + others))
        own = [*self.model.waiting.get("a", []), *self.model.running]
        held = 1 + sum(each.slots for each in own if each.tenant == "a")
        assert self.queue.within_share(request("a"), 6 * held)
        here = {name for name, line in self.model.waiting.items() if line}
        here |= {each.tenant for each in self.model.running}
        assert math.isclose(seen.due, 1 / (1 + sum(self.weights[n] for n in here - {"a"})))


TestFairQueueAgainstThePaper = FairQueueMachine.TestCase
TestFairQueueAgainstThePaper.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
