"""Clients that go away leave nothing behind in the real engine."""

from tests.engine.disconnects import disconnect
from tests.engine.server import Server


async def test_two_hundred_clients_disconnect_at_random(tiny: Server) -> None:
    await disconnect(tiny, seed=20)
    after = tiny.post("/v1/generate", {"model": "tiny", "prompt": "a", "max_tokens": 2})
    assert after.status_code == 200
