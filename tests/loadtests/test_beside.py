"""Background work beside a load: its plan, its runs against the service, and its verdict."""

import json
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import gevent
import pytest
from gevent.event import Event

from loadtests.analysis.batch_outcome import BatchOutcome
from loadtests.analysis.result import Exit, Result, conclude
from loadtests.batches import BatchClient, BatchFailed
from loadtests.drive.batch import FollowedBatch
from loadtests.launch import Launch
from loadtests.load.plan import Plan
from loadtests.load.scenario import Scenario
from loadtests.load.stage import ALONE, BESIDE
from loadtests.outputs import read_records, read_result, read_round
from loadtests.protocol.api import Request
from loadtests.protocol.record import Outcome, Record
from loadtests.report.beside import beside_table
from service.plugins.batches.settings import BatchSettings
from tests.live_service import MODEL, LiveService
from tests.loadtests.records import record, run
from tests.loadtests.scenarios import CHAT, scenario
from tests.served.server import PATIENT
from tools.keys import entry, key_of, write_keys

USERS = {"kind": "users", "users": 3, "workload": CHAT | {"name": "flex"}}
BATCH = {"kind": "batch", "lines": 40, "workload": CHAT | {"name": "lines"}}
NEIGHBOUR = {
    "kind": "neighbour",
    "tenant": {"name": "heavy"},
    "rates": [2, 40],
    "workload": CHAT | {"name": "flood"},
}
LOAD = {"kind": "open", "arrivals": {"process": "poisson", "rate": 20}, "step_s": 10}


def divided(beside: dict[str, Any]) -> Scenario:
    return scenario(beside=beside, load=LOAD | {"warmup_s": 2})


def halves(first: float = 0.1, then: float = 0.1, count: int = 80) -> list[Record]:
    """Requests alone and beside, with these times to the first token."""
    return [
        record(
            number,
            stage=stage,
            due=start + number / 10,
            sent=start + number / 10,
            chunks=[ttft, ttft + 0.02, ttft + 0.04],
            e2e=ttft + 0.05,
        )
        for stage, start, ttft in ((ALONE, 2.0, first), (BESIDE, 12.0, then))
        for number in range(count)
    ]


def flex(*outcomes: str) -> list[Record]:
    return [
        record(1_000_000 + n, stage=BESIDE, workload="flex", due=13.0, sent=13.0, outcome=each)
        for n, each in enumerate(outcomes)
    ]


def judged(records: Sequence[Record], beside: dict[str, Any], **fields: Any) -> Result:
    offered = {ALONE: 80, BESIDE: 80}
    return conclude(run(list(records), of=divided(beside), offered=offered, **fields), None)


def test_the_two_halves_are_alike_but_for_their_words() -> None:
    plan = Plan(divided(USERS), "base")
    alone, beside = (
        [each for each in plan.arrivals if each.stage == half] for half in (ALONE, BESIDE)
    )
    assert [each.at for each in beside] == pytest.approx([each.at + 10 for each in alone])
    for one, other in zip(map(plan.call, alone), map(plan.call, beside), strict=True):
        assert one.max_tokens == other.max_tokens
        assert len(one.messages[0].text.split()) == len(other.messages[0].text.split())
        assert one.messages != other.messages
    calls = [plan.background_call(user, n, 13.0) for user in range(3) for n in range(5)]
    assert len({call.index for call in calls} | {each.index for each in plan.arrivals}) == 15 + len(
        plan.arrivals
    )
    assert {(call.workload, call.stage) for call in calls} == {("flex", BESIDE)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"load": LOAD | {"steps": [1, 2]}}, "one step, got open load of 2"),
        ({"load": {"kind": "closed", "users": [1], "step_s": 1}}, "open"),
        ({"workloads": [CHAT | {"name": "flex"}]}, "distinct names, got flex, flex"),
    ],
)
def test_background_work_needs_one_step_and_a_name_of_its_own(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(beside=USERS, **fields)


def test_a_neighbour_sends_at_its_rates_whatever_the_number_of_workers() -> None:
    plan = Plan(divided(NEIGHBOUR), "base")
    calls = plan.neighbour_calls(0, 1)
    counts = Counter(call.stage for call in calls)
    assert 10 <= counts[ALONE] <= 30
    assert 340 <= counts[BESIDE] <= 460
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert {call.tenant for call in calls} == {"heavy"}
    assert {call.tenant for call in map(plan.call, plan.arrivals)} == {"default"}
    assert len({call.index for call in calls} | {each.index for each in plan.arrivals}) == len(
        calls
    ) + len(plan.arrivals)
    parts = [plan.neighbour_calls(worker, 3) for worker in range(3)]
    assert sorted((each for part in parts for each in part), key=lambda call: call.at) == calls
    assert Plan(divided(USERS), "base").neighbour_calls(0, 1) == []


def test_a_neighbour_is_a_tenant_of_its_own() -> None:
    with pytest.raises(ValueError, match="tenants must have distinct names, got default, default"):
        divided(NEIGHBOUR | {"tenant": {"name": "default"}})


def flood(*outcomes: str) -> list[Record]:
    return [
        record(1_000_000 + n, stage=BESIDE, workload="flood", tenant="heavy", outcome=each)
        for n, each in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("light", "heavy", "code", "reason"),
    [
        ("ok", ["ok"] * 200 + ["refused"] * 400, Exit.OK, None),
        ("ok", ["ok"] * 200 + ["http_error"], Exit.FAILURES, "not all were answered: 1 http_error"),
        (
            "refused",
            ["ok"] * 200 + ["refused"] * 400,
            Exit.FAILURES,
            "tenant default asked for no more than its share, and 1 of its 160 requests were",
        ),
        ("refused", ["ok"] * 100, Exit.OK, None),
    ],
)
def test_a_neighbour_may_be_refused_but_nobody_within_the_share(
    light: Outcome, heavy: list[str], code: Exit, reason: str | None
) -> None:
    first, *others = halves()
    records = [replace(first, outcome=light), *others, *flood(*heavy)]
    of = divided(NEIGHBOUR).model_copy(update={"tolerate": ("refused",)})
    result = conclude(run(records, of=of, offered={ALONE: 80, BESIDE: 80}), None)
    assert result.verdict.exit_code == code, result.verdict
    assert (reason or "") in " ".join(result.verdict.reasons)
    assert {group.name for group in result.tenants} == {"default"}
    assert result.fairness.tenants.keys() == {"default", "heavy"}
    assert result.beside is not None
    assert beside_table(result.beside)[0][1:3] == ("beside 2/s", "beside 40/s")


def test_background_requests_are_no_part_of_the_load() -> None:
    result = judged([*halves(), *flex("ok", "ok")], USERS)
    assert result.verdict.reasons == []
    assert result.overall.offered == 160
    assert {group.name for group in result.workloads} == {"chat"}
    assert result.beside is not None
    assert result.beside.requests is not None
    assert result.beside.requests.throughput.answers_per_s == pytest.approx(0.2)
    assert [each.ratio for each in result.beside.ratios] == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("records", "code", "reason"),
    [
        ([*halves(0.1, 0.109), *flex("ok")], Exit.OK, None),
        (
            [*halves(0.1, 0.12), *flex("ok")],
            Exit.SLO_MISSED,
            "TTFT p95 is 1.20 times that without flex, at most 1.1 is wanted",
        ),
        (
            [*halves(), *flex("ok", "refused", "unfinished")],
            Exit.FAILURES,
            "of 3 requests of flex not all were answered: 1 refused, 1 unfinished",
        ),
        (halves(), Exit.FAILURES, "no request of flex was sent"),
        ([*halves(count=71), *flex("ok")], Exit.INVALID, "TTFT p95: too few requests"),
    ],
)
def test_users_in_the_background_are_answered_and_slow_nobody(
    records: list[Record], code: Exit, reason: str | None
) -> None:
    few = {"validity": {"achieved_ratio": 0.5}}
    of = divided(USERS).model_copy(update={"validity": scenario(**few).validity})
    verdict = conclude(run(records, of=of, offered={ALONE: 80, BESIDE: 80}), None).verdict
    assert verdict.exit_code == code
    if reason:
        assert reason in verdict.reasons


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"answered": 40}, Exit.OK, None),
        ({"answered": 39}, Exit.FAILURES, "1 of 40 lines of the batch have no answer"),
        (
            {"answered": 39, "repeated": 1},
            Exit.FAILURES,
            "1 lines of the batch have several answers",
        ),
        (
            {"status": "in_progress", "ended": None},
            Exit.FAILURES,
            "the batch is in_progress at the end of the run",
        ),
        ({"error": "no"}, Exit.FAILURES, "the batch could not be followed: no"),
        (
            {"answered": 40, "ended": 18.0},
            Exit.INVALID,
            "the batch ended 4 s before its stage: set beside.lines to more than 40",
        ),
    ],
)
def test_a_batch_is_answered_whole_and_longer_than_its_stage(
    fields: dict[str, Any], code: Exit, reason: str | None
) -> None:
    outcome = BatchOutcome(lines=40, began=12.0, **{"status": "completed", "ended": 25.0} | fields)
    verdict = judged(halves(), BATCH, batch=outcome).verdict
    assert verdict.exit_code == code
    assert verdict.reasons == ([reason] if reason else [])


def test_lines_count_while_their_stage_lasts() -> None:
    done = [(13.0, 4), (17.0, 20), (21.5, 38), (24.0, 40)]
    outcome = BatchOutcome(lines=40, began=12.0, status="completed", ended=25.0, done=done)
    assert outcome.lines_per_s(22.0) == pytest.approx(3.8)
    assert outcome.model_copy(update={"ended": 20.0}).lines_per_s(22.0) == pytest.approx(2.5)


SHORT = {"kind": "fixed", "tokens": 3}
AGAINST_SERVICE = (
    *("load.arrivals.rate=60", "load.steps=[1]", "load.step_s=2", "load.warmup_s=0.2"),
    *(f"workloads.0.{field}={json.dumps(SHORT)}" for field in ("input", "output")),
    *(f"beside.workload.{field}={json.dumps(SHORT)}" for field in ("input", "output")),
    *("beside.slowdown.ttft_p95=100000", "beside.slowdown.tpot_p95=100000", "slo=null"),
    *("validity.send_lag_p50_ms=60000", "validity.send_lag_p99_ms=60000"),
    *("validity.worker_cpu=50", "validity.little_error=1000", "drain_s=200"),
)


def sent(live: LiveService, name: str, out: Path, *overrides: str, workers: int = 1) -> int:
    """The exit code of a shipped scenario, shortened, against a live service."""
    launch = Launch(
        scenario=name,
        host=live.url,
        model=MODEL,
        metrics_url=f"{live.ops_url}/metrics",
        out=out,
        progress=False,
        workers=workers,
        overrides=(*AGAINST_SERVICE, *overrides),
        said="a test",
    )
    return launch.run(quiet=True)


@pytest.mark.slow
def test_flex_runs_against_the_service(tmp_path: Path) -> None:
    with LiveService(admission=PATIENT["admission"]) as live:
        code = sent(live, "flex", tmp_path, "beside.users=3", workers=2)
        flex_requests = live.value("inference_requests_total", service_tier="flex")
    result = read_result(tmp_path)
    assert code == Exit.OK, result.verdict
    assert result.beside is not None
    assert result.beside.requests is not None
    own = [each for each in read_records(tmp_path) if each.workload == "flex"]
    assert len(own) == result.beside.requests.outcomes["ok"] == flex_requests
    assert {each.index // 1_000_000 for each in own} == {1, 2, 3}
    assert min(each.due for each in own) >= 2.2
    assert result.beside.requests.throughput.completion_tokens_per_s > 0
    assert result.beside.requests.throughput.items_per_s == 0
    assert {group.name for group in result.workloads} == {"people"}
    _, of_load = read_round(tmp_path)
    assert {each.workload for each in of_load} == {"people"}
    assert "Beside background work" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_light_runs_against_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("light", "heavy"):
        monkeypatch.setenv(f"LOADTEST_KEY_{name.upper()}", key_of(name))
    keys = write_keys(tmp_path / "keys.json", entry("light"), entry("heavy"))
    with LiveService(admission=PATIENT["admission"], tenants={"keys": keys}) as live:
        code = sent(live, "light", tmp_path, "beside.rates=[40, 80]", workers=2)
        served = {
            name: live.value("inference_requests_total", tenant=name) for name in ("light", "heavy")
        }
    result = read_result(tmp_path)
    assert code == Exit.OK, result.verdict
    assert result.beside is not None
    assert result.beside.requests is not None
    assert {each.name for each in result.tenants} == {"light"}
    assert result.beside.requests.outcomes.keys() == {"ok"}
    rows = Counter(each.tenant for each in read_records(tmp_path))
    assert rows == served
    assert "beside 80/s" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_batches_run_against_the_service(tmp_path: Path) -> None:
    settings = BatchSettings(path=tmp_path / "batches")
    with LiveService(batches=settings, token_seconds=0.01) as live:
        # Enough lines to outlast the stage: a line takes 30 ms, and four run at once.
        code = sent(live, "batches", tmp_path, "load.arrivals.rate=40", "beside.lines=300")
        lines = live.value("inference_batch_lines_total", outcome="completed")
    result = read_result(tmp_path)
    assert code == Exit.OK, result.verdict
    assert result.beside is not None
    assert result.beside.batch is not None
    assert lines == result.beside.batch.answered == 300
    assert result.beside.lines_per_s
    assert result.beside.lines_per_s > 0
    assert "300 of 300 lines answered once" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_batch_that_is_not_done_in_time_is_cancelled(tmp_path: Path) -> None:
    settings = BatchSettings(path=tmp_path / "batches")
    words = ("beside.lines=3000", "drain_s=1", "load.arrivals.rate=40")
    with LiveService(batches=settings, token_seconds=0.01) as live:
        code = sent(live, "batches", tmp_path, *words)
        with urllib.request.urlopen(f"{live.url}/v1/batches") as response:
            (batch,) = json.load(response)["data"]
    result = read_result(tmp_path)
    assert code == Exit.FAILURES
    assert result.verdict.reasons == ["the batch is in_progress at the end of the run"]
    assert batch["status"] in ("cancelling", "cancelled")


def test_a_batch_that_is_being_sent_when_the_run_ends_is_cancelled() -> None:
    sent, cancelled = Event(), []

    class Slow(BatchClient):
        def create(self, requests: Sequence[Request]) -> str:
            sent.wait()
            return "b"

        def cancel(self, batch: str) -> None:
            cancelled.append(batch)

    batch = FollowedBatch(Slow("", {}), [], start=0.0, now=lambda: 0.0)
    assert not batch.over
    stopping = gevent.spawn(batch.stop)
    gevent.sleep(0)
    sent.set()
    stopping.join()
    assert cancelled == ["b"]
    assert batch.over


def test_a_service_without_batches_fails_the_run_and_says_why(tmp_path: Path) -> None:
    with LiveService() as live:
        client = BatchClient(live.url, {})
        with pytest.raises(BatchFailed, match="POST /v1/files: 404"):
            client.create([Request("/v1/generate", {"model": MODEL}, stream=False)])
    with pytest.raises(BatchFailed, match="GET /v1/batches/b"):
        client.look("b")


def test_an_answer_that_is_no_batch_is_told(tmp_path: Path) -> None:
    page = tmp_path / "v1/batches/b"
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        client = BatchClient(f"http://127.0.0.1:{server.server_port}", {})
        with pytest.raises(BatchFailed, match="GET /v1/batches/b: not JSON: b'<html>'"):
            client.look("b")
        server.shutdown()
        thread.join()
