"""Tokens and answers are counted at the instants at which they came."""

from itertools import pairwise

import numpy as np
import pytest

from loadtests.analysis.duel import Round, judge
from loadtests.analysis.result import Result, conclude
from loadtests.analysis.throughput import Throughput, Window, throughput, windows
from loadtests.protocol.record import Record
from loadtests.report.duel_page import rates
from tests.loadtests.records import record, run
from tests.loadtests.scenarios import scenario


def tokens(row: Record, *edges: float) -> list[float]:
    """The tokens of a row between each edge and the next."""
    parts = pairwise(edges)
    return [throughput([row], Window(a, b)).completion_tokens_per_s * (b - a) for a, b in parts]


def test_a_token_counts_where_it_came() -> None:
    late = record(sent=9.89)
    assert tokens(late, 0, 10, 20) == pytest.approx([1, 2])
    assert tokens(record(sent=9.5), 0, 10, 20) == pytest.approx([3, 0])
    counted = record(sent=9.89, chunk_tokens=[4, 1, 1], completion_tokens=6)
    assert tokens(counted, 0, 10, 20) == pytest.approx([4, 2])
    unsaid = record(sent=9.89, completion_tokens=6)
    assert tokens(unsaid, 0, 10, 20) == pytest.approx([2, 4])
    nothing = record(sent=9.89, chunks=[], completion_tokens=1)
    assert tokens(nothing, 0, 10, 20) == pytest.approx([0, 1])


def test_windows_share_out_every_token() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        row = record(sent=rng.random(), chunks=sorted(rng.random(7)), completion_tokens=9)
        edges = [0.0, *np.sort(rng.random(4) * 2), 3.0]
        assert sum(tokens(row, *edges)) == pytest.approx(9)


def test_prompts_count_at_the_first_token_and_answers_at_their_end() -> None:
    rows = [
        record(sent=9.89),
        record(sent=9.88, task="classify", chunks=[], e2e=0.1, items=3, completion_tokens=None),
        record(sent=1.0, outcome="truncated"),
        record(sent=None, outcome="dropped"),
    ]
    assert throughput(rows, Window(0, 10, rounds=2)) == Throughput(
        answers_per_s=1 / 20,
        prompt_tokens_per_s=20 / 20,
        completion_tokens_per_s=1 / 20,
        items_per_s=3 / 20,
    )


def test_windows_begin_where_the_warm_up_ends() -> None:
    found = windows({"warmup": 0.0, "x1": 5.0, "x2": 15.0}, 20.0, {"x1": 10.0, "x2": 10.0}, 3)
    assert found.whole == Window(5.0, 25.0, 3)
    assert found.stages == {"x1": Window(5.0, 15.0, 3), "x2": Window(15.0, 25.0, 3)}


def counted(*ends: float) -> Round:
    """Users who ask once, all at the start, and are answered at these instants."""
    load = {"kind": "closed", "users": [len(ends)], "requests": 1, "step_s": 600}
    stage = f"{len(ends)} users"
    rows = [
        record(i, stage=stage, due=0.0, sent=0.0, e2e=end, chunks=[]) for i, end in enumerate(ends)
    ]
    return conclude(run(rows, of=scenario(load=load), offered={}), None), rows


def test_the_throughput_of_counted_requests_is_until_the_last_answer() -> None:
    result, _ = counted(2.0, 5.0, 10.0)
    for each in (result.overall, *result.stages, *result.tenants):
        assert each.throughput.answers_per_s == pytest.approx(0.3, rel=1e-3)
        assert each.throughput.completion_tokens_per_s == pytest.approx(0.9, rel=1e-3)


def test_rounds_of_counted_requests_are_compared_until_the_last_answer_of_each() -> None:
    first, second = ([counted(*[1.0] * 9, end) for end in ends] for ends in ((10, 5, 4), (8, 5, 5)))
    duel = judge(first, second, None, ("a", "b"), "")
    assert rates(duel) == "answers/s: a 2.00, b 2.00, ratio 1.000 (rounds: 0.800, 1.000, 1.250)"
    for side, seconds in ((duel.first, 19), (duel.second, 18)):
        for each in (side.overall, *side.stages):
            assert each.throughput.answers_per_s == pytest.approx(30 / seconds, rel=1e-3)


def overloaded() -> Result:
    """One answer a second, two requests a second: the second half comes after the load."""
    load = {
        "kind": "open",
        "arrivals": {"process": "constant", "rate": 1},
        "steps": [1, 3],
        "step_s": 10,
        "warmup_s": 2,
    }
    stages = ["warmup"] * 2 + ["x1"] * 10 + ["x3"] * 30
    rows = []
    for i, stage in enumerate(stages):
        due = float(i) if i < 12 else 12 + (i - 12) / 3
        ended = i + 1.5 - due
        chunks = list(ended - np.array([0.9, 0.5, 0.1]))
        rows.append(record(i, stage=stage, due=due, sent=due, e2e=ended, chunks=chunks))
    return conclude(run(rows, of=scenario(load=load), offered={"x1": 10, "x3": 30}), None)


def test_what_comes_after_the_load_is_no_throughput() -> None:
    result = overloaded()
    every = [result.overall, *result.stages, *result.tenants]
    assert [each.outcomes for each in every] == [{"ok": n} for n in (40, 10, 30, 40)]
    assert [each.offered_per_s for each in every] == [2, 1, 3, 2]
    for each in every:
        assert each.throughput.answers_per_s == pytest.approx(1)
        assert each.throughput.completion_tokens_per_s == pytest.approx(3, abs=0.11)
    assert result.compat["vllm"]["request_throughput"] == pytest.approx(40 / 40.5)
