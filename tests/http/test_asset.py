"""Contents sent from memory: the description of the API, its page, and files of plugins."""

import json

import httpx
import pytest

from service.runtime.parts import plugin_types
from tests.live_service import LiveService

PATHS = (
    "/openapi.json",
    "/docs",
    "/static-offline-docs/swagger-ui-bundle.js",
    "/static-offline-docs/swagger-ui.css",
    "/static-offline-docs/favicon.png",
    *sorted(path for kind in plugin_types().values() for path in kind.open_paths),
)
PLAIN = {"accept-encoding": "identity"}
PACKED = {"accept-encoding": "br, gzip"}


@pytest.mark.parametrize("path", PATHS)
async def test_a_content_is_sent_packed_where_that_is_taken(
    client: httpx.AsyncClient, path: str
) -> None:
    plain, packed = [await client.get(path, headers=each) for each in (PLAIN, PACKED)]
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content
    assert len(plain.content) == int(plain.headers["content-length"])
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    assert plain.headers["content-type"] == packed.headers["content-type"]
    assert plain.headers["etag"] != packed.headers["etag"]
    if len(plain.content) > 100_000:
        assert int(packed.headers["content-length"]) < len(plain.content) / 3


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("accepted", [PLAIN, PACKED], ids=["plain", "packed"])
async def test_a_client_that_has_it_is_not_sent_it_again(
    client: httpx.AsyncClient, path: str, accepted: dict[str, str]
) -> None:
    tag = (await client.get(path, headers=accepted)).headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        again = await client.get(path, headers={**accepted, "if-none-match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for given in ('"other"', tag.strip('"'), ""):
        again = await client.get(path, headers={**accepted, "if-none-match": given})
        assert again.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("x-gzip;q=1.0", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzipped, br", False),
        ("", False),
    ],
)
async def test_only_what_a_client_takes_is_sent(
    client: httpx.AsyncClient, accepted: str, packed: bool
) -> None:
    answer = await client.get("/openapi.json", headers={"accept-encoding": accepted})
    assert ("content-encoding" in answer.headers) is packed
    assert answer.json()["info"]["title"] == "llm-service"


async def test_the_description_is_that_of_the_app(
    service: LiveService, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(service.app.openapi()))


async def test_the_description_is_not_made_for_each_request(
    service: LiveService, client: httpx.AsyncClient
) -> None:
    made = service.app.openapi_schema
    assert made is not None
    first = await client.get("/openapi.json")
    made["info"]["title"] = "changed"
    try:
        assert (await client.get("/openapi.json")).content == first.content
    finally:
        made["info"]["title"] = "llm-service"
