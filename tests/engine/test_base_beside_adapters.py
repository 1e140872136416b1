"""The base beside adapters in one batch, on the real engine with every slot in use."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server

pytestmark = pytest.mark.slow

PROMPTS = tuple(f"The {thing} says" for thing in ("lake", "clock", "baker", "wind"))
TOKENS = 6
NAMES = ("first", "second")


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("adapters")
    maker = LoraMaker(tiny_folder, "tiny")
    for seed, name in enumerate(NAMES):
        maker.write(
            root / name, name=name, version="1.0.0", seed=seed, prompts=PROMPTS[:1], tokens=TOKENS
        )
    config = tiny_config(tiny_folder, max_num_seqs=32, max_loras=len(NAMES), max_lora_rank=8)
    config |= PATIENT | {
        "adapters": [{"source": str(root / name)} for name in NAMES],
        "adapter_cache": {"path": str(root / "cache")},
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as running:
        yield running


async def logprobs(client: httpx.AsyncClient, model: str, prompt: str) -> list[float]:
    """Log-probabilities of the greedy answer."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 1,
    }
    answer = (await client.post("/v1/completions", json=body)).raise_for_status().json()
    found: list[float] = answer["choices"][0]["logprobs"]["token_logprobs"]
    return found


def test_the_worker_uses_the_grouped_operators(server: Server) -> None:
    assert "Using GroupedPunicaWrapper." in server.log.read_text()


async def test_the_base_answers_the_same_beside_adapters(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        alone = [await logprobs(client, "tiny", prompt) for prompt in PROMPTS]
        # Several of each, so that no batch holds requests of the base only.
        jobs = [
            logprobs(client, model, prompt)
            for prompt in PROMPTS
            for model in ("tiny", *NAMES, *NAMES)
        ]
        mixed = await asyncio.gather(*jobs)

    beside = mixed[:: 1 + 2 * len(NAMES)]
    for expected, found in zip(alone, beside, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    assert mixed[1] != pytest.approx(alone[0], abs=1e-2)
