"""Clients that go away leave nothing behind in the real engine."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.disconnects import disconnect
from tests.served.server import Server


async def test_two_hundred_clients_disconnect_at_random(tiny: Server) -> None:
    before = refused(tiny)
    await disconnect(tiny, seed=20)
    assert refused(tiny) == before
    after = tiny.post("/v1/generate", {"model": "tiny", "prompt": "a", "max_tokens": 2})
    assert after.status_code == 200


def refused(server: Server) -> float:
    """Requests that count as invalid, which a client that leaves is not."""
    text = httpx.get(f"{server.ops}/metrics", timeout=300).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "inference_requests_total" and sample.labels["outcome"] == "invalid"
    )
