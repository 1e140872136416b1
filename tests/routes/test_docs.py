"""The documentation pages, which must work without the internet."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from fastapi.routing import APIRoute

from service.common.error_forms import error_form
from service.http.bodies import ErrorBody
from service.runtime.parts import Plugin, plugin_types
from service.settings.tree import settings_type
from tests.architecture.source import modules
from tests.live_service import LiveService


async def test_the_page_takes_every_asset_from_this_server(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(assets) >= 3
    assert not [asset for asset in assets if "//" in asset]
    assert not re.search(r"https?://", page.text)
    for asset in assets:
        assert (await client.get(asset)).status_code == 200


def paths_of(kind: type[Plugin]) -> set[str]:
    """The paths of a plugin's routes."""
    routes = (route for router in kind.routers for route in router.routes)
    return {
        route.path for route in routes if isinstance(route, APIRoute) and route.include_in_schema
    }


async def test_the_schema_describes_every_native_route(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert schema["paths"].keys() == {
        "/v1/generate",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/classify",
        "/v1/tokenize",
        "/v1/detokenize",
        "/v1/adapters",
        "/tokenize",
        "/detokenize",
        "/version",
        "/health",
        "/ping",
        *(path for kind in plugin_types().values() if not kind.switch for path in paths_of(kind)),
    }


async def test_the_page_of_another_viewer_is_not_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/redoc")).status_code == 404


async def test_every_operation_lists_its_statuses_and_the_shape_of_errors(
    client: httpx.AsyncClient,
) -> None:
    schema = (await client.get("/openapi.json")).json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            listed = {"200", "400", "403", "404", "429", "431", "500", "503", "504"}
            listed |= {"408", "413", "415"} if method == "post" else set()
            listed |= {"409"} if path == "/v1/feedback" else set()
            assert operation["responses"].keys() == listed
            for status in listed - {"200"}:
                content = operation["responses"][status]["content"]["application/json"]
                shape = (error_form(path).schema or ErrorBody).__name__
                assert content == {"schema": {"$ref": f"#/components/schemas/{shape}"}}


async def test_every_body_has_examples_with_the_name_of_the_base_model(
    client: httpx.AsyncClient,
) -> None:
    schema = (await client.get("/openapi.json")).json()
    bodies = [
        operations["post"]["requestBody"]["content"]["application/json"]
        for path, operations in schema["paths"].items()
        if "post" in operations and path != "/v1/feedback"
    ]
    assert bodies
    for body in bodies:
        assert body["examples"]
        assert all(each["value"]["model"] == "fake" for each in body["examples"].values())


def test_every_operation_of_every_route_is_described(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {
        "tei": {"predict": "classify"},
        "batches": {"path": tmp_path / "batches"},
        "usage": {"path": tmp_path / "usage"},
        "guards": {
            "named": {"news": {"model": "classify", "labels": ["weather"], "threshold": 0.5}}
        },
    }
    sections = {name: each for name, each in wanted.items() if name in settings_type().model_fields}
    with LiveService(encoders=[{"name": "classify", "path": "unused"}], **sections) as live:
        schema = httpx.get(f"{live.url}/openapi.json").json()
    described = {path for kind in plugin_types().values() for path in paths_of(kind)}
    described -= {path for path in described if path.startswith("/console")}
    assert described | {"/v1/generate", "/v1/chat/completions"} <= schema["paths"].keys()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert operation["responses"]["200"].get("content"), path


def test_no_two_bodies_share_a_name() -> None:
    """A document with both would name them by their modules: `service__api__schemas__...`."""
    names = Counter(
        node.name
        for name, file in modules().items()
        if name.startswith(("service.routes.bodies.", "service.routes."))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
