"""The live view on the operations port: its page, and data made once for all who look."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.console.assets import HEADERS, PARTS
from service.settings.tree import HttpSettings
from service.telemetry import history
from service.telemetry.snapshot import Snapshot
from tests.live_service import LiveService

BODY = {"model": "fake", "prompt": "Tell me", "max_tokens": 20}


def live(service: LiveService) -> Any:
    return httpx.get(f"{service.ops_url}/console/live").json()


def generate(service: LiveService) -> None:
    httpx.post(f"{service.url}/v1/generate", json=BODY).raise_for_status()


def test_the_page_and_its_parts_are_served_under_the_policy(service: LiveService) -> None:
    for path in ("/console", *(f"/console/{name}" for name in PARTS)):
        answer = httpx.get(service.ops_url + path)
        assert answer.status_code == 200
        assert HEADERS.items() <= dict(answer.headers).items()
    assert "live.js" in httpx.get(f"{service.ops_url}/console").text
    assert httpx.get(f"{service.ops_url}/console/none").status_code == 404


async def test_what_the_service_does_is_there_after_an_interval(service: LiveService) -> None:
    generate(service)
    await eventually(lambda: sum(live(service)["points"]["completion_tokens"]) > 0, 20)
    shown = live(service)
    assert shown["status"] == "ready"
    assert shown["objectives"] == {"ttft_ms": 2000, "tpot_ms": 200}
    assert [row["tenant"] for row in shown["tenants"]] == ["anonymous"]
    assert shown["engines"] == [{"engine": "fake", "in_flight": 0, "limit": 4}]


def test_many_viewers_cost_one_reading_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    read = Snapshot.of.__func__  # type: ignore[attr-defined]

    def counted(registry: object) -> Snapshot:
        nonlocal readings
        readings += 1
        found: Snapshot = read(Snapshot, registry)
        return found

    monkeypatch.setattr(history.History.__init__, "__defaults__", (counted,))
    with LiveService() as service, ThreadPoolExecutor(10) as viewers:
        began = time.monotonic()
        answers = [*viewers.map(lambda _: live(service)["points"]["at"], range(200))]
        assert len(answers) == 200
        assert readings <= 2 + (time.monotonic() - began) / history.INTERVAL_S


def test_the_public_port_has_no_live_data(service: LiveService) -> None:
    assert httpx.get(f"{service.url}/console/live").status_code == 404


def test_pages_of_other_sites_cannot_read_it(service: LiveService) -> None:
    url, headers = f"{service.ops_url}/console/live", {"sec-fetch-site": "cross-site"}
    assert httpx.get(url, headers=headers).status_code == 403


def test_the_setting_switches_it_off() -> None:
    with LiveService(http=HttpSettings(console=False)) as off:
        for path in ("/console", "/console/live", "/console/live.js"):
            assert httpx.get(off.ops_url + path).status_code == 404
        assert httpx.get(f"{off.ops_url}/livez").status_code == 200
