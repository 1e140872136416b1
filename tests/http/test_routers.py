"""What a service behind a router answers: statuses, reasons of refusals, and its load."""

import asyncio
import json
from collections.abc import Generator
from typing import Any

import pytest

from loadtests.processes import eventually
from service import errors
from service.errors import DeadlineExceeded, EngineDead, NotReady, QueueFull, TooManyRequests
from service.http.auth import InternalClient
from service.http.routers import RequestRate, dropped_reason
from service.tenants.tenant import ANONYMOUS
from tests.answers import error_of, refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

REASON, ASK, LOAD = (
    "x-llm-d-request-dropped-reason",
    "endpoint-load-metrics-format",
    "endpoint-load-metrics",
)
CHAT: dict[str, Any] = {
    "model": "fake",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "fake", "prompt": "Hello"},
    "/v1/messages": CHAT,
    "/v1/responses": {"model": "fake", "input": "Hello"},
    "/v1/generate": {"model": "fake", "prompt": "Hello"},
}


@pytest.fixture(scope="module")
def behind() -> Generator[LiveService, None, None]:
    """A service behind a router."""
    with LiveService(http={"behind_router": True}) as live:
        yield live


@pytest.fixture(scope="module", params=[True, False], ids=["behind a router", "alone"])
def full(request: pytest.FixtureRequest) -> Generator[tuple[LiveService, bool], None, None]:
    """A service without a free slot, behind a router or not."""
    http = {"behind_router": request.param}
    with LiveService(http=http, admission={"max_queued": 0}) as live:
        release = live.hold_every_slot()
        yield live, request.param
        release()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", BODIES)
async def test_a_full_server_sheds_load_by_429_behind_a_router(
    full: tuple[LiveService, bool], path: str, stream: bool
) -> None:
    live, behind_router = full
    async with live.client() as client:
        answer = await client.post(path, json=BODIES[path] | {"stream": stream})
    error = refusal(answer, 429 if behind_router else 503)
    overloaded = "overloaded_error" if path == "/v1/messages" else "unavailable_error"
    assert (error["code"], error["type"]) == ("queue_full", overloaded)
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers.get(REASON) == ("rejected-saturated" if behind_router else None)


async def test_objectives_count_a_full_server_as_before(full: tuple[LiveService, bool]) -> None:
    live, _ = full
    async with live.client() as client:
        before = live.value("inference_slo_misses_total", objective="availability")
        await client.post("/v1/generate", json=BODIES["/v1/generate"])
    assert live.value("inference_slo_misses_total", objective="availability") == before + 1


async def test_a_deadline_is_not_a_failure_of_the_replica(behind: LiveService) -> None:
    release = behind.hold_every_slot()
    async with behind.client() as client:
        headers = {"x-request-timeout-ms": "50"}
        answer = await client.post("/v1/generate", json=BODIES["/v1/generate"], headers=headers)
    release()
    assert refusal(answer, 408)["code"] == "deadline_exceeded"
    assert answer.headers[REASON] == "rejected-ttl-expired"
    assert answer.headers["x-should-retry"] == "false"


def test_the_services_own_calls_come_through_no_router(behind: LiveService) -> None:
    body = json.dumps(BODIES["/v1/generate"]).encode()
    call = InternalClient(behind.app)
    release = behind.hold_every_slot()
    reply = behind._on_its_loop(
        call(ANONYMOUS, "/v1/generate", body, request_id="own", timeout_s=0.05)
    )
    release()
    assert reply.status == 504


async def test_a_draining_replica_says_503() -> None:
    with LiveService(http={"behind_router": True}, drain={"lame_duck_s": 0}) as live:
        live.engine.frozen = True
        async with live.client() as client:
            running = asyncio.create_task(client.post("/v1/generate", json=BODIES["/v1/generate"]))
            await eventually(lambda: live.engine.running)
            await client.post(f"{live.ops_url}/drain")
            answer = await client.post("/v1/generate", json=BODIES["/v1/generate"])
            while answer.status_code == 200:
                answer = await client.post("/v1/generate", json=BODIES["/v1/generate"])
            live.engine.frozen = False
            await running
    assert refusal(answer, 503)["code"] == "draining"
    assert answer.headers[REASON] == "rejected-shutting-down"


async def test_a_connection_too_many_is_load_too() -> None:
    with LiveService(http={"behind_router": True, "max_connections": 1}) as live:
        async with live.client() as first, live.client() as second:
            assert (await first.get("/health")).status_code == 200
            answer = await second.get("/health")
    assert error_of(answer.json())["code"] == "too_many_connections"
    assert (answer.status_code, answer.headers[REASON]) == (429, "rejected-saturated")


def test_only_replicas_to_be_left_alone_say_503() -> None:
    kinds = (each for each in vars(errors).values() if isinstance(each, type))
    failing = [
        each for each in kinds if issubclass(each, errors.ServiceError) and each.status > 500
    ]
    left = {each.__name__ for each in failing if each().status_for(router=True) > 500}
    assert left == {"NotReady", "EngineDead", "EngineStalled"}


@pytest.mark.parametrize(
    ("error", "ran", "reason"),
    [
        (QueueFull("no"), False, "rejected-saturated"),
        (TooManyRequests("no", code="over_share"), False, "rejected-saturated"),
        (TooManyRequests("no", code="quota_exceeded"), False, None),
        (DeadlineExceeded("no"), True, "evicted"),
        (EngineDead("no"), True, None),
        (NotReady("no"), False, None),
    ],
)
def test_reasons_are_llm_ds(error: errors.ServiceError, ran: bool, reason: str | None) -> None:
    assert dropped_reason(error, ran=ran).get(REASON) == reason


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_load_is_told_in_text(behind: LiveService, stream: bool) -> None:
    body = BODIES["/v1/completions"] | {"stream": stream}
    async with behind.client() as client:
        answer = await client.post("/v1/completions", json=body, headers={ASK: "text"})
    form, _, report = answer.headers[LOAD].partition(" ")
    values = dict(part.split("=") for part in report.split(", "))
    assert form == "TEXT"
    assert 0 < float(values["application_utilization"]) <= 0.25
    assert float(values["rps_fractional"]) > 0
    assert float(values["named_metrics.num_requests_waiting"]) == 0


async def test_the_load_counts_requests_that_wait_for_admission(behind: LiveService) -> None:
    release = behind.hold_every_slot()
    async with behind.client() as client:
        waiting = asyncio.create_task(client.post("/v1/generate", json=BODIES["/v1/generate"]))
        await eventually(lambda: behind.admission.queued)
        answer = await client.get("/v1/models", headers={ASK: "JSON"})
        waits = behind.value("inference_requests_waiting", engine="fake")
        release()
        await waiting
    form, _, report = answer.headers[LOAD].partition(" ")
    told = json.loads(report)
    assert (form, told["named_metrics"]["num_requests_waiting"], waits) == ("JSON", 1, 1)
    assert told["application_utilization"] == 5 / 4


@pytest.mark.parametrize("asked", [{}, {ASK: "BIN"}], ids=["not asked", "unknown"])
async def test_the_load_is_told_in_no_other_case(
    behind: LiveService, service: LiveService, asked: dict[str, str]
) -> None:
    async with behind.client() as client, service.client() as alone:
        assert LOAD not in (await client.get("/v1/models", headers=asked)).headers
        assert LOAD not in (await alone.get("/v1/models", headers={ASK: "TEXT"})).headers


def test_the_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.http.routers.time.monotonic", lambda: now)
    rate = RequestRate()
    for _ in range(1000):
        now += 0.05
        rate.count(1)
    assert rate.per_second == pytest.approx(20, rel=0.02)
    now += 60
    rate.count(0)
    assert rate.per_second < 0.1


FLOW, TTFT = "x-llm-d-inference-fairness-id", "x-llm-d-slo-ttft-ms"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveService, None]:
    """A service with a trusted gateway and another tenant."""
    keys = write_keys(
        tmp_path_factory.mktemp("keys") / "keys.json", entry("gw", gateway=True), entry("other")
    )
    with LiveService(tenants={"keys": str(keys)}) as live:
        yield live


async def waiting_flow(live: LiveService, tenant: str, headers: dict[str, str]) -> str:
    """The flow of a request that waits for admission."""
    release = live.hold_every_slot()
    async with live.client() as client:
        body = BODIES["/v1/generate"]
        asked = client.post("/v1/generate", json=body, headers=bearer(tenant) | headers)
        running = asyncio.create_task(asked)
        await eventually(lambda: live.admission.queued)
        (waiting,) = live.admission._waiting
        release()
        assert (await running).status_code == 200
    return waiting.flow


async def test_a_trusted_gateway_says_for_whom_a_request_is(keyed: LiveService) -> None:
    flows = [await waiting_flow(keyed, "gw", {FLOW: name}) for name in ("a", "b", "a", "x" * 900)]
    assert flows[0] == flows[2] != flows[1]
    assert {len(each) for each in flows} == {16}
    assert await waiting_flow(keyed, "gw", {}) == ""


async def test_another_tenant_is_not_believed(keyed: LiveService) -> None:
    assert await waiting_flow(keyed, "other", {FLOW: "a", TTFT: "none"}) == ""


async def test_a_gateways_time_must_be_a_number(keyed: LiveService) -> None:
    async with keyed.client() as client:
        for given in ("0", "-5", "soon", "1" * 10):
            answer = await client.post(
                "/v1/generate", json=BODIES["/v1/generate"], headers=bearer("gw") | {TTFT: given}
            )
            assert refusal(answer, 400)["param"] == TTFT
