"""Errors on the paths of Anthropic's API, in its shape, whatever raised them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.errors import (
    DeadlineExceeded,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    UnsupportedFeature,
)
from service.plugins.messages.plugin import AnthropicErrors, MessagesPlugin
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import entry, write_keys


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder: Path = tmp_path_factory.mktemp("keys")
    with LiveService(tenants={"keys": write_keys(folder / "keys.yaml", entry("a"))}) as live:
        yield live


@pytest.mark.parametrize("path", MessagesPlugin.operations)
def test_a_request_without_a_key_is_told_so_in_anthropics_shape(
    guarded: LiveService, path: str
) -> None:
    answer = httpx.post(f"{guarded.url}{path}?beta=true", json={})
    assert refusal(answer, 401)["type"] == "authentication_error"
    assert answer.json()["type"] == "error"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnsupportedFeature("a"), "invalid_request_error"),
        (PayloadTooLarge("a"), "request_too_large"),
        (Unauthenticated("a"), "authentication_error"),
        (NotFound("a"), "not_found_error"),
        (TooManyRequests("a"), "rate_limit_error"),
        (QueueFull("a"), "overloaded_error"),
        (DeadlineExceeded("a"), "timeout_error"),
        (ServiceError(), "api_error"),
    ],
)
def test_each_error_has_anthropics_type(error: ServiceError, kind: str) -> None:
    form = AnthropicErrors()
    shown = form.body(error, "id-1")
    assert (shown["type"], shown["request_id"], shown["error"]["type"]) == ("error", "id-1", kind)
    assert shown["error"]["message"] == error.message
    assert form.event(error, "id-1", 3) == ("error", shown)


async def test_the_description_has_anthropics_shape(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        content = paths[path]["post"]["responses"]["400"]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith("/AnthropicErrorBody")


async def test_a_service_of_encoders_alone_says_so() -> None:
    with LiveService(model=None, encoders=[{"name": "embed", "path": "unused"}]) as live:
        async with live.client() as asked:
            answer = await asked.post("/v1/messages", json={"model": "embed"})
    error = refusal(answer, 404)
    assert (error["type"], error["code"]) == ("not_found_error", "model_not_found")
    assert "no language model" in error["message"]
