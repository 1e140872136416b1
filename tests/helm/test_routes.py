"""The HTTPRoute and the pool: every route of the service leads to it."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.runtime.status import Status
from service.settings.tree import Settings
from tools.chart_files import model_routes
from tools.helm.chart import Manifest, ci_values, manifests, merged, one


@pytest.fixture(scope="module")
def served() -> set[str]:
    """Every path of the public port, as the service itself lists them."""
    settings = {
        "model": {"name": "fake", "path": Path("unused")},
        "encoders": [{"name": "encoder", "path": Path("unused")}],
        "tenants": {"allow_anonymous": True},
    }
    app = create_app(Settings.model_validate(settings), Status(), CollectorRegistry())
    return {route.path for route in app.routes if isinstance(route, APIRoute)}


def backend(values: dict[str, Any], path: str) -> Manifest:
    """Where the HTTPRoute sends a path: an exact match goes before a prefix."""
    rules = one(manifests(values), "HTTPRoute")["spec"]["rules"]
    found = {
        (match["path"]["type"], match["path"]["value"]): rule["backendRefs"][0]
        for rule in rules
        for match in rule["matches"]
    }
    return found.get(("Exact", path)) or found["PathPrefix", "/"]  # type: ignore[no-any-return]


def test_routes_that_ask_a_model_are_routes_of_the_service(served: set[str]) -> None:
    assert model_routes() <= served
    assert {"/v1/decisions", "/v1/moderations", "/embed"} <= model_routes()


def test_without_a_pool_every_route_leads_to_the_service(served: set[str]) -> None:
    values = ci_values("keda-scale-to-zero")
    assert {backend(values, path)["name"] for path in served} == {"llm-llm-service"}
    assert {backend(values, path)["port"] for path in served} == {80}


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_pool_gets_what_its_picker_can_read(served: set[str], passthrough: bool) -> None:
    values = merged(ci_values("tp4"), {"inferencePool": {"passthrough": passthrough}})
    pooled = {path for path in served if backend(values, path).get("kind") == "InferencePool"}
    read = {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
    }
    assert pooled == (model_routes() if passthrough else read)


def test_a_pool_that_is_there_is_not_made_again() -> None:
    values = ci_values("eight-replicas")
    objects = manifests(values)
    assert "InferencePool" not in {each["kind"] for each in objects}
    assert backend(values, "/v1/classify") == {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": "llm-router",
    }
    made = one(manifests(ci_values("tp4")), "InferencePool")["metadata"]["name"]
    assert backend(ci_values("tp4"), "/v1/chat/completions")["name"] == made
