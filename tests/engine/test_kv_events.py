"""Events of the KV cache, as a router reads them: what they say of two tenants' same prompt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from loadtests.processes import PATIENCE_S, free_port
from tests.served.configuration import tiny_config
from tests.served.server import PATIENT, Server, running_server
from tools.keys import bearer, entry, write_keys

# Longer than two blocks of the CPU build's cache.
LONG = "The history of the sea, told by those who crossed it in small boats. " * 24


@pytest.fixture(scope="module")
def serving(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """A service of two tenants, and the address of its events."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": endpoint}
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.yaml", entry("a"), entry("b"))
    config = tiny_config(tiny_folder, kv_events_config=events)
    config |= PATIENT | {"tenants": {"keys": str(keys)}}
    with running_server(tmp_path_factory.mktemp("server"), config) as running:
        yield running, endpoint


def stored(subscriber: zmq.Socket[bytes], tokens: int) -> list[dict[str, Any]]:
    """The blocks that were stored, until they hold so many tokens."""
    found: list[dict[str, Any]] = []
    while sum(len(each["token_ids"]) for each in found) < tokens:
        assert subscriber.poll(int(1000 * PATIENCE_S)), "no event came"
        _, _, payload = subscriber.recv_multipart()
        _, events, *_ = msgspec.msgpack.decode(payload)
        found += [each for each in events if each["type"] == "BlockStored"]
    return found


def test_the_hashes_of_a_prompt_are_each_tenants_own(serving: tuple[Server, str]) -> None:
    server, endpoint = serving
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        subscriber.bind(endpoint)  # vLLM connects to an address, and binds only `*`
        for attempt in range(100):  # what is sent before the connection is there is lost
            _ask(server, "a", f"{attempt} {LONG}")
            if subscriber.poll(200):
                break
        while subscriber.poll(500):
            subscriber.recv_multipart()
        found = {}
        for tenant in ("a", "b"):
            _ask(server, tenant, LONG)
            found[tenant] = stored(subscriber, 128)
    mine, others = (
        {hash_ for each in found[name] for hash_ in each["block_hashes"]} for name in found
    )
    assert mine
    assert not mine & others
    # What docs/howto/routers.md warns of: the events themselves hold the prompts.
    assert found["a"][0]["token_ids"] == found["b"][0]["token_ids"]


def _ask(server: Server, tenant: str, prompt: str) -> None:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
    assert server.post("/v1/completions", body, headers=bearer(tenant)).is_success
