"""The tokens of OpenAI's and Anthropic's bodies, as routers ask for them."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

CHAT: dict[str, Any] = {
    "model": "fake",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": CHAT,
    "/v1/responses": {"model": "fake", "input": "Hello"},
    "/v1/completions": {"model": "fake", "prompt": "Hello"},
}


@pytest.mark.parametrize("path", BODIES)
async def test_tokens_are_those_that_the_route_reads(
    client: httpx.AsyncClient, service: LiveService, path: str
) -> None:
    before = service.engine.starts
    answer = (await client.post(f"{path}/render", json=BODIES[path])).json()
    assert service.engine.starts == before
    (told,) = answer if path == "/v1/completions" else [answer]
    usage = (await client.post(path, json=BODIES[path])).json()["usage"]
    assert told.keys() == {"request_id", "model", "token_ids", "stream"}
    counted = usage.get("prompt_tokens", usage.get("input_tokens"))
    assert (told["model"], len(told["token_ids"])) == ("fake", counted)
    text = await client.post("/detokenize", json={"tokens": told["token_ids"]})
    assert "Hello" in text.json()["prompt"]


async def test_each_prompt_of_a_completion_has_tokens(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "prompt": ["Hello", "Good day"], "echo": True, "stream": True}
    answer = (await client.post("/v1/completions/render", json=body)).json()
    assert [len(each["token_ids"]) for each in answer] == [6, 9]
    assert [each["request_id"][-2:] for each in answer] == ["-0", "-1"]
    assert all(each["stream"] for each in answer)


async def test_fields_that_routers_add_do_not_matter(client: httpx.AsyncClient) -> None:
    added = {"no_stop_trim": False, "return_hidden_states": False, "tools": [TOOL]}
    answer = await client.post("/v1/chat/completions/render", json=CHAT | added)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", BODIES)
async def test_a_prompt_that_does_not_fit_is_refused_as_by_the_route(
    client: httpx.AsyncClient, path: str
) -> None:
    long = "x" * 600
    body = BODIES[path] | {
        "/v1/completions": {"prompt": long},
        "/v1/responses": {"input": long},
    }.get(path, {"messages": [{"role": "user", "content": long}]})
    refused = refusal(await client.post(path, json=body), 400)
    rendered = refusal(await client.post(f"{path}/render", json=body), 400)
    assert {**rendered, "request_id": ""} == {**refused, "request_id": ""}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[LiveService, str], None]:
    """A service with a key of a tenant that may use no model."""
    folder: Path = tmp_path_factory.mktemp("keys")
    keys = write_keys(folder / "keys.json", entry("poor", models=[]))
    with LiveService(tenants={"keys": str(keys)}) as live:
        yield live, "poor"


@pytest.mark.parametrize("path", BODIES)
def test_a_render_needs_a_key_and_a_model_that_it_may_use(
    keyed: tuple[LiveService, str], path: str
) -> None:
    live, tenant = keyed
    url = f"{live.url}{path}/render"
    assert httpx.post(url, json=BODIES[path]).status_code == 401
    answer = httpx.post(url, json=BODIES[path], headers=bearer(tenant))
    assert refusal(answer, 404)["code"] == "model_not_found"
