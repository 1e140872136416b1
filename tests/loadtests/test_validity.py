"""A run is invalid when the load generator, not the server, made its numbers."""

from typing import Any

import pytest

from loadtests.analysis.counters import Counters, counted, read_counters
from loadtests.analysis.objectives import load_objectives
from loadtests.analysis.result import Exit, conclude
from loadtests.analysis.run import Run, Sample
from loadtests.analysis.validity import invalid, validity
from loadtests.protocol.record import Record
from tests.loadtests.records import record, run
from tests.loadtests.scenarios import scenario


def doubts(of: Run) -> list[str]:
    return [check.name for check in invalid(validity(of))]


def ten(**fields: Any) -> list[Record]:
    return [record(i, **fields) for i in range(10)]


def late(seconds: float) -> list[Record]:
    return [record(i, sent=i * 0.5 + seconds) for i in range(10)]


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (run(ten()), []),
        (run(late(0.008)), ["send_lag_p50_ms"]),
        (run([*ten(), *late(0.2)[:2]]), ["send_lag_p99_ms"]),
        (run(ten(), samples=[Sample(0, 10, 10, 0.9, 0.15)]), ["worker_cpu"]),
        (
            run(ten(), samples=[Sample(0, 10, 10, 0.1, 0.15), Sample(1, 10, 10, 0.95, 0.0)]),
            ["worker_cpu"],
        ),
        (run(ten(), offered={"x1": 20}), ["achieved_ratio"]),
        (
            run([*ten(), record(10, outcome="dropped", sent=None, e2e=None)], offered={"x1": 10}),
            ["dropped"],
        ),
        (run(ten(), samples=[Sample(0, 10, 10, 0.5, 0.30)]), ["little_error"]),
        (run(ten(), samples=[]), ["worker_cpu", "little_error"]),
        (run(ten(), stopped="by hand"), ["complete"]),
        (run(ten(), stopped="the SLO was lost", doomed=True, offered={"x1": 90}), []),
        (run(ten(), server=Counters("inference", 10, 30)), []),
        (run(ten(), server=Counters("inference", 13, 30)), ["server_requests"]),
        (run(ten(), server=Counters("inference", 10, 20)), ["server_completion_tokens"]),
        (run(ten(), server=Counters("vllm", 9, 30)), ["server_requests"]),
    ],
)
def test_each_check_finds_its_fault(of: Run, names: list[str]) -> None:
    assert doubts(of) == names


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (run(late(0.008)), "p50 of the time from due to sent was 8.0 ms, at most 5"),
        (
            run(ten(), samples=[Sample(0, 10, 10, 1.0934, 0.15)]),
            "the busiest worker took 1.09 of a core, at most 0.85",
        ),
        (
            run([*ten(), record(10, outcome="dropped", sent=None, e2e=None)], offered={"x1": 10}),
            "1 requests that the client had no room to send",
        ),
    ],
)
def test_a_fault_is_told_with_its_figure(of: Run, message: str) -> None:
    assert [check.message for check in invalid(validity(of))] == [message]


def test_what_was_cut_off_may_or_may_not_have_been_counted() -> None:
    records = [*ten(), *(record(i, outcome="cancelled", status=200) for i in range(10, 15))]
    assert doubts(run(records, server=Counters("vllm", 12, 100))) == []
    assert doubts(run(records, server=Counters("vllm", 16, 100))) == ["server_requests"]


def test_what_ended_with_the_run_may_not_be_counted_yet() -> None:
    records = [*ten(), *(record(i, outcome="unfinished", status=200) for i in range(10, 15))]
    for counted_by_then in (10, 15):
        assert doubts(run(records, server=Counters("inference", counted_by_then, 100))) == []
    assert doubts(run(records, server=Counters("inference", 9, 100))) == ["server_requests"]


def test_vllm_counts_each_prompt_of_a_batch() -> None:
    batch = ten(task="classify", items=3, chunks=[], completion_tokens=3)
    assert doubts(run(batch, server=Counters("vllm", 30, 30))) == []


@pytest.mark.parametrize("said", [None, 0])
def test_a_classification_does_not_say_its_tokens(said: int | None) -> None:
    rows = [*ten(), record(10, task="classify", items=2, chunks=[], completion_tokens=said)]
    assert doubts(run(rows, server=Counters("inference", 11, 32))) == []
    assert doubts(run(rows, server=Counters("inference", 11, 20))) == ["server_completion_tokens"]


def test_what_was_not_looked_at_is_said() -> None:
    unread = [check for check in validity(run(ten())) if check.passed is None]
    assert {check.name: check.message for check in unread} == {
        "server_requests": "not compared: no metrics URL was given",
        "server_completion_tokens": "not compared: no metrics URL was given",
    }


OURS = """
# HELP inference_requests_total Requests.
# TYPE inference_requests_total counter
inference_requests_total{route="/v1/generate",model="m",outcome="ok"} %d
inference_requests_total{route="/v1/models",model="none",outcome="ok"} 99
# HELP inference_tokens_total Tokens.
# TYPE inference_tokens_total counter
inference_tokens_total{model="m",kind="prompt"} 500
inference_tokens_total{model="m",kind="completion"} %d
"""
VLLM = """
# TYPE vllm:request_success counter
vllm:request_success_total{finished_reason="stop"} 4
vllm:request_success_total{finished_reason="length"} 3
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total 70
"""


def test_counters_are_read_in_either_words() -> None:
    assert counted(OURS % (5, 100), OURS % (15, 130)) == Counters("inference", 10, 30)
    assert read_counters(VLLM) == [Counters("vllm", 7, 70)]
    assert counted("", VLLM) == Counters("vllm", 7, 70)
    assert counted(VLLM, OURS % (1, 2) + VLLM) == Counters("inference", 1, 2)
    assert counted("", "# TYPE up gauge\nup 1\n") is None


SLOW = {"chunks": [9.0, 9.1], "e2e": 9.2, "completion_tokens": 2}
REFUSED = {"outcome": "refused", "status": 429, "e2e": 0.15}


@pytest.mark.parametrize(
    ("records", "fields", "code"),
    [
        (ten(), {}, Exit.OK),
        (ten(**REFUSED), {}, Exit.FAILURES),
        (ten(**SLOW), {}, Exit.SLO_MISSED),
        (late(1.0), {}, Exit.INVALID),
        ([record(30, **REFUSED), *map(record, range(30))], {"max_failure_ratio": 0.1}, Exit.OK),
        (ten(**REFUSED), {"tolerate": ["refused"]}, Exit.SLO_MISSED),
        (ten(outcome="cancelled"), {}, Exit.OK),
    ],
)
def test_the_exit_code_says_what_is_wrong(
    records: list[Record], fields: dict[str, Any], code: Exit
) -> None:
    result = conclude(run(records, of=scenario(**fields)), load_objectives("interactive"))
    assert result.verdict.exit_code == code
    assert bool(result.verdict.reasons) == (code != Exit.OK)


def test_a_tenant_within_its_share_may_not_be_refused() -> None:
    names = {"tenants": [{"name": "heavy"}, {"name": "light"}], "tolerate": ["refused"]}
    heavy = [record(i, tenant="heavy") for i in range(20)]
    heavy += [record(i, tenant="heavy", **REFUSED) for i in range(20, 60)]
    light = [record(i, tenant="light") for i in range(60, 65)]
    fair = conclude(run([*heavy, *light], of=scenario(**names)), None)
    assert fair.verdict.exit_code == Exit.OK
    light.append(record(65, tenant="light", **REFUSED))
    wronged = conclude(run([*heavy, *light], of=scenario(**names)), None)
    assert wronged.verdict.exit_code == Exit.FAILURES
    assert wronged.verdict.reasons == [
        "tenant light asked for no more than its share, and 1 of its 6 requests were refused"
    ]


def test_the_warm_up_is_sent_but_not_measured() -> None:
    load = {
        "kind": "open",
        "arrivals": {"process": "constant", "rate": 2},
        "step_s": 5,
        "warmup_s": 5,
    }
    warm = [record(i, stage="warmup", outcome="reset") for i in range(10)]
    rest = [record(i) for i in range(10, 20)]
    of = run([*warm, *rest], of=scenario(load=load), offered={"warmup": 10, "x1": 10})
    result = conclude(of, None)
    assert result.overall.offered == 10
    assert result.overall.offered_per_s == 2
    assert result.verdict.exit_code == Exit.OK
    assert sum(bucket.sent for bucket in result.timeline) == 20
