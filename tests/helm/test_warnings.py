"""What renders and is probably not meant is said after the install."""

import re
from typing import Any

import pytest

from tests.helm.chart import ci_values, merged, notes
from tests.test_requirements import pins

KEYS = {"tenantKeys": {"existingSecret": "keys"}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (merged(KEYS, {"replicas": 3}), "up to 3 replicas keep each tenant's quota in memory"),
        ({}, "the image is named by tag"),
        ({}, "there are no keys, so whoever reaches the public port is served"),
        (KEYS, "the service asks for keys and smokeTest.apiKeySecret is empty"),
        ({"service": {"type": "NodePort"}}, "service.type is NodePort, but networkPolicy.from is"),
        (
            merged(ci_values("keda-scale-to-zero"), {"networkPolicy": {"from": []}}),
            "httpRoute.enabled is true, but networkPolicy.from is empty, .* of inference only",
        ),
        (
            {"model": {"source": "objectStore", "objectStore": {"uri": "gs://bucket/model"}}},
            "gs://bucket/model needs a client that the Dockerfile's images do not hold: add gcsfs",
        ),
        (
            {"config": {"adapters": [{"source": "az://container/sentiment"}]}},
            "az://container/sentiment needs a client .* adlfs for az://",
        ),
        ({"networkPolicy": {"enabled": False}}, "networkPolicy.enabled is false"),
        ({"gpu": {"count": 1}}, "one replica on GPUs is away while it is replaced"),
        (
            {"model": {"source": "hub", "hub": {"repository": "a/b", "revision": "main"}}},
            "model.hub.revision main is no commit",
        ),
    ],
)
def test_is_said(values: dict[str, Any], sentence: str) -> None:
    assert re.search(f"WARNING: {sentence}", notes(values))


@pytest.mark.parametrize("name", ["multi-tenant", "tp4", "keda-scale-to-zero", "cpu-minimal"])
def test_nothing_is_said_of_a_way_in_that_is_open_or_that_nobody_takes(name: str) -> None:
    assert "networkPolicy.from" not in notes(ci_values(name))


@pytest.mark.parametrize("name", ["multi-tenant", "tp4", "air-gapped"])
def test_nothing_is_said_of_quotas_that_are_shared_or_absent(name: str) -> None:
    assert "quota" not in notes(ci_values(name))


@pytest.mark.parametrize("storage", ["valkey://valkey:6379", "rediss://redis:6380"])
def test_nothing_is_said_of_quotas_in_a_store_that_needs_no_password(storage: str) -> None:
    values = merged(KEYS, {"replicas": 3, "config": {"quotas": {"storage": storage}}})
    assert "quota" not in notes(values)


@pytest.mark.parametrize("client", ["gcsfs", "adlfs"])
def test_a_client_that_is_warned_of_is_in_no_image(client: str) -> None:
    assert not {client} & (pins("cpu").keys() | pins("cuda").keys())


def test_notes_name_the_next_steps() -> None:
    text = notes({"service": {"port": 8080}})
    assert "kubectl -n inference rollout status deployment/llm-llm-service" in text
    assert "helm -n inference test llm --logs" in text
    assert "port-forward service/llm-llm-service 8000:8080" in text
