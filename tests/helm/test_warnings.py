"""What renders and is probably not meant is said after the install."""

from typing import Any

import pytest

from tests.helm.chart import ci_values, merged, notes

KEYS = {"tenantKeys": {"existingSecret": "keys"}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (merged(KEYS, {"replicas": 3}), "up to 3 replicas keep each tenant's quota in memory"),
        ({}, "the image is named by tag"),
        ({"networkPolicy": {"enabled": False}}, "networkPolicy.enabled is false"),
        ({"gpu": {"count": 1}}, "one replica on GPUs is away while it is replaced"),
        (
            {"model": {"source": "hub", "hub": {"repository": "a/b", "revision": "main"}}},
            "model.hub.revision main is no commit",
        ),
    ],
)
def test_is_said(values: dict[str, Any], sentence: str) -> None:
    assert f"WARNING: {sentence}" in notes(values)


@pytest.mark.parametrize("name", ["multi-tenant", "tp4", "air-gapped"])
def test_nothing_is_said_of_quotas_that_are_shared_or_absent(name: str) -> None:
    assert "quota" not in notes(ci_values(name))


def test_notes_name_the_next_steps() -> None:
    text = notes({"service": {"port": 8080}})
    assert "kubectl -n inference rollout status deployment/llm-llm-service" in text
    assert "helm -n inference test llm --logs" in text
    assert "port-forward service/llm-llm-service 8000:8080" in text
