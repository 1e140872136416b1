"""A short run of the simulator, and tests that it finds the faults that it should find."""

import pytest

from service.admission.background import Background
from service.admission.fair_queue import FairQueue
from service.admission.queued_request import QueuedRequest, Usage
from service.admission.scheduler import Scheduler
from tests.admission.simulation.invariants import Violation
from tests.admission.simulation.run import Totals, play

SEED = "short"


def test_every_invariant_holds() -> None:
    totals = Totals()
    for number in range(20):
        totals.add(play(SEED, number))
    assert totals.requests >= 20 * 2_000
    # The run is worth something only if everything happened in it.
    endings = {"answered", "refused", "late running", "late waiting", "left running"}
    endings |= {"refused background", "preempted"}
    assert endings <= set(totals.ended)
    assert totals.closest > 0.2


def test_a_seed_replays() -> None:
    assert play(SEED, 7, count=500) == play(SEED, 7, count=500)
    assert play(SEED, 7, count=500) != play(SEED, 8, count=500)


def first_violation() -> str:
    for number in range(60):
        try:
            play(SEED, number)
        except Violation as violation:
            return str(violation)
    return "none"


def test_it_sees_service_that_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FairQueue, "_pay", lambda *_: None)
    assert "VTC bound" in first_violation()


def test_it_sees_a_wake_that_earns_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    wake = FairQueue._wake

    def credit(self: FairQueue, tenant: object) -> None:
        wake(self, tenant)  # type: ignore[arg-type]
        tenant.counter = 0.0  # type: ignore[attr-defined]
        self._backlogged.set(tenant, 0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(FairQueue, "_wake", credit)
    assert "bound" in first_violation()


def test_it_sees_a_leaked_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = FairQueue.finish

    def leak(self: FairQueue, request: QueuedRequest) -> Usage:
        usage = finish(self, request)
        self.in_use += request.slots > 8
        return usage

    monkeypatch.setattr(FairQueue, "finish", leak)
    assert "slots conserved" in first_violation()


def test_it_sees_tokens_charged_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    charge = FairQueue.charge

    def twice(self: FairQueue, request: QueuedRequest, *, output: int = 0, **rest: int) -> float:
        made = self.running[request].output
        return charge(self, request, output=made + output, **rest)

    monkeypatch.setattr(FairQueue, "charge", twice)
    assert "usage charged once" in first_violation()


def test_it_sees_a_slot_that_idles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "_start_waiting", lambda *_: [])
    assert "work conserving" in first_violation()


def test_it_sees_a_deadline_that_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "expire", lambda _: [])
    monkeypatch.setattr(Scheduler, "_collect_late", lambda *_: None)
    assert "deadlines kept" in first_violation()


def test_it_sees_background_that_starts_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Background, "room", lambda _, limit, *__: limit)
    assert "background" in first_violation()


def test_it_sees_background_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "preempt", lambda _: [])
    assert "background gives way" in first_violation()


def test_it_sees_background_that_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Background, "room", lambda *_: 0)
    assert "background" in first_violation()


def test_it_sees_interactive_work_refused_for_background(monkeypatch: pytest.MonkeyPatch) -> None:
    foresee = Scheduler._foresee

    def blind(self: Scheduler, request: QueuedRequest, now: float, *, room: bool) -> object:
        if request.background or self.background_in_use < 4:
            return foresee(self, request, now, room=room)
        forecast = self._shedder.forecast(request, self._queue.backlog(request))
        backlog = self._queue.backlog(request)
        return forecast, self._shedder.refusal(request, backlog, forecast, now)

    monkeypatch.setattr(Scheduler, "_foresee", blind)
    assert "refused" in first_violation()
