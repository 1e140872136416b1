"""Requests that harmed vLLM are refused, with a message that names the fault, and do no harm."""

import httpx
import pytest

from tests.engine.advisories import REPLAYS, Replay
from tests.served.server import Server


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: f"{replay.advisory} {replay.what}")
def test_a_replay_is_refused_before_the_engine_sees_it(tiny: Server, replay: Replay) -> None:
    before = tiny.metric("vllm:prompt_tokens_total")
    answer = replay.send(tiny)
    assert answer.status_code == replay.status, answer.text
    error = answer.json()["error"]
    assert (error["type"], replay.message in error["message"]) == ("invalid_request_error", True)
    assert tiny.metric("vllm:prompt_tokens_total") == before
    assert httpx.get(f"{tiny.ops}/readyz", timeout=300).status_code == 200
