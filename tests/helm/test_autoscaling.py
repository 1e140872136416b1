"""Metrics by which the autoscalers decide."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.helm.chart import Manifest, ci_values, manifests, merged, one
from tools.programs import run

HPA = {"autoscaling": {"enabled": True}}
KEDA = {"keda": {"enabled": True, "prometheusAddress": "http://prometheus.monitoring:9090"}}


def metrics(values: dict[str, Any]) -> list[str]:
    """Names of the metrics that the HorizontalPodAutoscaler looks at."""
    scaler = one(manifests(merged(values, HPA)), "HorizontalPodAutoscaler")
    return [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]]


def triggers(values: dict[str, Any]) -> dict[str, Manifest]:
    """KEDA's triggers by name."""
    scaled = one(manifests(merged(KEDA, values)), "ScaledObject")
    return {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}


def test_the_queue_and_the_kv_cache_decide() -> None:
    assert metrics({}) == ["inference_requests_queued", "vllm:kv_cache_usage_perc"]
    assert list(triggers({})) == ["queued", "kv-cache"]


def test_encoders_alone_are_not_asked_for_a_cache_that_they_lack() -> None:
    # A HorizontalPodAutoscaler removes no pod while one of its metrics has no value.
    assert metrics(ci_values("encoders")) == ["inference_requests_queued"]
    assert list(triggers(ci_values("encoders"))) == ["queued"]


@pytest.mark.parametrize(("per_minute", "replicas"), [(0, 0), (1, 1), (3000, 1)])
def test_what_wakes_a_replica_asks_for_one_however_many_requests_come(
    per_minute: int, replicas: int, tmp_path: Path
) -> None:
    wake = triggers(ci_values("keda-scale-to-zero"))["wake"]
    counter = {"series": 'gateway_requests_total{route="llm"}', "values": f"0+{per_minute}x10"}
    sample = {"labels": "{}", "value": replicas * float(wake["threshold"])}
    asked = {"expr": wake["query"], "eval_time": "5m", "exp_samples": [sample]}
    test = {"interval": "1m", "input_series": [counter], "promql_expr_test": [asked]}
    file = tmp_path / "wake.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in run("promtool", "test", "rules", str(file))


@pytest.mark.parametrize(
    ("values", "mine", "others"),
    [
        ({}, ["llm-llm-service-6d4b75cb6d-hwbqp"], ["other-llm-service-6d4b75cb6d-hwbqp"]),
        # Kubernetes cuts such a pod's name in the middle of the hash.
        ({"fullnameOverride": "a" * 52}, [f"{'a' * 52}-6d4b7hwbqp"], ["b-6d4b7hwbqp"]),
        (
            ci_values("two-nodes"),
            ["llm-llm-service-nodes-0", "llm-llm-service-nodes-12"],
            ["llm-llm-service-nodes-0-1", "llm-llm-service-6d4b75cb6d-hwbqp"],
        ),
    ],
)
def test_keda_counts_the_pods_that_serve(
    values: dict[str, Any], mine: list[str], others: list[str]
) -> None:
    for name in ("queued", "kv-cache"):
        (pattern,) = re.findall(r'pod=~"([^"]+)"', triggers(values)[name]["query"])
        assert [pod for pod in [*mine, *others] if re.fullmatch(pattern, pod)] == mine


def test_what_is_scaled_is_there() -> None:
    for values in ({}, ci_values("two-nodes")):
        objects = manifests(merged(values, HPA))
        target = one(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        assert one(objects, target["kind"])["metadata"]["name"] == target["name"]
