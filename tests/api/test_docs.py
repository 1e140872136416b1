"""The documentation pages, which must work without the internet."""

import re

import httpx


async def test_the_page_takes_every_asset_from_this_server(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(assets) >= 3
    assert not [asset for asset in assets if "//" in asset]
    assert not re.search(r"https?://", page.text)
    for asset in assets:
        assert (await client.get(asset)).status_code == 200


async def test_the_schema_describes_every_native_route(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert schema["paths"].keys() == {
        "/v1/generate",
        "/v1/classify",
        "/v1/tokenize",
        "/v1/detokenize",
        "/v1/adapters",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v2/rerank",
        "/tokenize",
        "/detokenize",
        "/version",
        "/health",
        "/ping",
    }


async def test_the_page_of_another_viewer_is_not_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/redoc")).status_code == 404
