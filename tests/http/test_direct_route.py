"""Direct routes: bodies are checked as FastAPI checks them."""

from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel

from service.context import enter_context, internal_context
from service.errors import ServiceError
from service.http.json_routes import DirectRoute, DirectRoutes, JsonRoute, register_error_handlers


class Body(BaseModel):
    count: int
    names: list[str] = []


async def endpoint(body: Body, request: Request) -> Response:
    """Answer with the body, as it was checked."""
    return Response(body.model_dump_json(), headers={"x-path": request.url.path})


def answer(
    kind: type[JsonRoute], body: Any, *, past_router: bool = False
) -> tuple[int, bytes] | str:
    """The status and the answer, or the message of the refusal."""
    app = FastAPI(redirect_slashes=False)
    register_error_handlers(app)
    if past_router:
        app.add_middleware(DirectRoutes, of=app)
    app.router.route_class = kind
    app.post("/it")(endpoint)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        enter_context(internal_context("test", 60))
        await app(scope, receive, send)

    try:
        got = TestClient(served).post("/it", json=body)
    except ServiceError as error:
        return f"{error.code}: {error}"
    assert got.headers["x-path"] == "/it"
    return got.status_code, got.content


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"count": 3}, True),
        ({"count": "4", "names": ["a"]}, True),
        ({"count": "many"}, False),
        ({"names": [1, 2]}, False),
        (None, False),
        ([], False),
        ("text", False),
    ],
)
def test_a_body_is_checked_as_by_the_general_route(body: Any, accepted: bool) -> None:
    direct = answer(DirectRoute, body)
    assert direct == answer(JsonRoute, body)
    assert direct == answer(DirectRoute, body, past_router=True)
    assert isinstance(direct, tuple) is accepted


async def test_other_methods_and_paths_go_on_to_the_app() -> None:
    app = FastAPI(redirect_slashes=False)
    app.router.route_class = DirectRoute
    app.post("/it")(endpoint)
    app.add_middleware(DirectRoutes, of=app)
    client = TestClient(app)
    assert client.get("/it").status_code == 405
    assert client.post("/it/").status_code == 404
    assert client.get("/openapi.json").status_code == 200


def test_an_endpoint_with_a_dependency_is_refused_at_the_start() -> None:
    async def other(body: Body, request: Request, size: int) -> Response:
        return Response(str(size))

    with pytest.raises(AssertionError):
        DirectRoute("/it", other, methods=["POST"])
