"""One shape for all errors, from the framework, the middleware and the routes."""

from pathlib import Path

import httpx
import pytest
from fastapi.exceptions import RequestValidationError

from service.http.json_routes import explain_validation
from service.plugins.batches.settings import BatchSettings
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService

ROUTES = {
    "/v1/generate": "POST",
    "/v1/classify": "POST",
    "/v1/tokenize": "POST",
    "/v1/detokenize": "POST",
    "/tokenize": "POST",
    "/detokenize": "POST",
    "/v1/adapters": "GET, HEAD",
    "/version": "GET, HEAD",
    "/health": "GET, HEAD",
    "/ping": "GET, HEAD",
}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/v1"),
        ("GET", "/v1/generate/"),
        ("POST", "/v1/generate/"),
        ("PUT", "/%00"),
        ("GET", "/static-offline-docs/none.js"),
        ("GET", "/static-offline-docs/../../etc/passwd"),
    ],
)
async def test_an_unknown_path_is_not_found(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    error = refusal(await client.request(method, path), 404)
    assert (error["code"], error["param"]) == ("not_found", None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for path, served in ROUTES.items()
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
        if method not in served
    ],
)
async def test_another_method_is_refused_and_the_right_one_named(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, path)
    assert refusal(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == ROUTES[path]


def test_the_methods_of_all_routes_at_a_path_are_named(tmp_path: Path) -> None:
    with LiveService(batches=BatchSettings(path=tmp_path)) as live:
        for path, allowed in (("", "GET, HEAD, POST"), ("/file-1", "DELETE, GET, HEAD")):
            response = httpx.put(f"{live.url}/v1/files{path}")
            refusal(response, 405)
            assert response.headers["allow"] == allowed


async def test_a_path_in_a_message_is_quoted_and_short(client: httpx.AsyncClient) -> None:
    error = refusal(await client.get("/" + "x" * 3000), 404)
    assert error["message"] == f"There is nothing at '/{'x' * 39}...'; GET /docs lists the routes"


@pytest.mark.parametrize(
    ("method", "path", "setting"),
    [
        ("POST", "/v1/batches", "batches.path"),
        ("GET", "/v1/batches/batch_1", "batches.path"),
        ("POST", "/v1/batches/batch_1/cancel", "batches.path"),
        ("POST", "/v1/files", "batches.path"),
        ("GET", "/v1/files/file-1/content", "batches.path"),
        ("GET", "/v1/usage", "usage.path or usage.storage"),
        ("POST", "/v1/moderations", "guards.named"),
        ("POST", "/embed", "tei"),
        ("GET", "/console", "http.console"),
    ],
)
async def test_a_route_that_is_off_names_the_setting_that_turns_it_on(
    method: str, path: str, setting: str
) -> None:
    with LiveService(http=HttpSettings(console=False)) as live:
        async with live.client() as client:
            error = refusal(await client.request(method, path), 404)
            described = (await client.get("/openapi.json")).json()["paths"]
    assert (error["type"], error["code"]) == ("not_found_error", "not_found")
    told = f"'{path}' is off in this service; the setting {setting} turns it on"
    assert error["message"] == told
    assert path not in described


@pytest.mark.parametrize("path", [path for path in ROUTES if ROUTES[path] == "POST"])
@pytest.mark.parametrize("stream", [True, False])
async def test_every_route_refuses_a_wrong_body_in_the_one_shape(
    client: httpx.AsyncClient, path: str, stream: bool
) -> None:
    error = refusal(await client.post(path, json={"model": 3, "stream": stream}), 400)
    assert error["type"] == "invalid_request_error"
    message = (
        "model: must be a valid string, got 3"
        if path == "/v1/generate"
        else "stream: unknown field"
    )
    assert message in error["message"]


def test_problems_beyond_three_are_counted() -> None:
    problems = [
        {"type": "missing", "loc": ("body", f"field{number}"), "msg": "Field required"}
        for number in range(5)
    ]
    error = explain_validation(RequestValidationError(problems, body={}))
    assert error.message == "field0: required; field1: required; field2: required; and 2 more"
    assert error.param == "field0"
