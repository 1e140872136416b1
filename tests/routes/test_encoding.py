"""Bodies in gzip: inflated within the limit of a body, or refused."""

import gzip
import json
import tracemalloc

import httpx
import pytest

from service.errors import PayloadTooLarge
from service.http.json_routes import inflate
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService

LIMIT = 4096
JSON = {"content-type": "application/json"}


def asking(prompt: str) -> bytes:
    return json.dumps({"model": "fake", "prompt": prompt}).encode()


async def send(client: httpx.AsyncClient, body: bytes, coding: str = "gzip") -> httpx.Response:
    return await client.post(
        "/v1/tokenize", content=body, headers={**JSON, "content-encoding": coding}
    )


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_a_body_in_gzip_is_read(client: httpx.AsyncClient, coding: str) -> None:
    answer = await send(client, gzip.compress(asking("Hello")), coding)
    assert answer.json()["count"] == len("\0Hello")


async def test_identity_is_no_coding(client: httpx.AsyncClient) -> None:
    assert (await send(client, asking("Hello"), "identity")).status_code == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip"])
async def test_another_coding_is_refused_by_name(client: httpx.AsyncClient, coding: str) -> None:
    error = refusal(await send(client, b"x" * 100, coding), 415)
    assert error["message"] == f"Content-Encoding: must be gzip or none, got '{coding}'"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (asking("Hello"), "not valid gzip"),
        (gzip.compress(asking("Hello"))[:-9], "one whole gzip member"),
        (gzip.compress(asking("Hello")) + b"more", "one whole gzip member"),
        (gzip.compress(asking("Hello")) * 2, "one whole gzip member"),
        (b"", "one whole gzip member"),
    ],
    ids=["plain", "cut", "more", "two", "empty"],
)
async def test_what_is_not_one_whole_member_is_refused(
    client: httpx.AsyncClient, body: bytes, said: str
) -> None:
    error = refusal(await send(client, body), 400)
    assert (error["code"], said in error["message"]) == ("invalid_gzip", True)


async def test_the_limit_of_a_body_is_that_of_its_content() -> None:
    with LiveService(http=HttpSettings(max_body_bytes=LIMIT)) as live:
        async with live.client() as client:
            fits = asking("").ljust(LIMIT)
            assert (await send(client, gzip.compress(fits))).status_code == 200
            error = refusal(await send(client, gzip.compress(fits + b" ")), 413)
            assert error["message"] == f"body: at most {LIMIT} bytes, got more once it was inflated"
            assert refusal(await send(client, gzip.compress(b" " * 10**8)), 413)


def test_a_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            inflate(bomb, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < (1 << 20)
    finally:
        tracemalloc.stop()
