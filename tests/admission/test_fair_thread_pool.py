"""Fair turns before admission: their bounds, order and cost, and cancelled callers."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.admission.controller import AdmissionController
from service.admission.preparation import BYTES_PER_SECOND, FairThreadPool, Preparation, WorkItem
from service.admission.queued_request import Demand
from service.context import current_context, enter_context
from service.errors import DeadlineExceeded, QueueFull, TooManyRequests
from service.settings.admission import PreparationSettings
from service.tenants.tenant import SERVICE
from tests.admission.conftest import Clock
from tests.admission.test_controller import PATIENCE_S, admission_of, context_of, tick


class Work:
    """Pieces of work that end when they are told to; `begun` names them in order."""

    def __init__(self, stage: FairThreadPool) -> None:
        self._stage = stage
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    def ask(
        self,
        name: str,
        tenant: str,
        size: int = 10,
        timeout_s: float = PATIENCE_S,
        seconds: float = 0.0,
    ) -> asyncio.Task[str]:
        """Ask for a piece of work as a tenant."""
        self.ends[name] = asyncio.Event()

        async def work(turn: WorkItem) -> str:
            self.begun.append(name)
            await self.ends[name].wait()
            turn.seconds = seconds
            return name

        async def request() -> str:
            enter_context(context_of(tenant, timeout_s))
            return await self._stage.run(size, work)

        return asyncio.create_task(request())

    async def end(self, name: str) -> None:
        """Let it end."""
        self.ends[name].set()
        await tick()

    async def end_all(self, *tasks: asyncio.Task[Any]) -> None:
        """Let all end that begin, until the tasks are done."""
        while not all(task.done() for task in tasks):
            for name in self.begun:
                self.ends[name].set()
            await tick()


def work_of(lanes: int, max_waiting: int = 100) -> tuple[Work, FairThreadPool, AdmissionController]:
    admission, _ = admission_of(1)
    stage = FairThreadPool(admission, lanes, max_waiting)
    return Work(stage), stage, admission


async def test_a_tenant_leaves_one_lane_to_others() -> None:
    work, stage, _ = work_of(lanes=3)
    tasks = [work.ask(f"a{number}", "a") for number in range(5)]
    await tick()
    assert work.begun == ["a0", "a1"]
    other = work.ask("b0", "b")
    await tick()
    assert work.begun == ["a0", "a1", "b0"]
    assert stage.waiting == 3
    for name in ("b0", "a0", "a1", "a2", "a3", "a4"):
        await work.end(name)
    assert await asyncio.gather(*tasks, other) == ["a0", "a1", "a2", "a3", "a4", "b0"]
    assert stage.waiting == 0


async def test_who_has_read_fewer_bytes_comes_first() -> None:
    work, _, _ = work_of(lanes=1)
    names = [work.ask(f"big{number}", "big", size=1000) for number in range(3)]
    names += [work.ask(f"small{number}", "small", size=10) for number in range(3)]
    await tick()
    await work.end_all(*names)
    assert work.begun == ["big0", "small0", "big1", "small1", "small2", "big2"]
    await asyncio.gather(*names)


async def test_time_counts_where_it_is_more_than_the_bytes() -> None:
    work, _, _ = work_of(lanes=1)
    slow = [work.ask(f"slow{number}", "slow", seconds=1.0) for number in range(2)]
    await tick()
    other = [work.ask(f"b{number}", "b", size=BYTES_PER_SECOND // 4) for number in range(3)]
    await tick()
    await work.end_all(*slow, *other)
    assert work.begun == ["slow0", "b0", "b1", "b2", "slow1"]
    await asyncio.gather(*slow, *other)


async def test_the_lane_is_held_until_the_work_has_ended_though_its_caller_left() -> None:
    work, _, _ = work_of(lanes=1)
    first = work.ask("first", "a")
    await tick()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = work.ask("second", "b")
    await tick()
    assert work.begun == ["first"]
    await work.end("first")
    assert work.begun == ["first", "second"]
    await work.end("second")
    assert await second == "second"


@pytest.mark.parametrize("tenant", ["a", "b"])
async def test_who_leaves_while_waiting_is_not_served(tenant: str) -> None:
    work, stage, _ = work_of(lanes=1)
    first = work.ask("first", "a")
    await tick()
    left, last = work.ask("left", tenant), work.ask("last", tenant)
    await tick()
    left.cancel()
    await tick()
    assert stage.waiting == 1
    await work.end("first")
    assert work.begun == ["first", "last"]
    await work.end("last")
    assert [await first, await last] == ["first", "last"]


async def test_two_that_leave_as_the_turn_of_one_comes_give_it_to_the_next() -> None:
    work, stage, _ = work_of(lanes=1)
    tasks = [work.ask(name, "a") for name in ("first", "second", "third", "last")]
    await tick()
    work.ends["first"].set()
    while stage.waiting == 3:  # noqa: ASYNC110 - the very iteration is wanted
        await asyncio.sleep(0)
    for leaving in tasks[1:3]:  # the turn of the second has come, and it does not know yet
        leaving.cancel()
    await tick()
    assert all(leaving.cancelled() for leaving in tasks[1:3])
    assert work.begun == ["first", "last"]
    await work.end("last")
    assert await tasks[3] == "last"
    assert stage.waiting == 0


async def test_a_deadline_ends_the_wait(clock: Clock) -> None:
    work, stage, _ = work_of(lanes=1)
    first = work.ask("first", "a")
    await tick()
    late = work.ask("late", "b", timeout_s=60)
    await tick()
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="waited to be tokenised"):
        await late
    assert stage.waiting == 0
    await work.end("first")
    assert await first == "first"


async def test_too_much_is_refused_and_a_newcomer_finds_a_place() -> None:
    work, _, _ = work_of(lanes=1, max_waiting=9)
    tasks = [work.ask(f"a{number}", "a") for number in range(9)]
    await tick()
    with pytest.raises(QueueFull, match=r"compiling .* 8 wait, 8 of them yours\. Its limit is 9"):
        await work.ask("more", "a")  # the only tenant has no other's share
    tasks.append(work.ask("b", "b"))
    await tick()
    with pytest.raises(TooManyRequests, match="9 wait, 8 of them yours") as own:
        await work.ask("more", "a")
    with pytest.raises(QueueFull, match="9 wait, 0 of them yours") as full:
        await work.ask("c", "c")
    assert own.value.code == "over_share"
    assert own.value.retry_after == full.value.retry_after == 1
    await work.end_all(*tasks)
    await asyncio.gather(*tasks)


async def test_the_services_own_work_is_never_refused() -> None:
    work, stage, _ = work_of(lanes=1, max_waiting=1)
    tasks = [work.ask(f"a{number}", "a") for number in range(2)]
    await tick()

    async def proof() -> None:
        context = context_of("service")
        context.tenant = SERVICE
        enter_context(context)
        await stage.run(10, _nothing)

    asked = asyncio.create_task(proof())
    await tick()
    await work.end_all(asked, *tasks)
    await asyncio.gather(asked, *tasks)


async def test_what_the_work_raises_comes_out_and_frees_the_lane() -> None:
    work, stage, _ = work_of(lanes=1)
    enter_context(context_of("a"))

    async def broken(_: WorkItem) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await stage.run(10, broken)
    await tick()
    task = work.ask("next", "a")
    await tick()
    await work.end("next")
    assert await task == "next"


async def _order_of_admission(
    prepare: Callable[[AdmissionController], Awaitable[object]],
) -> list[str]:
    """The order of tenants `busy` and `idle` in a full engine, after `prepare` ran for `busy`."""
    admission, _ = admission_of(1)
    holder = await admission.acquire(context_of("holder"), Demand(1, 1))
    served = []

    async def ask(tenant: str) -> None:
        held = await admission.acquire(context_of(tenant), Demand(10, 10))
        served.append(tenant)
        held.release()

    waiting = [asyncio.create_task(ask("other"))]
    await tick()
    enter_context(context_of("busy"))
    await prepare(admission)
    await tick()
    waiting += [asyncio.create_task(ask(tenant)) for tenant in ("busy", "idle")]
    await tick()
    holder.release()
    await asyncio.gather(*waiting)
    return served


async def test_work_is_charged_to_the_tenants_counter_in_admission() -> None:
    assert await _order_of_admission(lambda admission: tick()) == ["other", "busy", "idle"]
    paid = await _order_of_admission(
        lambda admission: FairThreadPool(admission, 1, 9).run(1_000_000, _nothing)
    )
    assert paid == ["other", "idle", "busy"]


async def test_refused_work_is_charged_too() -> None:
    async def refused(admission: AdmissionController) -> None:
        stage = FairThreadPool(admission, 1, 1)
        work = Work(stage)
        tasks = [work.ask(f"x{number}", "x") for number in range(2)]
        await tick()
        with pytest.raises(QueueFull):
            await stage.run(1_000_000, _nothing)
        await work.end_all(*tasks)
        await asyncio.gather(*tasks)

    assert await _order_of_admission(refused) == ["other", "idle", "busy"]


async def test_long_text_is_read_in_a_thread_and_short_text_where_it_is_asked() -> None:
    preparation = Preparation(admission_of(1)[0], PreparationSettings())
    enter_context(context_of("a"))
    here = threading.current_thread()
    assert await preparation.run(1023, threading.current_thread) is here
    assert await preparation.run(1024, threading.current_thread) is not here
    for size in (1, 1 << 20):
        assert await preparation.run(size, current_context) is current_context()
        with pytest.raises(ZeroDivisionError):
            await preparation.run(size, lambda: 1 // 0)
    preparation.stop()


async def _nothing(_: WorkItem) -> None:
    return
