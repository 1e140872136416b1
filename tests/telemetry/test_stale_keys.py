"""The series of keys that are older than their files, and of the weights in them."""

import asyncio
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import eventually
from service.telemetry.lifecycle import TenantMetrics
from service.tenants import keyring as live_keyring
from service.tenants.keyring import LiveKeyring
from tools.keys import entry, write_keys


@pytest.mark.usefixtures("_quick")
async def test_the_time_of_the_first_refusal_stands_until_keys_are_accepted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    path = write_keys(tmp_path / "k", entry("a"))
    ring = LiveKeyring(path, TenantMetrics(registry))

    def value(name: str, labels: dict[str, str] | None = None) -> float:
        found = registry.get_sample_value(f"inference_{name}", labels or {})
        assert found is not None
        return found

    def since() -> float:
        return value("keys_stale_since_timestamp_seconds")

    assert since() == 0
    watch = asyncio.create_task(ring.follow())
    before = time.time()
    path.write_text("tenants: [")
    await eventually(lambda: since() > 0)
    first = since()
    assert before <= first <= time.time()
    path.write_text("tenants: 3")
    await eventually(lambda: value("key_reloads_total", {"outcome": "refused"}) == 2)
    assert since() == first
    write_keys(path, entry("b", weight=2))
    await eventually(lambda: since() == 0)
    assert value("tenant_weight", {"tenant": "b"}) == 2
    assert registry.get_sample_value("inference_tenant_weight", {"tenant": "a"}) is None
    watch.cancel()
    await asyncio.wait([watch])


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_keyring, "LOOK_SECONDS", 0.005)
