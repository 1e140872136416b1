"""Batches beside other plugins: their lines are usage, guarded, and shown on the console."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from loadtests.processes import PATIENCE_S, eventually, wait_until
from service.plugins.batches.local_store import DATABASE
from service.plugins.batches.settings import BatchSettings
from service.settings.tree import TenantSettings
from tests.live_service import MODEL, LiveService
from tests.plugins.batches.inputs import GENERATE, jsonl, line, many
from tests.plugins.batches.test_api import client_of, content, ended, started
from tests.plugins.console.test_live_console import live, viewer
from tests.plugins.guards.test_input_guards import GUARDS
from tests.plugins.usage.test_usage import service as with_usage
from tests.plugins.usage.test_usage import used
from tools.keys import bearer, entry, key_of, write_keys


async def test_lines_of_a_batch_are_usage_of_their_tenant(tmp_path: Path) -> None:
    batches = BatchSettings(path=tmp_path / "batches")
    with with_usage(tmp_path, entry("one"), entry("two"), batches=batches) as live:
        async with live.client() as client:
            form: Any = {"files": {"file": ("in", many(7))}, "data": {"purpose": "batch"}}
            file = await client.post("/v1/files", headers=bearer("one"), **form)
            body = {"endpoint": GENERATE, "completion_window": "1h"}
            body["input_file_id"] = file.json()["id"]
            await client.post("/v1/batches", json=body, headers=bearer("one"))
            lines = "inference_batch_lines_total"
            await eventually(lambda: live.value(lines, outcome="completed") == 7)
            (row,) = await used(client, "one")
            assert await used(client, "two") == []
    assert (row["requests"], row["route"], row["service_tier"]) == (7, GENERATE, "flex")
    assert row["completion_tokens"] > 0
    assert row["end"] - row["start"] == 86_400


async def test_a_line_of_a_batch_is_guarded(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.json", entry("refused", models=[MODEL]))
    with LiveService(
        encoders=[{"name": "classify", "path": "unused"}],
        guards={"named": GUARDS, "default": {"output": ["never", "always"]}},
        tenants={"keys": keys},
        batches={"path": tmp_path / "batches"},
    ) as guarded:
        async with client_of(guarded, key_of("refused")) as client:
            batch = await ended(client, await started(client, jsonl(line("one"))))
            (failed,) = await content(client, batch.error_file_id)
    assert failed["response"]["body"]["error"]["code"] == "output_flagged"


def test_batches_of_all_tenants_are_listed_with_their_progress(tmp_path: Path) -> None:
    batches = BatchSettings(path=tmp_path / "batches")
    keys = write_keys(tmp_path / "keys", entry("a"), entry("b"))
    with LiveService(batches=batches, tenants=TenantSettings(keys=keys)) as service:
        assert live(service)["batches"] == []
        made = {tenant: make_batch(service, tenant) for tenant in ("a", "b")}
        wait_until(lambda: both_ended(service), PATIENCE_S, "the end of both batches")
        with viewer(service) as events:
            shown = [json.loads(next(events)) for _ in range(2)][1]
    ids = {row["tenant"]: row["id"] for row in shown["batches"]}
    assert ids == made
    for row in shown["batches"]:
        assert (row["status"], row["endpoint"]) == ("completed", GENERATE)
        assert (row["total"], row["completed"], row["failed"]) == (3, 2, 1)
    assert "releases" not in shown


def make_batch(service: LiveService, tenant: str) -> str:
    lines = jsonl(line("1"), line("2"), line("3", max_tokens=0))
    files, data = {"file": ("in.jsonl", lines)}, {"purpose": "batch"}
    url, headers = f"{service.url}/v1", bearer(tenant)
    file = httpx.post(f"{url}/files", files=files, data=data, headers=headers).json()["id"]
    body = {"input_file_id": file, "endpoint": GENERATE, "completion_window": "24h"}
    made: str = httpx.post(f"{url}/batches", json=body, headers=headers).json()["id"]
    return made


def both_ended(service: LiveService) -> bool:
    return service.value("inference_batches_ended_total") == 2


def test_a_database_that_is_held_does_not_hold_the_view(tmp_path: Path) -> None:
    with LiveService(batches=BatchSettings(path=tmp_path / "batches")) as service:
        file = tmp_path / "batches" / DATABASE
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            shown = live(service)
    assert shown["batches"] is None
    assert shown["status"] == "ready"
