"""JSON routes: one that is called directly answers as one that is called by FastAPI's router."""

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel

from service.context import enter_context, internal_context
from service.errors import ServiceError
from service.http.json_routes import (
    DirectRoutes,
    JsonRoute,
    TheContext,
    TheRuntime,
    register_error_handlers,
)


class Body(BaseModel):
    count: int
    names: list[str] = []


async def endpoint(body: Body, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer with the body, as it was checked."""
    return Response(body.model_dump_json(), headers={"x-path": context.route})


def app_of(*, direct: bool) -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    limits = SimpleNamespace(unknown_fields="refuse")
    app.state.runtime = SimpleNamespace(settings=SimpleNamespace(limits=limits))
    register_error_handlers(app)
    if direct:
        app.add_middleware(DirectRoutes, of=app)
    app.router.route_class = JsonRoute
    app.post("/it")(endpoint)
    return app


def answer(body: Any, *, direct: bool) -> tuple[int, bytes] | str:
    """The status and the answer, or the message of the refusal."""
    app = app_of(direct=direct)

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
def test_a_body_is_checked_with_and_without_the_router(body: Any, accepted: bool) -> None:
    direct = answer(body, direct=True)
    assert direct == answer(body, direct=False)
    assert isinstance(direct, tuple) is accepted


async def test_other_methods_and_paths_go_on_to_the_app() -> None:
    client = TestClient(app_of(direct=True))
    assert client.get("/openapi.json").status_code == 200
    for method, path in (("GET", "/it"), ("POST", "/it/")):
        with pytest.raises(ServiceError):
            TestClient(app_of(direct=True)).request(method, path)


def test_an_endpoint_with_another_dependency_is_refused_at_the_start() -> None:
    async def other(body: Body, runtime: TheRuntime, size: int) -> Response:
        return Response(str(size))

    with pytest.raises(AssertionError):
        JsonRoute("/it", other, methods=["POST"])
