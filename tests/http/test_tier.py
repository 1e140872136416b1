"""The service tier of a request: by its body, by header or by its tenant."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from loadtests.processes import PATIENCE_S, eventually
from service.http import lifecycle as watch
from service.settings.admission import AdmissionSettings, BackgroundSettings
from service.settings.tree import TenantSettings
from tests.answers import events_of, refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

PROMPT: dict[str, Any] = {"model": "fake", "prompt": "Tell me", "max_tokens": 8}
LABELS: dict[str, Any] = {
    "model": "fake",
    "input": "x",
    "candidate_labels": ["a", "b"],
    "calibrate": False,
}
ROUTES = {"/v1/generate": PROMPT, "/v1/classify": LABELS}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("field", "header", "served"),
    [
        (None, None, "default"),
        ("auto", None, "default"),
        ("default", "flex", "default"),
        ("priority", None, "default"),
        ("standard_only", None, "default"),
        ("flex", None, "flex"),
        (None, "flex", "flex"),
    ],
)
async def test_the_body_goes_before_the_header(
    path: str, field: str | None, header: str | None, served: str
) -> None:
    body = ROUTES[path] | ({} if field is None else {"service_tier": field})
    headers = {} if header is None else {"X-Service-Tier": header}
    with LiveService() as live:
        async with live.client() as client:
            answer = await client.post(path, json=body, headers=headers)
        labels = {"route": path, "service_tier": served, "outcome": "ok"}
        await eventually(lambda: live.value("inference_requests_total", **labels) == 1)
    assert answer.json()["timing"]["service_tier"] == served


@pytest.mark.parametrize("value", ["fast", "", 5, ["flex"]])
async def test_a_value_that_is_no_tier_is_refused_by_name(value: Any) -> None:
    with LiveService() as live:
        async with live.client() as client:
            answer = await client.post("/v1/generate", json=PROMPT | {"service_tier": value})
            by_header = await client.post(
                "/v1/generate", json=PROMPT, headers={"X-Service-Tier": "fast"}
            )
    error = refusal(answer, 400)
    assert error["param"] == "service_tier"
    assert "must be one of auto, default, flex, priority" in error["message"]
    assert refusal(by_header, 400)["param"] == "X-Service-Tier"


async def test_a_tenant_has_tiers_and_the_first_is_what_its_requests_get(tmp_path: Path) -> None:
    keys = write_keys(
        tmp_path / "keys.yaml",
        entry("jobs", service_tiers=["flex"]),
        entry("people", service_tiers=["default"]),
        entry("both", service_tiers=["flex", "default"]),
    )
    with LiveService(tenants=TenantSettings(keys=keys)) as live:
        async with live.client() as client:

            async def ask(tenant: str, **fields: str) -> Any:
                return await client.post(
                    "/v1/generate", json=PROMPT | fields, headers=bearer(tenant)
                )

            for tenant, first in (("jobs", "flex"), ("people", "default"), ("both", "flex")):
                for fields in ({}, {"service_tier": "auto"}):
                    answer = (await ask(tenant, **fields)).json()
                    assert answer["timing"]["service_tier"] == first
            answer = (await ask("both", service_tier="default")).json()
            assert answer["timing"]["service_tier"] == "default"
            refused = [await ask("jobs", service_tier="default")]
            refused.append(await ask("people", service_tier="flex"))
    messages = [refusal(answer, 400)["message"] for answer in refused]
    assert messages[0] == "service_tier: this key may use flex, got 'default'"
    assert messages[1] == "service_tier: this key may use default, got 'flex'"


async def test_flex_waits_where_an_interactive_request_is_refused_and_has_its_own_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_UNANSWERED_SECONDS", PATIENCE_S)  # admission tells of the deadline
    background = BackgroundSettings(default_timeout_ms=2000, max_timeout_ms=2000)
    admission = AdmissionSettings(max_in_flight=1, max_queued=0, background=background)
    flex = PROMPT | {"service_tier": "flex"}
    with LiveService(admission=admission) as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            group.create_task(client.post("/v1/generate", json=PROMPT))
            await eventually(lambda: live.engine.running == 1)
            late = group.create_task(client.post("/v1/generate", json=flex))
            stated = group.create_task(
                client.post("/v1/generate", json=flex | {"timeout_ms": 60_000})
            )
            await eventually(lambda: live.value("inference_flex_requests_queued") == 2)
            assert live.value("inference_requests_queued") == 0
            error = refusal(await late, 504)
            refusal(await stated, 504)
            live.engine.frozen = False
        await eventually(live.idle)
    assert "for its turn" in error["message"]


async def test_flex_of_too_many_sequences_is_refused_by_name() -> None:
    body = PROMPT | {"service_tier": "flex", "n": 2}
    with LiveService() as live:
        async with live.client() as client:
            error = refusal(await client.post("/v1/generate", json=body), 400)
    assert error["message"] == "n: at most 1 with the service tier flex, got 2"


async def test_a_streamed_answer_names_its_tier_too() -> None:
    with LiveService() as live:
        async with live.client() as client:
            body = PROMPT | {"service_tier": "flex", "stream": True}
            *_, summary, _ = events_of(await client.post("/v1/generate", json=body))
    assert summary["timing"]["service_tier"] == "flex"
