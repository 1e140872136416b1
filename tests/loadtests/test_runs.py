"""Whole runs through Locust against the scripted server."""

import asyncio
import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from loadtests.analysis.duel import judge
from loadtests.analysis.result import Exit, Result
from loadtests.cli import app
from loadtests.launch import Launch
from loadtests.load.plan import Plan
from loadtests.load.scenario import load_scenario
from loadtests.outputs import read_records, read_result, read_search
from loadtests.processes import PATIENCE_S, free_port, running, served, wait_until
from loadtests.protocol.api import ApiName
from loadtests.protocol.record import Record
from loadtests.rounds import fight, probe_rates
from tests.loadtests.scenarios import CHAT
from tests.loadtests.scripted_server import (
    DONE,
    Connection,
    Script,
    ScriptedServer,
    Served,
    closing,
    steady,
    token,
)

pytestmark = pytest.mark.slow

# The machine of a test may be busy: what is tested here is the server's numbers, not the lag.
# What a busy machine does to answers of a millisecond is no matter here.
RELAXED = {
    "send_lag_p50_ms": 60_000,
    "send_lag_p99_ms": 60_000,
    "worker_cpu": 50.0,
    "little_error": 1000.0,
}


@dataclass
class Ran:
    """Results of a run, and the requests that the server saw."""

    code: int
    out: Path
    served: dict[str, Served]

    @property
    def result(self) -> Result:
        return read_result(self.out)

    @property
    def records(self) -> list[Record]:
        return read_records(self.out)


def go(
    out: Path,
    scripts: dict[str, Script],
    *,
    workers: int = 1,
    metrics: str = "",
    api: ApiName = "native",
    disturb: str = "",
    **fields: Any,
) -> Ran:
    """Run a scenario of the given fields against the scripts, the first of which is the model."""
    with ScriptedServer(scripts) as server:
        launch = replace(
            launch_of(out, server, next(iter(scripts)), **fields),
            api=api,
            workers=workers,
            disturb=disturb,
            metrics_url=metrics and server.url + metrics,
        )
        return Ran(launch.run(quiet=True), out, server.by_id())


def launch_of(out: Path, server: ScriptedServer, model: str, **fields: Any) -> Launch:
    """A run of a scenario with the given fields."""
    tree = {
        "name": "test",
        "workloads": [CHAT],
        "validity": RELAXED,
        "drain_s": PATIENCE_S,
    } | fields
    out.mkdir(exist_ok=True)
    path = out / "scenario.yaml"
    path.write_text(yaml.safe_dump(tree))
    return Launch(
        scenario=str(path),
        host=server.url,
        out=out,
        model=model,
        progress=False,
        said="a test",
    )


def open_load(rate: float, seconds: float, **more: Any) -> dict[str, Any]:
    arrivals = {"process": "poisson", "rate": rate}
    return {"kind": "open", "arrivals": arrivals, "step_s": seconds} | more


def counters(requests: int, tokens: int) -> Script:
    page = (
        "# TYPE inference_requests_total counter\n"
        f'inference_requests_total{{route="/v1/generate"}} {requests}\n'
        "# TYPE inference_tokens_total counter\n"
        f'inference_tokens_total{{kind="completion"}} {tokens}\n'
    )

    async def script(connection: Connection) -> None:
        data = page.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n"
        await connection.raw(head.encode() + data)

    return script


@pytest.fixture(scope="module")
def steady_run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two workers, about forty streams at once, with the tokens' true instants in the log."""
    folder = tmp_path_factory.mktemp("steady")
    return go(
        folder,
        {"steady": steady(0.1, 0.02, 45)},
        workers=2,
        load=open_load(40, 1.5, warmup_s=0.5, steps=[0.5, 1]),
        slo=str(slo_file(folder, ttft_ms=60_000, tpot_ms=60_000)),
        tenants=[{"name": "a"}, {"name": "b", "share": 3}],
    )


def test_a_good_run_ends_well(steady_run: Ran) -> None:
    assert steady_run.code == Exit.OK
    assert steady_run.result.verdict.status == "ok"


def test_the_workers_send_exactly_the_plan_between_them(steady_run: Ran) -> None:
    scenario = load_scenario(str(steady_run.out / "scenario.yaml"))
    plan = Plan(scenario, "steady")
    records = steady_run.records
    assert {r.worker for r in records} == {0, 1}
    assert [r.due for r in records] == pytest.approx([a.at for a in plan.arrivals], abs=1e-6)
    assert [(r.index, r.tenant) for r in records] == [
        (a.index, plan.call(a).tenant) for a in plan.arrivals
    ]


@pytest.mark.timing
def test_measured_latencies_are_those_of_the_server(steady_run: Ran) -> None:
    """Medians, against the server's own log; the tails are the machine's."""
    errors: dict[str, list[float]] = {"ttft": [], "itl": [], "tpot": [], "e2e": []}
    for record in steady_run.records:
        served = steady_run.served[f"load-{record.index}-{record.turn}"]
        first, last = served.sent[0] - served.arrived, served.ended - served.arrived
        assert record.e2e is not None
        errors["ttft"].append(record.chunks[0] - first)
        errors["e2e"].append(record.e2e - last)
        errors["tpot"].append(((record.e2e - record.chunks[0]) - (last - first)) / 44)
        errors["itl"].extend(np.diff(record.chunks) - np.diff(served.sent))
    medians = {name: float(np.median(np.abs(values))) for name, values in errors.items()}
    assert medians["itl"] < 0.005
    assert medians["tpot"] < 0.001
    assert medians["ttft"] < 0.02
    assert medians["e2e"] < 0.02


def test_merged_percentiles_are_exact(steady_run: Ran) -> None:
    chunks = [np.diff(r.chunks) for r in steady_run.records if r.stage != "warmup"]
    found = steady_run.result.overall.latency["icl"]
    exact = np.quantile(np.concatenate(chunks), [0.5, 0.9])
    assert [found.p50, found.p90] == pytest.approx(exact, rel=0.01)


def test_locust_counts_no_request_twice(steady_run: Ran) -> None:
    rows = json.loads((steady_run.out / "locust.json").read_text())
    # Workers report to Locust every few seconds, and its last figures may miss what came after.
    assert 0 < sum(row["num_requests"] for row in rows) <= len(steady_run.records)
    assert sum(row["num_failures"] for row in rows) == 0


def test_every_file_is_written(steady_run: Ran) -> None:
    result = steady_run.result
    assert [stage.name for stage in result.stages] == ["x0.5", "x1"]
    assert [tenant.name for tenant in result.tenants] == ["a", "b"]
    assert result.command == "a test"
    suite = ElementTree.parse(steady_run.out / "junit.xml").getroot()
    assert suite.get("failures") == "0"
    assert (steady_run.out / "report.html").read_text().startswith("<!doctype html>")
    with gzip.open(steady_run.out / "requests.jsonl.gz", "rt") as file:
        assert len(file.readlines()) == len(steady_run.records)


def test_a_stall_is_seen_by_everyone_who_was_due(tmp_path: Path) -> None:
    """Coordinated omission: a closed loop meets a stall once, an open one with every arrival."""
    stalls: dict[str, float] = {}

    async def stalling(connection: Connection) -> None:
        served = connection.served
        until = stalls.setdefault("until", served.arrived + 1.2)
        from_s = until - 0.9
        if from_s < served.arrived < until:
            await asyncio.sleep(until - served.arrived)
        await connection.start()
        await connection.piece(token())
        await connection.piece(closing(1, 1) + DONE)
        await connection.end()

    load: dict[str, Any] = {"kind": "closed", "users": [1], "step_s": 1.5, "think_s": 0.1}
    closed = go(tmp_path / "closed", {"m": stalling}, load=load)
    stalls.clear()
    opened = go(
        tmp_path / "open",
        {"m": stalling},
        load={"kind": "open", "arrivals": {"process": "constant", "rate": 10}, "step_s": 1.5},
    )
    slow = [sum((r.e2e or 0) > 0.4 for r in ran.records) for ran in (closed, opened)]
    assert slow[1] >= slow[0] + 3


def test_closed_loop_users_wait_for_their_answers(tmp_path: Path) -> None:
    touched = tmp_path / "disturbed"
    ran = go(
        tmp_path,
        {"m": steady(0.05, 0.01, 3)},
        load={"kind": "closed", "users": [1, 3], "step_s": 4},
        disturb=f"touch {touched}",
        disturb_at_s=2,
    )
    assert ran.code == Exit.OK
    assert touched.exists()
    assert ran.result.disturbed_at is not None
    users = {r.index // 1_000_000 for r in ran.records}
    assert users == {0, 1, 2}
    for user in users:
        own = [r for r in ran.records if r.index // 1_000_000 == user]
        ends = [(r.sent or 0) + (r.e2e or 0) for r in own]
        assert all((after.sent or 0) >= end for after, end in zip(own[1:], ends, strict=False))
    assert {r.stage for r in ran.records} == {"1 users", "3 users"}
    assert max(r.due for r in ran.records if r.stage == "1 users") < 4


def test_a_run_of_counted_requests_ends_with_the_last_answer(tmp_path: Path) -> None:
    load = {"kind": "closed", "users": [20], "requests": 2, "step_s": 600}
    ran = go(tmp_path, {"m": steady(0.05, 0.01, 3)}, load=load)
    assert ran.code == Exit.OK
    assert ran.result.overall.outcomes == {"ok": 40}
    assert ran.result.overall.window_s < 600


def test_sessions_send_the_conversation_so_far(tmp_path: Path) -> None:
    turns = {"kind": "fixed", "tokens": 3}
    ran = go(
        tmp_path,
        {"m": steady(0.02, 0.01, 2)},
        load=open_load(4, 1.5),
        workloads=[CHAT | {"kind": "session", "turns": turns, "think_s": 0.05}],
    )
    assert Counter(Counter(r.index for r in ran.records).values()).keys() == {3}
    last = ran.served["load-0-2"].body["messages"]
    assert [m["role"] for m in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[1]["content"] == "w w "


def test_failures_have_their_exit_code_and_are_named(tmp_path: Path) -> None:
    async def failing(connection: Connection) -> None:
        await connection.plain(500, {"error": {"code": "internal", "message": "boom"}})

    ran = go(tmp_path, {"m": failing}, load=open_load(20, 0.5), api="openai-chat")
    assert ran.code == Exit.FAILURES
    assert list(ran.result.errors) == ["http_error: 500 internal: boom"]


def test_a_client_without_room_is_invalid(tmp_path: Path) -> None:
    ran = go(tmp_path, {"m": steady(0.5, 0.01, 2)}, load=open_load(20, 1), max_in_flight=2)
    assert ran.code == Exit.INVALID
    assert ran.result.overall.outcomes["dropped"] > 0
    assert any(reason.startswith("dropped") for reason in ran.result.verdict.reasons)


def test_the_counters_of_the_server_are_reconciled(tmp_path: Path) -> None:
    """The page does not move, so the server denies all that we say it answered."""
    scripts = {"m": steady(0.01, 0.01, 2), "": counters(5, 10)}
    ran = go(tmp_path, scripts, load=open_load(10, 1), metrics="/metrics")
    failed = {check.name for check in ran.result.validity if check.passed is False}
    assert failed == {"server_requests", "server_completion_tokens"}


def one_at_a_time(work_s: float) -> Script:
    """A server of known capacity: 1/work_s requests a second, first come first served."""
    free = [0.0]

    async def script(connection: Connection) -> None:
        free[0] = max(free[0], connection.served.arrived) + work_s
        await asyncio.sleep(free[0] - perf_counter())
        await connection.start()
        await connection.piece(token() + closing(1, 1) + DONE)
        await connection.end()

    return script


@pytest.mark.timing
def test_a_search_ends_lost_probes_early(tmp_path: Path) -> None:
    """The server answers 10 requests a second, so 8 pass and 16 do not."""
    with ScriptedServer({"m": one_at_a_time(0.1)}) as server:
        launch = launch_of(
            tmp_path,
            server,
            "m",
            load={"kind": "open", "arrivals": {"process": "constant", "rate": 1}, "step_s": 3},
            slo=str(slo_file(tmp_path, ttft_ms=500)),
        )
        knee, results = probe_rates(launch, start=8, precision=1.0, tell=lambda line: None)
    assert knee.probes == [(8, True), (16, False)]
    assert results[1].verdict.exit_code == Exit.SLO_MISSED
    assert results[1].validity[0].message.startswith("the SLO was lost")


def test_a_search_that_meets_an_invalid_probe_keeps_what_it_found(tmp_path: Path) -> None:
    """The client has room for two, whose answers take long after those of the first probe."""

    async def slow_after_two(connection: Connection) -> None:
        late = len(server.served) > 2
        await steady(20 if late else 0.01, 0.01, 1)(connection)

    with ScriptedServer({"m": slow_after_two}) as server:
        launch = launch_of(
            tmp_path,
            server,
            "m",
            load={"kind": "open", "arrivals": {"process": "constant", "rate": 1}, "step_s": 2},
            slo=str(slo_file(tmp_path, e2e_ms=60_000)),
            max_in_flight=2,
            drain_s=1,
        )
        words = ["search", "-s", launch.scenario, "--host", server.url, "--model", "m"]
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "knee"), "--start", "1"])
    assert done.exit_code == Exit.INVALID, done.output
    tree = json.loads((tmp_path / "knee" / "search.json").read_text())
    assert tree["passed"] >= 1
    assert tree["failed"] is None
    assert "dropped" in tree["stopped"]
    assert tree["stopped"] in done.output


def test_a_duel_meets_both_servers_with_the_same_requests(tmp_path: Path) -> None:
    with (
        ScriptedServer({"m": steady(0.02, 0.01, 4)}) as quick,
        ScriptedServer({"m": steady(0.5, 0.1, 4)}) as slow,
    ):
        first = launch_of(tmp_path, quick, "m", load=open_load(20, 1))
        second = replace(first, host=slow.url)
        ones, others = fight([first, second], rounds=1, seed=5, tell=lambda line: None)
    duel = judge(ones, others, None, ("quick", "slow"), "a test")
    assert duel.paired
    assert {served.body["messages"][0]["content"] for served in quick.served} == {
        served.body["messages"][0]["content"] for served in slow.served
    }
    deltas = {(delta.metric, delta.statistic): delta for delta in duel.deltas}
    assert deltas["e2e_due", "p50"].verdict == "worse"


def test_the_web_ui_has_a_tab_of_ours(tmp_path: Path) -> None:
    with ScriptedServer({"m": steady(0.02, 0.01, 4)}) as server:
        launch = launch_of(tmp_path, server, "m", load=open_load(20, 1))
        port = free_port()
        words = [
            word for word in launch.arguments() if word not in {"--headless", "--only-summary"}
        ]
        words += ["--autostart", "--autoquit", "600", "--web-host", "127.0.0.1"]
        with running([*words, "--web-port", str(port)]):
            home = fetch(f"http://127.0.0.1:{port}/")
            rows: list[dict[str, Any]] = []
            while not rows or rows[0]["answered"] == 0:
                tree = json.loads(fetch(f"http://127.0.0.1:{port}/stats/requests"))
                rows = tree["extended_stats"][0]["data"]
    assert "extended_tabs" in home
    assert [row["group"] for row in rows] == ["all", "stage x1"]


def fetch(url: str) -> str:
    """The page of a server that may still be starting."""
    wait_until(lambda: served(url), PATIENCE_S, url)
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return str(response.read().decode())


def slo_file(folder: Path, **limits: float) -> Path:
    path = folder / "slo.yaml"
    path.write_text(yaml.safe_dump({"name": "test", "goodput": 0.9, "limits": limits}))
    return path


def test_hanging_up_closes_the_connection(tmp_path: Path) -> None:
    cancel = {"share": 1, "after_chunks": {"kind": "fixed", "tokens": 2}}
    ran = go(
        tmp_path,
        {"m": steady(0.02, 0.02, 3000)},
        load=open_load(8, 1),
        workloads=[CHAT | {"cancel": cancel}],
    )
    assert ran.code == Exit.OK
    assert set(ran.result.overall.outcomes) == {"cancelled"}
    assert all(len(served.sent) < 2900 for served in ran.served.values())


@pytest.mark.parametrize("words", [("-u", "5"), ("-r", "1"), ("-t", "10s")])
def test_locusts_own_counts_are_refused_with_what_to_use_instead(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    with ScriptedServer({"m": steady(0.02, 0.01, 4)}) as server:
        command = [*launch_of(tmp_path, server, "m").arguments(), *words]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    (sentence,) = [line for line in run.stderr.splitlines() if line.startswith("Error:")]
    assert run.returncode == 2
    assert sentence.startswith(f"Error: {words[0]} is not used here")
    assert "load.step_s=60 instead" in sentence
    assert server.served == []


def test_more_headers_go_with_every_request_and_their_values_into_no_result(
    tmp_path: Path,
) -> None:
    with ScriptedServer({"m": steady(0.02, 0.01, 4)}) as server:
        launch = launch_of(tmp_path, server, "m", load=open_load(20, 1))
        assert replace(launch, headers=("X-Team: search", "X-Word: a: b")).run(quiet=True) == 0
        sent = [served.headers for served in server.by_id().values()]
    assert sent
    assert {(each["x-team"], each["x-word"]) for each in sent} == {("search", "a: b")}


def gauges(connection: Connection) -> Awaitable[None]:
    page = (
        b"# TYPE inference_requests_in_flight gauge\n"
        b'inference_requests_in_flight{model="a"} 2\n'
        b'inference_requests_in_flight{model="b"} 3\n'
        b"# TYPE vllm:kv_cache_usage_perc gauge\n"
        b"vllm:kv_cache_usage_perc 0.25\n"
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n"
    return connection.raw(head.encode() + page)


def test_the_servers_own_series_are_followed_through_the_run(tmp_path: Path) -> None:
    scripts: dict[str, Script] = {"m": steady(0.02, 0.01, 4), "": gauges}
    ran = go(tmp_path, scripts, metrics="/metrics", load=open_load(20, 6))
    points = ran.result.gauges["inference_requests_in_flight"]
    assert [value for _, value in points] == [5.0] * len(points)
    assert len(points) >= 3
    assert [at for at, _ in points] == sorted({at for at, _ in points})
    html = (tmp_path / "report.html").read_text()
    assert "The server&#39;s own counts over time" in html
    assert "KV cache over time" in html


def test_a_sweep_runs_every_rate_and_plots_throughput_against_latency(tmp_path: Path) -> None:
    with ScriptedServer({"m": steady(0.02, 0.01, 4)}) as server:
        launch = launch_of(tmp_path, server, "m", load=open_load(1, 2, steps=[1, 2]))
        words = ["sweep", "-s", launch.scenario, "--host", server.url, "--model", "m"]
        words += ["--out", str(tmp_path / "sweep"), "--rate", "40", "--rate", "80"]
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    probes = read_search(tmp_path / "sweep").probes
    assert [(probe.rate, probe.passed) for probe in probes] == [(40, True), (80, True)]
    assert (
        "Throughput against latency, p95 from due"
        in (tmp_path / "sweep" / "report.html").read_text()
    )
    table = tmp_path / "numbers.csv"
    words = ["report", str(tmp_path / "sweep"), "--csv", str(table)]
    assert CliRunner().invoke(app, words).exit_code == 0
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "all"]
    assert [Path(row["result"]).name for row in rows] == ["probe-00", "probe-01"]
    assert [float(row["offered_per_s"]) for row in rows] == pytest.approx([40, 80], rel=0.5)
    assert all(0.04 < float(row["latency.e2e.p50"]) < 40 for row in rows)


def test_the_example_users_numbers_are_in_locusts_table(tmp_path: Path) -> None:
    with ScriptedServer({"m": steady(0.02, 0.01, 4)}) as server:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/example_user.py", "--headless"]
        command += ["-u", "2", "-r", "2", "--host", server.url, "--json"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = os.environ | {"MODEL": "m"}
        with subprocess.Popen(command, text=True, env=environment, **pipes) as run:
            wait_until(
                lambda: sum(one.ended > 0 for one in server.served) > 5, PATIENCE_S, "answers"
            )
            run.terminate()
            told, errors = run.communicate()
        asked = len(server.served)
    assert run.returncode == 0, errors
    rows = {row["name"]: row for row in json.loads(told)}
    assert asked - 2 <= rows["answer"]["num_requests"] == rows["first token"]["num_requests"]
    assert rows["answer"]["num_failures"] == 0
    assert 20 <= rows["first token"]["min_response_time"] < rows["answer"]["min_response_time"]


def test_a_run_that_is_terminated_ends_locust_too(tmp_path: Path) -> None:
    with ScriptedServer({"steady": steady(0.01, 0.01, 5)}) as server:
        launch = launch_of(tmp_path, server, "steady", load=open_load(20, 600))
        command = [
            sys.executable, "-m", "loadtests", "run", "--scenario", launch.scenario,
            "--host", server.url, "--model", "steady", "--out", str(tmp_path),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            wait_until(lambda: len(server.by_id()) >= 5, PATIENCE_S, "the first requests")
            started = psutil.Process(run.pid).children(recursive=True)
            assert started
            run.terminate()
            assert run.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert not psutil.wait_procs(started, PATIENCE_S)[1]
