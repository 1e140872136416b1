"""Quotas over HTTP: refusals say when to retry, and unused tokens are given back."""

import asyncio
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from tests.answers import events_of, refusal
from tests.http.raw_http import visit
from tests.live_service import MODEL, LiveService
from tests.tenants.redis_server import RedisServer
from tools.keys import bearer, entry, write_keys

BODY: dict[str, Any] = {"model": MODEL, "prompt": "Tell me", "max_tokens": 40}
FEW_TOKENS = 200
MANY = 10**9
CLIENTS = 200


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def service(tmp_path: Path, **sections: Any) -> LiveService:
    """A service with quotas by the day, so that no window ends within a test."""
    keys = write_keys(
        tmp_path / "keys",
        entry("free"),
        entry("three", quotas={"requests_per_day": 3}),
        entry("few", quotas={"tokens_per_day": FEW_TOKENS}),
        entry("many", quotas={"tokens_per_day": MANY, "tokens_per_minute": MANY}),
    )
    return LiveService(tenants={"keys": keys}, **sections)


async def generate(client: httpx.AsyncClient, tenant: str, **fields: Any) -> httpx.Response:
    return await client.post("/v1/generate", json=BODY | fields, headers=bearer(tenant))


def charged_in(redis: RedisServer) -> float:
    """Tokens charged in the store to tenants with two quotas, each of which counts them."""
    return sum(redis.counts().values()) / 2


def used(answer: httpx.Response) -> int:
    usage = answer.json()["usage"]
    return int(usage["prompt_tokens"] + usage["completion_tokens"])


async def test_requests_over_the_quota_get_429_and_others_do_not_mind(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        async with live.client() as client:
            first = [(await generate(client, "three")).status_code for _ in range(3)]
            answer = await generate(client, "three")
            error = refusal(answer, 429)
            assert 1 <= int(answer.headers["retry-after"]) <= 86_400
            # Every route counts, a wrong model too, but not a route that needs no key.
            refusal(await client.get("/v1/adapters", headers=bearer("three")), 429)
            assert (await client.get("/health", headers=bearer("three"))).status_code == 200
            assert (await generate(client, "free")).status_code == 200
    assert first == [200, 200, 200]
    assert (error["code"], error["type"]) == ("quota_exceeded", "rate_limit_error")
    assert "3 requests a day" in error["message"]


async def test_every_answer_says_how_the_quotas_stand(tmp_path: Path) -> None:
    keys = write_keys(
        tmp_path / "keys.yaml",
        entry("free"),
        entry("both", quotas={"requests_per_day": 3, "tokens_per_day": 1000,
                              "tokens_per_minute": MANY}),
    )  # fmt: skip
    with LiveService(tenants={"keys": keys}) as live:
        async with live.client() as client:
            answers = [await generate(client, "both", stream=stream) for stream in (False, True)]
            await eventually(live.idle)
            answers.append(await client.get("/v1/adapters", headers=bearer("both")))
            answers.append(await generate(client, "both"))
            free = await generate(client, "free")
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    stands = [
        {name.removeprefix("x-ratelimit-"): value for name, value in answer.headers.items()
         if name.startswith("x-ratelimit-")}
        for answer in (*answers, free)
    ]  # fmt: skip
    assert stands.pop() == {}
    assert [stand["remaining-requests"] for stand in stands] == ["2", "1", "0", "0"]
    for stand in stands:
        assert (stand["limit-requests"], stand["limit-tokens"]) == ("3", "1000")
        assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", stand["reset-tokens"])
    first = used(answers[0])
    reserved = len("\0Tell me") + BODY["max_tokens"]
    streamed = events_of(answers[1])[-2]["usage"]
    second = first + streamed["prompt_tokens"] + streamed["completion_tokens"]
    left = [int(stand["remaining-tokens"]) for stand in stands]
    assert left == [1000 - first, 1000 - first - reserved, 1000 - second, 1000 - second]


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_reserved_before_and_settled_after(tmp_path: Path, stream: bool) -> None:
    total = 0
    with service(tmp_path) as live:
        async with live.client() as client:
            while (answer := await generate(client, "few", stream=stream)).status_code == 200:
                usage = events_of(answer)[-2]["usage"] if stream else answer.json()["usage"]
                total += usage["prompt_tokens"] + usage["completion_tokens"]
            refusal(answer, 429)
    reservation = len("\0Tell me") + BODY["max_tokens"]
    assert FEW_TOKENS - reservation < total <= FEW_TOKENS


async def test_an_answer_that_could_never_fit_is_no_matter_of_waiting(tmp_path: Path) -> None:
    with service(tmp_path) as live:
        async with live.client() as client:
            error = refusal(await generate(client, "few", max_tokens=FEW_TOKENS), 400)
            assert (error["code"], error["param"]) == ("quota_too_small", "max_tokens")
            assert f"{FEW_TOKENS} tokens a day" in error["message"]
            assert (await generate(client, "few")).status_code == 200


async def test_every_sequence_and_every_read_of_a_batch_counts(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.kill()
    redis.start()
    question = {"model": MODEL, "candidate_labels": ["a", "b"], "input": ["x", "y", "z"]}
    with service(tmp_path, quotas={"storage": redis.url}) as live:
        async with live.client() as client:
            total = used(await generate(client, "many", n=3))
            answer = await client.post("/v1/classify", json=question, headers=bearer("many"))
            assert answer.status_code == 200
        await eventually(live.idle)
        tokens = live.value("inference_tokens_total", model=MODEL, kind="prompt")
        tokens += live.value("inference_tokens_total", model=MODEL, kind="completion")
        assert tokens > total
        await eventually(lambda: charged_in(redis) == int(tokens))


async def test_a_classification_is_charged_its_reads_and_its_prior_too(tmp_path: Path) -> None:
    question = {"model": MODEL, "candidate_labels": ["a", "b"], "input": ["x", "y"]}
    with service(tmp_path) as live:

        def charged() -> float:
            kinds = ("prompt", "completion")
            return sum(live.value("inference_tokens_total", model=MODEL, kind=k) for k in kinds)

        async with live.client() as client:
            unseen = []
            for _ in range(2):
                before = charged()
                answer = await client.post("/v1/classify", json=question, headers=bearer("many"))
                await eventually(live.idle)
                unseen.append(charged() - before - used(answer))
    assert unseen[1] == len(question["input"]), "a token of each read"
    assert unseen[0] > unseen[1], "the prior, once"


async def test_clients_that_leave_at_random_moments_leave_nothing_reserved(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.kill()
    redis.start()
    chance = random.Random(3)

    async def leave(live: LiveService) -> None:
        body = BODY | {"stream": chance.random() < 0.5}
        await visit(live, "/v1/generate", body, bearer("many"), stays=chance.random())

    settings = {"storage": redis.url, "timeout_ms": 10_000}
    with service(tmp_path, quotas=settings, token_seconds=0.001) as live:

        def tokens() -> int:
            kinds = ("prompt", "completion")
            return int(
                sum(live.value("inference_tokens_total", model=MODEL, kind=k) for k in kinds)
            )

        # On a machine that stalls, all clients may have left before they were connected.
        while live.outcomes()["cancelled"] <= 10 or not tokens():
            await asyncio.gather(*(leave(live) for _ in range(CLIENTS)))
        await eventually(lambda: live.idle() and charged_in(redis) == tokens())
        assert live.value("inference_quota_store_errors_total", reason="timeout") == 0


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_a_dead_store_follows_the_policy_and_shows_in_the_metrics(
    tmp_path: Path, policy: str
) -> None:
    with RedisServer() as server:
        quotas = {"storage": server.url, "on_failure": policy, "timeout_ms": 50}
        with service(tmp_path, quotas=quotas) as live:
            async with live.client() as client:
                assert (await generate(client, "three")).status_code == 200
                server.kill()
                answers = [await generate(client, "three") for _ in range(20)]
                # Tenants without a quota do not depend on the store.
                assert (await generate(client, "free")).status_code == 200
            kinds = ("timeout", "error")
            name = "inference_quota_store_errors_total"
            assert sum(live.value(name, reason=kind) for kind in kinds) >= 3
    codes = [answer.status_code for answer in answers]
    if policy == "open":  # counted here, from the one that the store had counted
        assert codes == [200] * 2 + [429] * 18
    else:
        assert codes == [200] * 2 + [503] * 18
        assert refusal(answers[-1], 503)["code"] == "quota_store_unavailable"
        assert answers[-1].headers["retry-after"] == "1"
