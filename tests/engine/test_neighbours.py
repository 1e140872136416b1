"""Answers beside other requests: the same as alone."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.neighbours.answers import Comparison, answers
from tests.neighbours.models import check, served
from tests.served.server import Server

LABELS = {"input": "The bread was fresh.", "candidate_labels": ["good", "bad", "neither"]}
LONG = "the river town music " * 400
"""More tokens than a step of the server has."""


def classify_until(server: Server, done: Any) -> int:
    """Classify from four tasks until `done` says so; returns the number of answers."""

    async def classify(client: httpx.AsyncClient) -> int:
        for count in itertools.count():
            if done():
                return count
            response = await client.post("/v1/classify", json={"model": server.model} | LABELS)
            assert response.status_code == 200, response.text
        raise AssertionError("counts for ever")

    async def all_of_them() -> int:
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
            return sum(await asyncio.gather(*(classify(client) for _ in range(4))))

    return asyncio.run(all_of_them())


def test_log_probabilities_are_the_same_beside_classification(tiny: Server) -> None:
    asked = {"model": tiny.model, "prompt": "Once upon a time", "temperature": 0}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", asked | {"max_tokens": 24, "logprobs": 5}),
        ("/v1/generate", asked | {"max_tokens": 24, "confidence": True}),
    ]
    alone = [answers(tiny.post(path, body).json()) for path, body in requests]

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(
            lambda: [
                [answers(tiny.post(path, body).json()) for path, body in requests] for _ in range(8)
            ]
        )
        assert classify_until(tiny, asking.done) > 8

    comparison = Comparison(tolerance=1e-4)
    for mixed in asking.result():
        for one, other in zip(alone, mixed, strict=True):
            comparison.compare(one, other, plain=True)
    assert comparison.parted == 0


def test_a_seed_gives_the_same_answer_however_its_prompt_is_cut(tiny: Server) -> None:
    seeded = {"model": tiny.model, "max_tokens": 8, "seed": 7, "temperature": 1}
    bodies = [seeded | {"prompt": LONG}, seeded | {"prompt": "Once upon a time"}]

    alone = [answers(tiny.post("/v1/generate", body).json()) for body in bodies]
    with ThreadPoolExecutor() as pool:
        posted = [pool.submit(tiny.post, "/v1/generate", body) for body in bodies * 4]

    assert [answers(each.result().json()) for each in posted] == alone * 4


@pytest.mark.slow
def test_requests_of_every_kind_change_none_of_each_other() -> None:
    with served("tiny") as (server, maker, comparison):
        requests = [maker.request(number) for number in range(80)]
        assert check(server, requests, comparison) == []
