"""HEAD on every path that answers GET, on both ports."""

import httpx
import pytest

from tests.live_service import LiveService


@pytest.mark.parametrize(
    "path", ["/health", "/ping", "/version", "/v1/adapters", "/docs", "/openapi.json"]
)
async def test_it_is_answered_as_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz", "/metrics"])
def test_the_operations_port_answers_it_too(service: LiveService, path: str) -> None:
    head = httpx.head(service.ops_url + path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(("path", "status"), [("/v1/generate", 405), ("/nowhere", 404)])
async def test_elsewhere_it_is_refused_as_get_is(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    head = await client.head(path)
    assert (head.status_code, head.content) == (status, b"")


async def test_the_connection_goes_on_after_it(service: LiveService) -> None:
    async with service.client() as client:
        for _ in range(3):
            assert (await client.head("/v1/adapters")).status_code == 200
            assert (await client.get("/health")).json() == {"status": "ok"}
