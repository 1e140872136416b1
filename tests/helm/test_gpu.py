"""Consequences of `gpu.count`: the engine's arguments, resources, volumes, the start, taints."""

import re
from typing import Any

import pytest
import yaml

from tools.helm.chart import (
    CHART,
    Manifest,
    Refused,
    ci_values,
    manifests,
    merged,
    notes,
    one,
    pod_templates,
    server,
)

DOCKERFILE = CHART.parent / "Dockerfile"

EIGHT_B: dict[str, Any] = {
    "gpu": {"count": 1},
    "model": {
        "source": "hub",
        "weightsGiB": 15,
        "hub": {"repository": "example/model", "revision": "0" * 40},
    },
}
"""The fewest values that serve a model on a GPU."""
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def engine(values: dict[str, Any]) -> dict[str, Any]:
    """The engine's arguments in the configuration file."""
    text = one(manifests(values), "ConfigMap", "llm-service")["data"]["config.yaml"]
    found: dict[str, Any] = yaml.safe_load(text)["engine"]
    return found


def volume(values: dict[str, Any], name: str) -> str:
    """The size of a volume of the serving pod."""
    volumes = one(manifests(values), "Deployment")["spec"]["template"]["spec"]["volumes"]
    (found,) = [each["emptyDir"]["sizeLimit"] for each in volumes if each["name"] == name]
    return str(found)


def start_seconds(values: dict[str, Any]) -> int:
    """Seconds that the start-up probe waits."""
    probe = server(manifests(values))["startupProbe"]
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def test_on_cpus_the_engine_is_small_and_eager() -> None:
    assert engine({}) == {
        "dtype": "auto",
        "max_model_len": 2048,
        "max_num_seqs": 32,
        "gpu_memory_utilization": 0.3,
        "enforce_eager": True,
    }
    assert server(manifests({}))["resources"] == {
        "requests": {"cpu": "2", "memory": "5Gi", "ephemeral-storage": "1Gi"},
        "limits": {"memory": "6Gi", "ephemeral-storage": "8Gi"},
    }
    assert (volume({}, "tmp"), volume({}, "shm"), volume({}, "models")) == ("2Gi", "1Gi", "4Gi")
    assert start_seconds({}) == 125


def test_on_a_gpu_nothing_of_the_cpus_defaults_is_left() -> None:
    assert engine(EIGHT_B) == {"max_num_seqs": 256, "gpu_memory_utilization": 0.9}
    assert server(manifests(EIGHT_B))["resources"] == {
        "requests": {
            "cpu": "4",
            "memory": "16Gi",
            "ephemeral-storage": "19Gi",
            "nvidia.com/gpu": "1",
        },
        "limits": {"memory": "32Gi", "ephemeral-storage": "31Gi", "nvidia.com/gpu": "1"},
    }
    assert [volume(EIGHT_B, name) for name in ("tmp", "shm", "models")] == ["8Gi", "1Gi", "19Gi"]
    assert start_seconds(EIGHT_B) == 900 + 15 * 15


def test_more_gpus_take_more_of_the_node() -> None:
    resources = server(manifests(ci_values("tp4") | {"resources": {}}))["resources"]
    assert resources["requests"] == {
        "cpu": "16",
        "memory": "64Gi",
        "ephemeral-storage": "136Gi",
        "nvidia.com/gpu": "4",
    }
    assert resources["limits"]["memory"] == "128Gi"
    assert volume(ci_values("tp4") | {"volumes": {}}, "shm") == "8Gi"


def test_each_value_of_ones_own_wins() -> None:
    own = merged(
        EIGHT_B,
        {
            "config": {"engine": {"max_num_seqs": 64, "enforce_eager": True}},
            "resources": {"requests": {"cpu": "9"}, "limits": {"memory": "99Gi"}},
            "volumes": {"shmSize": "3Gi", "tmpSize": "5Gi"},
            "storage": {"models": {"size": "50Gi"}},
            "probes": {"startup": {"baseSeconds": 60, "secondsPerGiB": 0}},
        },
    )
    assert engine(own) == {
        "max_num_seqs": 64,
        "gpu_memory_utilization": 0.9,
        "enforce_eager": True,
    }
    resources = server(manifests(own))["resources"]
    assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == ("9", "16Gi")
    assert (resources["limits"]["memory"], resources["limits"]["nvidia.com/gpu"]) == ("99Gi", "1")
    assert [volume(own, name) for name in ("tmp", "shm", "models")] == ["5Gi", "3Gi", "50Gi"]
    assert start_seconds(own) == 60


@pytest.mark.parametrize("source", ["hub", "objectStore", "volume", "image", "baked"])
def test_weights_of_unknown_size_are_refused(source: str) -> None:
    values: dict[str, Any] = {
        "assumeImageVolumes": True,
        "model": {
            "source": source,
            "hub": {"repository": "a/b", "revision": "0" * 40},
            "objectStore": {"uri": "s3://a/b"},
            "image": {"reference": "a@sha256:0"},
        },
        "storage": {"models": {"existingClaim": "weights"}},
    }
    with pytest.raises(Refused, match=rf"model.weightsGiB is auto and model.source {source}: set"):
        manifests(values)
    assert manifests(merged(values, {"model": {"weightsGiB": 15}}))


def test_pods_on_gpus_tolerate_the_taint_of_their_nodes_once() -> None:
    pod = one(manifests(EIGHT_B), "Deployment")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [TOLERATION]
    own = {"key": "team", "operator": "Equal", "value": "a", "effect": "NoExecute"}
    values = merged(EIGHT_B, {"tolerations": [own, TOLERATION]})
    pod = one(manifests(values), "Deployment")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [own, TOLERATION]
    assert "tolerations" not in one(manifests({}), "Deployment")["spec"]["template"]["spec"]


def test_pods_on_slices_of_a_card_tolerate_the_taint_of_whole_cards_too() -> None:
    resource = "nvidia.com/mig-3g.40gb"
    values = merged(EIGHT_B, {"gpu": {"resource": resource}})
    pod = one(manifests(values), "Deployment")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [TOLERATION | {"key": resource}, TOLERATION]
    assert pod["containers"][0]["resources"]["limits"][resource] == "1"
    other = merged(EIGHT_B, {"gpu": {"resource": "amd.com/gpu"}})
    pod = one(manifests(other), "Deployment")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [TOLERATION | {"key": "amd.com/gpu"}]


def variables(container: Manifest) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container.get("env", [])}


@pytest.mark.parametrize("name", ["one-gpu", "tp4", "two-nodes"])
def test_only_the_pods_that_compute_see_gpus(name: str) -> None:
    for template in pod_templates(manifests(ci_values(name))):
        spec = template["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            computes = container["name"] in ("server", "worker")
            hidden = variables(container).get("NVIDIA_VISIBLE_DEVICES") == "void"
            assert hidden is not computes, container["name"]
            assert ("nvidia.com/gpu" in container["resources"].get("limits", {})) is computes


def test_the_example_for_four_gpus_asks_for_a_card_by_its_name() -> None:
    # The name that NVIDIA's feature discovery gives the nodes.
    selector = one(manifests(ci_values("tp4")), "Deployment")["spec"]["template"]["spec"]
    assert selector["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def test_the_image_is_the_one_that_a_release_pushes_for_gpus() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    # The release names images after the Dockerfile's targets, but for CPUs.
    workflow = (CHART.parent / ".github/workflows/release.yml").read_text()
    assert 'case "$TARGET" in cpu) suffix= ;; *) suffix=-$TARGET ;; esac' in workflow
    assert "target: [cpu, cuda, loadtest]" in workflow
    tested = {"loadTest": {"enabled": True}}
    for values, tag in (
        (EIGHT_B, f"{version}-cuda"),
        ({}, version),
        ({"image": {"tag": "2"}}, "2"),
    ):
        objects = manifests(merged(values, tested))
        assert server(objects)["image"] == f"llm-service:{tag}"
        (load,) = one(objects, "Pod", "-load-test")["spec"]["containers"]
        assert load["image"] == f"llm-service:{version}-loadtest"


def test_compiled_kernels_can_outlive_the_pod() -> None:
    claim = {"storage": {"compiled": {"existingClaim": "compiled"}}}
    pod = one(manifests(merged(EIGHT_B, claim)), "Deployment")["spec"]["template"]["spec"]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "compiled"]
    variables = re.findall(r"(?:CACHE_HOME|CACHE_DIR|CACHE_ROOT)=(/\S+)", DOCKERFILE.read_text())
    assert mount["mountPath"] == "/tmp/cache"
    assert variables
    assert all(f"{folder}/".startswith("/tmp/cache/") for folder in variables)
    (volume,) = [v for v in pod["volumes"] if v["name"] == "compiled"]
    assert volume["persistentVolumeClaim"] == {"claimName": "compiled"}
    made = {"storage": {"compiled": {"create": True, "accessModes": ["ReadWriteOnce"]}}}
    objects = manifests(merged(EIGHT_B, made))
    assert one(objects, "PersistentVolumeClaim", "-compiled")["spec"]["resources"]
    assert "compiled" not in str(one(manifests(EIGHT_B), "Deployment"))


def test_the_nodes_of_one_replica_are_not_spread() -> None:
    group = one(manifests(ci_values("two-nodes")), "LeaderWorkerSet")["spec"]
    leader, worker = (
        group["leaderWorkerTemplate"][name]["spec"] for name in ("leaderTemplate", "workerTemplate")
    )
    assert [each["topologyKey"] for each in leader["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    assert "topologySpreadConstraints" not in worker
    own = [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    chosen = manifests(merged(ci_values("two-nodes"), {"topologySpreadConstraints": own}))
    group = one(chosen, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    assert group["workerTemplate"]["spec"]["topologySpreadConstraints"] == own


def test_pods_can_run_in_their_nodes_network() -> None:
    fast: dict[str, Any] = {
        "hostNetwork": True,
        "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}},
        "resources": {"limits": {"rdma/ib": "1"}, "requests": {"rdma/ib": "1"}},
    }
    values = merged(ci_values("two-nodes"), fast)
    group = one(manifests(values), "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    for name in ("leaderTemplate", "workerTemplate"):
        spec = group[name]["spec"]
        assert spec["hostNetwork"] is True
        assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
        assert container["resources"]["limits"]["rdma/ib"] == "1"
    assert "hostNetwork is true, so network policies do not apply" in notes(values)
    assert "hostNetwork" not in str(one(manifests(ci_values("two-nodes")), "LeaderWorkerSet"))


def test_eight_replicas_stand_in_for_data_parallelism() -> None:
    deployment = one(manifests(ci_values("eight-replicas")), "Deployment")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert deployment["replicas"] == 8
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for key in ("data_parallel_size", "data-parallel-size"):
        own = merged(ci_values("eight-replicas"), {"config": {"engine": {key: 8}}})
        with pytest.raises(Refused, match=rf"config.engine.{key}: .* so set replicas, each with"):
            manifests(own)


def test_experts_lie_over_the_gpus_of_one_replica() -> None:
    found = engine(ci_values("experts"))
    assert (found["tensor_parallel_size"], found["enable_expert_parallel"]) == (8, True)
    limits = server(manifests(ci_values("experts")))["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "8"


def test_patterns_of_files_to_leave_out_reach_the_fetch() -> None:
    chosen = merged(EIGHT_B, {"model": {"hub": {"ignore": ["*.gguf", "onnx/*"]}}})
    for values, ignored in ((EIGHT_B, []), (chosen, ["*.gguf", "onnx/*"])):
        pod = one(manifests(values), "Deployment")["spec"]["template"]["spec"]
        assert pod["initContainers"][0]["args"][4:] == ignored
