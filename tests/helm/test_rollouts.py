"""State of rollouts, which must outlive a pod: a disk for each replica, and what has none."""

from typing import Any

import pytest

from tests.helm.kubernetes import check
from tools.helm.chart import KUBE_VERSIONS, ci_values, manifests, merged, notes, one, server

FOLDER = "/var/lib/llm-service/releases"


def kinds(values: dict[str, Any]) -> set[str]:
    return {each["kind"] for each in manifests(values)}


@pytest.mark.parametrize("version", KUBE_VERSIONS)
def test_each_replica_keeps_its_rollouts_on_a_claim_of_its_own(version: str) -> None:
    objects = manifests(merged(ci_values("rollouts"), {"replicas": 2}))
    workload = one(objects, "StatefulSet")
    check(workload, version)
    assert "Deployment" not in {each["kind"] for each in objects}
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["storageClassName"] == "disks"
    mounts = {each["name"]: each["mountPath"] for each in server(objects)["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == FOLDER


def test_a_statefulset_is_found_by_what_finds_a_deployment() -> None:
    values = merged(ci_values("rollouts"), {"replicas": 2})
    objects = manifests(values)
    spec = one(objects, "StatefulSet")["spec"]
    deployment = one(manifests({}), "Deployment")["spec"]
    assert spec["selector"] == deployment["selector"]
    assert one(objects, "Service", spec["serviceName"])["spec"]["clusterIP"] == "None"
    budget = one(objects, "PodDisruptionBudget")["spec"]["selector"]
    assert budget == spec["selector"]
    assert "rollout status statefulset/llm-llm-service" in notes(values)


def test_without_rollouts_no_replica_has_a_disk() -> None:
    assert "StatefulSet" not in kinds({})
    assert "StatefulSet" not in kinds({"config": {"releases": {"path": None}}})


@pytest.mark.parametrize(
    "mounted",
    [
        {"extraVolumeMounts": [{"name": "own", "mountPath": FOLDER}]},
        {"extraVolumeMounts": [{"name": "own", "mountPath": "/var/lib/"}]},
        {
            "config": {"releases": {"path": "/adapters/releases"}},
            "storage": {"adapters": {"create": True}},
        },
    ],
)
def test_one_replica_may_have_a_volume_of_ones_own(mounted: dict[str, Any]) -> None:
    volumes = {"extraVolumes": [{"name": "own", "persistentVolumeClaim": {"claimName": "own"}}]}
    objects = manifests(merged(ci_values("rollouts"), volumes, mounted))
    # The log is open in one process at a time, so the old pod ends first.
    update = one(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 0, "maxUnavailable": 1}


SHARED = {"config": {"releases": {"path": None, "storage": "redis://valkey:6379"}}}
SECRET = {"name": "LLM_SERVICE_RELEASES__STORAGE", "secret": "valkey", "key": "address"}


@pytest.mark.parametrize(
    "storage",
    [SHARED, {"config": {"releases": {"path": None}}, "secretEnv": [SECRET]}],
    ids=["address", "secret"],
)
def test_replicas_that_share_their_rollouts_are_a_deployment(storage: dict[str, Any]) -> None:
    egress = {"networkPolicy": {"egress": [{"ports": [{"port": 6379}]}]}}
    values = merged(ci_values("rollouts"), {"replicas": 4}, storage, egress)
    assert "StatefulSet" not in kinds(values)
    assert one(manifests(values), "Deployment")["spec"]["replicas"] == 4
    assert "judge each rollout" not in notes(values)
    assert "store of releases" not in notes(values)


def test_a_store_of_rollouts_that_the_network_policy_blocks_is_named() -> None:
    values = merged(ci_values("rollouts"), SHARED)
    assert "reach the store of releases, so the pods do not start" in notes(values)


def test_a_folder_of_a_similar_name_is_no_volume() -> None:
    similar = [{"name": "own", "mountPath": f"{FOLDER}-old"}]
    volumes = [{"name": "own", "emptyDir": {}}]
    values = {"extraVolumeMounts": similar, "extraVolumes": volumes}
    assert "StatefulSet" in kinds(merged(ci_values("rollouts"), values))
