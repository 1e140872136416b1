"""Random requests to every public route of a running service, each checked."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.fuzz import classify, conversations, generation, moderations
from tests.fuzz.pieces import ODD, broken, text

AT_ONCE = 4
"""Each request has up to max_num_seqs (16) reads in admission, which lets 64 wait."""
_TIMEOUT = 900.0
"""Seconds; the service that is fuzzed answers within its own deadline of 600."""

_CLASSIFY, _TOKENIZE, _DETOKENIZE = "/v1/classify", "/v1/tokenize", "/v1/detokenize"
_FEEDBACK = "/v1/feedback"
_GENERATION = (generation.NATIVE, generation.CHAT, generation.COMPLETION)
_READ = ("/v1/models", "/v1/adapters", "/health", "/openapi.json")
_PATHS = [_CLASSIFY] * 4 + [*_GENERATION, *conversations.PATHS] * 2
_PATHS += [_TOKENIZE, _DETOKENIZE, _FEEDBACK, moderations.PATH]
_REFUSALS = {400, 404, 413, 415}


@dataclass(frozen=True)
class Request:
    """One request of a seed."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


def request(seed: int, number: int, paths: Sequence[str] = _PATHS) -> Request:
    """Request `number` of a seed, to one of these paths: always the same."""
    dice = random.Random(f"{seed}.{number}")
    if dice.random() < 0.02:
        return Request(dice.choice(["GET", "HEAD", "POST", "PUT"]), dice.choice(_READ))
    path = dice.choice(paths)
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    if path == _CLASSIFY and dice.random() < 0.2:
        headers += (("accept", "application/x-ndjson"),)
    return Request("POST", path, _body(dice, path), headers)


def check(sent: Request, response: httpx.Response) -> str:
    """The outcome of a request; AssertionError for an outcome that must never happen."""
    if response.status_code != 200:
        allowed = _REFUSALS | ({405} if sent.path in _READ else set())
        assert response.status_code in allowed, f"{response.status_code} {response.text[:300]}"
        if sent.method == "HEAD":
            return "refused HEAD"
        error = response.json()["error"]
        assert error["message"]
        assert error["request_id"] == response.headers["x-request-id"]
        return str(error["code"])
    if sent.path == _CLASSIFY:
        classify.check(response, sent.body)
    elif sent.path in _GENERATION:
        generation.check(response, sent.path, sent.body)
    elif sent.path in conversations.PATHS:
        conversations.check(response, sent.path)
    elif sent.path == moderations.PATH:
        moderations.check(response, sent.body)
    return "ok"


async def fuzz(
    url: str, requests: int, seed: int, *, every: int = 0, paths: Sequence[str] = _PATHS
) -> Counter[str]:
    """Send the requests, check every answer, count the outcomes; a line for each `every` of them.

    A failed check carries the request's number and seed as a note.
    """
    outcomes: Counter[str] = Counter()
    numbers = iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            sent = request(seed, number, paths)
            # Lone surrogates too, which a client can send but should not.
            content = None if sent.body is None else json.dumps(sent.body)
            try:
                response = await client.request(
                    sent.method, sent.path, content=content, headers=dict(sent.headers)
                )
                outcomes[f"{sent.path} {check(sent, response)}"] += 1
            except Exception as failure:
                failure.add_note(f"request {number} of seed {seed}: {sent.method} {sent.path}")
                raise
            if every and outcomes.total() % every == 0:
                print(f"    {outcomes.total()} of {requests} requests", flush=True)

    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work(client))
    return outcomes


def _body(dice: random.Random, path: str) -> Any:
    if dice.random() < 0.02:
        return dice.choice([None, [], "a", 1, {}, [{}], {"model": "tiny"}])
    if path == _CLASSIFY:
        return classify.body(dice)
    if path in _GENERATION:
        return generation.body(dice, path)
    if path in conversations.PATHS:
        return conversations.body(dice, path)
    if path == moderations.PATH:
        return moderations.body(dice)
    if path == _FEEDBACK:
        made = {"id": text(dice, 5), dice.choice(["label", "correct", "score"]): dice.choice(ODD)}
        return broken(dice, made, list(made)) if dice.random() < 1 / 3 else made
    made = {"model": "tiny"}
    if path == _DETOKENIZE:
        made["tokens"] = [dice.randint(0, 60_000) for _ in range(dice.choice([0, 3, 3000]))]
        fields = ["model", "tokens"]
    else:
        made["prompt"] = text(dice, dice.choice([5, 3000]))
        fields = ["model", "prompt", "messages"]
    return broken(dice, made, fields) if dice.random() < 1 / 3 else made
