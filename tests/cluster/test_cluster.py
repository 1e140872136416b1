"""Install, upgrade, roll back, schedule and uninstall the chart: `make cluster-test`.

The first run builds the control plane (about eight minutes of CPU time); it is kept in
.cache/cluster.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane, eventually
from tests.cluster.needs import needed
from tests.cluster.nodes import Kubelets, add_node
from tests.cluster.real_node import possible
from tests.cluster.release import NAMESPACE, OBJECT, Refusal, Release, previous_chart
from tests.cluster.rolling import rolling_restart
from tests.image.needs import require
from tools.helm.chart import CHART, ci_values, merged

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(0)]

BAKED: dict[str, Any] = {
    "replicas": 3,
    "model": {"source": "baked", "weightsGiB": 0.3},
    "config": {
        "model": {"path": "/opt/baked/model"},
        "tenants": {"allow_anonymous": True},
        "drain": {"budget_s": 60},
    },
    "terminationGracePeriodSeconds": 90,
}
# The previous chart knew fewer settings, and this one asks who may use the service.
BEFORE = BAKED | {"config": {"model": BAKED["config"]["model"]}}
KEPT = {"storage": {"adapters": {"create": True, "accessModes": ["ReadWriteMany"]}}}
WAIT = ("--wait", "--timeout", "120s")


def test_a_release_lives_in_one_cluster() -> None:
    require("cluster-test", needed())
    if not possible():
        say("no real node here: it needs cgroups of version 1; the rolling restart is left out")
    # A short path, since those of sockets are limited.
    with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder)) as plane:
        say(f"API server {json.loads(plane.kubectl('get', '--raw', '/version'))['gitVersion']}")
        plane.kubectl("create", "namespace", NAMESPACE)
        add_node(plane, "cpu-node", gpus=0)
        dry_run(plane)
        with Kubelets(plane, NAMESPACE):
            for major in (3, 4):
                life_of_a_release(plane, major, Path(folder) / f"helm-{major}")
            gpu_scheduling(plane)
        if possible():
            real = Path(folder) / "real"
            real.mkdir()
            say(rolling_restart(plane, real))


def dry_run(plane: ControlPlane) -> None:
    """Check that the server takes the manifests, or that the chart names the missing API."""
    off = {"httpRoute": {"enabled": False}, "inferencePool": {"enabled": False}}
    for name in ("cpu-minimal", "multi-tenant", "tp4"):
        for major in (3, 4):
            values = merged(ci_values(name), off if name == "tp4" else {})
            text = Release(plane, major).install(CHART, values, "--dry-run=server")
            taken = sum(line.startswith("kind: ") for line in text.splitlines())
            say(f"dry run by the server, helm {major}: {name}, {taken} objects taken")
    unmonitored = {
        "monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}
    }
    for name in ("one-gpu", "two-nodes", "air-gapped", "keda-scale-to-zero"):
        try:
            values = merged(ci_values(name), unmonitored)
            Release(plane, 4).install(CHART, values, "--dry-run=server")
        except Refusal as refusal:
            say(f"refused: {name}: {str(refusal).split('): ')[-1].splitlines()[0]}")
        else:
            raise AssertionError(f"{name}: expected a refusal on a cluster without the API")


def life_of_a_release(plane: ControlPlane, major: int, folder: Path) -> None:
    """Install the previous version, upgrade, roll back, uninstall; all in one Deployment."""
    release = Release(plane, major)
    old = previous_chart(folder)
    values = merged(BAKED, KEPT)
    add_volume(plane, f"adapters-{major}")
    release.install(old, merged(BEFORE, KEPT), *WAIT)
    installed = workload(plane)
    first = pod_names(plane)
    release.upgrade(CHART, values, *WAIT)
    upgraded = workload(plane)
    eventually("the old pods are gone", lambda: not first & pod_names(plane))
    assert upgraded["metadata"]["uid"] == installed["metadata"]["uid"], "it was created again"
    assert upgraded["spec"]["selector"] == installed["spec"]["selector"], "its selector changed"
    release.rollback(1)
    back = workload(plane)
    assert back["spec"]["template"] == installed["spec"]["template"], "rollback differs"
    say(f"helm {major}: {', '.join(' '.join(map(str, entry)) for entry in release.history())}")
    uninstall(plane, release)
    kinds = "deployments,services,configmaps,serviceaccounts,networkpolicies,jobs"
    selector = "app.kubernetes.io/instance=llm"
    left = plane.get(kinds, "--namespace", NAMESPACE, "--selector", selector)["items"]
    assert left == [], f"left behind: {[item['metadata']['name'] for item in left]}"
    claim = plane.get("persistentvolumeclaims", "--namespace", NAMESPACE)["items"]
    assert [c["metadata"]["name"] for c in claim] == [f"{OBJECT}-adapters"], (
        "the claim was not kept"
    )
    say(f"helm {major}: uninstalled; the claim {OBJECT}-adapters is kept")
    plane.kubectl("delete", "persistentvolumeclaims", "--all", "--namespace", NAMESPACE)


def gpu_scheduling(plane: ControlPlane) -> None:
    """Fill a node of eight GPUs with two replicas of four, and roll out without a ninth GPU."""
    add_node(plane, "gpu-node", gpus=8)
    release = Release(plane, 4)
    engine = {"engine": {"tensor_parallel_size": 4}}
    values = merged(BAKED, {"replicas": 2, "gpu": {"count": 4}, "config": engine})
    release.install(CHART, values, *WAIT)
    nodes = [pod["spec"]["nodeName"] for pod in pods(plane)]
    assert nodes == ["gpu-node", "gpu-node"], f"they were placed on {nodes}"
    first = pod_names(plane)
    release.upgrade(CHART, merged(values, {"podAnnotations": {"change": "1"}}), *WAIT)
    eventually("the old pods are gone", lambda: not first & pod_names(plane))
    say("GPUs: 2 replicas of 4 on a node of 8; a rollout went through without a GPU to spare")
    release.upgrade(CHART, merged(values, {"replicas": 3}))
    eventually("the third replica waits for GPUs", lambda: waiting(plane) == 1)
    (message,) = [
        condition["message"]
        for pod in pods(plane)
        if pod["status"]["phase"] == "Pending"
        for condition in pod["status"]["conditions"]
    ]
    say(f"GPUs: the third replica waits: {message}")
    uninstall(plane, release)


def uninstall(plane: ControlPlane, release: Release) -> None:
    """Remove the release and wait for the end of its pods, which Helm does not.

    The thread that acts as their kubelets must not end before, or the pods would never end.
    """
    release.uninstall()
    everything = ("pods", "--namespace", NAMESPACE)
    eventually("the release's pods are gone", lambda: not plane.get(*everything)["items"])


def add_volume(plane: ControlPlane, name: str) -> None:
    """Add a volume that a claim can be bound to."""
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteMany"],
        "persistentVolumeReclaimPolicy": "Delete",
        "hostPath": {"path": f"/nonexistent/{name}"},
    }
    metadata = {"name": name}
    plane.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
    )


def workload(plane: ControlPlane) -> dict[str, Any]:
    """The release's Deployment."""
    return plane.get("deployment", OBJECT, "--namespace", NAMESPACE)


def pods(plane: ControlPlane) -> list[dict[str, Any]]:
    """The pods that are not being deleted."""
    items: list[dict[str, Any]] = plane.get("pods", "--namespace", NAMESPACE)["items"]
    return [item for item in items if not item["metadata"].get("deletionTimestamp")]


def pod_names(plane: ControlPlane) -> set[str]:
    """Names of these pods."""
    return {pod["metadata"]["name"] for pod in pods(plane)}


def waiting(plane: ControlPlane) -> int:
    """Pods that the scheduler could not place."""
    return sum(
        condition.get("reason") == "Unschedulable"
        for pod in pods(plane)
        for condition in pod["status"].get("conditions", [])
    )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
