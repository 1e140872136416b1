"""One shape for all errors, from the framework, the middleware and the routes."""

import httpx
import pytest

from service.http.json_routes import explain_problems
from tests.answers import refusal

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


async def test_a_path_in_a_message_is_quoted_and_short(client: httpx.AsyncClient) -> None:
    error = refusal(await client.get("/" + "x" * 3000), 404)
    assert error["message"] == f"There is nothing at '/{'x' * 39}...'; GET /docs lists the routes"


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
        if stream
        else "model: must be a valid string"
    )
    assert message in error["message"]


def test_problems_beyond_three_are_counted() -> None:
    problems = [
        {"type": "missing", "loc": ("body", f"field{number}"), "msg": "Field required"}
        for number in range(5)
    ]
    error = explain_problems({}, problems, root=1)
    assert error.message == "field0: required; field1: required; field2: required; and 2 more"
    assert error.param == "field0"
