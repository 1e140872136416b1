"""A/A stays quiet, +10% is found."""

import numpy as np
import pytest

from loadtests.analysis.comparison import Delta, Side, compare, regressions, side
from loadtests.analysis.objectives import Limits, Objectives
from loadtests.protocol.record import Record
from tests.loadtests.records import record

SLO = Objectives(name="slo", goodput=0.9, limits=Limits(ttft_ms=400))


def measured(seed: int, slower: float = 1.0, count: int = 400) -> list[Record]:
    """The same requests of very different lengths, with noise of the server's own."""
    asked = np.random.default_rng(99).lognormal(0.0, 0.8, count)
    noise = np.random.default_rng(seed).normal(1.0, 0.08, (2, count)).clip(0.5)
    rows = []
    for index in range(count):
        first = 0.1 * asked[index] * noise[0, index] * slower
        gap = 0.02 * noise[1, index] * slower
        rows.append(
            record(index, chunks=[first, first + gap, first + 2 * gap], e2e=first + 3 * gap)
        )
    return rows


def compared(first: list[Record], second: list[Record], *, paired: bool = True) -> list[Delta]:
    return compare(side("a", [first]), side("b", [second]), SLO, paired=paired)


def test_the_same_server_twice_is_no_difference() -> None:
    alarms = [
        any(d.verdict != "no difference" for d in compared(measured(seed), measured(seed + 1000)))
        for seed in range(20)
    ]
    assert sum(alarms) <= 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_percent_are_found(seed: int) -> None:
    deltas = compared(measured(seed), measured(seed + 50, slower=1.1))
    found = {(d.metric, d.statistic): d for d in deltas}
    for metric in ("ttft_due", "tpot", "e2e_due"):
        delta = found[metric, "mean"]
        assert delta.verdict == "worse"
        assert delta.change == pytest.approx(0.1, abs=0.03)
        assert delta.interval[0] < 0.1 < delta.interval[1] + 0.02
    assert regressions(deltas, 0.05)
    assert not regressions(deltas, 0.5)


def test_faster_is_better_and_no_regression() -> None:
    deltas = compared(measured(1), measured(2, slower=0.8))
    assert {d.verdict for d in deltas if d.statistic == "mean"} <= {"better", "no difference"}
    assert not regressions(deltas, 0.0)


def test_pairing_sees_what_chance_would_hide() -> None:
    """The lengths of the requests vary by more than the servers do."""
    first, second = measured(1), measured(2, slower=1.05)
    pair = next(
        d for d in compared(first, second) if (d.metric, d.statistic) == ("ttft_due", "mean")
    )
    alone = next(
        d
        for d in compared(first, second, paired=False)
        if (d.metric, d.statistic) == ("ttft_due", "mean")
    )
    assert pair.verdict == "worse"
    assert alone.verdict == "no difference"


def test_failures_lower_goodput_and_leave_latency_alone() -> None:
    broken = measured(2)
    for row in broken[::4]:
        row.outcome = "stream_error"
    found = {(d.metric, d.statistic): d for d in compared(measured(1), broken)}
    assert found["goodput", "mean"].verdict == "worse"
    assert found["goodput", "mean"].change == pytest.approx(-0.25, abs=0.03)
    assert found["ttft_due", "p50"].verdict == "no difference"


def goodput(first: list[Record], second: list[Record]) -> Delta:
    return next(d for d in compared(first, second) if d.metric == "goodput")


def sessions(count: int = 60) -> list[Record]:
    """Two turns each, all of them good."""
    return [record(i, turn=turn, due=i + turn / 2) for i in range(count) for turn in (0, 1)]


def test_a_turn_that_a_failure_kept_from_being_asked_missed_its_objectives() -> None:
    broken = [row for row in sessions() if row.turn == 0 or row.index % 2]
    for row in broken:
        if row.index % 2 == 0:
            row.outcome = "stream_error"
    found = goodput(sessions(), broken)
    assert (found.first, found.second) == (1.0, 0.5)
    assert regressions(compared(sessions(), broken), 0.05)
    assert goodput(broken, sessions()).verdict == "better"


def test_goodput_is_paired_by_request() -> None:
    """Both miss every second request: there is nothing to be unsure of."""
    one, two = sessions(), sessions()
    for row in (*one[::2], *two[::2]):
        row.outcome = "refused"
    one[0].outcome = two[-1].outcome = "cancelled"
    found = goodput(one, two)
    assert (found.change, found.interval) == (0.0, (0.0, 0.0))


def test_goodput_is_compared_where_one_side_has_none() -> None:
    lost, kept = sessions(), sessions()
    for row in lost:
        row.outcome = "refused"
    better, worse = goodput(lost, kept), goodput(kept, lost)
    assert (better.change, better.interval, better.verdict) == (1.0, (1.0, 1.0), "better")
    assert (worse.change, worse.interval, worse.verdict) == (-1.0, (-1.0, -1.0), "worse")


def test_a_planned_hang_up_counts_on_neither_side() -> None:
    one, two = sessions(), sessions()
    for row in one[:40]:
        row.outcome = "cancelled"
    for row in two[:40]:
        row.outcome = "refused"
    found = goodput(one, two)
    assert (found.first, found.second) == (1.0, 1.0)


def test_users_who_wait_ask_more_of_a_fast_server() -> None:
    """Requests that the slow server was not asked do not count as missed: goodput is unpaired."""
    slow = [record(i) for i in range(50)]
    slow[0].outcome = slow[1].outcome = "refused"
    found = goodput([record(i) for i in range(80)], slow)
    assert (found.first, found.second) == (1.0, 0.96)
    assert found.verdict == "no difference"


def test_a_request_that_left_late_waited_meanwhile() -> None:
    late = [record(i, sent=i * 0.5 + 1) for i in range(50)]
    late += [record(50 + i, task="classify", chunks=[], sent=25 + i * 0.5 + 1) for i in range(50)]
    prompt = [Record.from_row(row.row() | {"sent": row.due}) for row in late]
    found = {d.metric: d for d in compared(prompt, late) if d.statistic == "mean"}
    for metric, seconds in (("ttft_due", 0.1), ("e2e_due", 0.15), ("classify_due", 0.15)):
        assert found[metric].first == pytest.approx(seconds)
        assert found[metric].second == pytest.approx(seconds + 1)
        assert found[metric].verdict == "worse"
    assert found["tpot"].verdict == "no difference"


def test_too_few_requests_are_not_compared() -> None:
    names = {
        (d.metric, d.statistic) for d in compared(measured(1, count=30), measured(2, count=30))
    }
    assert ("ttft_due", "p50") in names
    assert ("ttft_due", "p90") not in names
    assert compared(measured(1, count=3), measured(2, count=3)) == []


def test_rounds_do_not_mix_their_requests() -> None:
    both: Side = side("a", [measured(1, count=5), measured(2, count=5)])
    assert len(both.records) == 10
