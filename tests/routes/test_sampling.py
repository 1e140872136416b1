"""Sampling of requests that set nothing: the adapter's own, else the base model's."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.proven import served_base, sources
from tests.adapters.samples import write_base
from tests.evaluation.calibration.samples import generator
from tests.live_service import MODEL, LiveService

ASKED: dict[str, dict[str, Any]] = {
    "/v1/generate": {"prompt": "Tell me"},
    "/v1/completions": {"prompt": "Tell me", "max_tokens": 8},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Tell me"}]},
    "/v1/responses": {"input": "Tell me"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Tell me"}], "max_tokens": 8},
}


@pytest.fixture
async def live(tmp_path: Path) -> AsyncGenerator[LiveService, None]:
    """A service with a greedy adapter, and one that samples as the base does."""
    folder = write_base(tmp_path / "base")
    base = served_base(folder)
    generator(tmp_path / "greedy", base, sampling={"temperature": 0.0})
    generator(tmp_path / "plain", base)
    with LiveService(
        model_path=folder,
        adapters=sources(tmp_path / "greedy", tmp_path / "plain"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as service:
        yield service


@pytest.mark.parametrize("path", ASKED)
async def test_what_a_request_leaves_out_is_the_adapters_own(live: LiveService, path: str) -> None:
    async with live.client() as client:
        for model, fields, expected in (
            ("greedy", {}, 0.0),
            ("greedy", {"temperature": 0.5}, 0.5),
            ("plain", {}, 1.0),
            (MODEL, {}, 1.0),
        ):
            answer = await client.post(path, json=ASKED[path] | {"model": model} | fields)
            assert answer.status_code == 200, answer.text
            assert live.engine.sampled is not None
            assert live.engine.sampled.temperature == expected


async def test_a_models_card_shows_it(live: LiveService) -> None:
    async with live.client() as client:
        cards = (await client.get("/v1/models")).json()["data"]
        one = (await client.get("/v1/models/greedy")).json()
    assert {card["id"]: card["sampling"] for card in cards if "@" not in card["id"]} == {
        **{MODEL: {}, "plain": {}},
        "greedy": {"temperature": 0.0},
    }
    assert one["sampling"] == {"temperature": 0.0}
