"""The live view on the admin port: its page, and events made once for all who look."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, eventually
from service.plugins.console import history, live_feed
from service.plugins.console.assets import PARTS
from service.plugins.console.live_feed import MOST_VIEWERS
from service.plugins.console.snapshot import Snapshot
from service.settings.tree import HttpSettings
from tests.live_service import LiveService
from tests.plugins.console.test_console import has_the_policy

BODY = {"model": "fake", "prompt": "Tell me", "max_tokens": 20}
INTERVAL_S = 0.5


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_feed, "INTERVAL_S", INTERVAL_S)
        yield


@contextmanager
def viewer(service: LiveService) -> Iterator[Iterator[str]]:
    """The data of the events of one viewer."""
    url = f"{service.ops_url}/console/live"
    with httpx.stream("GET", url, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (line.removeprefix("data: ") for line in answer.iter_lines() if line)


def live(service: LiveService) -> Any:
    with viewer(service) as events:
        return json.loads(next(events))


def generate(service: LiveService) -> None:
    httpx.post(f"{service.url}/v1/generate", json=BODY).raise_for_status()


def test_the_page_and_its_parts_are_served_under_the_policy(service: LiveService) -> None:
    for path in ("/console", *(f"/console/{name}" for name in PARTS)):
        answer = httpx.get(service.ops_url + path)
        assert answer.status_code == 200
        assert has_the_policy(answer)
    assert "live.js" in httpx.get(f"{service.ops_url}/console").text
    assert httpx.get(f"{service.ops_url}/console/none").status_code == 404


async def test_what_the_service_does_is_there_after_an_interval(service: LiveService) -> None:
    generate(service)
    await eventually(lambda: sum(live(service)["points"]["completion_tokens"]) > 0)
    shown = live(service)
    assert shown["status"] == "ready"
    assert shown["objectives"] == {"ttft_ms": 2000, "tpot_ms": 200}
    assert [row["tenant"] for row in shown["tenants"]] == ["anonymous"]
    (engine,) = shown["engines"]
    assert (engine["engine"], engine["in_flight"], engine["limit"]) == ("fake", 0, 4)


def test_many_viewers_get_the_same_event_of_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    read = Snapshot.of.__func__  # type: ignore[attr-defined]

    def counted(registry: object) -> Snapshot:
        nonlocal readings
        readings += 1
        found: Snapshot = read(Snapshot, registry)
        return found

    monkeypatch.setattr(history.History.__init__, "__defaults__", (counted,))
    with LiveService() as service, ExitStack() as stack:
        began = time.monotonic()
        viewers = [stack.enter_context(viewer(service)) for _ in range(10)]
        latest = max(instant(next(events)) for events in viewers)
        after = {next(each for each in events if instant(each) > latest) for events in viewers}
        assert len(after) == 1
        assert readings <= 2 + (time.monotonic() - began) / INTERVAL_S


def instant(shown: str) -> float:
    """The instant of an event's last point, 0 before there is one."""
    return max(json.loads(shown)["points"]["at"], default=0.0)


def test_viewers_leave_connections_for_probes(service: LiveService) -> None:
    with ExitStack() as stack:
        viewers = [stack.enter_context(viewer(service)) for _ in range(MOST_VIEWERS)]
        assert all(next(events) for events in viewers)
        answer = httpx.get(f"{service.ops_url}/console/live")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "too_many_connections"
        assert httpx.get(f"{service.ops_url}/livez").status_code == 200


async def test_a_viewer_who_leaves_makes_room(service: LiveService) -> None:
    for _ in range(MOST_VIEWERS):
        live(service)
    url = f"{service.ops_url}/console/live"
    with ExitStack() as stack:

        def answered() -> bool:
            answer = stack.enter_context(httpx.stream("GET", url))
            return answer.status_code == 200

        await eventually(answered)


def test_a_stop_ends_the_streams() -> None:
    with LiveService() as service, ExitStack() as stack:
        events = stack.enter_context(viewer(service))
        next(events)
        service.stop()
        assert [*events][-1] == "[DONE]"


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
