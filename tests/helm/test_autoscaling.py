"""Metrics by which the autoscalers decide."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.kubernetes import check
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


def test_the_queue_the_slots_and_the_kv_cache_decide() -> None:
    names = ["inference_requests_queued", "inference_gate_occupancy"]
    assert metrics({}) == [*names, "vllm:kv_cache_usage_perc"]
    assert list(triggers({})) == ["queued", "occupancy", "kv-cache"]


def test_a_queue_in_front_of_all_replicas_counts_too() -> None:
    query = 'sum(llm_d_epp_flow_control_queue_size{inference_pool="llm"})'
    assert triggers({"keda": {"sharedQueue": {"query": query}}})["shared-queue"]["query"] == query
    shared = {"metric": "pool_queue", "matchLabels": {"inference_pool": "llm"}}
    values = merged(HPA, {"autoscaling": {"sharedQueue": shared, "queued": {"target": "7"}}})
    scaler = one(manifests(values), "HorizontalPodAutoscaler")
    check(scaler, "1.37")
    (external,) = [m["external"] for m in scaler["spec"]["metrics"] if m["type"] == "External"]
    assert external["metric"] == {
        "name": "pool_queue",
        "selector": {"matchLabels": shared["matchLabels"]},
    }
    assert external["target"] == {"type": "AverageValue", "averageValue": "7"}


def test_encoders_alone_are_not_asked_for_a_cache_that_they_lack() -> None:
    # A HorizontalPodAutoscaler removes no pod while one of its metrics has no value.
    names = ["inference_requests_queued", "inference_gate_occupancy"]
    assert metrics(ci_values("encoders")) == names
    assert list(triggers(ci_values("encoders"))) == ["queued", "occupancy"]


@pytest.mark.parametrize(("per_minute", "replicas"), [(0, 0), (1, 1), (3000, 1)])
def test_what_wakes_a_replica_asks_for_one_however_many_requests_come(
    per_minute: int, replicas: int, tmp_path: Path
) -> None:
    wake = triggers(ci_values("keda-scale-to-zero"))["wake"]
    counter = {'gateway_requests_total{route="llm"}': f"0+{per_minute}x10"}
    evaluate(wake["query"], counter, replicas * float(wake["threshold"]), tmp_path)


@pytest.mark.parametrize(
    ("in_flight", "flex", "limit", "occupancy"),
    [(64, 0, 64, 1.0), (64, 60, 64, 1 / 16), (12, 0, 16, 0.75), (0, 0, 0, 0.0)],
)
def test_a_full_engine_asks_for_more_even_if_no_request_waits(
    in_flight: int, flex: int, limit: int, occupancy: float, tmp_path: Path
) -> None:
    pods = [f"llm-llm-service-6d4b75cb6d-{end}" for end in ("hwbqp", "x2vzk")]
    engines = [(pod, "model") for pod in (*pods, "other-6d4b75cb6d-hwbqp")]
    series: dict[str, str] = {}
    for pod, engine in [*engines, (pods[0], "idle-encoder")]:
        labels = f'{{namespace="inference", pod="{pod}", engine="{engine}"}}'
        busy = engine == "model"
        series |= {
            f"inference_requests_in_flight{labels}": f"{in_flight * busy}x9",
            f"inference_flex_requests_in_flight{labels}": f"{flex * busy}x9",
            f"inference_gate_limit{labels}": f"{limit}x9",
        }
    trigger = triggers({})["occupancy"]
    evaluate(trigger["query"], series, len(pods) * occupancy, tmp_path)
    # A HorizontalPodAutoscaler leaves a demand of up to a tenth more as it is.
    assert float(trigger["threshold"]) * 1.1 < 1


def evaluate(query: str, series: dict[str, str], value: float, folder: Path) -> None:
    """Have Prometheus answer a query over these series; it must be this one value."""
    sample = {"labels": "{}", "value": value}
    asked = {"expr": query, "eval_time": "5m", "exp_samples": [sample]}
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}
    file = folder / "query.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in run("promtool", "test", "rules", str(file))


@pytest.mark.parametrize(
    ("values", "mine", "others"),
    [
        ({}, ["llm-llm-service-6d4b75cb6d-hwbqp"], ["other-llm-service-6d4b75cb6d-hwbqp"]),
        (ci_values("rollouts"), ["llm-llm-service-0", "llm-llm-service-12"], ["llm-llm-service"]),
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
    for name in ("queued", "occupancy", "kv-cache"):
        (pattern,) = set(re.findall(r'pod=~"([^"]+)"', triggers(values)[name]["query"]))
        assert [pod for pod in [*mine, *others] if re.fullmatch(pattern, pod)] == mine


def test_what_is_scaled_is_there() -> None:
    for values in ({}, ci_values("rollouts"), ci_values("two-nodes")):
        objects = manifests(merged(values, HPA))
        target = one(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        assert one(objects, target["kind"])["metadata"]["name"] == target["name"]
