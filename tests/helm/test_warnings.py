"""Warnings after an install about values that render and are probably not meant."""

import re
from typing import Any

import pytest

from tests.test_requirements import pins
from tools.helm.chart import ci_values, merged, notes

KEYS = {"tenantKeys": {"existingSecret": "keys"}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (merged(KEYS, {"replicas": 3}), "up to 3 replicas keep each tenant's quota in memory"),
        (
            {"replicas": 2, "config": {"usage": {"path": "/usage"}}},
            "up to 2 replicas keep usage in folders of their own",
        ),
        (
            {"replicas": 2, "config": {"batches": {"path": "/batches"}}},
            "up to 2 replicas keep batches in folders of their own",
        ),
        (
            merged(ci_values("rollouts"), {"replicas": 3}),
            "up to 3 replicas judge each rollout by their own requests alone",
        ),
        (
            merged(ci_values("one-gpu"), {"networkPolicy": {"prometheus": []}}),
            "monitoring.serviceMonitor.enabled and autoscaling.enabled are true, but the network "
            "policy keeps Prometheus from the admin port",
        ),
        (
            merged(ci_values("tp4"), {"networkPolicy": {"opsFrom": []}}),
            "inferencePool.enabled is true, but the network policy keeps the endpoint picker",
        ),
        ({}, "the image is named by a tag"),
        (
            {"config": {"drain": {"budget_s": 60}}},
            r"config.drain.budget_s is 60 and a request may take 600 s \(config.admission.max_",
        ),
        ({"config": {"gate": {"max_queued": 7}}}, "config.gate is an old name"),
        (
            {},
            "image.repository is llm-service, .*target cpu.*REGISTRY/llm-service",
        ),
        (ci_values("one-gpu"), "image.repository is llm-service, .*target cuda"),
        ({"loadTest": {"enabled": True}}, "the load test.s results are lost with its pod"),
        ({}, "there are no keys, so every client that reaches the public port is served"),
        (KEYS, "the service asks for keys and smokeTest.apiKeySecret is empty"),
        ({"service": {"type": "NodePort"}}, "service.type is NodePort, but networkPolicy.from is"),
        (
            merged(ci_values("keda-scale-to-zero"), {"networkPolicy": {"from": []}}),
            "httpRoute.enabled is true, but networkPolicy.from is empty, .* of inference only",
        ),
        (
            {
                "model": {
                    "source": "objectStore",
                    "weightsGiB": 1,
                    "objectStore": {"uri": "gs://bucket/model"},
                }
            },
            "gs://bucket/model needs a client that the Dockerfile's images do not contain: add",
        ),
        (
            {"config": {"adapters": [{"source": "az://container/sentiment"}]}},
            "az://container/sentiment needs a client .* adlfs for az://",
        ),
        ({"networkPolicy": {"enabled": False}}, "networkPolicy.enabled is false"),
        ({"gpu": {"count": 1}}, "one replica on GPUs is away while it is replaced"),
        (
            {
                "model": {
                    "source": "hub",
                    "weightsGiB": 1,
                    "hub": {"repository": "a/b", "revision": "main"},
                }
            },
            "model.hub.revision main is no commit",
        ),
    ],
)
def test_is_said(values: dict[str, Any], sentence: str) -> None:
    assert re.search(f"WARNING: {sentence}", notes(values))


@pytest.mark.parametrize("name", ["multi-tenant", "tp4", "keda-scale-to-zero", "cpu-minimal"])
def test_nothing_is_said_of_a_way_in_that_is_open_or_that_nobody_takes(name: str) -> None:
    assert "networkPolicy.from" not in notes(ci_values(name))


@pytest.mark.parametrize("name", ["one-gpu", "tp4", "keda-scale-to-zero", "rollouts"])
def test_nothing_is_said_of_metrics_that_are_read_or_of_one_replicas_rollouts(name: str) -> None:
    text = notes(ci_values(name))
    assert "admin port" not in text
    assert "rollout by" not in text


@pytest.mark.parametrize("name", ["multi-tenant", "tp4", "air-gapped"])
def test_nothing_is_said_of_quotas_that_are_shared_or_absent(name: str) -> None:
    assert "quota" not in notes(ci_values(name))


def test_fairness_of_each_replica_by_itself_is_said() -> None:
    sentence = "up to 3 replicas are fair to tenants each by itself"
    assert sentence in notes(merged(KEYS, {"replicas": 3}))
    assert sentence not in notes(ci_values("multi-tenant"))
    assert sentence not in notes({"replicas": 3})  # without keys there is one tenant


def test_nothing_is_said_of_usage_that_is_shared_or_of_one_replica() -> None:
    storage = {"usage": {"storage": "valkey://valkey:6379"}}
    egress = [{"ports": [{"port": 6379}]}]
    for values in (
        {"replicas": 3, "config": storage, "networkPolicy": {"egress": egress}},
        {"replicas": 1, "config": {"usage": {"path": "/usage"}}},
    ):
        assert "usage" not in notes(values)


def test_nothing_is_said_of_batches_that_are_shared_or_of_one_replica() -> None:
    own = {"path": "/tmp/batches"}
    shared = own | {"files": "s3://bucket/batches", "storage": "valkey://valkey:6379"}
    egress = [{"ports": [{"port": 6379}]}]
    for values in (
        {"replicas": 3, "config": {"batches": shared}, "networkPolicy": {"egress": egress}},
        {"replicas": 1, "config": {"batches": own}},
    ):
        assert "batches" not in notes(values)


def quotas_in(storage: str, ports: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Values of replicas that count in this store, with an egress rule for these ports."""
    egress: list[dict[str, Any]] = [] if ports is None else [{"ports": ports} if ports else {}]
    shared = {"replicas": 3, "config": {"quotas": {"storage": storage}}}
    return merged(KEYS, shared, {"networkPolicy": {"egress": egress}})


@pytest.mark.parametrize(
    ("storage", "ports"),
    [
        ("valkey://valkey:6379", [{"port": 6379, "protocol": "TCP"}]),
        ("rediss://redis:6380/0", [{"port": 53}, {"port": 6000, "endPort": 7000}]),
        ("redis://redis", [{"port": 6379}]),
        ("redis://redis?protocol=3", [{"port": "redis"}]),
        ("redis+sentinel://a:26379,b/name", [{"port": 26379}]),
        ("redis://redis:443", None),
        ("redis://redis", []),
    ],
)
def test_nothing_is_said_of_quotas_in_a_store_that_can_be_reached(
    storage: str, ports: list[dict[str, Any]] | None
) -> None:
    assert "quota" not in notes(quotas_in(storage, ports))


@pytest.mark.parametrize(
    ("storage", "ports"),
    [
        ("valkey://valkey:6379", None),
        ("valkey://valkey:6380", [{"port": 6379}]),
        ("redis://redis", [{"port": 6000, "endPort": 6100}]),
    ],
)
def test_a_store_that_the_policy_blocks_is_said(
    storage: str, ports: list[dict[str, Any]] | None
) -> None:
    assert "does not let the pods reach the store of quotas" in notes(quotas_in(storage, ports))


def test_a_store_in_a_secret_needs_some_rule() -> None:
    blocked = notes(merged(ci_values("multi-tenant"), {"networkPolicy": {"egress": []}}))
    for section in ("admission", "quotas", "usage"):
        assert f"does not let the pods reach the store of {section}" in blocked


@pytest.mark.parametrize("section", ["usage", "batches"])
@pytest.mark.parametrize("open_port", [6379, 6380])
def test_every_store_needs_its_port(section: str, open_port: int) -> None:
    rest = {"path": "/tmp/batches", "files": "s3://a/b"} if section == "batches" else {}
    values = {
        "config": {section: rest | {"storage": "valkey://valkey:6380"}},
        "networkPolicy": {"egress": [{"ports": [{"port": open_port, "protocol": "TCP"}]}]},
    }
    told = f"reach the store of {section}, " in notes(values)
    assert told == (open_port == 6379)


@pytest.mark.parametrize(
    ("endpoint", "policy", "told"),
    [
        ("http://collector.monitoring:4317", {}, True),
        ("http://collector.monitoring:4317", {"egress": [{"ports": [{"port": 4318}]}]}, True),
        ("http://collector.monitoring:4317", {"egress": [{"ports": [{"port": 4317}]}]}, False),
        ("http://collector.monitoring:4317", {"enabled": False}, False),
        ("https://traces.example.com", {}, False),
        ("https://traces.example.com", {"https": False}, True),
    ],
)
def test_a_collector_that_the_policy_blocks_is_said(
    endpoint: str, policy: dict[str, Any], told: bool
) -> None:
    values = {"config": {"tracing": {"endpoint": endpoint}}, "networkPolicy": policy}
    sentence = "does not let the pods reach config.tracing.endpoint"
    assert (sentence in notes(values)) is told
    assert sentence not in notes(merged(values, {"hostNetwork": True}))


def test_offline_no_store_is_reached_by_https() -> None:
    offline = {"config": {"adapter_cache": {"offline": True}}}
    image = ci_values("air-gapped") | {"assumeImageVolumes": True}
    values = merged(image, quotas_in("redis://redis:443", None), offline)
    assert "does not let the pods reach the store of quotas" in notes(values)


@pytest.mark.parametrize("client", ["gcsfs", "adlfs"])
def test_a_client_that_is_warned_of_is_in_no_image(client: str) -> None:
    assert not {client} & (pins("cpu").keys() | pins("cuda").keys())


def test_notes_name_the_next_steps() -> None:
    text = notes({"service": {"port": 8080}})
    assert "kubectl -n inference rollout status deployment/llm-llm-service" in text
    assert "helm -n inference test llm --logs" in text
    assert "port-forward service/llm-llm-service 8000:8080" in text


@pytest.mark.parametrize("name", ["cpu-minimal", "multi-tenant"])
def test_what_to_ask_has_a_key_where_one_is_needed(name: str) -> None:
    (line,) = [line for line in notes(ci_values(name)).splitlines() if "curl -sS" in line]
    assert ('-H "Authorization: Bearer $API_KEY"' in line) is (name == "multi-tenant")
