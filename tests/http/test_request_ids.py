"""Request ids: the client's own if it is a sane token, else ours."""

import re

import httpx
import pytest

OURS = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize("given", ["a", "trace-1.2_3:4", "x" * 128])
@pytest.mark.parametrize("path", ["/health", "/nowhere"])
async def test_a_sane_id_comes_back(client: httpx.AsyncClient, given: str, path: str) -> None:
    response = await client.get(path, headers={"X-Request-Id": given})
    assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "a;b", "<script>", "naïve", "a\tb"])
async def test_any_other_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get("/health", headers=[(b"X-Request-Id", given.encode())])
    assert OURS.fullmatch(response.headers["x-request-id"])


async def test_without_one_every_request_gets_its_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
