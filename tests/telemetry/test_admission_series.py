"""Series of running, waiting and refused requests, and of the engine's steps."""

import httpx
import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import eventually
from service.context import Ending
from service.engine.contract import ModelInfo
from service.errors import DeadlineExceeded, QueueFull, ServiceError, TooManyRequests
from service.settings.admission import AdmissionSettings
from service.telemetry.metrics import Metrics
from service.tenants.tenant import Tier
from tests.live_service import LiveService
from tests.telemetry.contexts import ended_request
from tools.fake_engine import FakeEngine

MODEL = ModelInfo("m", "", 64, 4, max_token_chars=8)
PROMPT = {"model": "fake", "prompt": "Tell me", "temperature": 0.0}


class Watched:
    """Metrics, and their registry to read them from."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.engine = self.metrics.of_engine("m")

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"inference_{name}", labels)


def test_the_queue_is_told_by_tenant() -> None:
    watched = Watched()
    for tenant, change in (("a", 1), ("b", 1), ("a", 1), ("b", -1)):
        watched.engine.queue_changed(tenant, Tier.DEFAULT, change)
    watched.engine.queue_changed("a", Tier.FLEX, 5)
    assert watched.value("requests_queued", engine="m", tenant="a") == 2
    assert watched.value("requests_queued", engine="m", tenant="b") == 0
    assert watched.value("flex_requests_queued", engine="m", tenant="a") == 5


def test_an_empty_queue_is_told_before_anybody_waits() -> None:
    assert Watched().value("requests_queued", engine="m", tenant="other") == 0


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (QueueFull("full"), "queue_full"),
        (TooManyRequests("yours", code="over_share"), "over_share"),
        (DeadlineExceeded("late"), None),
        (ServiceError(), None),
    ],
)
def test_refusals_are_counted_by_the_errors_code(failure: ServiceError, reason: str | None) -> None:
    watched = Watched()
    watched.metrics.count_request(ended_request(), Ending(failure.outcome, failure.status, failure))
    if reason:
        assert watched.value("refusals_total", reason=reason, tenant="acme") == 1
    else:
        assert watched.value("refusals_total", reason=failure.code, tenant="acme") is None
    key = {"route": "/v1/generate", "model": "m", "tenant": "acme", "service_tier": "default"}
    late = watched.value("deadline_misses_total", **key)
    assert late == (1 if failure.outcome == "deadline" else None)


def test_the_engines_age_grows_only_while_something_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.telemetry.series.time.monotonic", lambda: now)
    watched = Watched()
    engine = FakeEngine(MODEL)
    engine.last_step = now
    watched.engine.follow(engine, set())
    now += 50
    assert watched.value("engine_progress_age_seconds", engine="m") == 0
    watched.engine.load_changed(1, 0, 4)
    now += 3
    assert watched.value("engine_progress_age_seconds", engine="m") == 3
    watched.engine.load_changed(2, 0, 4)
    assert watched.value("engine_progress_age_seconds", engine="m") == 3
    engine.last_step = now
    now += 1
    assert watched.value("engine_progress_age_seconds", engine="m") == 1
    watched.engine.load_changed(0, 0, 4)
    assert watched.value("engine_progress_age_seconds", engine="m") == 0


def test_a_drain_is_timed_and_its_time_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("service.telemetry.lifecycle.time.monotonic", lambda: now)
    watched = Watched()
    assert (watched.value("draining"), watched.value("drain_seconds")) == (0, 0)
    watched.metrics.lifecycle.drain_started(30.0)
    assert watched.value("drain_budget_seconds") == 30
    now += 4
    assert (watched.value("draining"), watched.value("drain_seconds")) == (1, 4)
    watched.metrics.lifecycle.drain_ended()
    now += 4
    assert (watched.value("draining"), watched.value("drain_seconds")) == (0, 4)


def test_the_watchdogs_word_and_the_limit_are_shown() -> None:
    watched = Watched()
    watched.engine.follow(FakeEngine(MODEL), {"m"})
    watched.engine.load_changed(0, 0, 12)
    assert watched.value("engine_stalled", engine="m") == 1
    for limit in ("admission_limit", "gate_limit"):  # and by its old name
        assert watched.value(limit, engine="m") == 12


async def test_a_full_server_is_seen_as_refusals_and_missed_availability() -> None:
    with LiveService(admission=AdmissionSettings(max_queued=0)) as live:
        give_back = live.hold_every_slot()
        async with live.client() as client:
            assert (await client.post("/v1/generate", json=PROMPT)).status_code == 503
            give_back()
            assert (await client.post("/v1/generate", json=PROMPT)).status_code == 200
        await eventually(lambda: live.value("inference_slo_requests_total") == 2)
        assert live.value("inference_refusals_total", reason="queue_full") == 1
        assert live.value("inference_slo_misses_total", objective="availability") == 1
        assert live.value("inference_goodput_total") == 1
        assert live.value("inference_time_per_output_token_seconds_count") == 1


async def test_a_stuck_engine_ages_while_it_holds_a_request() -> None:
    with LiveService() as live:
        live.engine.frozen = True
        async with live.client() as client:
            request = client.post("/v1/generate", json=PROMPT | {"timeout_ms": 500})
            answer: httpx.Response = await request
        assert answer.status_code == 504
        live.engine.frozen = False
        await eventually(live.idle)
        assert live.value("inference_engine_progress_age_seconds") == 0
        assert live.value("inference_deadline_misses_total", route="/v1/generate") == 1
