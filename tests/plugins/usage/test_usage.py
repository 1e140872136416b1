"""GET /v1/usage, and the operator's command: equal to the sum of the answers."""

import asyncio
import csv
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from loadtests.processes import eventually
from service.cli.main import app
from service.plugins.usage.settings import UsageSettings
from service.settings.telemetry import ObjectiveSettings, SloSettings
from service.settings.tree import TenantSettings
from tests.answers import refusal
from tests.http.raw_http import visit
from tests.live_service import LiveService
from tests.tenants.redis_server import RedisServer
from tools.keys import bearer, entry, write_keys

BODY: dict[str, Any] = {"model": "fake", "prompt": "Tell me", "max_tokens": 20}
CLASSIFY = {"model": "fake", "input": ["x"], "candidate_labels": ["a", "b"], "calibrate": False}
FAILED = {"n": -1}
REQUESTS = int(os.environ.get("USAGE_REQUESTS", "400"))
GENERATE = "/v1/generate"
KINDS = ("prompt", "cached", "completion")
COUNTS = (
    *("requests", "refused", "with_objectives", "objectives_kept"),
    *(f"{kind}_tokens" for kind in KINDS),
)
NEVER, ALWAYS = ObjectiveSettings(ttft_ms=1e-6), ObjectiveSettings(ttft_ms=1e9)
"""Objectives that no answer keeps, and that every answer keeps."""


def service(path: Path, *tenants: dict[str, Any], **sections: Any) -> LiveService:
    keys = TenantSettings(keys=write_keys(path / "keys.yaml", *tenants))
    usage = UsageSettings(path=path / "usage")
    return LiveService(tenants=keys, usage=usage, **sections)


def shown(live: LiveService, tenant: str, series: str, **labels: str) -> float:
    """The sum of a series over the routes that ask the engine."""
    routes = (GENERATE, "/v1/classify")
    return sum(live.value(series, route=route, tenant=tenant, **labels) for route in routes)


async def used(client: httpx.AsyncClient, tenant: str, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/usage{query}", headers=bearer(tenant))
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def total(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


async def test_usage_is_the_sum_of_mixed_requests_whatever_became_of_them(tmp_path: Path) -> None:
    chance = random.Random(5)
    few = entry("few", quotas={"tokens_per_day": 1000})
    slo = SloSettings(routes={GENERATE: NEVER, "/v1/classify": ALWAYS})
    with service(tmp_path, entry("one"), few, token_seconds=0.002, slo=slo) as live:
        async with live.client() as client:
            asked = {"one": 0, "few": 0}

            async def ask(_: int) -> None:
                tenant = chance.choice(["one", "few"])
                path, body = chance.choice([(GENERATE, BODY), ("/v1/classify", CLASSIFY)])
                body = body | chance.choice([{}, {}, FAILED, {"service_tier": "flex"}])
                if path == GENERATE and chance.random() < 0.3:
                    body = body | {"stream": True}
                asked[tenant] += 1
                if chance.random() < 0.3:
                    await visit(live, path, body, bearer(tenant), stays=chance.random())
                else:
                    await client.post(path, json=body, headers=bearer(tenant))

            for start in range(0, REQUESTS, 50):
                await asyncio.gather(*(ask(n) for n in range(start, start + 50)))
            await eventually(live.idle)
            rows = {tenant: await used(client, tenant, "?by=hour") for tenant in asked}
        for tenant, own in rows.items():
            counted = partial(shown, live, tenant)
            assert total(own, "requests") == counted("inference_requests_total") <= asked[tenant]
            assert total(own, "refused") == counted("inference_requests_total", outcome="refused")
            promised = total(own, "with_objectives")
            assert promised == counted("inference_slo_requests_total") < total(own, "requests")
            kept = total(own, "objectives_kept")
            assert 0 < kept == counted("inference_goodput_total") < promised
            for kind in KINDS:
                tokens = counted("inference_tokens_total", kind=kind)
                assert total(own, f"{kind}_tokens") == tokens
        assert total(rows["few"], "refused") > 0
        assert live.outcomes()["cancelled"] > 0
        flex = [row for row in rows["one"] if row["service_tier"] == "flex"]
        assert 0 < len(flex) < len(rows["one"])
        assert total(flex, "with_objectives") == 0
    command = ["usage", "--store", str(tmp_path / "usage"), "--csv"]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(result.stdout.splitlines()))
    for tenant, own in rows.items():
        mine = [line for line in lines if line["tenant"] == tenant]
        for name in COUNTS:
            assert sum(int(line[name]) for line in mine) == total(own, name)


async def test_replicas_that_share_a_storage_answer_alike(tmp_path: Path) -> None:
    keys = TenantSettings(keys=write_keys(tmp_path / "keys.json", entry("one")))
    with RedisServer() as redis:
        usage = UsageSettings(storage=redis.url)
        with (
            LiveService(tenants=keys, usage=usage) as first,
            LiveService(tenants=keys, usage=usage) as second,
        ):
            async with first.client() as one, second.client() as other:
                for client in (one, other, other):
                    await client.post(GENERATE, json=BODY, headers=bearer("one"))
                await eventually(first.idle)
                await eventually(second.idle)
                await used(one, "one")  # writes what the first has counted
                rows = await used(other, "one")
                assert total(rows, "requests") == 3
                assert await used(one, "one") == rows
        result = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["usage", "--csv"],
            env={"LLM_SERVICE_USAGE__STORAGE": redis.url},
        )
    assert result.exit_code == 0, result.output
    (line,) = csv.DictReader(result.stdout.splitlines())
    assert (line["tenant"], line["requests"]) == ("one", "3")


async def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with service(tmp_path, entry("one")) as live:
        async with live.client() as client:
            for query in ("by=week", "start=5&end=5", "limit=0", "start=-1", "end=x"):
                refusal(await client.get(f"/v1/usage?{query}", headers=bearer("one")), 400)
            refusal(await client.get("/v1/usage"), 401)


async def test_it_is_not_served_without_a_folder() -> None:
    with LiveService() as live:
        async with live.client() as client:
            refusal(await client.get("/v1/usage"), 404)


def test_the_command_names_a_folder_that_holds_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["usage", "--store", str(tmp_path)])
    assert result.exit_code == 2
    assert "no folder of usage" in result.stderr
